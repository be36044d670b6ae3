"""Traffic that goes on while something is done to uproxy: connections one after another, each with its outcome."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.lab import client

if TYPE_CHECKING:
    from types import TracebackType

    from tests.lab.topology import Host


class Attempt(NamedTuple):
    """One connection. started, ended: time.monotonic() in seconds; error: None when the endpoint answered."""

    started: float
    ended: float
    error: OSError | None


class Traffic:
    """A client that connects, asks and closes without a pause until the body of the with statement ends."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.attempts: list[Attempt] = []
        self._target = (host, address, port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            started, problem = time.monotonic(), None
            try:
                client.ask(*self._target)
            except (OSError, ValueError) as error:  # a connection that ends without an answer gives no three words
                problem = error if isinstance(error, OSError) else ConnectionResetError(str(error))
            self.attempts.append(Attempt(started, time.monotonic(), problem))

    def errors(self) -> list[OSError]:
        """Give what went wrong."""
        return [attempt.error for attempt in self.attempts if attempt.error is not None]

    def seconds_until_served(self, since: float) -> float:
        """Give how long after `since` an attempt that began after it was answered."""
        return min(attempt.ended for attempt in self.attempts if attempt.started >= since and attempt.error is None) - since
