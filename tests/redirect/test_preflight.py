"""What stands in the way on a host, each with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.redirect.captures import Facts
from uproxy.core.ruleset import Marks
from uproxy.errors import UsageError
from uproxy.redirect import foreign_rules, preflight
from uproxy.redirect.foreign_rules import Finding
from uproxy.redirect.nft_runner import Nft

if TYPE_CHECKING:

    from tests.lab.namespaces import Namespace

MARKS = Marks(0x1000, 0x0800)


def findings(host: Namespace, marks: Marks = MARKS, *, beside: bool = False) -> dict[str, Finding]:
    found = host.call(preflight.of_nftables, Nft(10), marks, beside)
    return {finding.what: finding for finding in found}


@pytest.mark.netns
def test_an_ordinary_host_has_nothing_to_complain_about(host: Namespace) -> None:
    host.nft("add table inet theirs\nadd chain inet theirs in { type filter hook input priority 0\npolicy accept\n}\n")
    assert findings(host) == {}
    assert host.call(preflight.of_routes) == ()


@pytest.mark.netns
@pytest.mark.parametrize("family", ["ip", "ip6", "inet"])
def test_a_leftover_table_of_kube_proxy_is_named_and_its_remedy_works(host: Namespace, family: str) -> None:
    host.nft(f"add table {family} kube-proxy")
    (found,) = findings(host).values()
    assert found.what == f"nftables table {family} kube-proxy"
    host.run(*found.remedy.split())
    assert findings(host) == {}


@pytest.mark.netns
def test_leftover_chains_of_kube_proxy_are_named_but_not_kubelets_own(host: Namespace) -> None:
    host.nft("add table ip nat\nadd chain ip nat KUBE-KUBELET-CANARY\nadd chain ip nat KUBE-MARK-MASQ\n")
    assert findings(host) == {}
    host.nft("add chain ip nat KUBE-SERVICES\nadd table ip6 nat\nadd chain ip6 nat KUBE-NODEPORTS\n")
    assert [(finding.what, finding.remedy) for finding in findings(host).values()] == [
        (
            "KUBE-SERVICES chains in iptables (nf_tables)",
            "kube-proxy --cleanup, or iptables-save | grep -v KUBE- | iptables-restore",
        ),
        (
            "KUBE-SERVICES chains in ip6tables (nf_tables)",
            "kube-proxy --cleanup, or ip6tables-save | grep -v KUBE- | ip6tables-restore",
        ),
    ]


@pytest.mark.netns
def test_a_kube_proxy_that_is_meant_to_be_there_is_no_leftover_but_needs_rules_beside_it(host: Namespace) -> None:
    host.nft("add table ip kube-proxy\nadd table ip6 kube-proxy\n")
    (found,) = findings(host, beside=True).values()
    assert "beside-kube-proxy.nft" in found.remedy
    assert all("nft delete table" in each.remedy for each in findings(host).values())
    host.run("nft", "-f", str(Path(__file__).parents[2] / "deploy" / "nftables" / "beside-kube-proxy.nft"))
    assert findings(host, beside=True) == {}


@pytest.mark.netns
@pytest.mark.parametrize(("device", "remedy"), [("kube-ipvs0", "ip link delete kube-ipvs0"), ("cilium_host", "another network plugin")])
def test_a_device_that_tells_of_another_service_proxy_is_named(host: Namespace, device: str, remedy: str) -> None:
    host.ip(f"link add {device} type bridge")
    (found,) = findings(host).values()
    assert found.what == f"device {device}"
    assert remedy in found.remedy
    assert not found.is_fatal


@pytest.mark.netns
def test_a_foreign_chain_that_drops_input_is_named_and_its_remedy_works(host: Namespace) -> None:
    host.nft("add table inet fence\nadd chain inet fence in { type filter hook input priority 0\npolicy drop\n}\n")
    (found,) = findings(host).values()
    assert found.what == "nftables chain inet fence in"
    command = found.remedy.removeprefix("admit uproxy's mark: ")
    assert command == "nft insert rule inet fence in meta mark and 0x1000 != 0 accept"
    host.run(*command.split())
    assert findings(host) == {}
    assert "fence" in str(findings(host, Marks(0x10, 0x20)))


@pytest.mark.netns
def test_a_chain_that_ends_by_rejecting_everything_is_named_too(host: Namespace) -> None:
    host.nft(
        "add table inet firewalld\nadd chain inet firewalld filter_INPUT { type filter hook input priority 10\n}\n"
        "add rule inet firewalld filter_INPUT ct state established accept\n"
        "add rule inet firewalld filter_INPUT counter reject with icmpx type admin-prohibited\n"
    )
    (found,) = findings(host).values()
    assert found.what == "nftables chain inet firewalld filter_INPUT"
    assert "firewall-cmd --reload" in found.remedy


@pytest.mark.netns
def test_a_chain_whose_last_rule_drops_under_a_condition_is_none_of_ours(host: Namespace) -> None:
    host.nft("add table inet t\nadd chain inet t in { type filter hook input priority 0\n}\nadd rule inet t in tcp dport 23 drop\n")
    assert findings(host) == {}


@pytest.mark.netns
@pytest.mark.parametrize(("family", "program"), [("ip", "iptables"), ("ip6", "ip6tables")])
def test_for_a_chain_of_iptables_the_remedy_is_in_its_language(host: Namespace, family: str, program: str) -> None:
    host.nft(f"add table {family} filter\nadd chain {family} filter INPUT {{ type filter hook input priority 0\npolicy drop\n}}\n")
    (found,) = findings(host).values()
    assert found.remedy == f"admit uproxy's mark: {program} -I INPUT -m mark --mark 0x1000/0x1000 -j ACCEPT"


CHAIN: dict[str, Any] = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}


def test_a_rule_of_iptables_own_mark_match_counts_as_the_remedy() -> None:
    by_match = {"expr": [{"xt": {"type": "match", "name": "mark"}}, {"counter": {}}, {"accept": None}]}
    other = {"expr": [{"xt": {"type": "match", "name": "comment"}}, {"accept": None}]}
    assert not list(foreign_rules.dropping(CHAIN, [by_match], MARKS))
    assert list(foreign_rules.dropping(CHAIN, [other], MARKS))


LEGACY = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
COMMIT
"""


