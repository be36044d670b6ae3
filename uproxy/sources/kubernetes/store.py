"""What is known of one kind, and which events follow from what a list or a watch says now.

Owns the comparison: only differences become events, so that a new list of what is known already disturbs nobody. Pure:
no I/O, no clock. Invariant: the events given, put together, are `objects`. A refused object keeps its previous version;
a Skipped one is as if it did not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core.decode import Skipped
from uproxy.core.model import Refusal
from uproxy.core.state import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from uproxy.core.decode import Decoded
    from uproxy.core.model import Kind, KubernetesObject, ObjectKey
    from uproxy.core.state import Event


class Store:
    """The objects of one kind that are served now. seed: those that were served before there was any list."""

    def __init__(self, kind: Kind, seed: Iterable[KubernetesObject] = ()) -> None:
        self._kind = kind
        self._objects = {obj.key: obj for obj in seed}

    @property
    def objects(self) -> Mapping[ObjectKey, KubernetesObject]:
        """The objects by key."""
        return self._objects

    def put(self, key: ObjectKey, found: Decoded, triggered: float = 0.0) -> list[Event]:
        """Take in an object as it is now; triggered: as in core.state.Put."""
        if isinstance(found, Skipped):
            return self.delete(key)
        if isinstance(found, Refusal) or self._objects.get(key) == found:
            return []
        self._objects[key] = found
        return [Put(found, triggered)]

    def delete(self, key: ObjectKey) -> list[Event]:
        """Take note that an object is gone."""
        return [Delete(self._kind, key)] if self._objects.pop(key, None) is not None else []

    def relist(self) -> Relist:
        """Begin a new list; nothing else may be put or deleted until it is finished, or given up."""
        return Relist(self._kind, self._objects)


class Relist:
    """A list that is being read. It changes nothing before finish(): an unfinished list says nothing about what is gone."""

    def __init__(self, kind: Kind, objects: dict[ObjectKey, KubernetesObject]) -> None:
        self._kind = kind
        self._objects = objects
        self._different: dict[ObjectKey, KubernetesObject] = {}
        self._present: set[ObjectKey] = set()

    @property
    def present(self) -> set[ObjectKey]:
        """The keys of what the list holds."""
        return self._present

    def put(self, key: ObjectKey, found: Decoded) -> None:
        """Take in an item."""
        self.delete(key)
        if isinstance(found, Skipped):
            return
        self._present.add(key)
        if not isinstance(found, Refusal) and self._objects.get(key) != found:
            self._different[key] = found

    def delete(self, key: ObjectKey) -> None:
        """Take out an item: streamed lists go on while objects are deleted."""
        self._present.discard(key)
        self._different.pop(key, None)

    def finish(self) -> list[Event]:
        """Let the list be what is known; give what is different from before. Two milliseconds for 10,000 objects."""
        gone = [key for key in self._objects if key not in self._present]
        for key in gone:
            del self._objects[key]
        self._objects.update(self._different)
        deletions: list[Event] = [Delete(self._kind, key) for key in gone]
        return deletions + [Put(obj) for obj in self._different.values()]
