"""When flows end: idle, least recently used, without endpoint, without listener; and that others are left alone."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.datagrams import UdpServer, ask, balancer_of, change, client, serve, silence, tagged
from tests.dataplane.running import open_descriptors
from uproxy.config import Config, UdpSettings
from uproxy.config_rules import Duration
from uproxy.dataplane.context import Binding
from uproxy.dataplane.flows import ENDED_PER_TURN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

UNANSWERED, ANSWERED = 0.3, 2.0
QUICK = Config(udp=UdpSettings(unanswered_timeout=Duration(UNANSWERED), answered_timeout=Duration(ANSWERED)))
SLACK = 1.0
"""Seconds by which a busy machine may be late; a flow is never early."""


def seconds_until_gone(plane: RunningPlane, since: float) -> float:
    plane.until(lambda: len(plane.flows) == 0)
    return time.monotonic() - since


def test_an_unanswered_flow_ends_after_the_short_timeout(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(QUICK)
    before = open_descriptors()
    with UdpServer(silence) as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        begun = time.monotonic()
        sock.send(b"anybody?")
        plane.until(lambda: len(plane.flows) == 1)
        assert UNANSWERED <= seconds_until_gone(plane, begun) < UNANSWERED + SLACK
        assert plane.counters.flow_evictions == {}
    assert open_descriptors() == before + 1  # the listener


def test_an_answered_flow_ends_after_the_long_timeout_and_its_client_then_gets_a_new_one(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(QUICK)
    with UdpServer() as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        begun = time.monotonic()
        assert ask(sock, b"one") == b"one"
        assert ANSWERED <= seconds_until_gone(plane, begun) < ANSWERED + SLACK
        assert ask(sock, b"two") == b"two"
        assert len(set(server.sources)) == 2


def test_flows_of_both_kinds_end_when_each_is_due(start_plane: Callable[..., RunningPlane]) -> None:
    """The timer set for the answered flow must not let the unanswered one, which came later, wait as long."""
    plane = start_plane(QUICK)
    with UdpServer(lambda data: [data] if data else []) as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        begun = time.monotonic()
        assert ask(stack.enter_context(client(key)), b"answer me") == b"answer me"
        plane.until(lambda: plane.flows.due() is not None and time.monotonic() > begun + UNANSWERED + 0.1)
        late = time.monotonic()
        stack.enter_context(client(key)).send(b"")
        plane.until(lambda: len(plane.flows) == 2)
        plane.until(lambda: len(plane.flows) == 1)
        assert UNANSWERED <= time.monotonic() - late < UNANSWERED + SLACK
        assert ANSWERED <= seconds_until_gone(plane, begun) < ANSWERED + SLACK


@pytest.mark.parametrize("direction", ["to the endpoint", "to the client"])
def test_datagrams_in_either_direction_keep_a_flow(start_plane: Callable[..., RunningPlane], direction: str) -> None:
    plane = start_plane(QUICK)
    with UdpServer(lambda data: [data] if data == b"first" else []) as server:
        with client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
            assert ask(sock, b"first") == b"first"
            begun = time.monotonic()
            while time.monotonic() < begun + 1.5 * ANSWERED:
                if direction == "to the endpoint":
                    sock.send(b"more")
                else:
                    server.sock.sendto(b"more", server.sources[0])
                    assert sock.recv(100) == b"more"
                beat = time.monotonic() + ANSWERED / 4
                plane.until(lambda beat=beat: time.monotonic() > beat)  # type: ignore[misc] # mypy cannot infer a lambda's default
            assert len(plane.flows) == 1
        assert len(set(server.sources)) == 1


def test_beyond_the_cap_the_least_recently_used_flow_of_all_services_ends(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(udp=UdpSettings(descriptor_share=0.5)), budget=8)
    assert plane.flows.limit == 4
    with UdpServer() as server, ExitStack() as stack:
        keys = [serve(plane, balancer_of(plane, server.endpoint)) for _ in range(2)]
        first, second, third, fourth = (stack.enter_context(client(keys[number % 2])) for number in range(4))
        for sock in (first, second, third, fourth, first):
            assert ask(sock, b"") == b""
        before = list(server.sources)
        assert ask(stack.enter_context(client(keys[0])), b"fifth") == b"fifth"
        assert plane.counters.flow_evictions == {"cap": 1}
        for sock in (third, fourth, first):
            assert ask(sock, b"") == b""
        assert server.sources[-3:] == [before[2], before[3], before[0]]
        assert ask(second, b"again") == b"again"
        assert server.sources[-1] not in before
        assert len(plane.flows) == 4


def test_a_client_that_only_sends_is_used_as_much_as_one_that_is_answered(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(budget=4)
    assert plane.flows.limit == 2
    with UdpServer(silence) as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        first, second, third = (stack.enter_context(client(key)) for _ in range(3))
        for number, sock in enumerate((first, second, first, third, first), 1):
            sock.send(b"")
            plane.until(lambda number=number: len(server.sources) == number)  # type: ignore[misc] # mypy cannot infer a lambda's default
        assert len({server.sources[number] for number in (0, 2, 4)}) == 1
        assert plane.counters.flow_evictions == {"cap": 1}


def test_an_endpoint_that_leaves_takes_its_flows_and_no_others(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(UdpServer(tagged(name))) for name in (b"a", b"b")}
        balancer = balancer_of(plane, *(server.endpoint for server in servers.values()))
        key = serve(plane, balancer)
        socks = [stack.enter_context(client(key)) for _ in range(10)]
        answers = [ask(sock, b"") for sock in socks]
        change(plane, key, balancer, servers[b"b"].endpoint)
        assert len(plane.flows) == 5
        assert plane.counters.flow_evictions == {"endpoint_removed": 5}
        staying = set(servers[b"b"].sources)
        assert [ask(sock, b"") for sock in socks] == [b"b "] * 10
        assert answers.count(b"a ") == 5
        assert set(servers[b"b"].sources[-10:]) > staying


def test_a_listener_that_closes_ends_its_flows_at_once_and_frees_its_address(plane: RunningPlane) -> None:
    with UdpServer() as server, ExitStack() as stack:
        before = open_descriptors()
        balancer = balancer_of(plane, server.endpoint)
        key = serve(plane, balancer)
        socks = [stack.enter_context(client(key)) for _ in range(5)]
        for sock in socks:
            ask(sock, b"")

        def close_and_open() -> None:
            plane.plane.close(key)
            assert len(plane.flows) == 0
            plane.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=False)

        plane.call(close_and_open)
        for sock in socks:
            assert ask(sock, b"again") == b"again"
        plane.call(lambda: plane.plane.close(key))
        plane.until(lambda: open_descriptors() == before + 5)
        with pytest.raises(ConnectionRefusedError):
            ask(socks[0], b"anybody?")
        assert list(plane.call(plane.plane.traffic)) == []
        assert plane.plane.totals().datagrams_sent == 10


def test_thousands_of_flows_that_end_together_end_in_slices(plane: RunningPlane) -> None:
    """Their clients are served by other endpoints at once; the sockets are closed a few at a time, with turns in between."""
    number = 3 * ENDED_PER_TURN
    with ExitStack() as stack:
        old, new = (stack.enter_context(UdpServer(tagged(name))) for name in (b"old", b"new"))
        balancer = balancer_of(plane, old.endpoint)
        key = serve(plane, balancer)
        socks = [stack.enter_context(client(key)) for _ in range(number)]
        for sock in socks:
            assert ask(sock, b"") == b"old "
        left = []

        def leave() -> None:
            balancer.set([new.endpoint], None)
            plane.plane.update(key, balancer, keep_client_address=False)
            left.append(len(plane.flows))

        plane.call(leave)
        assert left == [number - ENDED_PER_TURN]
        assert [ask(sock, b"") for sock in socks] == [b"new "] * number
        plane.until(lambda: len(plane.flows) == number)
        assert plane.counters.flow_evictions == {"endpoint_removed": number}
        traffic = plane.plane.totals()
        assert (traffic.flows, traffic.flows_active) == (2 * number, number)


def test_answers_that_come_when_the_listener_closes_reach_nobody(plane: RunningPlane) -> None:
    """More flows than end in one go, so that some still have an answer to read when their listener is gone."""
    with UdpServer(silence) as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        socks = [stack.enter_context(client(key)) for _ in range(ENDED_PER_TURN + 20)]
        for sock in socks:
            sock.send(b"ask")
        plane.until(lambda: len(server.sources) == len(socks))

        def answer_and_close() -> None:
            for source in server.sources:
                server.sock.sendto(b"late", source)
            plane.plane.stop_listening()

        plane.call(answer_and_close)
        plane.until(lambda: len(plane.flows) == 0)
        assert plane.plane.totals().datagrams_sent == 0
        assert set(plane.counters.datagrams_dropped) <= {"listener_closed"}
