"""The notify protocol, heard on a real socket: what is said, when, and that nothing can make it raise or wait."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import LOOPS
from uproxy.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

WATCHDOG_SECONDS = 0.6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_factory" in metafunc.fixturenames:
        metafunc.parametrize("loop_factory", LOOPS.values(), ids=LOOPS.keys())


class Systemd:
    """The receiving end, as systemd opens it: a datagram socket, by path or by abstract name."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.environ = {"NOTIFY_SOCKET": address}

    def hear(self) -> str:
        """Give the next message; raises TimeoutError."""
        return self._socket.recv(4096).decode()

    def heard(self) -> list[str]:
        """Give what has come until now."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(5)

    def fill(self) -> int:
        """Send as much as there is room for; give how much that is."""
        number = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(self._socket.getsockname())
            try:
                while True:
                    sender.send(b"STATUS=somebody else")
                    number += 1
            except BlockingIOError:
                return number

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@contextmanager
def listening(address: str) -> Iterator[Systemd]:
    systemd = Systemd(address)
    try:
        yield systemd
    finally:
        systemd.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@uproxy-test/{secrets.token_hex(8)}"
    with listening(address) as found:
        yield found


def notifier(systemd: Systemd, environ: Mapping[str, str] | None = None) -> Notifier:
    return Notifier.from_environment({**systemd.environ, **(environ or {})})


@asynccontextmanager
async def feeding(found: Notifier) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(found.feed_watchdog())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_every_state_is_one_message(systemd: Systemd) -> None:
    found = notifier(systemd)
    found.status("3 Services,\n  from\tdisk \udc80")
    found.ready()
    found.stopping()
    assert systemd.heard() == ["STATUS=3 Services, from disk ?", "READY=1", "STOPPING=1"]


def test_ready_is_said_once(systemd: Systemd) -> None:
    found = notifier(systemd)
    for _ in range(3):
        found.ready()
    assert systemd.heard() == ["READY=1"]


def test_children_are_not_told_where_to_send(systemd: Systemd) -> None:
    environ = {**systemd.environ, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    Notifier.from_environment(environ)
    assert environ == {"PATH": "/bin"}


def test_the_real_environment_forgets_it_too(systemd: Systemd) -> None:
    program = (
        "import os, subprocess; from uproxy.notify import Notifier\n"
        "Notifier.from_environment(os.environ).ready()\n"
        "print(subprocess.run(['env'], capture_output=True, text=True).stdout)\n"
    )
    environ = {**os.environ, **systemd.environ, "WATCHDOG_USEC": "1000000"}
    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert systemd.heard() == ["READY=1"]
    assert "NOTIFY_SOCKET" not in ended.stdout
    assert "WATCHDOG" not in ended.stdout


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nonexistent/notify"},
        {"NOTIFY_SOCKET": "@uproxy-test/nobody-listens"},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/" + "x" * 4096},
        {"NOTIFY_SOCKET": "@" + "\udc80" * 200},
    ],
)
async def test_when_nobody_is_there_to_hear_nothing_happens(environ: dict[str, str]) -> None:
    found = Notifier.from_environment({**environ, "WATCHDOG_USEC": "1000"})
    found.ready()
    found.status("well")
    async with feeding(found) as task:
        await asyncio.sleep(0.01)
        assert not task.done()
    found.stopping()


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "mine"},
    ],
)
async def test_a_watchdog_that_is_not_set_for_us_is_not_fed(systemd: Systemd, watchdog: dict[str, str]) -> None:
    async with asyncio.timeout(5):
        await notifier(systemd, watchdog).feed_watchdog()
    assert systemd.heard() == []


def in_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work())  # type: ignore[arg-type]  # every test here gives a coroutine


def usec(seconds: float) -> dict[str, str]:
    return {"WATCHDOG_USEC": str(int(seconds * 1e6)), "WATCHDOG_PID": str(os.getpid())}


def test_the_watchdog_is_fed_more_often_than_it_asks_for(systemd: Systemd, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    times: list[float] = []

    async def feed() -> None:
        async with feeding(notifier(systemd, usec(WATCHDOG_SECONDS))):
            for _ in range(5):
                message = await asyncio.to_thread(systemd.hear)
                assert message == "WATCHDOG=1"
                times.append(time.monotonic())

    in_loop(loop_factory, feed)
    pause = (times[-1] - times[0]) / 4
    assert WATCHDOG_SECONDS / 6 < pause < WATCHDOG_SECONDS / 2


def test_a_loop_that_is_blocked_feeds_no_watchdog_and_one_that_turns_again_does(
    systemd: Systemd, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def block() -> None:
        async with feeding(notifier(systemd, usec(WATCHDOG_SECONDS))):
            assert await asyncio.to_thread(systemd.hear) == "WATCHDOG=1"
            systemd.heard()
            time.sleep(WATCHDOG_SECONDS * 2)  # noqa: ASYNC251 - blocking the loop is what this is about
            assert systemd.heard() == []
            assert await asyncio.to_thread(systemd.hear) == "WATCHDOG=1"

    in_loop(loop_factory, block)


def test_an_absurd_interval_is_fed_too(systemd: Systemd, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def feed() -> None:
        async with feeding(notifier(systemd, {"WATCHDOG_USEC": "18446744073709551615"})) as task:
            assert await asyncio.to_thread(systemd.hear) == "WATCHDOG=1"
            assert not task.done()

    in_loop(loop_factory, feed)


def test_what_systemd_has_no_room_for_is_sent_when_it_has(systemd: Systemd, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def overflow() -> None:
        filled = systemd.fill()
        found = notifier(systemd)
        started = time.monotonic()
        for number in range(1000):
            found.status(f"busy {number}")
        found.ready()
        assert time.monotonic() - started < 1, "it waited"
        assert systemd.heard() == ["STATUS=somebody else"] * filled
        heard = [await asyncio.to_thread(systemd.hear) for _ in range(2)]
        assert heard == ["STATUS=busy 999", "READY=1"]

    in_loop(loop_factory, overflow)


def test_without_a_loop_the_next_state_brings_along_what_there_was_no_room_for(systemd: Systemd) -> None:
    systemd.fill()
    found = notifier(systemd)
    found.ready()
    systemd.heard()
    found.stopping()
    assert systemd.heard() == ["READY=1", "STOPPING=1"]
