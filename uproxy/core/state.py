"""What has been seen of the API objects, as one immutable state, and how events change it.

Owns the events, the state and their fold; knows neither where events come from nor what follows from the
objects. Invariant: a State is never changed once it was given out; fold copies what a batch touches, each
dictionary at most once per batch, so that one change and 20,000 changes are both cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from uproxy.core.model import EndpointSlice, Kind, KubernetesObject, Node, ObjectKey, Service


class Put(Struct, frozen=True, gc=False):
    """An object was added or changed.

    triggered: Unix seconds at which what it tells happened to a pod or Service; 0: not known.
    """

    obj: KubernetesObject
    triggered: float = 0.0


class Delete(Struct, frozen=True, gc=False):
    """An object is gone."""

    kind: Kind
    key: ObjectKey


class Listed(Struct, frozen=True, gc=False):
    """Every object of this kind that exists has been put: before that nothing may be concluded from absence."""

    kind: Kind


Event = Put | Delete | Listed

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class State(Struct, frozen=True):
    """All objects as they are now. Built by fold alone, from State() on.

    slices: the slices of each Service that has any, whether the Service itself exists or not.
    owners: the Service of each slice, since a deletion names the slice alone.
    """

    services: Mapping[ObjectKey, Service] = _NOTHING
    slices: Mapping[ObjectKey, Mapping[ObjectKey, EndpointSlice]] = _NOTHING
    nodes: Mapping[str, Node] = _NOTHING
    listed: frozenset[Kind] = frozenset()
    owners: Mapping[ObjectKey, ObjectKey] = _NOTHING

    @property
    def complete(self) -> bool:
        """Whether every kind has been listed: routes made before that would refuse what is merely not read yet."""
        return self.listed.issuperset(Kind)


class Change(Struct, frozen=True):
    """What may follow from a batch: Services (also deleted ones) whose routes may differ, and Nodes that differ."""

    services: frozenset[ObjectKey] = frozenset()
    nodes: frozenset[str] = frozenset()


def fold(state: State, events: Iterable[Event]) -> tuple[State, Change]:
    """Apply events in their order; an object equal to the known one changes nothing."""
    draft = _Draft(state)
    for event in events:
        if isinstance(event, Put):
            draft.put(event.obj)
        elif isinstance(event, Delete):
            draft.delete(event.kind, event.key)
        else:
            draft.listed |= {event.kind}
    return draft.finish()


class _Draft:
    """The next State while a batch is folded in: its own dictionaries, copied from the base."""

    def __init__(self, base: State) -> None:
        self.services = dict(base.services)
        self.slices: dict[ObjectKey, Mapping[ObjectKey, EndpointSlice]] = dict(base.slices)
        self.nodes = dict(base.nodes)
        self.owners = dict(base.owners)
        self.listed = base.listed
        self._base = base
        self._own: dict[ObjectKey, dict[ObjectKey, EndpointSlice]] = {}
        self._changed: set[ObjectKey] = set()
        self._changed_nodes: set[str] = set()

    def put(self, obj: KubernetesObject) -> None:
        if isinstance(obj, EndpointSlice):
            self._put_slice(obj)
        elif isinstance(obj, Service):
            if self.services.get(obj.key) != obj:
                self.services[obj.key] = obj
                self._changed.add(obj.key)
        elif self.nodes.get(obj.name) != obj:
            self.nodes[obj.name] = obj
            self._changed_nodes.add(obj.name)

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        if kind is Kind.ENDPOINT_SLICE:
            self._delete_slice(key)
        elif kind is Kind.SERVICE:
            if self.services.pop(key, None) is not None:
                self._changed.add(key)
        elif self.nodes.pop(key.name, None) is not None:
            self._changed_nodes.add(key.name)

    def _put_slice(self, found: EndpointSlice) -> None:
        owner = self.owners.get(found.key)
        if owner == found.service and self.slices[owner][found.key] == found:
            return
        if owner is not None and owner != found.service:
            self._delete_slice(found.key)
        self._slices_of(found.service)[found.key] = found
        self.owners[found.key] = found.service

    def _delete_slice(self, key: ObjectKey) -> None:
        owner = self.owners.pop(key, None)
        if owner is None:
            return
        left = self._slices_of(owner)
        del left[key]
        if not left:
            del self.slices[owner]
            del self._own[owner]

    def _slices_of(self, service: ObjectKey) -> dict[ObjectKey, EndpointSlice]:
        """Give this draft's own copy of a Service's slices, about to be changed."""
        self._changed.add(service)
        own = self._own.get(service)
        if own is None:
            own = self._own[service] = dict(self.slices.get(service, _NOTHING))
            self.slices[service] = own
        return own

    def finish(self) -> tuple[State, Change]:
        change = Change(frozenset(self._changed), frozenset(self._changed_nodes))
        if not self._changed and not self._changed_nodes and self.listed == self._base.listed:
            return self._base, change
        return State(self.services, self.slices, self.nodes, self.listed, self.owners), change
