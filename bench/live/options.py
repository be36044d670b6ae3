"""The command line: what is to be sent, and the limits that nothing may exceed by mistake. No I/O but argparse's --help."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from bench.live.address import Target, endpoint, web_address
from uproxy.core.durations import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE: Final = 100.0
DURATION: Final = 10.0
CONNECTIONS: Final = 10
SIZES: Final = {"tcp": 64, "udp": 64, "http": 0}
TIMEOUTS: Final = {"tcp": 2.0, "udp": 0.5, "http": 5.0}
MAX_RATE: Final = 10_000.0
"""About what one Python process can send at all."""
MAX_CONNECTIONS: Final = 1_000
MAX_DURATION: Final = 600.0
MAX_TIMEOUT: Final = 60.0
GREATEST: Final = {"tcp": 1 << 20, "udp": 65_507, "http": 1 << 20}
"""Bytes of a unit. tcp, http: what each connection may keep in memory; udp: the longest datagram of IPv4 (udp(7))."""
EXPECTATIONS: Final = ("echo", "any", "none")
DESCRIPTION: Final = """Load at a steady rate against an address of yours. Units (tcp: a message and its answer; udp: a datagram
and its answer; http: a request) fall due whether the target keeps up or not, latencies count from then. Exit code: 0, 1 if
anything failed, 2 for a wrong command line, 130 after Ctrl-C."""


class UsageError(Exception):
    """The command line cannot be carried out: which flag, and what would be right."""


class Options(NamedTuple):
    """One load. rate: units per second; duration, timeout: seconds; size: bytes, for http of the body (0: GET)."""

    kind: str
    target: Target
    rate: float
    duration: float
    connections: int
    size: int
    timeout: float
    expect: str
    new_connection: bool
    insecure: bool
    json: bool
    quiet: bool


class Parser(argparse.ArgumentParser):
    """One line for a mistake, instead of the usage and then the line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(f"{message.removeprefix('argument ')} (--help shows all flags)")


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; raises UsageError, and SystemExit(0) after --help."""
    given = parser().parse_args(argv)
    _limit("rate", given.rate, given.max_rate)
    _limit("connections", given.connections, given.max_connections)
    _limit("duration", given.duration, given.max_duration, "s")
    kind = given.kind
    _fits_its_kind(given)
    return Options(
        kind,
        _target(kind, given.address),
        given.rate,
        given.duration,
        given.connections,
        SIZES[kind] if given.size is None else given.size,
        given.timeout or TIMEOUTS[kind],
        given.expect or "echo",
        given.new_connection,
        given.insecure,
        given.json,
        given.quiet,
    )


def parser() -> Parser:
    """Describe the flags."""
    found = Parser(prog="python -m bench load", description=DESCRIPTION, allow_abbrev=False)
    found.add_argument("kind", choices=list(SIZES))
    found.add_argument("address", metavar="ADDRESS", help="tcp, udp: HOST:PORT or [IPV6]:PORT; http: an http:// or https:// URL")
    add = found.add_argument
    add("--rate", type=rate, default=RATE, metavar="N", help=f"units per second, never more ({RATE:g})")
    add("--duration", type=duration, default=DURATION, metavar="TIME", help=f"how long, like 30s or 1m30s ({DURATION:g}s)")
    many = f"connections or flows, each with one unit under way at a time ({CONNECTIONS})"
    add("--connections", type=count, default=CONNECTIONS, metavar="N", help=many)
    add("--size", type=size, metavar="BYTES", help="of a unit (64); http: of a request's body, above 0 it is a POST (0)")
    add("--new-connection", action="store_true", help="a connection (udp: a socket) of its own for each unit")
    add("--expect", choices=EXPECTATIONS, help="tcp, udp: what is an answer: what was sent, any bytes, or nothing is awaited (echo)")
    add("--timeout", type=timeout, metavar="TIME", help="how long to wait for a unit's answer (tcp 2s, udp 500ms, http 5s)")
    add("--insecure", action="store_true", help="https: take any certificate")
    add("--json", action="store_true", help="the summary as one line of JSON")
    add("--quiet", action="store_true", help="nothing but the summary")
    add("--max-rate", type=rate, default=MAX_RATE, metavar="N", help=f"refuse a greater --rate ({MAX_RATE:g})")
    add("--max-connections", type=count, default=MAX_CONNECTIONS, metavar="N", help=f"refuse more --connections ({MAX_CONNECTIONS})")
    add("--max-duration", type=duration, default=MAX_DURATION, metavar="TIME", help=f"refuse a longer --duration ({MAX_DURATION:g}s)")
    return found


def rate(text: str) -> float:
    """Read units per second; raises argparse's error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.001):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: units per second from 0.001, like 100")
    return value


def count(text: str) -> int:
    """Read a number of at least 1; raises argparse's error."""
    value = size(text)
    if not value:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def size(text: str) -> int:
    """Read a whole number; raises argparse's error."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, like 64")
    return int(text)


def duration(text: str) -> float:
    """Read a duration above 0; raises argparse's error."""
    try:
        value = seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not value:
        raise argparse.ArgumentTypeError("longer than 0, like 10s")
    return value


def timeout(text: str) -> float:
    """Read a duration up to MAX_TIMEOUT; raises argparse's error."""
    value = duration(text)
    if value > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{MAX_TIMEOUT:g}s at most: so long may the end take after the duration")
    return value


def _limit(name: str, value: float, greatest: float, unit: str = "") -> None:
    if value > greatest:
        asked, allowed = f"{value:.12g}{unit}", f"{greatest:.12g}{unit}"
        raise UsageError(f"--{name} {asked}: --max-{name} allows {allowed}; raise it to {asked} if the target is yours and is to take that")


def _fits_its_kind(given: argparse.Namespace) -> None:
    kind, least, greatest = given.kind, min(1, SIZES[given.kind]), GREATEST[given.kind]
    if given.size is not None and not least <= given.size <= greatest:
        raise UsageError(f"--size {given.size}: {kind} takes {least} to {greatest} bytes")
    if given.expect and kind == "http":
        raise UsageError(f"--expect {given.expect}: for tcp and udp; an answer to http is a status below 400")
    if given.insecure and not given.address.startswith("https://"):
        raise UsageError("--insecure: for http with an https:// URL, there is no certificate otherwise")


def _target(kind: str, text: str) -> Target:
    try:
        return web_address(text) if kind == "http" else endpoint(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
