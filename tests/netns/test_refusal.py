"""What is not served is refused at once: no endpoints, no such port, removed Services, endpoints that would loop."""

from __future__ import annotations

import errno
import socket
import statistics

import pytest

from tests.lab import client
from tests.lab.manifests import Served, endpoint_slice, service, targets
from tests.lab.servers import PORT
from tests.lab.stand import Stand
from tests.lab.waiting import eventually
from tests.lab.ways import CLIENTS, FAMILIES, PROTOCOLS

pytestmark = pytest.mark.netns

ONE_SYNC_SECONDS = 1.0


@pytest.fixture(scope="module")
def empty(shared: Stand) -> Served:
    return shared.await_refused(shared.services.add("empty", to=[]))


@pytest.fixture(scope="module")
def web(shared: Stand) -> Served:
    return shared.serve("web", shared.lab.pod2)


def seconds_to_refusal(stand: Stand, who: str, address: str, port: int) -> float:
    with client.open_socket(stand.lab[who], address, socket.SOCK_STREAM) as made, client.measured() as taken:
        assert made.connect_ex((address, port)) == errno.ECONNREFUSED
    return taken[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_without_endpoints_connections_are_refused_within_a_millisecond(shared: Stand, empty: Served, who: str, family: int) -> None:
    taken = [seconds_to_refusal(shared, who, empty.vip(family), empty.port) for _ in range(25)]
    assert statistics.median(taken) < 0.001


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_without_endpoints_datagrams_are_refused(shared: Stand, empty: Served, who: str, family: int) -> None:
    client.poll_refusal(shared.lab[who], empty.vip(family), empty.port, "UDP")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", CLIENTS)
def test_ports_that_the_service_does_not_have_are_refused(shared: Stand, web: Served, who: str, family: int) -> None:
    for address in (web.vip(family), web.external(family)):
        assert seconds_to_refusal(shared, who, address, 4444) < client.PATIENCE
        client.poll_refusal(shared.lab[who], address, 4444, "UDP")


@pytest.mark.parametrize("family", FAMILIES)
def test_node_ports_without_endpoints_are_refused(shared: Stand, empty: Served, family: int) -> None:
    for who in CLIENTS:
        assert client.is_refused(shared.lab[who], shared.lab.node.address(family), empty.node_port)


def test_the_local_port_of_a_listener_is_no_second_entrance(shared: Stand, web: Served) -> None:
    """The rewritten port is a detail: whoever guesses it is refused like any other undefined port."""
    for family in FAMILIES:
        assert client.is_refused(shared.lab.pod, web.vip(family), 20080)


def test_a_service_works_once_an_endpoint_appears_and_is_refused_once_the_last_has_left(shared: Stand) -> None:
    served = shared.await_refused(shared.services.add("blinking", to=[]))
    for _ in range(3):
        shared.retarget(served, targets([shared.lab.pod2]))
        for protocol in PROTOCOLS:
            client.poll(shared.lab.outside, served.vip(4), served.port, protocol, within=ONE_SYNC_SECONDS)
        shared.retarget(served, to=[])
        client.poll_refusal(shared.lab.outside, served.vip(4), served.port, within=ONE_SYNC_SECONDS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", ["pod", "outside", "node"])
def test_a_connection_outlives_its_service_while_new_ones_are_refused(shared: Stand, who: str, family: int) -> None:
    served = shared.serve(f"passing-{who}-{family}", shared.lab.pod2)
    with client.tcp(shared.lab[who], served.vip(family), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.services.remove(served)
        client.poll_refusal(shared.lab[who], served.vip(family), served.port)
        assert client.who(conversation).name == "pod2"


def test_a_connection_outlives_its_endpoints_place_in_the_service(shared: Stand) -> None:
    served = shared.serve("moving", shared.lab.pod2)
    with client.tcp(shared.lab.pod, served.vip(4), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.retarget(served, targets([shared.lab.bridged]))
        eventually(lambda: client.ask(shared.lab.pod, served.vip(4), served.port).name == "bridged")
        assert client.who(conversation).name == "pod2"


def test_the_next_datagram_of_a_client_goes_to_a_live_endpoint_after_its_own_has_left(shared: Stand) -> None:
    served = shared.serve("resolver", shared.lab.pod2)
    with client.udp(shared.lab.pod, served.vip(4), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.retarget(served, targets([shared.lab.bridged]))
        eventually(lambda: client.who(conversation).name == "bridged", within=ONE_SYNC_SECONDS)


def test_a_udp_service_that_moves_to_another_port_leaves_its_clients_no_way_to_the_old_one(shared: Stand) -> None:
    served = shared.serve("moved", shared.lab.pod2)
    moved = served._replace(port=served.port + 10)
    with client.udp(shared.lab.pod, served.vip(4), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
        shared.services.put(moved, targets([shared.lab.pod2]))
        shared.await_served(moved)
        for _ in range(3):
            with pytest.raises((ConnectionRefusedError, TimeoutError)):
                client.who(conversation)
        assert client.ask(shared.lab.pod, moved.vip(4), moved.port, "UDP").name == "pod2"


def way_back(stand: Stand, looping: Served, other: Served, loop: str) -> tuple[str, int]:
    """Give an address and a port that uproxy itself serves."""
    return {
        "its own cluster IP": (looping.vip(4), looping.port),
        "its own external IP": (looping.external(4), looping.port),
        "its own node port": (stand.lab.node.address(4), looping.node_port),
        "another Service's cluster IP": (other.vip(4), other.port),
    }[loop]


@pytest.mark.parametrize("loop", ["its own cluster IP", "its own external IP", "its own node port", "another Service's cluster IP"])
def test_an_endpoint_that_would_lead_back_to_us_is_refused_with_a_reason(shared: Stand, web: Served, loop: str) -> None:
    looping = shared.services.plan(f"looping-{len(shared.uproxy.lines)}")
    address, port = way_back(shared, looping, web, loop)
    only = [{"name": "tcp", "protocol": "TCP", "port": port}]
    looped = endpoint_slice(looping.name, 4, [(address, port)]) | {"ports": only}
    shared.services.write(looping.name, service(looping), looped)
    assert address in shared.uproxy.wait_for_log(looping.name, str(port))
    client.poll_refusal(shared.lab.pod, looping.vip(4), looping.port)


def test_good_endpoints_beside_a_refused_one_serve(shared: Stand) -> None:
    mixed = shared.services.plan("mixed", port=PORT)
    shared.services.put(mixed, [*targets([shared.lab.pod2]), (mixed.vip(4), PORT)])
    shared.await_served(mixed)
    assert {client.ask(shared.lab.pod, mixed.vip(4), PORT).name for _ in range(6)} == {"pod2"}
