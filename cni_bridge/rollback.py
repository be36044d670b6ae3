"""Undoing what was done, last thing first, when something later fails.

Knows nothing of what is done. Every step runs, whatever the others raise; what they raised is told to the caller and
hides nothing: the failure that began it goes on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Rollback:
    """What must be undone, in the order in which it was done."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, purpose: str, undo: Callable[[], object]) -> None:
        """Remember how to undo a step. Before the step, if it may fail half done: undoing must bear that nothing is there."""
        self._steps.append((purpose, undo))

    def run(self) -> list[str]:
        """Undo everything; give what went wrong meanwhile, as text."""
        failures = []
        while self._steps:
            purpose, undo = self._steps.pop()
            try:
                undo()
            except Exception as error:  # noqa: BLE001 - the other steps must run
                failures.append(f"{purpose}: {error}")
        return failures

    def keep(self) -> None:
        """Forget the steps: what was done stays."""
        self._steps.clear()
