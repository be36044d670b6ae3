"""Changes at a rate, and when each is served: the prober's other end.

Owns the prober's process and the threads that send requests. Seconds as they are; a change that was never served is None.
"""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.cluster_objects import CONNECTIONS, PORT
from bench.topology import end, python, start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO, Self

    from bench.cluster_objects import Change
    from bench.namespaces import Namespace

CHANGE_SECONDS: Final = 30.0
"""How long a change is waited for."""
MARGIN_SECONDS: Final = 5.0
ANY: Final = ("*",)


class Seen(NamedTuple):
    """When a change was answered by the API server and when a client was first served accordingly: seconds since it was sent."""

    answered: float
    served: float | None


class Client:
    """A client in a node's namespace. A context manager."""

    def __init__(self, node: Namespace) -> None:
        self._process = start(node, None, python("bench.cluster_prober"), stdin=subprocess.PIPE)
        self._lock = threading.Lock()
        self._found: dict[str, float | None] = {}
        self._news = threading.Condition()
        self._number = 0
        self._reader = threading.Thread(target=self._read, name="prober", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _pipe(self._process.stdin).close()
        self._process.kill()
        self._reader.join()
        end(self._process)

    def watch(self, addresses: Sequence[str], since: float, patience: float) -> Mapping[str, float | None]:
        """Wait until each address is served by anybody; give the seconds since a moment (time.monotonic()) by address."""
        names = {self._expect(address, ANY, since, patience): address for address in addresses}
        found = self._wait(list(names), patience + MARGIN_SECONDS)
        return {names[name]: seconds for name, seconds in found.items()}

    def change(self, changes: Sequence[Change], rate: float) -> list[Seen]:
        """Make so many changes a second and wait until a client has met each."""
        began = time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                futures = []
                for place, change in enumerate(changes):
                    time.sleep(max(0.0, began + place / rate - time.monotonic()))
                    futures.append(pool.submit(self._send, change))
                sent = [future.result(CHANGE_SECONDS) for future in futures]
            finally:
                pool.shutdown(cancel_futures=True)
        found = self._wait([name for name, _ in sent], CHANGE_SECONDS + MARGIN_SECONDS)
        return [Seen(answered, found.get(name)) for name, answered in sent]

    def _send(self, change: Change) -> tuple[str, float]:
        since = time.monotonic()
        name = self._expect(change.address, change.expected, since, CHANGE_SECONDS)
        change.send()
        return name, time.monotonic() - since

    def _expect(self, address: str, expected: Sequence[str], since: float, patience: float) -> str:
        with self._lock:
            self._number += 1
            name = str(self._number)
            stdin = _pipe(self._process.stdin)
            stdin.write(f"{name} {address} {PORT} {since:.6f} {patience:g} {','.join(expected)}\n")
            stdin.flush()
        return name

    def _wait(self, names: Sequence[str], seconds: float) -> dict[str, float | None]:
        with self._news:
            self._news.wait_for(lambda: all(name in self._found for name in names), seconds)
            return {name: self._found.pop(name, None) for name in names}

    def _read(self) -> None:
        for line in _pipe(self._process.stdout):
            name, seconds = line.split()
            with self._news:
                self._found[name] = None if seconds == "-" else float(seconds)
                self._news.notify_all()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
