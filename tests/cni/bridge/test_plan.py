"""What is decided before anything is done: names, gateways, routes, VLANs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge import addresses
from cni_bridge.bridge import names, vlan
from cni_bridge.bridge.names import Attachment
from cni_bridge.bridge.plan import Plan, broadcast, is_in_the_way

if TYPE_CHECKING:
    from cni_bridge.bridge.config import Settings
    from cni_bridge.protocol.results import Result

TEXT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=300)


class Wanted:
    """The settings that decisions need."""

    is_gateway = is_default_gateway = pod_prefix_is_host = False
    vlan = 0
    trunk: tuple[int, ...] | None = None

    def __init__(self, **keys: object) -> None:
        for name, value in keys.items():
            setattr(self, name, value)

    @property
    def filters_vlans(self) -> bool:
        return self.vlan != 0 or self.trunk is not None


def result(*ips: str) -> Result:
    return {"interfaces": [], "ips": [{"address": ip} for ip in ips], "routes": []}


def planned(given_result: Result, **keys: object) -> Plan:
    return Plan(cast("Settings", Wanted(**keys)), given_result)


@given(TEXT, TEXT, TEXT)
def test_names_of_attachments_fit_the_kernel(network: str, container_id: str, ifname: str) -> None:
    attachment = Attachment(network, container_id, ifname[:15])
    assert len(attachment.veth()) == 12
    assert len(attachment.alias.encode()) <= 255
    assert len({attachment.veth(attempt) for attempt in range(10)}) == 10


@given(st.sets(st.tuples(TEXT, TEXT, st.sampled_from(["eth0", "eth1"])), min_size=2, max_size=5))
def test_two_attachments_never_have_the_same_alias(several: set[tuple[str, str, str]]) -> None:
    assert len({Attachment(*one).alias for one in several}) == len(several)


def test_a_digest_is_fnv_1a_as_published() -> None:
    assert names.digest("") == 0xCBF29CE484222325
    assert names.digest("foobar") == 0x85944171F73967E8


@pytest.mark.parametrize(("subnet", "gateway"), [("10.1.2.3/16", "10.1.0.1"), ("fd00::9/64", "fd00::1"), ("10.1.2.6/31", "10.1.2.7")])
def test_without_a_gateway_of_ipams_it_is_the_first_address_of_the_subnet(subnet: str, gateway: str) -> None:
    given_result = result(subnet)
    plan = planned(given_result, is_gateway=True)
    assert given_result["ips"][0] == {"address": subnet, "interface": 2, "gateway": gateway}
    assert plan.gateways == [(addresses.parse(gateway), int(subnet.rpartition("/")[2]))]


def test_a_default_route_is_added_once_per_family() -> None:
    given_result = result("10.1.0.2/24", "10.2.0.2/24", "fd00::2/64")
    planned(given_result, is_gateway=True, is_default_gateway=True)
    assert given_result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00::1"}]


def test_a_default_route_of_another_table_is_not_the_one_that_is_wanted() -> None:
    given_result = result("10.1.0.2/24")
    given_result["routes"] = [{"dst": "0.0.0.0/0", "gw": "10.1.0.9", "table": 100}]
    planned(given_result, is_gateway=True, is_default_gateway=True)
    assert given_result["routes"][1:] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]


def test_with_a_hosts_prefix_the_way_to_the_gateway_comes_first() -> None:
    given_result = result("10.61.0.2/24", "fd61::2/64")
    plan = planned(given_result, is_gateway=True, is_default_gateway=True, pod_prefix_is_host=True)
    assert [ip["address"] for ip in given_result["ips"]] == ["10.61.0.2/32", "fd61::2/128"]
    assert [str(route) for route in plan.pod_routes] == ["10.61.0.1/32", "fd61::1/128", "0.0.0.0/0", "::/0"]
    assert plan.subnets == [(addresses.parse("10.61.0.2"), 24), (addresses.parse("fd61::2"), 64)]


@pytest.mark.parametrize(
    ("there", "wanted", "blocks"),
    [
        ("10.1.0.1/24", "10.2.0.1/24", True), ("fd00::1/64", "fd01::1/64", False), ("fd00::2/64", "fd00::1/64", True),
        ("fd00::1/48", "fd00:0:0:1::1/64", True), ("10.1.0.1/24", "10.1.0.1/32", False), ("10.1.0.1/32", "10.1.0.1/24", True),
    ],
)  # fmt: skip
def test_which_address_is_in_the_gateways_way(there: str, wanted: str, blocks: bool) -> None:  # noqa: FBT001 - the table's last column
    assert is_in_the_way(addresses.parse_cidr(there), addresses.parse_cidr(wanted)) is blocks


def test_small_networks_have_no_broadcast_address() -> None:
    assert broadcast(addresses.parse("10.1.0.5"), 24) == addresses.parse("10.1.0.255")
    assert [broadcast(addresses.parse("10.1.0.5"), prefix) for prefix in (31, 32)] == [b"", b""]
    assert broadcast(addresses.parse("fd00::1"), 64) == b""


@pytest.mark.parametrize(
    ("keys", "members"),
    [
        ({}, []), ({"vlan": 7}, [(7, 7, 6)]), ({"trunk": ()}, [(1, 1, 6)]),
        ({"trunk": (2, 3, 4, 9)}, [(1, 1, 6), (2, 4, 0), (9, 9, 0)]), ({"vlan": 3, "trunk": (2, 3, 4)}, [(3, 3, 6), (2, 2, 0), (4, 4, 0)]),
    ],
)  # fmt: skip
def test_a_port_is_in_its_own_vlan_untagged_and_in_the_trunks_tagged(keys: dict[str, object], members: list[tuple[int, int, int]]) -> None:
    assert vlan.port_vlans(cast("Settings", Wanted(**keys))) == members
