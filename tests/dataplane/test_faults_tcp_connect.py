"""Endpoints that refuse, do not answer or are not there, and clients that leave meanwhile."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import Server, black_hole, connect, echo, open_descriptors, read_all, read_exactly, refusing_endpoint, reset
from uproxy.config import Config, EjectionSettings, TcpSettings
from uproxy.config_rules import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane
    from uproxy.core.model import RouteKey

QUICK = TcpSettings(connect_timeouts=(Duration(0.05), Duration(0.05)))
NEVER_EJECT = EjectionSettings(failures=0)


def expect_reset(key: RouteKey) -> None:
    """Connect and be reset: connect(2) itself may already say so."""
    with pytest.raises(ConnectionResetError), connect(key) as client:
        client.recv(1)


def test_a_client_never_sees_that_one_endpoint_refuses(plane: RunningPlane) -> None:
    with Server(echo) as good, Server(echo) as better:
        key = plane.serve(good.endpoint, refusing_endpoint(), better.endpoint)
        for _ in range(30):
            with connect(key) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
    assert plane.counters.connect_failures == {"ECONNREFUSED": 3}
    assert plane.counters.ejections == 1
    assert [facts["reason"] for facts in plane.log.named("endpoint_ejected")] == ["ECONNREFUSED"]


def test_many_refusals_in_a_row_use_up_no_connect_timeout(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=QUICK, ejection=NEVER_EJECT))
    with Server(echo) as good:
        key = plane.serve(*(refusing_endpoint() for _ in range(10)), good.endpoint)
        for _ in range(12):
            with connect(key) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"


def test_the_client_is_reset_at_once_when_every_endpoint_refuses(plane: RunningPlane) -> None:
    key = plane.serve(refusing_endpoint(), refusing_endpoint())
    began = time.monotonic()
    expect_reset(key)
    assert time.monotonic() - began < 0.2
    assert plane.counters.connections_failed == 1
    assert plane.counters.connect_attempts == 2


def test_a_connection_gives_up_after_as_many_refusals_as_the_setting_says(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(refused_attempts=3), ejection=NEVER_EJECT))
    key = plane.serve(*(refusing_endpoint() for _ in range(10)))
    expect_reset(key)
    assert plane.counters.connect_attempts == 3


def test_the_client_is_reset_where_there_is_no_endpoint(plane: RunningPlane) -> None:
    expect_reset(plane.serve())
    assert plane.counters.connect_attempts == 0


def test_an_endpoint_that_does_not_answer_is_passed_by_and_then_ejected(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(0.1), Duration(0.2), Duration(0.4)))))
    with black_hole() as dead, Server(echo) as good, Server(echo) as better:
        key = plane.serve(good.endpoint, dead, better.endpoint)
        slow = 0
        for _ in range(30):
            began = time.monotonic()
            with connect(key) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            assert time.monotonic() - began < 0.2
            slow += time.monotonic() - began > 0.09
    assert slow == 3
    assert plane.counters.connect_failures == {"timeout": 3}
    assert plane.counters.ejections == 1


def test_the_only_endpoint_is_tried_again_after_a_timeout_and_never_given_up(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=QUICK))
    with black_hole() as dead:
        key = plane.serve(dead)
        for _ in range(3):
            began = time.monotonic()
            expect_reset(key)
            assert 0.09 < time.monotonic() - began < 1
    assert plane.counters.connect_attempts == 6
    assert plane.counters.connect_failures == {"timeout": 6}
    assert plane.counters.connections_failed == 3


def test_one_that_refuses_is_not_tried_again_while_a_silent_one_is(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=QUICK))
    with black_hole() as dead:
        expect_reset(plane.serve(dead, refusing_endpoint()))
    assert plane.counters.connect_failures == {"timeout": 2, "ECONNREFUSED": 1}


def test_a_fin_while_connecting_is_not_leaving(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=QUICK))
    with black_hole() as dead, Server(echo) as good:
        key = plane.serve(dead, good.endpoint)
        for _ in range(4):
            with connect(key) as client:
                client.sendall(b"request")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"request"


def test_a_client_that_leaves_while_connecting_frees_both_sides(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(0.05), Duration(60)))))
    with black_hole() as dead:
        key = plane.serve(dead)
        client = connect(key)
        plane.until(lambda: plane.counters.connect_failures.get("timeout") == 1)
        assert plane.plane.open_connections == 1
        reset(client)
        plane.until(lambda: plane.plane.open_connections == 0)
        assert plane.counters.connections_reset == {"client_left": 1}


def test_ten_thousand_clients_that_leave_while_connecting_leave_no_descriptor(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(0.02), Duration(60)))))
    with black_hole() as dead:
        key = plane.serve(dead)
        before = plane.call(open_descriptors)
        for _ in range(100):
            clients = [connect(key) for _ in range(100)]
            for client in clients:
                reset(client)
        plane.until(lambda: plane.plane.open_connections == 0)
        assert plane.call(open_descriptors) == before
    assert plane.call(plane.plane.totals).accepted == 10_000


def test_a_client_that_speaks_slowly_after_failed_attempts_is_heard(plane: RunningPlane) -> None:
    with Server(echo) as good:
        key = plane.serve(refusing_endpoint(), good.endpoint)
        for _ in range(4):
            with connect(key) as client:
                plane.until(lambda: plane.plane.open_connections == 1)
                client.sendall(b"late")
                assert read_exactly(client, 4) == b"late"
            plane.until(lambda: plane.plane.open_connections == 0)


def test_an_attempt_that_is_under_way_goes_on_when_its_listener_closes(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=QUICK))
    with black_hole() as dead, Server(echo) as good:
        key = plane.serve(dead, good.endpoint)
        with connect(key) as client:
            plane.until(lambda: plane.plane.open_connections == 1)
            plane.call(lambda: plane.plane.close(key))
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        plane.until(lambda: plane.drained == [key])
