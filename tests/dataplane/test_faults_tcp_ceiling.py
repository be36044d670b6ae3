"""What happens at the ceiling of descriptors, and what idle connections cost."""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.dataplane.running import WAIT, Server, connect, echo, read_exactly
from uproxy.core.model import Endpoint, Protocol, RouteKey
from uproxy.dataplane.descriptors import Descriptors, descriptors_in_use, raise_limit
from uproxy.dataplane.pipes import Pipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.dataplane.running import RunningPlane


class Standalone:
    """The other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.key = RouteKey("127.0.0.1", Protocol.TCP, int(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def report(self) -> dict[str, Any]:
        """Ask for the counters."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._line())
        return report

    def until_open(self, connections: int) -> None:
        """Wait until that many connections are open."""
        end = time.monotonic() + WAIT
        while self.report()["open"] != connections:
            assert time.monotonic() < end

    @property
    def cpu_seconds(self) -> float:
        """The CPU it has used (proc(5), stat: user and system)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> int:
        """The memory it has resident, in bytes."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()


@contextmanager
def standalone(loop_name: str, descriptors: int, budget: int, endpoint: Endpoint) -> Iterator[Standalone]:
    """Run a data plane in another process."""
    arguments = [sys.executable, "-m", "tests.dataplane.standalone", loop_name, str(descriptors), str(budget), str(endpoint.port)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Standalone(process)
        finally:
            process.communicate(timeout=WAIT)
        assert process.returncode == 0


def ping(client: socket.socket) -> None:
    """See that the connection works."""
    client.sendall(b"ping")
    assert read_exactly(client, 4) == b"ping"


def two_thousand(key: RouteKey, stack: ExitStack) -> list[socket.socket]:
    """Begin to connect two thousand clients; those that find no room wait in the kernel's queue, or try again."""
    clients = []
    for _ in range(2000):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex((key.vip, key.port))
        clients.append(client)
    return clients


class EchoFarm:
    """Endpoints for thousands of connections, without a thread each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.endpoint = Endpoint(*self._listener.getsockname())
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._listener, selectors.EVENT_READ)
        self.accepted = 0

    def run(self, condition: Callable[[], bool], seconds: float = WAIT) -> bool:
        """Accept and echo until the condition holds; False when the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            for entry, _ in self._ready.select(0.005):
                self._handle(entry.fileobj)
        return True

    def _handle(self, ready: Any) -> None:  # noqa: ANN401 - the selector types its files loosely
        if ready is self._listener:
            sock, _ = ready.accept()
            self.accepted += 1
            self._ready.register(sock, selectors.EVENT_READ)
            return
        data = b""
        with suppress(ConnectionError):
            data = ready.recv(65536)
        if data:
            ready.send(data)
        else:
            self._ready.unregister(ready)
            ready.close()

    def close(self) -> None:
        """Close everything."""
        for entry in tuple(self._ready.get_map().values()):
            entry.fileobj.close()  # type: ignore[union-attr] # sockets all
        self._ready.close()


def at_the_ceiling(loop_name: str, descriptors: int, budget: int, reason: str) -> None:
    """Bring a data plane to its ceiling with two thousand clients: nothing burns, nothing breaks, and room is used at once."""
    raise_limit()
    farm = EchoFarm()
    with standalone(loop_name, descriptors, budget, farm.endpoint) as proxy, ExitStack() as stack:
        early = stack.enter_context(connect(proxy.key))
        early.sendall(b"ping")
        early.setblocking(False)
        farm.run(lambda: farm.accepted == 1)
        clients = two_thousand(proxy.key, stack)
        farm.run(lambda: reason in proxy.report()["accept_pauses"])
        farm.run(lambda: False, 0.5)
        served, before = farm.accepted, proxy.cpu_seconds
        farm.run(lambda: False, 2)
        assert proxy.cpu_seconds - before <= 0.1
        assert farm.accepted == served < 200
        assert early.recv(4) == b"ping"
        for client in clients[:10]:
            client.close()
        began = time.monotonic()
        assert farm.run(lambda: farm.accepted >= served + 5, 1)
        assert time.monotonic() - began < 0.3
        paused = [facts for event, facts in proxy.report()["log"] if event == "accept_paused"]
        assert {facts["subject"] for facts in paused} == {reason}
        farm.close()


def test_at_the_kernels_limit_accepting_pauses_and_goes_on_when_there_is_room(loop_name: str) -> None:
    at_the_ceiling(loop_name, descriptors=256, budget=100_000, reason="EMFILE")


def test_at_the_end_of_the_budget_accepting_pauses_and_goes_on_when_there_is_room(loop_name: str) -> None:
    at_the_ceiling(loop_name, descriptors=256, budget=150, reason="budget")


def test_an_idle_connection_costs_less_than_three_kilobytes(loop_name: str) -> None:
    raise_limit()
    farm = EchoFarm()
    with standalone(loop_name, 20_000, 19_000, farm.endpoint) as proxy, ExitStack() as stack:
        resident = []
        for total in (500, 3000):
            while farm.accepted < total:
                stack.enter_context(connect(proxy.key)).send(b"ping")
                farm.run(lambda served=farm.accepted: farm.accepted > served)  # type: ignore[misc] # the default binds the number
            farm.run(lambda: False, 0.3)
            resident.append(proxy.resident)
        assert proxy.report()["open"] == 3000
        assert (resident[1] - resident[0]) / 2500 < 3000
        farm.close()


def test_the_budget_is_the_limit_without_what_is_open_and_the_reserve() -> None:
    limit = raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
    descriptors = Descriptors(limit, in_use=20, reserve=128, flow_share=0.5)
    assert descriptors.budget == limit - 148
    assert descriptors.flow_limit == descriptors.budget // 2


def test_who_was_refused_descriptors_hears_when_some_are_given_back() -> None:
    descriptors = Descriptors(13, in_use=2, reserve=1, flow_share=0)
    given: list[int] = []
    descriptors.on_given = lambda: given.append(descriptors.taken)
    assert descriptors.take(9)
    descriptors.give(1)
    assert given == []
    assert not descriptors.take(3)
    assert descriptors.taken == 8
    descriptors.give(1)
    descriptors.give(1)
    assert given == [7]


def test_pipes_are_bounded_reused_when_empty_and_closed_when_dirty() -> None:
    before = descriptors_in_use()
    descriptors = Descriptors(100, in_use=0, reserve=0, flow_share=0)
    pipes = Pipes(2, 1 << 16, descriptors)
    first, second = pipes.take(), pipes.take()
    assert first is not None
    assert second is not None
    assert pipes.take() is None
    pipes.give(first)
    assert pipes.take() is first
    second.held = os.write(second.write, b"left over")
    pipes.give(second)
    assert (len(pipes), descriptors.taken) == (1, 2)
    pipes.give(first)
    pipes.close()
    assert (len(pipes), descriptors.taken, descriptors_in_use()) == (0, 0, before)


def test_a_pipe_that_the_budget_does_not_allow_is_not_made() -> None:
    assert Pipes(2, 1 << 16, Descriptors(1, in_use=0, reserve=0, flow_share=0)).take() is None


def test_a_listener_that_pauses_can_be_closed(start_plane: Callable[..., RunningPlane]) -> None:
    with Server(echo) as server:
        plane = start_plane(budget=3)
        key = plane.serve(server.endpoint)
        with connect(key) as client, connect(key):
            ping(client)
            plane.until(lambda: plane.counters.accept_pauses.get("budget", 0) > 0)
            plane.call(lambda: plane.plane.close(key))
            ping(client)
        plane.until(lambda: plane.plane.open_connections == 0)
