"""The client that sees when a change is served: `python -m bench.cluster_prober`, in the node's namespace.

Reads one target per line from stdin, "ID ADDRESS PORT SINCE PATIENCE NAME[,NAME...]", and opens connections to it until one
is answered by an endpoint with one of these names ("*": by any). Then it writes "ID SECONDS", since SINCE of CLOCK_MONOTONIC,
or "ID -" after more than PATIENCE. Ends with stdin. One process, one epoll; it knows nothing of proxies and APIs.

Where no answer comes at all (a lost SYN) the next connection is tried while the former is left open for a while.
"""

from __future__ import annotations

import errno
import heapq
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Final

PAUSE: Final = 0.002
"""Seconds between two attempts at one target, while few are waited for."""
PAUSE_EACH: Final = 0.001
"""The pause grows by the number of targets, so that all together are tried a thousand times a second at most: asking must not
become the load that is measured."""
SILENCE: Final = 0.005
"""How long an attempt may be without an answer until the next one begins beside it."""
ATTEMPT: Final = 0.3
STDIN: Final = 0


@dataclass
class Target:
    """What is waited for. attempts: open sockets with the time when each was made."""

    name: str
    address: tuple[str, int]
    since: float
    patience: float
    expected: frozenset[str]
    attempts: dict[socket.socket, float] = field(default_factory=dict)


class Prober:
    """Runs until stdin ends."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._epoll.register(STDIN, select.EPOLLIN)
        self._input = b""
        self._ended = False
        self._due: list[tuple[float, int, Target]] = []
        self._turn = 0
        self._open: dict[int, tuple[socket.socket, Target]] = {}
        self._targets: set[str] = set()

    def run(self) -> None:
        """Probe."""
        while not self._ended:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._attempt(heapq.heappop(self._due)[2], now)
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for descriptor, _ in self._epoll.poll(wait, 256):
                if descriptor == STDIN:
                    self._read()
                elif descriptor in self._open:
                    self._answered(*self._open[descriptor])

    def _read(self) -> None:
        chunk = os.read(STDIN, 65536)
        self._ended = not chunk
        *lines, self._input = (self._input + chunk).split(b"\n")
        for line in lines:
            name, address, port, since, patience, expected = line.decode().split()
            self._targets.add(name)
            self._schedule(Target(name, (address, int(port)), float(since), float(patience), frozenset(expected.split(","))), 0.0)

    def _schedule(self, target: Target, due: float) -> None:
        self._turn += 1
        heapq.heappush(self._due, (due, self._turn, target))

    def _attempt(self, target: Target, now: float) -> None:
        if target.name not in self._targets:
            return
        if now - target.since > target.patience:
            self._finish(target, "-")
            return
        for sock in [sock for sock, began in target.attempts.items() if now - began > ATTEMPT]:
            self._drop(sock, target)
        latest = max(target.attempts.values(), default=0.0)
        if now - latest >= SILENCE:
            self._connect(target, now)
        self._schedule(target, now + max(PAUSE, PAUSE_EACH * len(self._targets)))

    def _connect(self, target: Target, now: float) -> None:
        sock = socket.socket()
        sock.settimeout(0)
        if sock.connect_ex(target.address) not in {0, errno.EINPROGRESS}:
            sock.close()
            return
        target.attempts[sock] = now
        self._open[sock.fileno()] = sock, target
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _answered(self, sock: socket.socket, target: Target) -> None:
        try:
            name = sock.recv(200).decode().partition(" ")[0]
        except OSError:
            name = ""
        now = time.monotonic()
        self._drop(sock, target)
        if name in target.expected or (name and "*" in target.expected):
            self._finish(target, f"{now - target.since:.6f}")

    def _finish(self, target: Target, words: str) -> None:
        if target.name in self._targets:
            self._targets.remove(target.name)
            print(target.name, words, flush=True)
        for sock in list(target.attempts):
            self._drop(sock, target)

    def _drop(self, sock: socket.socket, target: Target) -> None:
        del self._open[sock.fileno()]
        target.attempts.pop(sock, None)
        sock.close()


if __name__ == "__main__":
    try:
        Prober().run()
    except BrokenPipeError:
        sys.exit(1)
