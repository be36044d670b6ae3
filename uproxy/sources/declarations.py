"""What one manifest file declares, given its documents and what it declared before.

Owns which object of a file is in force when some are refused: a broken object keeps its previous version. Must
not know other files (claims.py). Pure: no I/O, clock or logging. Works in steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from uproxy.core.decode import Decoded, Skipped, subject_of
from uproxy.core.model import EndpointSlice, Kind, KubernetesObject, Node, ObjectKey, Refusal, Service
from uproxy.sources.documents import Document

DOCUMENTS_PER_STEP: Final = 256
"""Documents looked at in one step: about 0.5 ms."""


class Claim(NamedTuple):
    """An object as everybody names it: what two files can both declare."""

    kind: Kind
    key: ObjectKey

    def __str__(self) -> str:
        return subject_of(self.kind, self.key)


class Declared(Struct, frozen=True, gc=False):
    """An object in force and the document that says so; None: it is declared, but it is not to be served (headless ...)."""

    obj: KubernetesObject | None
    document: int


class Refused(Struct, frozen=True, gc=False):
    """Something in a file that is not served. document and line are 0 where they cannot be told."""

    refusal: Refusal
    document: int
    line: int
    part: bool


class Declarations(Struct, frozen=True):
    """What a file declares: objects in force, what is refused, and what is passed over, each with its document."""

    objects: Mapping[Claim, Declared] = {}
    refused: tuple[Refused, ...] = ()
    skipped: tuple[tuple[Skipped, int], ...] = ()


def declare(documents: tuple[Document, ...], before: Mapping[Claim, Declared]) -> Generator[None, None, Declarations]:
    """Give what a file declares after any number of steps; before: the objects of its previous version.

    An object that is refused as a whole keeps its previous version. While one has no name that can be read,
    it may be any of the previous ones: then none of them is dropped.
    """
    draft = _Draft()
    for index, document in enumerate(documents, start=1):
        for found in document.decoded:
            draft.take(found, document)
        if not index % DOCUMENTS_PER_STEP:
            yield
    return draft.finish(before)


class _Draft:
    """Declarations in the making."""

    def __init__(self) -> None:
        self._objects: dict[Claim, Declared] = {}
        self._refused: list[tuple[Refusal, Document]] = []
        self._duplicates: list[Refused] = []
        self._skipped: list[tuple[Skipped, int]] = []

    def take(self, found: Decoded, document: Document) -> None:
        if isinstance(found, Refusal):
            self._refused.append((found, document))
        elif isinstance(found, Skipped):
            self._skipped.append((found, document.number))
            if found.kind in _KINDS:
                self._declare(Claim(Kind(found.kind), found.key), None, document)
        else:
            self._declare(Claim(_kind_of(found), found.key), found, document)

    def _declare(self, claim: Claim, obj: KubernetesObject | None, document: Document) -> None:
        first = self._objects.setdefault(claim, Declared(obj, document.number))
        if first.document != document.number or first.obj is not obj:
            reason = f"is already in document {first.document} of this file, which is served"
            self._duplicates.append(Refused(Refusal(str(claim), "", reason), document.number, document.line, part=False))

    def finish(self, before: Mapping[Claim, Declared]) -> Declarations:
        declared = {str(claim) for claim in self._objects} if self._refused else set()
        refused = [Refused(refusal, where.number, where.line, refusal.subject in declared) for refusal, where in self._refused]
        self._keep({each.refusal.subject for each in refused if not each.part}, before)
        return Declarations(self._objects, (*refused, *self._duplicates), tuple(self._skipped))

    def _keep(self, broken: set[str], before: Mapping[Claim, Declared]) -> None:
        """Add the previous versions of broken objects."""
        if broken:
            nameless = not all(map(_names_an_object, broken))
            for claim, declared in before.items():
                if nameless or str(claim) in broken:
                    self._objects.setdefault(claim, declared)


_KINDS: Final = frozenset(map(str, Kind))


def _kind_of(obj: KubernetesObject) -> Kind:
    return _KIND_OF_TYPE[type(obj)]


_KIND_OF_TYPE: Final[dict[type[KubernetesObject], Kind]] = {
    Service: Kind.SERVICE,
    EndpointSlice: Kind.ENDPOINT_SLICE,
    Node: Kind.NODE,
}


def _names_an_object(subject: str) -> bool:
    """Tell whether a Refusal's subject is an object (Service default/web) or just a kind (Service without a name)."""
    _, _, name = subject.partition(" ")
    return name not in {"", "without a name"}
