"""Durations as Go writes them: 250ms, 1.5s, 2m30s, 1h.

Knows nothing of what they are for. https://pkg.go.dev/time#ParseDuration, without signs: what lasts is never negative.
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|[\u00b5\u03bc]s|ms|s|m|h)", re.ASCII)
_LONGEST: Final = 80
"""Characters of a duration that anybody would write."""


def seconds_of(text: str) -> float:
    """Read a duration; raises ValueError saying what would be right."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text) if len(text) <= _LONGEST else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"not a duration: {text[:_LONGEST]!r} (write it like 250ms, 30s or 1h30m)")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
