"""What manifests are refused and passed over for: counted, and logged once, until it changes.

Owns what has been reported. Knows nothing of how it was found out. Invariant: what is refused now is what
`refused` counts; what was ever refused is what `total` counts, by reason: file, object, field or duplicate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from uproxy.core.model import Refusal
    from uproxy.log import Log
    from uproxy.sources.declarations import Declarations, Refused
    from uproxy.sources.documents import Broken

REPORTS_PER_STEP = 32
"""Refusals reported in one step: about 1 ms."""


class Refusals:
    """Keeps what each file is refused for."""

    def __init__(self, log: Log) -> None:
        self.total: dict[str, int] = dict.fromkeys(("file", "object", "field", "duplicate"), 0)
        self._log = log
        self._broken: dict[str, str] = {}
        self._refused: dict[str, frozenset[Refusal]] = {}
        self._skipped: dict[str, frozenset[str]] = {}
        self._duplicates: dict[str, frozenset[Refusal]] = {}

    @property
    def refused(self) -> int:
        """How many things are refused now."""
        return len(self._broken) + sum(map(len, self._refused.values())) + sum(map(len, self._duplicates.values()))

    def is_broken(self, name: str) -> bool:
        """Tell whether a file cannot be read as a whole."""
        return name in self._broken

    def broken(self, name: str, error: Broken) -> None:
        """Report a file that cannot be read; what it said before stays in force."""
        reason = str(error.args)
        if self._broken.get(name) == reason:
            return
        self._broken[name] = reason
        self.total["file"] += 1
        place = {key: value for key, value in (("document", error.document), ("line", error.line)) if value}
        self._log.warning("manifest_refused", file=name, **place, reason=error.reason, kept="what the file said before")

    def read(self, name: str, declarations: Declarations) -> Generator[None, None, None]:
        """Report what is refused and passed over in a file that was read."""
        if self._broken.pop(name, None) is not None:
            self._log.info("manifest_accepted", file=name)
        known = self._refused.pop(name, frozenset())
        for index, each in enumerate(declarations.refused):
            if each.refusal not in known:
                self.total["field" if each.part else "object"] += 1
                self._report(name, each)
            if not index % REPORTS_PER_STEP:
                yield
        self._refused[name] = frozenset(each.refusal for each in declarations.refused)
        yield from self._report_skipped(name, declarations)

    def _report(self, name: str, each: Refused) -> None:
        refusal = each.refusal
        self._log.warning(
            "manifest_refused",
            file=name,
            document=each.document,
            line=each.line,
            subject=refusal.subject,
            field=refusal.field,
            reason=refusal.reason,
        )

    def _report_skipped(self, name: str, declarations: Declarations) -> Generator[None, None, None]:
        """Log objects that are not served one by one, kinds that are not read once per file."""
        known = self._skipped.pop(name, frozenset())
        now: dict[str, int] = {}
        for index, (skipped, document) in enumerate(declarations.skipped):
            what = f"{skipped.kind} {skipped.key}: {skipped.reason}" if skipped.kind in _READ else f"{skipped.kind}: {skipped.reason}"
            if what not in known and what not in now:
                subject = f"{skipped.kind} {skipped.key}" if skipped.kind in _READ else skipped.kind
                self._log.info("manifest_skipped", file=name, document=document, subject=subject, reason=skipped.reason)
            now[what] = document
            if not index % REPORTS_PER_STEP:
                yield
        self._skipped[name] = frozenset(now)

    def forget(self, name: str) -> None:
        """Drop what is known of a file that is gone."""
        self._broken.pop(name, None)
        self._refused.pop(name, None)
        self._skipped.pop(name, None)

    def duplicates(self, losers: dict[str, list[tuple[Refusal, int]]]) -> Generator[None, None, None]:
        """Report objects that another file has too; losers: all there are now."""
        for name, refused in losers.items():
            known = self._duplicates.get(name, frozenset())
            for refusal, document in self._fresh(refused, known):
                self.total["duplicate"] += 1
                self._log.warning("manifest_refused", file=name, document=document, subject=refusal.subject, reason=refusal.reason)
                yield
        self._duplicates = {name: frozenset(refusal for refusal, _ in refused) for name, refused in losers.items()}

    def _fresh(self, refused: Iterable[tuple[Refusal, int]], known: frozenset[Refusal]) -> list[tuple[Refusal, int]]:
        return [each for each in refused if each[0] not in known]


_READ = frozenset({"Service", "EndpointSlice", "Node"})
