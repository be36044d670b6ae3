"""Results in the form of every version, and back, beside what the reference implementation prints."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge.protocol import reading, results, versions
from cni_bridge.protocol.errors import CniError
from tests.cni.plugins import call, reference, variables

FULL: results.Result = {
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a", "pciID": "0000:00:1f.6", "socketPath": "/run/s"},
    ],
    "ips": [
        {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"address": "10.2.0.5/16", "interface": 1},
        {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 1},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "table": 7}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
}


def test_the_newest_version_says_it_all() -> None:
    assert results.to_version(FULL, "1.1.0") == {"cniVersion": "1.1.0", **FULL}


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_earlier_versions_leave_out_what_they_do_not_have(version: str) -> None:
    said = results.to_version(FULL, version)
    family = {} if version == "1.0.0" else {"version": "4"}
    assert said["interfaces"] == [
        {"name": "cni0", "mac": "02:00:00:00:00:01"},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a"},
    ]
    assert isinstance(said["ips"], list)
    assert said["ips"][0] == {**family, "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1}
    assert said["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_first_versions_have_one_address_of_each_family_and_no_interfaces(version: str) -> None:
    assert results.to_version(FULL, version) == {
        "cniVersion": version,
        "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
        "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
        "dns": {"nameservers": ["10.1.0.1"]},
    }


def test_the_first_versions_cannot_say_that_there_is_no_address() -> None:
    with pytest.raises(CniError, match="cannot convert: no valid IP addresses"):
        results.to_version(results.empty(), "0.2.0")
    assert results.to_version(results.empty(), "0.3.0") == {"cniVersion": "0.3.0"}


IPV6 = st.ip_addresses(v=6).map(int).map(ipaddress.IPv6Address).filter(lambda one: not one.ipv4_mapped)
ADDRESSES = st.one_of(
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds("{}/{}".format, IPV6, st.integers(0, 128)),
)
GATEWAYS = st.ip_addresses(v=4).map(str)


@st.composite
def any_result(draw: st.DrawFn) -> results.Result:
    interfaces = draw(st.lists(st.fixed_dictionaries({"name": st.text(min_size=1)}), max_size=3))
    ips = draw(
        st.lists(st.fixed_dictionaries({"address": ADDRESSES}, optional={"gateway": GATEWAYS, "interface": st.integers(0, 2)}), max_size=4)
    )
    routes = draw(st.lists(st.fixed_dictionaries({"dst": ADDRESSES}, optional={"gw": GATEWAYS, "mtu": st.integers(1)}), max_size=3))
    return {"interfaces": interfaces, "ips": ips, "routes": routes}  # type: ignore[typeddict-item]  # the strategies make exactly these


@given(any_result(), st.sampled_from(versions.SUPPORTED[2:]))
def test_a_result_survives_the_way_out_and_in_as_far_as_its_version_goes(result: results.Result, version: str) -> None:
    said = json.loads(json.dumps(results.to_version(result, version)))
    again = reading.from_version(said, "0.1.0")
    assert results.to_version(again, version) == said
    if version == "1.1.0":
        assert again == result


def test_a_result_without_a_version_has_the_configurations() -> None:
    said: dict[str, Any] = {"ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]}}
    assert reading.from_version(said, "0.2.0")["ips"] == [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}]
    assert reading.from_version(said, "0.2.0")["routes"] == [{"dst": "0.0.0.0/0"}]
    assert reading.from_version(said, "1.0.0") == results.empty()


def test_keys_match_in_any_case_and_texts_become_canonical() -> None:
    said: dict[str, Any] = {"IPs": [{"Address": "FD00:0::5/64", "Gateway": "FD00::1", "version": "6"}]}
    assert reading.from_version(said, "0.4.0")["ips"] == [{"address": "fd00::5/64", "gateway": "fd00::1"}]


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ({"cniVersion": "2.0.0"}, 1, 'a result of cniVersion "2.0.0" cannot be read'),
        ({"ips": [{"address": "10.0.0.1"}]}, 6, "\"ips[0].address\": '10.0.0.1' is not an IP address and the length of its prefix"),
        ({"ips": [{}]}, 6, '"ips[0].address"'),
        ({"ips": "10.0.0.1/8"}, 6, '"ips" is "10.0.0.1/8": an array is right'),
        ({"ips": [3]}, 6, '"ips[0]" is 3: an object is right'),
        ({"ips": [{"address": "10.0.0.1/8", "interface": "0"}]}, 6, '"ips[0].interface" is "0": a whole number is right'),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}, 6, "\"ips[0].gateway\": 'x' is not an IP address"),
        ({"routes": [{"dst": "10.0.0.0/8", "mtu": True}]}, 6, '"routes[0].mtu" is true: a whole number is right'),
        ({"dns": {"search": "x"}}, 6, '"dns.search" is "x": an array is right'),
        ({"interfaces": [{"name": 1}]}, 6, '"interfaces[0].name" is 1: a string is right'),
    ],
)
def test_a_damaged_result_is_refused_with_key_and_value(said: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(CniError) as refused:
        reading.from_version(said, "1.1.0")
    assert refused.value.code == code
    assert refused.value.msg.startswith(message)


@pytest.mark.parametrize("version", versions.SUPPORTED[:-1])
def test_what_the_reference_implementation_prints_is_what_we_print(tmp_path: Path, version: str) -> None:
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path),
        "routes": FULL["routes"],
        "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00::/64"}]],
    }
    config = {"cniVersion": version, "name": "net", "ipam": ipam}
    printed = call(reference("host-local"), variables("ADD"), config).said
    read = reading.from_version(printed, version)
    assert [ip["address"] for ip in read["ips"]] == ["10.1.0.2/16", "fd00::2/64"]
    assert printed.pop("dns") == {}  # left out since release 1.2
    assert results.to_version(read, version) == printed
