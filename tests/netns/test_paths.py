"""Paths that are narrower than they look, and shortcuts that must not be taken."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.ways import FAMILIES

if TYPE_CHECKING:
    from tests.lab.stand import Stand
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

BULK = 2_000_000
PROBING_SECONDS = 20.0
TOO_BIG = {4: "IcmpOutDestUnreachs", 6: "Icmp6OutPktTooBigs"}
REDIRECTS = {4: "IcmpOutRedirects", 6: "Icmp6OutRedirects"}


def assert_bulk_flows(stand: Stand, who: str, vip: str) -> None:
    """Upload first: a host that was told of the narrow hop says so in its next handshake, and then nothing is too big."""
    data = client.pattern(BULK)
    assert client.upload(stand.lab[who], vip, 80, data) == f"{BULK} {hashlib.sha256(data).hexdigest()}"
    assert client.download(stand.lab[who], vip, 80, BULK) == data


@pytest.mark.parametrize("family", FAMILIES)
def test_bulk_data_with_a_kept_address_flows_to_an_endpoint_behind_a_narrow_hop(shared: Stand, family: int) -> None:
    """The hop tells the client's address what is too big: the node must hear of it."""
    served = shared.serve(f"far-{family}", shared.lab.far)
    assert client.ask(shared.lab.pod, served.vip(family), 80).address == shared.lab.pod.address(family)
    before = counted(shared.lab.router, TOO_BIG[family])
    assert_bulk_flows(shared, "pod", served.vip(family))
    assert counted(shared.lab.router, TOO_BIG[family]) > before


def test_bulk_data_flows_to_a_client_behind_a_narrow_hop(shared: Stand) -> None:
    assert_bulk_flows(shared, "far", shared.serve("near", shared.lab.pod2).vip(4))


def test_bulk_data_flows_to_an_ipv6_client_behind_a_narrow_hop_once_the_kernel_probes_paths(shared: Stand) -> None:
    """What the hop says quotes the service's port, which no socket has, and IPv6 routers do not fragment: the documented limit."""
    served = shared.serve("near-by-probing", shared.lab.pod2)
    shared.lab.node.namespace.sysctl({"net.ipv4.tcp_mtu_probing": 1})
    with client.tcp(shared.lab.far, served.vip(6), 80, PROBING_SECONDS) as conversation:
        conversation.sendall(f"send {BULK}\n".encode())
        assert client.read_all(conversation) == client.pattern(BULK)


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_of_one_bridge_that_were_told_a_shortcut_still_talk_through_the_service(shared: Stand, family: int) -> None:
    """The node redirects pods that share a bridge; one that believed it would answer past the node."""
    served = shared.serve(f"bridged-{family}", shared.lab.bridged2)
    before = counted(shared.lab.node, REDIRECTS[family])
    for _ in range(20):
        assert client.ask(shared.lab.bridged, shared.lab.bridged2.address(family), 8080, "UDP").name == "bridged2"
    assert counted(shared.lab.node, REDIRECTS[family]) > before
    for _ in range(5):
        answer = client.ask(shared.lab.bridged, served.vip(family), 80)
        assert (answer.name, answer.address) == ("bridged2", shared.lab.bridged.address(family))


def counted(host: Host, counter: str) -> int:
    """Read one of the kernel's counters of ICMP messages (/proc/net/snmp, /proc/net/snmp6)."""
    return host.namespace.call(icmp_counters)[counter]


def icmp_counters() -> dict[str, int]:
    names, values = (line.split()[1:] for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if line.startswith("Icmp:"))
    six = (line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return {f"Icmp{name}": int(value) for name, value in zip(names, values, strict=True)} | {name: int(value) for name, value in six}
