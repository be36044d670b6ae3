"""Askers: clients that ask for good, and whose every failure has to be one that was announced, at that time, of that kind.

Owns what each of them met and when. An excuse says which errors an asker may meet from when till when: from just before
the change that causes them until it is served again after the change that ends them. Knows nothing of uproxy and
Services. Invariant: whatever an asker met outside of its excuses is a failure of the test, however short it was.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.cluster.clients import PATIENCE
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from tests.cluster.clients import Address

PAUSE: Final = 0.15
"""Seconds between an answer and the next question: forty askers then take half of one CPU, everything included."""
CURT: Final = 0.3
"""Seconds after which no answer is silence, while silence is what is expected."""
SETTLES_SECONDS: Final = 20.0
"""Within which a change is met by everybody. 0.3 s when nothing else runs."""
LAST: Final = 4
"""As many of each asker's last answers tell who is behind its address."""

Errors = tuple[type[Exception], ...]
REFUSED: Final[Errors] = (ConnectionRefusedError, PermissionError)
"""No endpoint anywhere: a reset, an ICMP error, and EPERM for the node's own datagrams."""
SILENT: Final[Errors] = (TimeoutError,)
"""Policy Local without an endpoint here, or outside of the source ranges: no answer at all."""
GONE: Final[Errors] = (OSError,)
"""The address is nobody's any more: refused, or routed to where nobody answers or a router complains."""
LOST: Final[Errors] = (TimeoutError, ConnectionRefusedError)
"""A datagram that is on its way to an endpoint, or its answer, while that endpoint is taken away."""


class Attempt(NamedTuple):
    """One question. started, ended: time.monotonic() in seconds. name: of the endpoint that answered; "" with an error."""

    started: float
    ended: float
    name: str
    error: Exception | None


@dataclass
class Excuse:
    """What an asker may meet, and when."""

    errors: Errors
    since: float
    until: float = math.inf

    def covers(self, attempt: Attempt) -> bool:
        """Tell whether the attempt was at that time and met such an error."""
        return attempt.started <= self.until and attempt.ended >= self.since and isinstance(attempt.error, self.errors)


class Asker:
    """Makes a connection or a flow for each question, on a thread of its own, from start() until end()."""

    def __init__(self, target: Address, kind: str) -> None:
        self.name: Final = f"{kind} {target}"
        self.target: Final = target
        self.kind: Final = kind
        self.attempts: list[Attempt] = []
        self.excuses: list[Excuse] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more; join() waits for it."""
        self._ended.set()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        host, address, port, protocol = self.target
        while not self._ended.wait(PAUSE):
            started, name, problem = time.monotonic(), "", None
            curt = any(excuse.until == math.inf and issubclass(TimeoutError, excuse.errors) for excuse in self.excuses)
            try:
                name = client.ask(host, address, port, protocol, CURT if curt else PATIENCE).name
            except OSError as error:
                problem = error
            except ValueError as error:  # a connection that ends without an answer gives no three words
                problem = ConnectionResetError(f"half an answer: {error}")
            self.attempts.append(Attempt(started, time.monotonic(), name, problem))

    def failures(self) -> list[str]:
        """Give what it should not have met."""
        bad = (each for each in tuple(self.attempts) if each.error and not any(excuse.covers(each) for excuse in self.excuses))
        return [f"{self.name}, for {each.ended - each.started:.3f} s until {each.ended:.3f}: {each.error!r}" for each in bad]

    def since(self, moment: float) -> list[Attempt]:
        """Give the attempts that were begun after a moment."""
        return [each for each in tuple(self.attempts) if each.started >= moment]

    def names(self, number: int) -> list[str]:
        """Give who answered last."""
        return [each.name for each in islice(reversed(tuple(self.attempts)), number)]


class Askers:
    """Some askers, or a choice among them."""

    def __init__(self, askers: Iterable[Asker]) -> None:
        self._askers = tuple(askers)

    def __iter__(self) -> Iterator[Asker]:
        return iter(self._askers)

    def __len__(self) -> int:
        return len(self._askers)

    def __enter__(self) -> Self:
        for each in self._askers:
            each.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self._askers:
            each.end()
        for each in self._askers:
            each.join()

    def that(self, wanted: Callable[[Asker], bool]) -> Askers:
        """Choose those for which it is so; there must be one."""
        chosen = Askers(each for each in self._askers if wanted(each))
        assert len(chosen), "nobody was chosen: such a test would prove nothing"
        return chosen

    def of(self, *kinds: str) -> Askers:
        """Choose by the kind of the address."""
        return self.that(lambda each: each.kind in kinds)

    def at(self, *hosts: str) -> Askers:
        """Choose by the host that they are on."""
        return self.that(lambda each: each.target.host.name in hosts)

    def over(self, protocol: client.Protocol) -> Askers:
        """Choose by the protocol."""
        return self.that(lambda each: each.target.protocol == protocol)

    def in_family(self, family: int) -> Askers:
        """Choose by the family of the address."""
        return self.that(lambda each: (":" in each.target.address) == (family == 6))

    # What they meet

    def assert_undisturbed(self) -> None:
        """Fail with what they met that they should not have met."""
        failures = [failure for each in self._askers for failure in each.failures()]
        assert not failures, f"{len(failures)} failures\n" + "\n".join(failures[:20])

    def are_served(self) -> None:
        """Wait until each was answered whose question was put after now; fails when one met a failure."""
        now = time.monotonic()
        eventually(lambda: all(any(not found.error for found in each.since(now)) for each in self._askers), within=SETTLES_SECONDS)
        self.assert_undisturbed()

    def are_answered_by(self, *names: str) -> None:
        """Wait until the last answers of all of them came from these endpoints and from no others."""
        now = time.monotonic()

        def settled() -> None:
            few = next((each.name for each in self._askers if len(each.since(now)) < LAST), "")
            assert not few, f"{few} has no answers yet"
            found = {name for each in self._askers for name in each.names(LAST)}
            assert found == set(names), f"{found} instead of {names}"

        eventually(settled, within=SETTLES_SECONDS)
        self.assert_undisturbed()

    def meet(self, errors: Errors) -> None:
        """Wait until each has met one of these errors with a question that it put after now."""
        now = time.monotonic()

        def met() -> None:
            spared = [each.name for each in self._askers if not any(isinstance(found.error, errors) for found in each.since(now))]
            assert not spared, f"still without {[error.__name__ for error in errors]}: {spared}"

        eventually(met, within=SETTLES_SECONDS)

    @contextmanager
    def without_service(self, errors: Errors, *, until: Callable[[], object]) -> Iterator[None]:
        """Announce that these have to meet such an error: from now on, till they are served again after `until`.

        The body makes the change that causes it and what else is to be seen; `until` makes the change that ends it.
        """
        with self.excused(errors):
            yield
            self.meet(errors)
            until()

    @contextmanager
    def excused(self, errors: Errors) -> Iterator[None]:
        """Announce that these may meet such an error while the body runs, and until each is served again after it."""
        excuses = [(each, Excuse(errors, time.monotonic())) for each in self._askers]
        for each, excuse in excuses:
            each.excuses.append(excuse)
        yield
        now = time.monotonic()
        for each, excuse in excuses:
            excuse.until = eventually(partial(_first_answer, each, now), within=SETTLES_SECONDS)


def _first_answer(asker: Asker, after: float) -> float:
    """Give when it put the first question after a moment that was answered."""
    started = next((each.started for each in asker.since(after) if not each.error), None)
    assert started is not None, f"{asker.name} is not served: {[each.error for each in asker.since(after)][-3:]}"
    return started
