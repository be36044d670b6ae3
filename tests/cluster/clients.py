"""Clients that never stop asking, each on a thread of its own, while something befalls what uproxy is fed by.

Some make a connection or a flow for each question, some keep the one that they have. A client that met a failure
stops: its failure is the test's. Knows nothing of uproxy.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from tests.lab.topology import Host

PAUSE: Final = 0.03
"""Seconds between an answer and the next question: eleven clients then take a third of one CPU, everything included."""
PATIENCE: Final = 10.0
"""Seconds after which no answer is a failure. Longer than a busy machine ever needs, for nothing here may be lost."""
SOME: Final = 5
"""As many answers tell that a client is served."""


class Address(NamedTuple):
    """Whom a client asks, from where, how."""

    host: Host
    address: str
    port: int
    protocol: client.Protocol = "TCP"

    def __str__(self) -> str:
        return f"{self.protocol} {self.address} port {self.port} from {self.host.name}"


class Client:
    """Asks the same again and again. lasting: over one connection (TCP) or flow (UDP), which must stay the same at its other end too."""

    def __init__(self, target: Address, *, lasting: bool = False) -> None:
        self.name: Final = f"{'lasting' if lasting else 'new'} {target}"
        self.answers = 0
        self.failure = ""
        self._target = target
        self._body = self._keep if lasting else self._renew
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self._body()
        except (OSError, ValueError, AssertionError) as error:  # an answer that is cut short is no three words
            self.failure = f"{self.name} after {self.answers} answers, {time.monotonic() - begun:.1f} s: {error!r}"

    def _renew(self) -> None:
        host, address, port, protocol = self._target
        while not self._ended.wait(PAUSE):
            client.ask(host, address, port, protocol, PATIENCE)
            self.answers += 1

    def _keep(self) -> None:
        host, address, port, protocol = self._target
        with client.connect(host, address, port, protocol, PATIENCE) as conversation:
            first = client.who(conversation)
            while not self._ended.wait(PAUSE):
                answer = client.who(conversation)
                assert answer == first, f"{first} became {answer}"
                self.answers += 1


class Clients:
    """Some clients; each has been served when the block begins."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = tuple(clients)

    def __enter__(self) -> Self:
        for each in self._clients:
            each.start()
        try:
            self.are_served()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        for each in self._clients:
            each.end()
        for each in self._clients:
            each.join()

    def assert_undisturbed(self) -> None:
        """Fail with what the clients met that they should not have met."""
        failures = [each.failure for each in self._clients if each.failure]
        assert not failures, "\n".join(failures)

    def are_served(self) -> None:
        """Wait until each has got some more answers; fails when one has met a failure."""
        wanted = [(each, each.answers + SOME) for each in self._clients]
        eventually(lambda: all(each.answers >= number or each.failure for each, number in wanted), within=2 * PATIENCE)
        self.assert_undisturbed()

    def are_served_for(self, seconds: float) -> None:
        """Let them ask for so long at least."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.are_served()
