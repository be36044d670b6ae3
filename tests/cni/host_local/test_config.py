"""What the configuration means, and what is refused with which code, key and value; the reference implementation beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni_bridge import addresses
from cni_bridge.host_local import config as reading
from cni_bridge.host_local.place import Place
from cni_bridge.host_local.ranges import shown
from cni_bridge.protocol.errors import CniError
from tests.cni.host_local.configs import config
from tests.cni.plugins import Answer, Config, call, ours, reference, variables

HERE = Path("/proc/nowhere")  # cannot be made; requests that may get that far are given another place


def sets(said: Config) -> list[str]:
    return [shown(range_set) for range_set in reading.read_range_sets(said, said.get("cniVersion", "0.1.0"))]


def test_range_sets_come_in_the_order_of_their_indexes() -> None:
    said = config(HERE, "10.2.0.0/24", "fd00::/64", subnet="10.1.0.0/24")
    said["RuntimeConfig"] = {"ipRanges": [[{"subnet": "10.3.0.0/24"}, {"subnet": "10.4.0.0/24"}]]}
    assert sets(said) == [
        "10.3.0.1-10.3.0.254,10.4.0.1-10.4.0.254",
        "10.1.0.1-10.1.0.254",
        "10.2.0.1-10.2.0.254",
        "fd00::1-fd00::ffff:ffff:ffff:ffff",
    ]


def test_ends_and_gateway_can_be_given() -> None:
    said = config(HERE, ranges=[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.255", "gateway": "10.9.9.9"}]])
    ((one,),) = reading.read_range_sets(said, "1.0.0")
    assert (str(one), addresses.text(one.gateway), one.prefix, one.size()) == ("10.1.0.0-10.1.0.255", "10.9.9.9", 24, 256)


def test_requests_of_all_three_channels_add_up_and_count_once() -> None:
    said = config(HERE, "10.1.0.0/24")
    said["args"] = {"cni": {"ips": ["10.1.0.6/24", "fd00:0::5"]}}
    said["runtimeConfig"] = {"ips": ["10.1.0.7", "10.1.0.5"]}
    wish = reading.Wish(said, "IP=10.1.0.5/8;IgnoreUnknown=1;K8S_POD_NAME=web", "eth0")
    assert [addresses.text(one) for one in wish.requested] == ["10.1.0.5", "10.1.0.6", "fd00::5", "10.1.0.7"]
    assert wish.pod == ""


def test_a_pod_has_a_name_only_where_addresses_are_sticky() -> None:
    said = config(HERE, stickyAddresses=True)
    assert reading.Wish(said, "K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0", "eth1").pod == "prod/web-0/eth1"
    assert reading.Wish(said, "", "eth0").pod == ""


def test_the_store_is_where_it_always_was_and_the_lock_has_an_end() -> None:
    said = config(HERE)
    assert Place(said).folder == "/proc/nowhere/net"
    del said["ipam"]["dataDir"]
    place = Place(said)
    assert (place.folder, place.lock_seconds, place.resets_at_boot) == ("/var/lib/cni/networks/net", 25, False)


def one_range(**keys: object) -> Config:
    return config(HERE, ranges=[[keys]])


BAD: list[tuple[str, Config, int, str]] = [
    ("no ipam", {"name": "net"}, 7, "IPAM config missing 'ipam' key"),
    ("ipam is text", {"name": "net", "ipam": "x"}, 6, '"ipam" is "x": an object is right'),
    ("no ranges", config(HERE), 7, "no IP ranges specified"),
    ("empty set", config(HERE, ranges=[[]]), 7, 'invalid range set 0: "ipam.ranges[0]": empty range set'),
    (
        "set is a range",
        config(HERE, ranges=[{"subnet": "10.0.0.0/24"}]),
        6,
        '"ipam.ranges[0]" is {"subnet":"10.0.0.0/24"}: an array is right',
    ),
    ("range is text", config(HERE, ranges=[["10.0.0.0/24"]]), 6, '"ipam.ranges[0][0]" is "10.0.0.0/24": an object is right'),
    ("no subnet", one_range(gateway="10.0.0.1"), 7, 'invalid range set 0: "ipam.ranges[0][0].subnet" is missing'),
    ("subnet is a number", one_range(subnet=10), 6, 'invalid range set 0: "ipam.ranges[0][0].subnet" is 10: a string is right'),
    ("subnet is no subnet", config(HERE, subnet="10.0.0/24"), 6, "invalid range set 0: \"ipam.subnet\": '10.0.0/24' is not"),
    ("subnet without a length", config(HERE, subnet="10.0.0.0"), 6, "invalid range set 0: \"ipam.subnet\": '10.0.0.0' is not"),
    ("mapped subnet", config(HERE, subnet="::ffff:10.0.0.0/120"), 6, "invalid range set 0: \"ipam.subnet\": '::ffff:10.0.0.0/120' is not"),
    (
        "small subnet",
        config(HERE, subnet="10.0.0.0/31"),
        7,
        'invalid range set 0: "ipam.subnet" is "10.0.0.0/31": the network is too small to allocate from, /30 is',
    ),
    (
        "small IPv6 subnet",
        config(HERE, subnet="fd00::/127"),
        7,
        'invalid range set 0: "ipam.subnet" is "fd00::/127": the network is too small to allocate from, /126',
    ),
    (
        "host bits",
        config(HERE, subnet="10.0.0.5/24"),
        7,
        'invalid range set 0: "ipam.subnet" is "10.0.0.5/24": it has host bits set, the network\'s address is 10.0.0.0',
    ),
    (
        "start outside",
        config(HERE, subnet="10.0.0.0/24", rangeStart="10.0.1.1"),
        7,
        'invalid range set 0: "ipam.rangeStart" is "10.0.1.1": it is not in network',
    ),
    (
        "start of the other family",
        config(HERE, subnet="10.0.0.0/24", rangeStart="fd00::5"),
        7,
        'invalid range set 0: "ipam.rangeStart" is "fd00::5"',
    ),
    (
        "end outside",
        config(HERE, subnet="10.0.0.0/24", rangeEnd="10.0.1.1"),
        7,
        'invalid range set 0: "ipam.rangeEnd" is "10.0.1.1": it is not in network',
    ),
    (
        "end before start",
        config(HERE, subnet="10.0.0.0/24", rangeStart="10.0.0.9", rangeEnd="10.0.0.8"),
        7,
        'invalid range set 0: "ipam.rangeEnd" is "10.0.0.8": it is before',
    ),
    (
        "gateway is no address",
        config(HERE, subnet="10.0.0.0/24", gateway="x"),
        6,
        "invalid range set 0: \"ipam.gateway\": 'x' is not an IP address",
    ),
    (
        "mixed families",
        config(HERE, ranges=[[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]),
        7,
        'invalid range set 0: "ipam.ranges[0]": mixed address families',
    ),
    (
        "overlap in a set",
        config(HERE, ranges=[[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]]),
        7,
        'invalid range set 0: "ipam.ranges[0]": subnets 10.0.0.1-10.0.0.254 and',
    ),
    ("overlap of sets", config(HERE, "fd00::/64", "10.0.0.0/24", "10.0.0.0/16"), 7, "range set 1 overlaps with 2"),
    (
        "two addresses too early",
        config(HERE, "10.0.0.0/24", "10.1.0.0/24", version="0.2.0"),
        7,
        "CNI version 0.2.0 does not support more than 1 address per family",
    ),
    (
        "route's gateway",
        config(HERE, "10.0.0.0/24", routes=[{"dst": "0.0.0.0/0", "gw": "me"}]),
        6,
        "\"ipam.routes[0].gw\": 'me' is not an IP address",
    ),
    ("resolvConf", config(HERE, "10.0.0.0/24", resolvConf="/nowhere/resolv.conf"), 7, '"ipam.resolvConf" is "/nowhere/resolv.conf": '),
    (
        "dataDir is a number",
        config(HERE, "10.0.0.0/24") | {"ipam": {"subnet": "10.0.0.0/24", "dataDir": 5}},
        6,
        '"ipam.dataDir" is 5: a string is right',
    ),
    (
        "requested text",
        config(HERE, "10.0.0.0/24") | {"args": {"cni": {"ips": ["ten"]}}},
        6,
        "\"args.cni.ips[0]\": 'ten' is not an IP address",
    ),
    (
        "requested number",
        config(HERE, "10.0.0.0/24") | {"runtimeConfig": {"ips": [10]}},
        6,
        '"runtimeConfig.ips[0]" is 10: a string is right',
    ),
    (
        "requested prefix",
        config(HERE, "10.0.0.0/24") | {"runtimeConfig": {"ips": ["10.0.0.5/99"]}},
        6,
        "\"runtimeConfig.ips[0]\": '10.0.0.5/99' is not",
    ),
]
IDS = [one[0] for one in BAD]


@pytest.mark.parametrize(("said", "code", "message"), [one[1:] for one in BAD], ids=IDS)
def test_bad_configuration_is_refused_with_key_and_value(tmp_path: Path, said: Config, code: int, message: str) -> None:
    answer = call(ours("host-local"), variables("ADD"), moved(said, tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert (answer.code, answer.said["code"], answer.stderr) == (1, code, "")
    assert answer.said["msg"].startswith(message)


@pytest.mark.parametrize("said", [one[1] for one in BAD], ids=IDS)
def test_the_reference_implementation_refuses_it_too(tmp_path: Path, said: Config) -> None:
    assert reference_add(moved(said, tmp_path), "").code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("IP=ten", "\"CNI_ARGS: IP\": 'ten' is not an IP address"),
        ("FOO=BAR", 'ARGS: unknown args ["FOO=BAR"]'),
        ("IP", 'ARGS: invalid pair "IP"'),
    ],
)
def test_bad_cni_args_are_refused_with_key_and_value(tmp_path: Path, args: str, message: str) -> None:
    with pytest.raises(CniError) as refused:
        reading.Wish(config(HERE, "10.0.0.0/24"), args, "eth0")
    assert (refused.value.code, refused.value.msg) == (4, message)
    assert reference_add(config(tmp_path, "10.0.0.0/24"), args).code == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (config(HERE, "10.0.0.0/24", lockTimeoutSeconds=0), '"ipam.lockTimeoutSeconds" is "0": 1 or more is right'),
        (config(HERE, "10.0.0.0/24", lockTimeoutSeconds="5"), '"ipam.lockTimeoutSeconds" is "5": a whole number is right'),
        (config(HERE, "10.0.0.0/24", resetAtBoot="yes"), '"ipam.resetAtBoot" is "yes": true or false is right'),
        (config(HERE, "10.0.0.0/24", stickyAddresses=1), '"ipam.stickyAddresses" is 1: true or false is right'),
        (config(HERE, "10.0.0.0/24", routes=[{"gw": "10.0.0.1"}]), "\"ipam.routes[0].dst\": '' is not"),
        (
            config(HERE, subnet="10.0.0.0/24", gateway="fd00::1"),
            'invalid range set 0: "ipam.gateway" is "fd00::1": it is not of the family',
        ),
        (config(HERE, subnet="10.0.0.0/24", rangeStart="10.0.0.255"), 'invalid range set 0: "ipam.rangeEnd" is "10.0.0.254": it is before'),
        (config(Path("/a\0b"), "10.0.0.0/24"), '"ipam.dataDir" is "/a\0b/net": a path holds no NUL'),
    ],
)
def test_what_only_we_refuse_has_key_and_value_too(said: Config, message: str) -> None:
    assert call(ours("host-local"), variables("ADD"), said).said["msg"].startswith(message)


def moved(said: Config, folder: Path) -> Config:
    """Give the configuration a store that can be made."""
    ipam = said.get("ipam")
    return {**said, "ipam": {**ipam, "dataDir": str(folder)}} if isinstance(ipam, dict) and ipam.get("dataDir") == str(HERE) else said


def reference_add(said: Config, args: str) -> Answer:
    """Ask for the reference implementation's opinion; it knows versions up to 1.0.0."""
    if said.get("cniVersion") == "1.1.0":
        said = {**said, "cniVersion": "1.0.0"}
    return call(reference("host-local"), variables("ADD", args=args), json.dumps(said))
