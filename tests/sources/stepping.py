"""Carrying out work that comes in steps, all at once."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


def finish(steps: Generator[None, None, T]) -> T:
    """Carry out all steps and give the result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # what the generator returns


def count_steps(steps: Generator[None, None, object]) -> tuple[int, float]:
    """Carry out all steps; give their number and the CPU seconds of the longest, garbage collection left out."""
    number, longest = 0, 0.0
    gc.disable()
    try:
        while True:
            started = time.thread_time()
            try:
                next(steps)
            except StopIteration:
                return number, max(longest, time.thread_time() - started)
            longest = max(longest, time.thread_time() - started)
            number += 1
    finally:
        gc.enable()