def test_the_legacy_iptables_is_understood() -> None:
    (dropping,) = foreign_rules.legacy("iptables", LEGACY, MARKS)
    assert dropping.what == "chain INPUT of iptables (legacy)"
    assert "iptables-legacy -I INPUT -m mark --mark 0x1000/0x1000 -j ACCEPT" in dropping.remedy
    admitted = LEGACY.replace("-A INPUT -i lo", "-A INPUT -m mark --mark 0x1000/0x1000")
    assert not list(foreign_rules.legacy("iptables", admitted, MARKS))
    (leftover,) = foreign_rules.legacy("iptables", "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n", MARKS)
    assert leftover.remedy == "kube-proxy --cleanup, or iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore"


@pytest.mark.netns
def test_a_rule_that_looks_at_one_of_our_mark_bits_is_named(host: Namespace) -> None:
    marks = {100: "0x1800/0xff00", 101: "0xca6c", 102: "1/1"}
    host.ip(*(f"rule add pref {preference} fwmark {mark} lookup 7" for preference, mark in marks.items()))
    (found,) = findings(host).values()
    assert found.what == "ip -4 rule 100 looks at mark 0x1800/0xff00"


@pytest.mark.netns
@pytest.mark.parametrize(("mark", "owner"), [(0x4000, "kube-proxy"), (0x2000, "portmap"), (0x8000, "kubelet"), (0x100000, "Calico")])
def test_a_mark_bit_that_belongs_to_another_program_is_named(host: Namespace, mark: int, owner: str) -> None:
    (found,) = findings(host, Marks(mark, 0x0800)).values()
    assert found.what.startswith("capture.deliverMark")
    assert owner in found.why


@pytest.mark.netns
@pytest.mark.parametrize("marks", [Marks(0x1800, 0x0100), Marks(0x1000, 0), Marks(0x1000, 0x1000), Marks(1 << 32, 1)])
def test_marks_that_cannot_work_stop_us(host: Namespace, marks: Marks) -> None:
    assert any(finding.is_fatal for finding in findings(host, marks).values())


@pytest.mark.netns
def test_ipv6_that_is_off_is_said_and_does_not_stop_us(host: Namespace) -> None:
    host.sysctl({"net.ipv6.conf.all.disable_ipv6": 1})
    (found,) = findings(host).values()
    assert found.what == "IPv6 is off"
    assert not found.is_fatal


@pytest.mark.netns
def test_a_loopback_device_that_is_down_stops_us(host: Namespace) -> None:
    host.ip("link set lo down")
    found = findings(host)["the loopback device is down"]
    assert found.is_fatal
    assert found.remedy == "ip link set lo up"


@pytest.mark.parametrize("release", ["5.8.0-generic", "4.19.0", "3.10", "unknown"])
def test_a_kernel_before_5_9_stops_us_and_routes_is_named(release: str) -> None:
    (found,) = preflight._kernel(release)
    assert found.is_fatal
    assert found.remedy == "use --redirect routes"


@pytest.mark.parametrize("release", ["5.9.0", "5.10.0-21-amd64", "6.1.0", "10.0-rc1"])
def test_later_kernels_are_fine(release: str) -> None:
    assert not list(preflight._kernel(release))


def test_what_stops_us_is_one_line_with_all_reasons_and_the_rest_is_logged() -> None:
    fatal = [Finding("a", "b", "c", is_fatal=True), Finding("d", "e", "f", is_fatal=True)]
    harmless = Finding("g", "h", "i")
    facts = Facts()
    with pytest.raises(UsageError) as caught:
        preflight.report([*fatal, harmless], facts)
    assert str(caught.value) == "a: b; remedy: c; d: e; remedy: f"
    preflight.report([harmless], facts)
    assert facts.told == [("host_finding", {"what": "g", "why": "h", "remedy": "i"})]


@pytest.mark.netns
def test_rules_of_others_that_nft_cannot_list_do_not_stop_us(host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nft"
    program.write_text('#!/bin/sh\ncase "$*" in *version*) echo \'nftables v1.0.6\';; *) echo \'{"nftables": [{"chain": {}}]}\';; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = findings(host)
    assert list(found) == ["foreign nftables rules not checked"]
    assert not found["foreign nftables rules not checked"].is_fatal
