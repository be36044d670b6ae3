"""What the data path's tests run: a data plane in a thread of its own, and endpoints to connect to.

Tests use plain blocking sockets, as clients and servers do; the loop's thread belongs to the data plane alone.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop

from tests.lab.ports import free_port
from uproxy.config import Config
from uproxy.core.balance import AffinityTable, Balancer, Ejector
from uproxy.core.model import Endpoint, Protocol, RouteKey, ServicePortName
from uproxy.dataplane.context import Binding, Context
from uproxy.dataplane.counters import Counters, TrafficRegister
from uproxy.dataplane.descriptors import Descriptors, descriptors_in_use, raise_limit
from uproxy.dataplane.flows import Flows
from uproxy.dataplane.listeners import Dataplane
from uproxy.dataplane.reactor import Reactor
from uproxy.dataplane.udp_source_ports import SourcePorts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uproxy.dataplane.udp_flow import Flow
    from uproxy.dataplane.upstream import ClientAddresses

Result = TypeVar("Result")
LOOPS: Final = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
WAIT: Final = 10.0
"""Seconds after which a test gives up waiting for what it expects."""
RESET: Final = struct.pack("ii", 1, 0)


class RecordingLog:
    """Keeps every fact, so that a test can ask for it. unexpected: the failures that only a bug of ours logs."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, dict[str, object]]] = []
        self.unexpected: list[BaseException | str] = []

    def info(self, event: str, /, **facts: object) -> None:
        """Keep it."""
        self.facts.append((event, facts))

    def warning(self, event: str, /, **facts: object) -> None:
        """Keep it."""
        self.facts.append((event, facts))

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """Keep it, and that it is a failure."""
        self.facts.append((event, facts))
        self.unexpected.append(exc_info or event)

    def named(self, event: str) -> list[dict[str, object]]:
        """Give the facts of one event."""
        return [facts for name, facts in self.facts if name == event]


class RunningPlane:
    """A data plane whose loop runs in a thread. Methods may be called from the test's thread."""

    def __init__(self, loop_name: str, config: Config, client_addresses: ClientAddresses, budget: int | None = None) -> None:
        self.loop = LOOPS[loop_name]()
        self.config = config
        self.log = RecordingLog()
        self.counters = Counters()
        self.drained: list[RouteKey] = []
        in_use = descriptors_in_use()
        self.descriptors = Descriptors(
            raise_limit() if budget is None else in_use + budget,
            in_use=in_use,
            reserve=config.descriptors.reserve if budget is None else 0,
            flow_share=config.udp.descriptor_share,
        )
        self.ejector = Ejector(config.ejection.failures, config.ejection.base, config.ejection.limit)
        self._affinity = AffinityTable(1000)
        self._thread = threading.Thread(target=self._run, name="data plane", daemon=True)
        self._thread.start()
        self.reactor, self.plane = self.call(lambda: self._build(client_addresses))
        self.plane.on_drained = self.drained.append

    def _build(self, client_addresses: ClientAddresses) -> tuple[Reactor, Dataplane]:
        reactor = Reactor(self.loop, self.log, self.config.tcp.receive_buffer)
        self.flows: Flows[Flow] = Flows(self.loop, self.config.udp, self.descriptors.flow_limit, self.counters.flow_evictions)
        context = Context(
            loop=self.loop, reactor=reactor, config=self.config, log=self.log, ejector=self.ejector, counters=self.counters,
            traffic=TrafficRegister(), client_addresses=client_addresses, descriptors=self.descriptors,
            flows=self.flows, udp_source_ports=SourcePorts(*self.config.udp.source_ports),
        )  # fmt: skip
        return reactor, Dataplane(context)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function: Callable[[], Result]) -> Result:
        """Run function on the loop's thread and give its result."""

        async def run() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT)

    def balancer(self, *endpoints: Endpoint, name: str = "web") -> Balancer:
        """Make a balancer over these endpoints."""
        balancer = Balancer(ServicePortName("default", name, "", Protocol.TCP), self.ejector, self._affinity, random.Random(7))
        balancer.set(endpoints, None)
        return balancer

    def serve(self, *endpoints: Endpoint, vip: str = "127.0.0.1", keep_client_address: bool = False, name: str = "web") -> RouteKey:
        """Open a TCP listener on a free port for these endpoints."""
        key = RouteKey(vip, Protocol.TCP, free_port(vip))
        balancer = self.balancer(*endpoints, name=name)
        self.call(lambda: self.plane.open(Binding(key, key.port), balancer.service_port, balancer, keep_client_address=keep_client_address))
        return key

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition, asked on the loop's thread after each of its turns, is true."""

        async def wait() -> None:
            async with asyncio.timeout(WAIT):
                while not condition():  # noqa: ASYNC110 - what is asked for has no event of its own
                    await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(wait(), self.loop).result(WAIT + 1)

    def stop(self) -> None:
        """End everything; nothing may be left."""
        self.call(self.plane.shut_down)
        self.call(self.flows.stop)
        self.call(self.reactor.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()
        assert self.log.unexpected == []
        assert self.descriptors.taken == 0


def connect(key: RouteKey, source: str | None = None) -> socket.socket:
    """Connect to a listener; every later call on the socket gives up after WAIT."""
    return socket.create_connection((key.vip, key.port), timeout=WAIT, source_address=(source, 0) if source else None)


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    """Read until the end of the stream."""
    parts = []
    while part := sock.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read this many bytes; fewer only if the stream ends before."""
    parts = []
    while size and (part := sock.recv(min(size, 1 << 18))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Server:
    """A TCP endpoint: each connection is handed to `handle` in a thread of its own and closed afterwards.

    Used as a context manager; leaving it waits for the connections and raises what a handler raised.
    """

    def __init__(self, handle: Callable[[socket.socket], None], address: str = "127.0.0.1", backlog: int = 1024) -> None:
        self._handle = handle
        self._listener = socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=backlog
        )
        self.endpoint = Endpoint(address, self._listener.getsockname()[1])
        self.peers: list[tuple[str, int]] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._acceptor = threading.Thread(target=self._accept, name="acceptor", daemon=True)

    def __enter__(self) -> Server:  # noqa: PYI034 - it is final in all but name
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(WAIT)
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive(), "an endpoint still waits for its client"
        if self._failures and exc_info[1] is None:
            raise self._failures[0]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, peer = self._listener.accept()
                sock.settimeout(WAIT)
                self.peers.append(peer[:2])
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                thread = threading.Thread(target=self._run, args=(sock,), name="endpoint", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, sock: socket.socket) -> None:
        with sock:
            try:
                self._handle(sock)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the test's thread
                self._failures.append(error)


def echo(sock: socket.socket) -> None:
    """Send back what comes until it ends."""
    with suppress(ConnectionError):
        while data := sock.recv(1 << 18):
            sock.sendall(data)


def refusing_endpoint() -> Endpoint:
    """Give an endpoint that nobody listens on."""
    return Endpoint("127.0.0.1", free_port())


@contextmanager
def black_hole() -> Iterator[Endpoint]:
    """Give an endpoint that answers no SYN: a listener whose queue is full and that never accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        try:
            while True:
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.2)
                sock.connect(address)
        except TimeoutError:
            yield Endpoint(*address)
        finally:
            for sock in waiting:
                sock.close()


def open_descriptors() -> int:
    """Count this process' descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


def resident_bytes() -> int:
    """Tell how much memory this process has resident (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
