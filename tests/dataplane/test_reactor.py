"""What the reactor promises to the handlers of its sockets, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.dataplane.running import LOOPS, WAIT, RecordingLog
from uproxy.dataplane.reactor import EDGE, EVENTS_PER_WAIT, READ, WRITE, Reactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Lab:
    """A reactor on a loop that runs until the test says that it has seen what it waited for."""

    def __init__(self, loop_name: str) -> None:
        self.loop = LOOPS[loop_name]()
        self.log = RecordingLog()
        self.reactor = Reactor(self.loop, self.log, 1024)
        self.seen: list[object] = []
        self._sockets: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Make two connected sockets."""
        pair = socket.socketpair()
        self._sockets.extend(pair)
        return pair

    def readable(self) -> socket.socket:
        """Make a socket with a byte to read."""
        ours, theirs = self.pair()
        theirs.send(b"x")
        return ours

    def until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""

        async def wait() -> None:
            async with asyncio.timeout(WAIT):
                while not condition():  # noqa: ASYNC110 - the loop itself is what is tested
                    await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    def close(self) -> None:
        """Stop everything."""
        self.reactor.stop()
        self.loop.close()
        for sock in self._sockets:
            sock.close()


@contextmanager
def lab(loop_name: str) -> Iterator[Lab]:
    """Make a Lab and close it."""
    made = Lab(loop_name)
    try:
        yield made
    finally:
        made.close()


def test_an_event_fetched_before_a_close_never_reaches_the_next_owner_of_the_descriptor(loop_name: str) -> None:
    """Both sockets are readable in one batch; whoever comes first closes the other and opens new sockets in its handler."""
    with lab(loop_name) as made:
        one, other = made.readable(), made.readable()
        numbers = {one.fileno(), other.fileno()}
        reused: list[int] = []

        def close_the_other(victim: socket.socket) -> None:
            made.seen.append("handled")
            made.reactor.close(victim)
            for sock in made.pair():
                reused.append(sock.fileno())
                made.reactor.add(sock.fileno(), READ | EDGE, lambda _: made.seen.append("stale"))

        made.reactor.add(one.fileno(), READ | EDGE, lambda _: close_the_other(other))
        made.reactor.add(other.fileno(), READ | EDGE, lambda _: close_the_other(one))
        made.until(lambda: one.fileno() < 0 or other.fileno() < 0)
        made.until(lambda: True)
        assert made.seen == ["handled"]
        assert not numbers & set(reused)


def test_a_handler_that_raises_is_reported_and_the_rest_of_its_batch_goes_on(loop_name: str) -> None:
    with lab(loop_name) as made:
        failing = made.readable()
        others = [made.readable() for _ in range(5)]

        def fail(_mask: int) -> None:
            raise RuntimeError("a bug")

        made.reactor.add(failing.fileno(), READ, fail)
        for index, sock in enumerate(others):
            made.reactor.add(sock.fileno(), READ | EDGE, lambda _, index=index: made.seen.append(index))  # type: ignore[misc] # the default binds the number
        made.until(lambda: len(made.seen) == 5)
        made.until(lambda: True)
        assert [str(error) for error in made.log.unexpected] == ["a bug"]


class Owner:
    """Something whose handler has a bug."""

    def __init__(self, made: Lab) -> None:
        self._made = made

    def on_event(self, _mask: int) -> None:
        """Fail."""
        raise RuntimeError("a bug")

    def abort(self) -> None:
        """Note that the reactor called."""
        self._made.seen.append("aborted")


def test_the_owner_of_a_handler_that_raises_is_aborted(loop_name: str) -> None:
    with lab(loop_name) as made:
        made.reactor.add(made.readable().fileno(), READ | EDGE, Owner(made).on_event)
        made.until(lambda: made.seen == ["aborted"])
        assert len(made.log.unexpected) == 1


def test_what_is_queued_by_a_queued_call_lets_events_and_the_loop_in_between(loop_name: str) -> None:
    with lab(loop_name) as made:
        calls = 0

        def call() -> None:
            nonlocal calls
            calls += 1
            if not {"event", "timer"} <= set(made.seen):
                made.reactor.again(call)

        made.reactor.again(call)
        made.reactor.add(made.readable().fileno(), READ | EDGE, lambda _: made.seen.append("event"))
        made.loop.call_later(0.01, made.seen.append, "timer")
        made.until(lambda: {"event", "timer"} <= set(made.seen))
        made.until(lambda: True)
        assert calls > 1


def test_a_queued_call_that_raises_is_reported_and_the_next_one_runs(loop_name: str) -> None:
    with lab(loop_name) as made:

        def fail() -> None:
            raise RuntimeError("a bug")

        made.reactor.again(fail)
        made.reactor.again(lambda: made.seen.append("next"))
        made.until(lambda: made.seen == ["next"])
        assert len(made.log.unexpected) == 1


def test_a_socket_closed_outside_a_turn_is_closed_soon_and_one_closed_now_at_once(loop_name: str) -> None:
    with lab(loop_name) as made:
        soon, at_once = made.readable(), made.readable()
        for sock in (soon, at_once):
            made.reactor.add(sock.fileno(), READ, lambda _: made.seen.append("event"))
        made.reactor.close(soon)
        made.reactor.close_now(at_once)
        assert at_once.fileno() == -1
        made.until(lambda: soon.fileno() == -1)
        assert made.seen == []


def test_a_replaced_handler_gets_the_events_and_a_modified_mask_reports_anew(loop_name: str) -> None:
    with lab(loop_name) as made:
        sock = made.readable()
        made.reactor.add(sock.fileno(), READ | EDGE, lambda _: made.seen.append("first"))
        made.until(lambda: made.seen == ["first"])
        made.reactor.replace(sock.fileno(), made.seen.append)
        made.reactor.modify(sock.fileno(), READ | WRITE | EDGE)
        made.until(lambda: made.seen == ["first", READ | WRITE])


def test_no_handler_runs_after_stop(loop_name: str) -> None:
    with lab(loop_name) as made:
        made.reactor.add(made.readable().fileno(), READ, lambda _: made.seen.append("event"))
        made.reactor.again(lambda: made.seen.append("queued"))
        stopped = made.reactor
        stopped.stop()
        made.reactor = Reactor(made.loop, made.log, 1024)
        made.until(lambda: True)
        assert made.seen == []


def test_the_loop_comes_round_while_there_is_always_more_to_do_than_a_turn_can(loop_name: str) -> None:
    """Sockets that stay readable, each with work for half a millisecond: one fetch of them outlasts a turn, which ends after another."""
    with lab(loop_name) as made:
        handled: list[int] = []
        between: list[int] = []

        def handle(mask: int) -> None:
            handled.append(mask)
            time.sleep(0.0005)

        async def come_round() -> None:
            while len(between) < 4:
                before = len(handled)
                await asyncio.sleep(0)
                between.append(len(handled) - before)

        for _ in range(4 * EVENTS_PER_WAIT):
            made.reactor.add(made.readable().fileno(), READ, handle)
        made.loop.run_until_complete(asyncio.wait_for(come_round(), WAIT))
        assert handled
        assert max(between) <= 2 * EVENTS_PER_WAIT
