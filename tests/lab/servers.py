"""Endpoint processes: starting tests/lab/endpoint.py and ending it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.lab.topology import Host

PORT: Final = 8080
"""Where endpoints serve TCP and UDP; one port above, a TCP server speaks first."""
PROJECT: Final = Path(__file__).resolve().parents[2]


class Servers:
    """One process that serves on every address of each host, under the host's name. A context manager."""

    def __init__(self, hosts: Sequence[Host], port: int = PORT, suffix: str = "") -> None:
        places = [f"{h.namespace.name},{h.name}{suffix},{address},{port}" for h in hosts for address in h.addresses]
        argv = [sys.executable, "-m", "tests.lab.endpoint", *places]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise AssertionError(f"the endpoints of {places} did not start")

    def close(self) -> None:
        """End the process, its connections with it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
