"""uproxy.io/balance: least-connections: new connections go where the fewest are open."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, connect, read_exactly, refusing_endpoint
from uproxy.core.model import ServiceOptions

if TYPE_CHECKING:
    import socket

    from tests.dataplane.running import RunningPlane

LEAST = ServiceOptions(least_connections=True)


class Named(Server):
    """An endpoint that says its name and then waits for the client to leave."""

    def __init__(self, name: bytes) -> None:
        def greet(sock: socket.socket) -> None:
            sock.sendall(name)
            sock.recv(1)

        super().__init__(greet)


def open_named(served: Annotated, owned: ExitStack) -> tuple[bytes, socket.socket]:
    """Connect and give the name of the endpoint that answers."""
    client = owned.enter_context(connect(served.key))
    return read_exactly(client, 1), client


def test_new_connections_fill_the_endpoint_that_has_the_fewest(plane: RunningPlane) -> None:
    with Named(b"a") as a, Named(b"b") as b, ExitStack() as clients:
        served = Annotated(plane, LEAST, a.endpoint, b.endpoint)
        found = [open_named(served, clients) for _ in range(8)]
        assert sorted(name for name, _ in found) == [b"a"] * 4 + [b"b"] * 4
        for name, client in found:
            if name == b"a":
                client.close()
        plane.until(lambda: plane.plane.open_connections == 4)
        assert [open_named(served, clients)[0] for _ in range(4)] == [b"a"] * 4
        assert sorted(open_named(served, clients)[0] for _ in range(2)) == [b"a", b"b"]
    assert plane.counters.least_connections == 14


def test_an_endpoint_that_comes_in_gets_all_new_connections_until_it_has_as_many(plane: RunningPlane) -> None:
    with Named(b"a") as a, Named(b"b") as b, ExitStack() as clients:
        served = Annotated(plane, LEAST, a.endpoint)
        for _ in range(5):
            open_named(served, clients)
        served.lead_to(a.endpoint, b.endpoint)
        assert [open_named(served, clients)[0] for _ in range(5)] == [b"b"] * 5


def test_attempts_that_fail_and_clients_that_leave_are_not_counted_for_ever(plane: RunningPlane) -> None:
    with Named(b"a") as a:
        served = Annotated(plane, LEAST, refusing_endpoint(), a.endpoint, refusing_endpoint())
        for _ in range(50):
            with ExitStack() as clients:
                assert open_named(served, clients)[0] == b"a"
        plane.until(lambda: plane.plane.open_connections == 0)
        assert len(served.balancer.loads) == 0


def test_connections_of_a_service_without_it_are_not_counted_at_all(plane: RunningPlane) -> None:
    with Named(b"a") as a, ExitStack() as clients:
        served = Annotated(plane, ServiceOptions(), a.endpoint)
        open_named(served, clients)
        assert len(served.balancer.loads) == 0
    assert plane.counters.least_connections == 0
