"""What makes no sense is refused with key and value, before anything is changed; and what the rules say, without a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cni_bridge import addresses
from cni_bridge.ownership import Attachment
from cni_bridge.portmap import iptables_rules, nft_rules, plan
from cni_bridge.portmap.config import Settings, mappings
from cni_bridge.protocol.environment import Environment
from cni_bridge.protocol.errors import CniError
from cni_bridge.protocol.skeleton import Request

if TYPE_CHECKING:
    from cni_bridge.protocol.results import Result

WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}


def request_of(**keys: object) -> Request:
    return Request(Environment({b"CNI_COMMAND": b"ADD"}), {"cniVersion": "1.1.0", "name": "net1", **keys}, b"")  # type: ignore[dict-item]  # each is JSON


def read(request: Request) -> None:
    settings = Settings(request)
    mappings(request)
    settings.check_words(settings.backend)


def refusal(**keys: object) -> CniError:
    request = request_of(**keys)
    with pytest.raises(CniError) as refused:
        read(request)
    return refused.value


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"backend": "ebtables"}, '"backend" is "ebtables"'),
        ({"markMasqBit": 32}, '"markMasqBit" is 32'),
        ({"markMasqBit": -1}, '"markMasqBit" is -1'),
        ({"markMasqBit": 13, "externalSetMarkChain": "X"}, "externalSetMarkChain and markMasqBit"),
        ({"backend": "nftables", "externalSetMarkChain": "X"}, '"externalSetMarkChain" is for iptables'),
        ({"backend": "nftables", "conditionsV4": ["-s", "10.0.0.1"]}, '"conditionsV4" is for iptables'),
        ({"backend": "nftables", "conditionsV6": ["!", "-s", "::1"]}, '"conditionsV6" is for iptables'),
        ({"backend": "iptables", "conditionsV4": ["ip", "saddr", "10.0.0.1"]}, '"conditionsV4" is for nftables'),
        ({"conditionsV4": ["-s\nCOMMIT"]}, '"conditionsV4" has a word'),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(keys: dict[str, object], words: str) -> None:
    error = refusal(**keys)
    assert error.code == 7
    assert words in error.msg


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("hostPort", 0, 7),
        ("hostPort", 65536, 7),
        ("hostPort", "80", 6),
        ("containerPort", -1, 7),
        ("protocol", "icmp", 7),
        ("protocol", "", 7),
        ("hostIP", "nowhere", 7),
        ("hostIP", "10.0.0.0/8", 7),
    ],
)
def test_a_port_that_makes_no_sense_is_refused_by_its_place(member: str, value: object, code: int) -> None:
    error = refusal(backend="iptables", runtimeConfig={"portMappings": [WEB, {**WEB, member: value}]})
    assert error.code == code
    assert f"runtimeConfig.portMappings[1].{member}" in error.msg


def forwardings(ips: Any, *ports: dict[str, object]) -> list[plan.Forwarding]:  # noqa: ANN401 - a result's addresses
    request = request_of(runtimeConfig={"portMappings": list(ports or (WEB,))})
    result: Result = {"interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/x"}], "ips": ips, "routes": []}
    return plan.forwardings(Attachment("net1", "cid1", "eth0"), Settings(request), mappings(request), result)


@pytest.mark.parametrize(
    ("ips", "chosen"),
    [
        ([{"address": "10.1.0.5/24"}, {"address": "10.1.0.6/24"}], ["10.1.0.5"]),
        ([{"address": "fd00::5/64"}, {"address": "10.1.0.6/24"}], ["10.1.0.6", "fd00::5"]),
        ([{"address": "10.1.0.1/24", "interface": 0}, {"address": "10.1.0.6/24", "interface": 1}], ["10.1.0.6"]),
        ([{"address": "10.1.0.6/24", "interface": 7}], ["10.1.0.6"]),
        ([], []),
    ],
)
def test_the_containers_first_address_of_each_family_is_forwarded_to(ips: list[dict[str, object]], chosen: list[str]) -> None:
    assert [addresses.text(one.address) for one in forwardings(ips)] == chosen


def test_a_port_for_one_family_is_none_for_the_other() -> None:
    both = [{"address": "10.1.0.5/24"}, {"address": "fd00::5/64"}]
    (only,) = forwardings(both, {**WEB, "hostIP": "::"})
    assert addresses.text(only.address) == "fd00::5"
    assert only.mappings[0].host_ip == b""


def test_chains_and_comments_never_grow_longer_than_the_kernel_takes() -> None:
    assert len(iptables_rules.chain_name("n" * 300, "c" * 300)) == 28
    assert len(iptables_rules.comment_of("n" * 300, "c")) == 255
    assert len(nft_rules.comment_of("c" * 300)) == 127
    assert len(Attachment("n" * 300, "c" * 300, "eth0").note(127)) == 127


def test_what_is_there_already_is_not_added_again() -> None:
    (one,) = forwardings([{"address": "10.1.0.5/24"}])
    there: dict[str, list[str]] = {}
    for line in iptables_rules.addition(one, there):
        verb, chain, rule = [*line.split(" ", 2), ""][:3]
        if verb in {"-A", "-I"}:
            there.setdefault(chain, []).append(rule.removeprefix("1 "))
        else:
            there.setdefault(chain.removeprefix(":"), [])
    again = iptables_rules.addition(one, there)
    shared = [line for line in again if "CNI-DN-" not in line]
    assert shared == []
    assert [line.split(" ")[0] for line in again if " CNI-HOSTPORT-DNAT " in line] == ["-D", "-A"]
