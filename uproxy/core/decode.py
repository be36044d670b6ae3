"""Kubernetes objects as JSON or as a parsed document -> the model, or the reason why not.

Owns finding the objects in a document (lists in lists included) and giving each to the decoder of its
kind; knows no field's rules. Invariant: never raises, whatever the input; each object gives a model
object, a Skipped or a Refusal of its own, and Refusals for the parts that are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from uproxy.core.decode_endpoints import node_of, slice_of
from uproxy.core.decode_service import service_of
from uproxy.core.model import Kind, ObjectKey, Refusal
from uproxy.core.reading import Bad, Decoded, Reading, Skipped, key_of, subject_of
from uproxy.core.wire import UNREADABLE, WireEndpoint, WireMeta, WireNode, WireService, WireSlice, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Decoded", "Skipped", "decode", "decode_item", "decode_json", "subject_of"]


class _Kind(NamedTuple):
    """How objects of one kind are decoded."""

    kind: Kind
    wire: type[Any]
    build: Callable[[Any, WireMeta, Reading], Decoded]


_KINDS: Final = {
    ("v1", "Service"): _Kind(Kind.SERVICE, WireService, service_of),
    ("discovery.k8s.io/v1", "EndpointSlice"): _Kind(Kind.ENDPOINT_SLICE, WireSlice, slice_of),
    ("v1", "Node"): _Kind(Kind.NODE, WireNode, node_of),
}
_BY_KIND: Final = {known.kind: known for known in _KINDS.values()}
_READ: Final = "v1 Service, discovery.k8s.io/v1 EndpointSlice and v1 Node"
_NOWHERE: Final = ObjectKey("", "")


def decode(document: object, proxy_name: str = "") -> tuple[Decoded, ...]:
    """Decode a parsed YAML or JSON document: one object, a List, or nothing (an empty YAML document).

    proxy_name: the value of the label service.kubernetes.io/service-proxy-name that gives Services to us; "": none.
    """
    return () if document is None else tuple(_flatten(document, _ParsedForm(), proxy_name))


def decode_json(raw: bytes, proxy_name: str = "") -> tuple[Decoded, ...]:
    """Decode the JSON text of one object or a List, in less time than parsing and decode() take."""
    return tuple(_flatten(raw, _JSON, proxy_name))


def decode_item(raw: bytes | Raw, kind: Kind, proxy_name: str = "") -> tuple[Decoded, ...]:
    """Decode the JSON text of one object of a kind that is known: an API server's list does not repeat it in its items.

    The first is the object, Skipped or a Refusal; Refusals of parts may follow.
    """
    return tuple(_decode_known(raw, _BY_KIND[kind], _JSON, proxy_name))


class _Head(Struct, rename="camel", gc=False):
    """What tells the kind of a parsed document."""

    api_version: object = None
    kind: object = None
    items: object = UNSET


class _JsonHead(Struct, rename="camel", gc=False):
    """What tells the kind of a JSON document, with its items left as text."""

    api_version: object = None
    kind: object = None
    items: Raw | UnsetType = UNSET


class _Form(Protocol):
    """A form that objects come in. All methods raise UNREADABLE."""

    def head(self, document: Any) -> _Head | _JsonHead:  # noqa: ANN401 - the form's own documents
        """Read what tells the kind."""

    def items(self, head: Any) -> list[Any]:  # noqa: ANN401 - the form's own documents
        """Give the documents in a List."""

    def read(self, document: Any, wire: type[Any]) -> Any:  # noqa: ANN401 - an instance of wire, which is not known here
        """Read the fields that matter."""

    def parsed(self, document: Any) -> object:  # noqa: ANN401 - the form's own documents
        """Give all of it as dictionaries and lists."""


class _ParsedForm:
    """Dictionaries and lists, as a YAML parser gives them."""

    def head(self, document: object) -> _Head:
        return msgspec.convert(document, _Head)

    def items(self, head: _Head) -> list[object]:
        return msgspec.convert(head.items, list[object] | None) or []

    def read(self, document: object, wire: type[Any]) -> Any:  # noqa: ANN401 - an instance of wire
        return msgspec.convert(document, wire)

    def parsed(self, document: object) -> object:
        return document


class _JsonForm:
    """JSON text."""

    _head: Final = msgspec.json.Decoder(_JsonHead)
    _items: Final = msgspec.json.Decoder(list[Raw] | None)
    _wires: Final = {kind.wire: msgspec.json.Decoder(kind.wire) for kind in _KINDS.values()}

    def head(self, document: bytes | Raw) -> _JsonHead:
        return self._head.decode(document)

    def items(self, head: _JsonHead) -> list[Raw]:
        return self._items.decode(head.items) or []  # type: ignore[arg-type]  # only asked for where items are

    def read(self, document: bytes | Raw, wire: type[Any]) -> Any:  # noqa: ANN401 - an instance of wire
        return self._wires[wire].decode(document)

    def parsed(self, document: bytes | Raw) -> object:
        return msgspec.json.decode(document)


_JSON: Final = _JsonForm()


def _flatten(document: object, form: _Form, proxy_name: str) -> Iterator[Decoded]:
    """Go through Lists, without recursion, for they may be nested as deeply as somebody likes."""
    pending: list[tuple[Any, str, str]] = [(document, "", "")]
    while pending:
        part, version, kind = pending.pop()
        try:
            head = form.head(part)
            items = None if head.items is UNSET else form.items(head)
        except UNREADABLE as error:
            yield Refusal(kind or "document", *explain(error))
            continue
        version, kind = _text(head.api_version) or version, _text(head.kind) or kind
        if items is not None and kind.endswith("List"):
            inherited = ("", "") if kind == "List" else (version, kind.removesuffix("List"))
            pending.extend((item, *inherited) for item in reversed(items))
        else:
            yield from _decode_object(part, version, kind, form, proxy_name)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _decode_object(document: object, version: str, kind: str, form: _Form, proxy_name: str) -> Iterator[Decoded]:
    known = _KINDS.get((version, kind))
    if known is not None:
        yield from _decode_known(document, known, form, proxy_name)
    elif not version or not kind:
        missing = "apiVersion" if kind else "kind"
        yield Refusal(kind or "document", missing, f"is missing: {_READ} are read")
    else:
        group, slash, _ = version.partition("/")
        key = _likely_key(form, document)
        yield Skipped(f"{kind}.{group}" if slash else kind, key, f"{kind} ({version}) is not read: {_READ} are")


def _decode_known(document: object, known: _Kind, form: _Form, proxy_name: str) -> Iterator[Decoded]:
    namespaced = known.kind is not Kind.NODE
    refusals: list[Refusal] = []
    try:
        try:
            wire = form.read(document, known.wire)
        except UNREADABLE:
            wire, refusals = _salvage(form.parsed(document), known)
        meta = wire.metadata or WireMeta()
        reading = Reading(known.kind, key_of(meta, namespaced=namespaced), proxy_name)
        yield known.build(wire, meta, reading)
    except UNREADABLE as error:
        yield Refusal(_likely_subject(form, document, known.kind), *explain(error))
    except Bad as bad:
        yield Refusal(_likely_subject(form, document, known.kind), bad.field, bad.reason)
    else:
        yield from refusals
        yield from reading.refusals


def _salvage(document: object, known: _Kind) -> tuple[Any, list[Refusal]]:
    """Read an object of which something has a wrong type once more, without the endpoints that do not fit. Raises UNREADABLE."""
    endpoints = document.get("endpoints") if isinstance(document, dict) else None
    if known.kind is not Kind.ENDPOINT_SLICE or not isinstance(endpoints, list):
        return msgspec.convert(document, known.wire), []
    wire = msgspec.convert({**document, "endpoints": None}, known.wire)  # type: ignore[dict-item]  # a dict, or endpoints were none
    subject = subject_of(known.kind, _key_in(document))
    refusals: list[Refusal] = []
    wire.endpoints = []
    for index, endpoint in enumerate(endpoints):
        try:
            wire.endpoints.append(msgspec.convert(endpoint, WireEndpoint | None))
        except UNREADABLE as error:
            wire.endpoints.append(None)
            refusals.append(Refusal(subject, *explain(error, f"endpoints[{index}]")))
    return wire, refusals


def _likely_subject(form: _Form, document: object, kind: Kind) -> str:
    key = _likely_key(form, document)
    if not key.name:
        return f"{kind} without a name"
    return subject_of(kind, ObjectKey("", key.name) if kind is Kind.NODE else key)


def _likely_key(form: _Form, document: object) -> ObjectKey:
    """Give the key of an object that could not be read, as far as it can be told."""
    try:
        return _key_in(form.parsed(document))
    except UNREADABLE:
        return _NOWHERE


def _key_in(parsed: object) -> ObjectKey:
    meta = parsed.get("metadata") if isinstance(parsed, dict) else None
    if not isinstance(meta, dict):
        return _NOWHERE
    return ObjectKey(_text(meta.get("namespace")) or "default", _text(meta.get("name")))
