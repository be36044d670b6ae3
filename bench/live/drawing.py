"""Numbers as text: times, bytes, bars and sparklines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Marks(NamedTuple):
    """What is drawn with. steps: of a sparkline, from nothing to everything; bar, half: a bar's cell and half of one."""

    steps: str
    bar: str
    half: str


UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
BLOCKS: Final = Marks(" ▁▂▃▄▅▆▇█", "█", "▌")
ASCII: Final = Marks(" .:-=+*#@", "#", ":")


def marks(encoding: str | None) -> Marks:
    """Give those that a stream of this encoding can show."""
    try:
        "".join(BLOCKS).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def span(microseconds: float) -> str:
    """Write a time with three digits or more and its unit."""
    if microseconds < 1_000:
        return f"{microseconds:.0f} us"
    if microseconds < 1_000_000:
        return f"{_three_digits(microseconds / 1_000)} ms"
    return f"{_three_digits(microseconds / 1_000_000)} s"


def amount(size: int) -> str:
    """Write bytes."""
    power = max(0, min(len(UNITS) - 1, (size.bit_length() - 1) // 10))
    return f"{_three_digits(size / 1024**power)} {UNITS[power]}" if power else f"{size} B"


def sparkline(values: Sequence[float], style: Marks) -> str:
    """Draw values in relation to the greatest of them, one character each: what is not 0 can be seen."""
    top = max(values, default=0)
    steps = len(style.steps) - 1
    return "".join(style.steps[max(1, round(steps * value / top)) if value else 0] for value in values)


def bar(share: float, width: int, style: Marks) -> str:
    """Draw a share (0 to 1) of so many characters: what is not 0 can be seen."""
    halves = max(1, round(2 * width * share)) if share else 0
    return style.bar * (halves // 2) + style.half * (halves % 2)


def listing(counts: Mapping[str, int]) -> str:
    """Write counts by name, the greatest first."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
