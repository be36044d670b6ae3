"""One line of a watch, or one item of a list -> what it says, as far as one can tell without reading the object.

Owns metadata: keys, resourceVersions, bookmarks, the trigger time. Pure; must not know objects' other fields, which
core.decode reads from `raw`. A resourceVersion is a number here: they have always been etcd's revisions, and are
promised to be comparable since Kubernetes 1.35 (KEP-5504); what is none is Garbled.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from uproxy.core.model import ObjectKey
from uproxy.sources.kubernetes.api_errors import Garbled, excerpt, from_error_event

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Changed(Struct, frozen=True, gc=False):
    """An object as it is now. raw: its JSON text; triggered: as in core.state.Put."""

    key: ObjectKey
    resource_version: int
    raw: Raw
    triggered: float = 0.0


class Removed(Struct, frozen=True, gc=False):
    """An object that is gone, or that the selectors do not select any more."""

    key: ObjectKey
    resource_version: int


class Bookmark(Struct, frozen=True, gc=False):
    """Everything up to resource_version has been sent. initial_events_end: so has all that a streamed list holds."""

    resource_version: int
    initial_events_end: bool = False


WatchEvent = Changed | Removed | Bookmark


class _Annotations(Struct, gc=False):
    """The annotations that matter; values of a wrong type are passed over."""

    triggered: object = msgspec.field(name="endpoints.kubernetes.io/last-change-trigger-time", default=None)
    initial_events_end: object = msgspec.field(name="k8s.io/initial-events-end", default=None)


_NONE: Final = _Annotations()


class _Metadata(Struct, rename="camel", gc=False):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: _Annotations | None = None


class _Object(Struct, gc=False):
    metadata: _Metadata


class _Line(Struct, gc=False):
    type: str
    object: Raw


_decode_line: Final = msgspec.json.Decoder(_Line).decode
_decode_object: Final = msgspec.json.Decoder(_Object).decode


def check_text(text: bytes) -> None:
    """Raise UnicodeError for what is not UTF-8 throughout, as JSON is (RFC 8259, 8.1). 0.1 ms per MB of ASCII, 1 ms of anything else.

    The decoders look at the strings that they need alone: a key with a damaged byte in it would be a field that nobody
    knows, and its object another one than the server's until it changes the next time.
    """
    if not text.isascii():
        text.decode()


def parse_event(line: bytes, where: str) -> WatchEvent:
    """Read a line of a watch; where: what is read, for errors.

    Raises what an ERROR event says (Gone, TooManyRequests, ServerFailed ...), and Garbled.
    """
    try:
        check_text(line)
        envelope = _decode_line(line)
        if envelope.type == "ERROR":
            raise from_error_event(bytes(envelope.object), where)
        meta = _decode_object(envelope.object).metadata
    except _UNREADABLE as error:
        raise Garbled(f"a line of a watch cannot be read ({error}: {excerpt(line)})", where) from None
    version = parse_version(meta.resource_version, where)
    if envelope.type in {"ADDED", "MODIFIED"}:
        return Changed(_key(meta, where), version, envelope.object, _triggered(meta))
    if envelope.type == "DELETED":
        return Removed(_key(meta, where), version)
    if envelope.type == "BOOKMARK":
        return Bookmark(version, initial_events_end=(meta.annotations or _NONE).initial_events_end == "true")
    raise Garbled(f"a watch says {excerpt(envelope.type.encode())!r}, which is no event", where)


def parse_item(raw: Raw, where: str) -> Changed:
    """Read an item of a list, whose trigger time says nothing: it was listed, not changed. Raises Garbled."""
    try:
        meta = _decode_object(raw).metadata
    except _UNREADABLE as error:
        raise Garbled(f"an item of a list cannot be read ({error}: {excerpt(bytes(raw))})", where) from None
    return Changed(_key(meta, where), parse_version(meta.resource_version, where), raw)


_LONGEST_VERSION: Final = 20
"""Digits of the largest number that etcd's revisions can reach."""


def parse_version(text: str, where: str) -> int:
    """Read a resourceVersion. Raises Garbled."""
    if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_VERSION:
        return int(text)
    raise Garbled(f"the resourceVersion {excerpt(text.encode('utf-8', 'replace'))!r} is no number", where)


def _key(meta: _Metadata, where: str) -> ObjectKey:
    if not meta.name:
        raise Garbled("an object has no name", where)
    return ObjectKey(meta.namespace, meta.name)


def _triggered(meta: _Metadata) -> float:
    """Read the trigger time as Unix seconds; 0.0 for none, and for one that is no RFC 3339 date with an offset.

    https://kubernetes.io/docs/reference/labels-annotations-taints/#endpoints-kubernetes-io-last-change-trigger-time
    """
    written = meta.annotations.triggered if meta.annotations else None
    if not isinstance(written, str):
        return 0.0
    try:
        moment = msgspec.convert(written, datetime)
    except _UNREADABLE:
        return 0.0
    return max(0.0, moment.timestamp()) if moment.tzinfo else 0.0
