"""How a subject is told of Services while it is measured: what every control plane offers, and the one that is a folder of manifests.

Owns no Service of its own: bench/workloads/changes.py says which there are.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

OTHERS: Final = "others"
"""The namespace of all Services that are not measured themselves."""
PER_FILE: Final = 10
"""Slices to a file: uproxy looks at every file of the folder and reads the ones that changed, so neither may be many."""


class Feed(Protocol):
    """The control plane of a subject, as far as Services are concerned that are not measured themselves."""

    def awake(self) -> AbstractContextManager[None]:
        """Let it work until left: it may sleep otherwise, so that it uses no CPU of the measurement."""

    def fill(self, services: Sequence[dict[str, Any]], slices: Sequence[dict[str, Any]]) -> None:
        """Declare Services and their slices, all in the namespace OTHERS; raises OSError or RuntimeError."""

    def change(self, place: int, new: dict[str, Any]) -> None:
        """Replace the slice that was at this place; threads may do so together. Raises OSError or RuntimeError."""

    def clear(self) -> None:
        """Take back what fill declared; raises OSError or RuntimeError."""

    def cpu_seconds(self) -> float:
        """Give the CPU time that it has used so far, this program's own part included."""


class ManifestFeed:
    """Files beside those that the subject was started with. Each change replaces a file as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._slices: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def awake(self) -> AbstractContextManager[None]:
        """Do nothing: a folder never sleeps."""
        return nullcontext()

    def fill(self, services: Sequence[dict[str, Any]], slices: Sequence[dict[str, Any]]) -> None:
        """Write all files."""
        self._slices = list(slices)
        self._write("others.json", services)
        for first in range(0, len(slices), PER_FILE):
            self._write_slices(first)

    def change(self, place: int, new: dict[str, Any]) -> None:
        """Write the slice's file again."""
        with self._lock:
            self._slices[place] = new
            self._write_slices(place - place % PER_FILE)

    def clear(self) -> None:
        """Remove the files."""
        for name in self._names:
            (self._folder / name).unlink()
        self._names.clear()

    def cpu_seconds(self) -> float:
        """Give what this program has used: nobody else is there."""
        return time.process_time()

    def _write_slices(self, first: int) -> None:
        self._write(f"others-{first:05}.json", self._slices[first : first + PER_FILE])

    def _write(self, name: str, documents: Sequence[dict[str, Any]]) -> None:
        draft = self._folder.with_name("draft")
        draft.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}))
        draft.replace(self._folder / name)
        self._names.add(name)
