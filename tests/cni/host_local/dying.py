"""The system calls with which a store changes its folder, of which one is the process's last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

CHANGES: Final = ("mkdir", "open", "rename", "unlink", "write")


class Death(BaseException):
    """The process died here."""


class DyingSystem:
    """Stands where a module expects `posix`: after that many changes there is only death, also for those who clean up.

    A dying write gets half of its bytes out.
    """

    def __init__(self, changes: int, die: Callable[[], None]) -> None:
        self.changes = changes
        self.die = die

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has under that name
        call = getattr(os, name)
        return self._counted(name, call) if name in CHANGES else call

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - as `call` has it
            is_change = name != "open" or arguments[1] & os.O_CREAT
            if is_change and self.changes == 0 and name == "write":
                call(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if is_change and self.changes == 0:
                self.die()
            self.changes -= bool(is_change)
            return call(*arguments, **keywords)

        return counted


@contextmanager
def exchanged(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Put something else under a module's name for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def raise_death() -> None:
    """Die in process: nothing catches this."""
    raise Death
