"""Every client reaches every kind of service address, over both families and protocols, with every kind of data."""

from __future__ import annotations

import hashlib
import socket

import pytest

from tests.lab import client, kernel
from tests.lab.manifests import Served
from tests.lab.stand import Stand
from tests.lab.ways import CLIENTS, FAMILIES, Way, ask, assert_served, entrance, ways

pytestmark = pytest.mark.netns

SO_NO_CHECK = 11  # asm-generic/socket.h; the socket module does not know it


@pytest.fixture(scope="module")
def web(shared: Stand) -> Served:
    return shared.serve("web", shared.lab.pod2)


@pytest.mark.parametrize("way", ways(), ids=str)
def test_a_client_reaches_the_endpoint(shared: Stand, web: Served, way: Way) -> None:
    assert ask(shared, web, way).name == "pod2"


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 9000, 65_000])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_datagrams_arrive_whole_fragmented_or_not(shared: Stand, web: Served, who: str, family: int, size: int) -> None:
    payload = client.pattern(size)
    for address_class in ("ClusterIP", "NodePort"):
        address, port = entrance(shared, web, address_class, family)
        assert client.round_trip(shared.lab[who], address, port, payload) == payload


@pytest.mark.parametrize("who", CLIENTS)
def test_datagrams_without_a_checksum_arrive(shared: Stand, web: Served, who: str) -> None:
    """IPv4 lets a sender leave it out (RFC 768); a port that is rewritten must not turn "none" into a wrong one."""
    with client.udp(shared.lab[who], web.vip(4), web.port) as conversation:
        conversation.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        assert client.who(conversation).name == "pod2"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_bulk_data_arrives_exactly_and_the_end_of_a_direction_with_it(shared: Stand, web: Served, who: str, family: int) -> None:
    host, vip, data = shared.lab[who], web.vip(family), client.pattern(3_000_000)
    assert client.download(host, vip, web.port, len(data)) == data
    assert client.upload(host, vip, web.port, data) == f"{len(data)} {hashlib.sha256(data).hexdigest()}"
    assert client.half_closed_reply(host, vip, web.port, 300_000) == client.pattern(300_000)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_a_server_that_speaks_first_is_heard_at_once(shared: Stand, web: Served, who: str, family: int) -> None:
    with client.measured() as taken:
        for _ in range(5):
            assert client.greeting(shared.lab[who], web.vip(family), web.port + 1) == "hello from pod2\n"
    assert min(taken) / 5 < 0.1, "the delayed acknowledgement of a handshake takes 0.2 s"


def test_neither_nat_nor_connection_tracking_takes_part(shared: Stand, web: Served) -> None:
    for way in ways(clients=("pod", "outside", "node")):
        ask(shared, web, way)
    assert {kind for kind, _ in kernel.hooks(shared.lab.node)} == {"filter", "route"}
    assert kernel.tracked_connections(shared.lab.node) == 0


def test_requests_spread_over_all_endpoints(shared: Stand) -> None:
    served = shared.serve("spread", shared.lab.pod, shared.lab.pod2, shared.lab.bridged, shared.lab.remote)
    for protocol in ("TCP", "UDP"):
        seen = [client.ask(shared.lab.outside, served.vip(4), served.port, protocol).name for _ in range(8)]
        assert sorted(seen) == sorted(["pod", "pod2", "bridged", "remote"] * 2)


def test_affinity_keeps_a_client_at_one_endpoint_whatever_address_it_uses(shared: Stand) -> None:
    served = shared.serve("sticky", shared.lab.pod, shared.lab.pod2, shared.lab.bridged, affinity_seconds=600)
    for who in ("neighbour", "outside"):
        seen = {ask(shared, served, way).name for way in ways(clients=[who], families=[4]) if way.protocol == "TCP" for _ in range(3)}
        assert len(seen) == 1


def test_a_reset_of_the_endpoint_reaches_the_client_as_a_reset(shared: Stand, web: Served) -> None:
    with client.tcp(shared.lab.pod, web.vip(4), web.port) as conversation:
        conversation.sendall(b"reset\n")
        with pytest.raises(ConnectionResetError):
            conversation.recv(1)


def test_the_other_event_loop_serves_as_well(stand: Stand) -> None:
    stand.start("--loop", "asyncio")
    served = stand.serve("web", stand.lab.pod2)
    assert_served(stand, served, "pod2")
    assert client.half_closed_reply(stand.lab.outside, served.vip(4), served.port, 300_000) == client.pattern(300_000)
