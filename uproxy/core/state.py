"""What has been seen of the API objects, as one immutable state, and how an event changes it."""

from __future__ import annotations

from msgspec import Struct

from uproxy.core.model import Kind, KubernetesObject, ObjectKey


class Put(Struct, frozen=True, gc=False):
    """An object was added or changed."""

    obj: KubernetesObject


class Delete(Struct, frozen=True, gc=False):
    """An object is gone."""

    kind: Kind
    key: ObjectKey


class Listed(Struct, frozen=True, gc=False):
    """Every object of this kind that exists has been put: before that nothing may be concluded from absence."""

    kind: Kind


Event = Put | Delete | Listed
