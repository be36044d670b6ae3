"""Which file's version of each object is served, and what changes when files do.

Owns the rule that of several files the first by name wins. Must not know what a file looks like or how it is
read. Pure: no I/O, clock or logging. Invariant: after settle(), what the sink was told is what the winners say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core.model import Refusal
from uproxy.core.state import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from uproxy.core.model import KubernetesObject
    from uproxy.core.state import Event
    from uproxy.sources.declarations import Claim, Declared

CLAIMS_PER_STEP = 256
"""Claims looked at in one step: about 0.5 ms."""


class Claims:
    """The objects that files declare. A batch is any number of replace(), then settle()."""

    def __init__(self) -> None:
        self._files: dict[str, Mapping[Claim, Declared]] = {}
        self._holders: dict[Claim, tuple[str, ...]] = {}
        self._contested: set[Claim] = set()
        self._before: dict[Claim, KubernetesObject | None] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def of(self, name: str) -> Mapping[Claim, Declared]:
        """Give what a file declares now."""
        return self._files.get(name, {})

    def replace(self, name: str, objects: Mapping[Claim, Declared]) -> Generator[None, None, None]:
        """Let a file declare these objects and no other ones; a file that is gone declares none."""
        former = self._files.get(name, {})
        for index, claim in enumerate({**former, **objects}):
            if former.get(claim) != objects.get(claim):
                self._touch(claim)
            if claim not in objects:
                self._leave(claim, name)
            elif claim not in former:
                self._join(claim, name)
            if not index % CLAIMS_PER_STEP:
                yield
        if objects:
            self._files[name] = objects
        else:
            self._files.pop(name, None)

    def _touch(self, claim: Claim) -> None:
        if claim not in self._before:
            self._before[claim] = self._served(claim)

    def _served(self, claim: Claim) -> KubernetesObject | None:
        holders = self._holders.get(claim)
        return self._files[holders[0]][claim].obj if holders else None

    def _leave(self, claim: Claim, name: str) -> None:
        self._hold(claim, tuple(holder for holder in self._holders[claim] if holder != name))

    def _join(self, claim: Claim, name: str) -> None:
        holders = self._holders.get(claim)
        self._hold(claim, tuple(sorted((*holders, name))) if holders else (name,))

    def _hold(self, claim: Claim, holders: tuple[str, ...]) -> None:
        if holders:
            self._holders[claim] = holders
        else:
            del self._holders[claim]
        if len(holders) > 1:
            self._contested.add(claim)
        else:
            self._contested.discard(claim)

    def settle(self) -> Generator[None, None, list[Event]]:
        """Give what changed since the last time, one event per object."""
        before, self._before = self._before, {}
        events: list[Event] = []
        for index, (claim, former) in enumerate(before.items()):
            now = self._served(claim)
            if now is None and former is not None:
                events.append(Delete(claim.kind, claim.key))
            elif now is not None and now != former:
                events.append(Put(now))
            if not index % CLAIMS_PER_STEP:
                yield
        return events

    def losers(self) -> dict[str, list[tuple[Refusal, int]]]:
        """Give what is refused because another file has it, with its document, by file."""
        found: dict[str, list[tuple[Refusal, int]]] = {}
        for claim in sorted(self._contested):
            winner, *others = self._holders[claim]
            reason = f"is also in {winner} (document {self._files[winner][claim].document}), which comes first by name and is served"
            for name in others:
                found.setdefault(name, []).append((Refusal(str(claim), "", reason), self._files[name][claim].document))
        return found
