"""Requests and answers over connections that stay open: sizes at 32 connections, numbers of connections at 64 bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.figures import latency, rate
from bench.load.server import ECHO
from bench.workloads.base import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.workloads.base import Workload

GROUP: Final = "requests"
KIBIBYTE: Final = 1024


def _requests(connections: int, size: int, *, quick: bool = False) -> Traffic:
    bytes_each = f"{size} B" if size < KIBIBYTE else f"{size // KIBIBYTE} KiB"
    title = f"requests of {bytes_each}, {connections} connection{'s' * (connections > 1)}"
    flags = ("--connections", str(connections), "--size", str(size))
    return Traffic(title, GROUP, "requests", ECHO, rate("request") + latency(), flags, quick=quick)


WORKLOADS: Final[Mapping[str, Workload]] = {
    "requests": _requests(32, 64, quick=True),
    "request": _requests(1, 64, quick=True),
    "requests-512": _requests(512, 64),
    "requests-4k": _requests(32, 4 * KIBIBYTE),
    "requests-64k": _requests(32, 64 * KIBIBYTE),
}
