"""uproxy.io/drain: connections to an endpoint that has left its slices are reset after the grace."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, black_hole, connect, echo
from uproxy.config import Config, TcpSettings
from uproxy.config_rules import Duration
from uproxy.core.leaving import Left
from uproxy.core.model import NO_OPTIONS, Endpoint, ObjectKey, ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

WEB = ObjectKey("default", "web")
GRACE = 0.3
DRAIN = ServiceOptions(drain=GRACE)
NOBODY: frozenset[Endpoint] = frozenset()


def leave(plane: RunningPlane, *gone: Endpoint, listed: frozenset[Endpoint] = NOBODY, of: ObjectKey = WEB, grace: float = GRACE) -> None:
    plane.call(lambda: plane.plane.drain(Left(of, frozenset(gone), listed, grace)))


def works(client: socket.socket) -> bool:
    client.sendall(b"?")
    return client.recv(1) == b"?"


def seconds_to_reset(client: socket.socket) -> float:
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    return time.monotonic() - began


def reach(served: Annotated, endpoint: Endpoint, owned: ExitStack) -> socket.socket:
    """Give a connection to this endpoint."""
    served.lead_to(endpoint)
    client = owned.enter_context(connect(served.key))
    assert works(client)
    return client


@pytest.mark.parametrize("options", [DRAIN, NO_OPTIONS], ids=["opened with the annotation", "opened before it was there"])
def test_connections_to_an_endpoint_that_left_are_reset_after_the_grace_and_no_others(plane: RunningPlane, options: ServiceOptions) -> None:
    with Server(echo) as leaving, Server(echo) as staying, ExitStack() as owned:
        served = Annotated(plane, options)
        first, second = (reach(served, leaving.endpoint, owned) for _ in range(2))
        third = reach(served, staying.endpoint, owned)
        leave(plane, leaving.endpoint, listed=frozenset({staying.endpoint}))
        assert works(first)
        assert GRACE - 0.1 < seconds_to_reset(first) < GRACE + 1
        assert seconds_to_reset(second) < 1
        assert works(third)
    assert plane.counters.connections_drained == 2


def test_an_endpoint_that_returns_in_time_keeps_its_connections(plane: RunningPlane) -> None:
    with Server(echo) as server, ExitStack() as owned:
        client = reach(Annotated(plane, DRAIN), server.endpoint, owned)
        leave(plane, server.endpoint)
        leave(plane, listed=frozenset({server.endpoint}))
        time.sleep(2 * GRACE)
        assert works(client)


def test_one_that_returns_and_leaves_again_has_its_grace_anew(plane: RunningPlane) -> None:
    with Server(echo) as server, ExitStack() as owned:
        client = reach(Annotated(plane, DRAIN), server.endpoint, owned)
        leave(plane, server.endpoint)
        time.sleep(GRACE / 2)
        leave(plane, listed=frozenset({server.endpoint}))
        leave(plane, server.endpoint)
        assert seconds_to_reset(client) > GRACE - 0.05


def test_nothing_is_reset_once_the_annotation_was_taken_away(plane: RunningPlane) -> None:
    with Server(echo) as server, ExitStack() as owned:
        client = reach(Annotated(plane, DRAIN), server.endpoint, owned)
        leave(plane, server.endpoint)
        leave(plane, grace=0)
        time.sleep(2 * GRACE)
        assert works(client)


def test_another_service_with_the_same_endpoint_keeps_its_connections(plane: RunningPlane) -> None:
    with Server(echo) as server, ExitStack() as owned:
        client = reach(Annotated(plane, DRAIN), server.endpoint, owned)
        other = reach(Annotated(plane, DRAIN, name="other"), server.endpoint, owned)
        leave(plane, server.endpoint)
        seconds_to_reset(client)
        assert works(other)


def test_connections_of_a_listener_that_is_closed_meanwhile_are_reset_too(plane: RunningPlane) -> None:
    with Server(echo) as server, ExitStack() as owned:
        served = Annotated(plane, DRAIN)
        client = reach(served, server.endpoint, owned)
        leave(plane, server.endpoint)
        assert plane.call(lambda: plane.plane.close(served.key)) == 1
        assert works(client)
        seconds_to_reset(client)
        plane.until(lambda: plane.drained == [served.key])


def test_an_attempt_that_is_still_under_way_goes_to_another_endpoint(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(60), Duration(60)))))
    with black_hole() as dead, Server(echo) as server:
        served = Annotated(plane, DRAIN, dead)
        with connect(served.key) as client:
            plane.until(lambda: plane.plane.open_connections == 1)
            served.lead_to(server.endpoint)
            leave(plane, dead, listed=frozenset({server.endpoint}))
            assert works(client)


def test_many_connections_end_without_holding_up_the_others(plane: RunningPlane) -> None:
    with Server(echo) as leaving, Server(echo) as staying, ExitStack() as owned:
        served = Annotated(plane, DRAIN)
        clients = [reach(served, leaving.endpoint, owned) for _ in range(600)]
        other = reach(served, staying.endpoint, owned)
        leave(plane, leaving.endpoint)
        plane.until(lambda: plane.plane.open_connections == 1)
        for client in clients:
            seconds_to_reset(client)
        assert works(other)
    assert plane.counters.connections_drained == 600


def test_of_many_attempts_under_way_each_goes_to_another_endpoint_once(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(60), Duration(60)))))
    with black_hole() as dead, Server(echo) as server, ExitStack() as owned:
        served = Annotated(plane, DRAIN, dead)
        clients = [owned.enter_context(connect(served.key)) for _ in range(400)]
        plane.until(lambda: plane.plane.open_connections == 400)
        for client in clients[::2]:
            client.close()
        served.lead_to(server.endpoint)
        leave(plane, dead, listed=frozenset({server.endpoint}))
        for client in clients[1::2]:
            assert works(client)
        plane.until(lambda: plane.plane.open_connections == 200)
        assert len(served.balancer.loads) == 1
    assert plane.counters.connect_failures == {"timeout": 400}
    assert plane.counters.connect_attempts == 800
