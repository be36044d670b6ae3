"""uproxy.io/hold: clients of a Service without endpoints wait for the first one, so many and so long."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, black_hole, connect, echo, open_descriptors, read_all, read_exactly, refusing_endpoint, reset
from uproxy.config import Config, TcpSettings
from uproxy.config_rules import Duration
from uproxy.core.model import NO_OPTIONS, Protocol, ServiceOptions, ServicePortName
from uproxy.dataplane.annotated import AnnotatedDial

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

HOLD = ServiceOptions(hold=60)
BRIEF = ServiceOptions(hold=0.3)


def wait_for_held(plane: RunningPlane, number: int) -> None:
    plane.until(lambda: plane.counters.held == number)


def wait_for_outcomes(plane: RunningPlane, expected: dict[str, int]) -> None:
    plane.until(lambda: plane.counters.hold_outcomes == expected)


@pytest.mark.parametrize("vip", ["127.0.0.1", "::1"])
def test_a_client_waits_for_the_first_endpoint_and_what_it_sent_arrives(plane: RunningPlane, vip: str) -> None:
    with Server(echo, address=vip) as server:
        served = Annotated(plane, HOLD, vip=vip)
        with connect(served.key) as client:
            client.sendall(b"are you there?")
            wait_for_held(plane, 1)
            served.lead_to(server.endpoint)
            assert read_exactly(client, 14) == b"are you there?"
    assert (plane.counters.held, plane.counters.hold_outcomes) == (0, {"served": 1})


def test_a_client_that_has_closed_its_direction_meanwhile_gets_its_answer(plane: RunningPlane) -> None:
    with Server(lambda sock: sock.sendall(read_all(sock)[::-1])) as server:
        served = Annotated(plane, HOLD)
        with connect(served.key) as client:
            wait_for_held(plane, 1)
            client.sendall(b"abc")
            client.shutdown(socket.SHUT_WR)
            served.lead_to(server.endpoint)
            assert read_all(client) == b"cba"


def test_a_server_that_speaks_first_is_heard(plane: RunningPlane) -> None:
    with Server(lambda sock: sock.sendall(b"welcome")) as server:
        served = Annotated(plane, HOLD)
        with connect(served.key) as client:
            wait_for_held(plane, 1)
            served.lead_to(server.endpoint)
            assert read_all(client) == b"welcome"


def test_a_client_that_waited_in_vain_is_reset_by_its_own_timer(plane: RunningPlane) -> None:
    served = Annotated(plane, BRIEF)
    with connect(served.key) as first:
        wait_for_held(plane, 1)
        time.sleep(0.15)
        with connect(served.key) as second:
            began = time.monotonic()
            for client, least in ((first, 0.0), (second, 0.1)):
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                assert time.monotonic() - began >= least
    plane.until(lambda: plane.plane.open_connections == 0)
    assert plane.counters.hold_outcomes == {"timeout": 2}


def test_beyond_the_number_of_its_service_a_client_is_reset_at_once(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(held_connections=3)))
    with Server(echo) as server, ExitStack() as owned:
        first, second = Annotated(plane, HOLD), Annotated(plane, HOLD)
        other = Annotated(plane, HOLD, name="other")
        held = [owned.enter_context(connect(each.key)) for each in (first, second, first)]
        wait_for_held(plane, 3)
        with pytest.raises(ConnectionResetError), connect(second.key) as client:
            client.recv(1)
        owned.enter_context(connect(other.key))
        wait_for_held(plane, 4)
        for each in (first, second):
            each.lead_to(server.endpoint)
        for client in held:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert plane.counters.hold_outcomes == {"too_many": 1, "served": 3}


def test_sixteen_may_wait_by_default() -> None:
    assert Config().tcp.held_connections == 16


def test_a_client_that_leaves_makes_room_and_leaves_nothing_behind(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(held_connections=1)))
    served = Annotated(plane, HOLD)
    before = open_descriptors()
    for number in range(1, 20):
        client = connect(served.key)
        wait_for_held(plane, 1)
        reset(client)
        wait_for_held(plane, 0)
        assert plane.counters.hold_outcomes == {"client_left": number}
    plane.until(lambda: open_descriptors() == before)


def test_a_client_that_closes_without_a_byte_has_left_too(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(held_connections=1)))
    served = Annotated(plane, HOLD)
    for number in range(1, 20):
        connect(served.key).close()
        wait_for_outcomes(plane, {"client_left": number})
    assert plane.counters.held == 0


def test_a_client_that_left_during_a_slow_attempt_is_not_held_when_its_endpoint_goes(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(connect_timeouts=(Duration(0.1), Duration(0.3)))))
    with black_hole() as dead:
        served = Annotated(plane, HOLD, dead)
        with connect(served.key) as client:
            plane.until(lambda: plane.counters.connect_failures.get("timeout", 0) == 1)
            client.shutdown(socket.SHUT_WR)
            served.lead_to()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert plane.counters.hold_outcomes == {"client_left": 1}


def test_a_hold_that_is_shortened_counts_for_those_who_come_later(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, HOLD)
        with connect(served.key) as early:
            wait_for_held(plane, 1)
            served.ask_for(BRIEF)
            with connect(served.key) as late, pytest.raises(ConnectionResetError):
                late.recv(1)
            served.lead_to(server.endpoint)
            early.sendall(b"x")
            assert early.recv(1) == b"x"
    assert plane.counters.hold_outcomes == {"timeout": 1, "served": 1}


def test_a_bug_that_shows_when_held_clients_go_on_costs_the_client_alone(plane: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("not foreseen")

    with Server(echo) as server:
        served = Annotated(plane, HOLD)
        with connect(served.key) as client:
            wait_for_held(plane, 1)
            with monkeypatch.context() as patched:
                patched.setattr(AnnotatedDial, "start", broken)
                served.lead_to(server.endpoint)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with connect(served.key) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert len(plane.log.unexpected) == 1
    plane.log.unexpected.clear()


def test_who_waits_is_told_for_each_connection(plane: RunningPlane) -> None:
    told: list[ServicePortName] = []
    plane.plane.on_held(told.append)
    served = Annotated(plane, HOLD)
    with connect(served.key), connect(served.key):
        wait_for_held(plane, 2)
        assert told == [ServicePortName("default", "web", "", Protocol.TCP)] * 2


def test_endpoints_that_fail_are_not_waited_for(plane: RunningPlane) -> None:
    served = Annotated(plane, HOLD, refusing_endpoint())
    with pytest.raises(ConnectionResetError), connect(served.key) as client:
        client.recv(1)
    assert plane.counters.hold_outcomes == {}


def test_a_client_goes_on_waiting_when_the_first_endpoint_is_gone_before_it_answers(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, HOLD)
        with connect(served.key) as client:
            wait_for_held(plane, 1)

            def come_and_go() -> None:
                served.balancer.set([refusing_endpoint()], None)
                plane.plane.update(served.key, served.balancer, keep_client_address=False, options=HOLD)
                served.balancer.set([], None)
                plane.plane.update(served.key, served.balancer, keep_client_address=False, options=HOLD)

            plane.call(come_and_go)
            wait_for_held(plane, 1)
            served.lead_to(server.endpoint)
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def test_a_closed_listener_resets_who_waits(plane: RunningPlane) -> None:
    served = Annotated(plane, HOLD)
    with connect(served.key) as client:
        wait_for_held(plane, 1)
        assert plane.call(lambda: plane.plane.close(served.key)) == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert plane.counters.hold_outcomes == {"withdrawn": 1}
    assert plane.call(lambda: plane.plane.connections(served.key)) == 0


def test_an_address_that_goes_to_another_service_resets_who_waits_for_the_former(plane: RunningPlane) -> None:
    with Server(echo) as server:
        served = Annotated(plane, HOLD)
        heir = plane.balancer(server.endpoint, name="heir")
        with connect(served.key) as client:
            wait_for_held(plane, 1)
            plane.call(lambda: plane.plane.update(served.key, heir, keep_client_address=False))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with connect(served.key) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def test_without_the_annotation_nobody_waits(plane: RunningPlane) -> None:
    with pytest.raises(ConnectionResetError), connect(Annotated(plane, NO_OPTIONS).key) as client:
        client.recv(1)
    assert plane.counters.connections_failed == 1
