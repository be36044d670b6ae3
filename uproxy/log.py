"""Facts on stderr, one line each: `event key=value ...`, or the same as one JSON object.

Owns the format and the aggregation: the same event about the same subject is written once per interval,
then with the number of times. Uses the standard library's logging underneath, so that libraries' records
come out in the same form. Knows nothing of who reports what.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

type_of_value = str | int | float | bool | None


class Log(Protocol):
    """What everything else sees of logging: a fact is an event name and its keys and values."""

    def info(self, event: str, /, **facts: object) -> None:
        """Report that something happened as it should."""

    def warning(self, event: str, /, **facts: object) -> None:
        """Report that something is not as it should be; everything else goes on."""

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """Report a failure; exc_info only for what is a bug of ours."""
