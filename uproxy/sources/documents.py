"""The bytes of one manifest file -> its documents, decoded.

Owns finding the documents (`---` lines, JSON values one after the other), the encoding, and remembering what
was decoded from which bytes, so that one changed document among 20,000 costs one. Knows nothing of folders nor
of what an object means. Works in steps of less than a millisecond (a JSON List takes 2 ms per MB to find its
items). Invariant: a file is read whole or, when anything in it cannot be read, not at all.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from uproxy.core.decode import Decoded, decode, decode_json
from uproxy.sources.yaml_reader import Bounds, Malformed, read

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

ITEMS_PER_STEP: Final = 32
"""Items of a List decoded in one step: about 0.3 ms."""
HASHED_PER_STEP: Final = 262144
"""Bytes hashed in one step: about 0.6 ms."""

Parsed = tuple[tuple[Decoded, ...], ...]
"""What was decoded from each document in some bytes."""


class Document(Struct, frozen=True, gc=False):
    """One document of a file that holds anything: the first has number 1; line is where it begins."""

    number: int
    line: int
    decoded: tuple[Decoded, ...]


class Content(Struct, frozen=True):
    """What a file says. chunks: what came of each stretch of its bytes, by their digest."""

    documents: tuple[Document, ...] = ()
    chunks: Mapping[bytes, Parsed] = {}


class Broken(Exception):
    """A file that cannot be read: the document and line where that shows (0 for none), and what is wrong."""

    def __init__(self, reason: str, document: int = 0, line: int = 0) -> None:
        super().__init__(reason, document, line)
        self.reason = reason
        self.document = document
        self.line = line


def parse(
    raw: bytes, *, json: bool, bounds: Bounds, known: Mapping[bytes, Parsed], proxy_name: str = ""
) -> Generator[None, None, Content]:
    """Give the content of a file after any number of steps; raises Broken.

    json: whether the file's name says that it is JSON (YAML files may hold JSON too). known: Content.chunks of the
    file as it was, parsed for the same proxy_name (decode.py).
    """
    documents: list[Document] = []
    chunks: dict[bytes, Parsed] = {}
    for line, chunk in _split(raw):
        yield
        digest = yield from _digest(chunk)
        parsed = known.get(digest)
        if parsed is None:
            try:
                parsed = yield from _parse_chunk(chunk, proxy_name, json=json, bounds=bounds)
            except Malformed as error:
                raise Broken(error.reason, len(documents) + 1 + error.before, line + error.line - 1) from error
        chunks[digest] = parsed
        documents.extend([Document(number, line, decoded) for number, decoded in enumerate(parsed, start=len(documents) + 1)])
        yield
    return Content(tuple(documents), chunks)


def _digest(chunk: bytes) -> Generator[None, None, bytes]:
    state = blake2b(digest_size=16)
    for start in range(0, len(chunk), HASHED_PER_STEP):
        state.update(chunk[start : start + HASHED_PER_STEP])
        yield
    return state.digest()


_BOM: Final = b"\xef\xbb\xbf"
_SEPARATOR: Final = b"---"


def _split(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each document's bytes, its `---` included, and the line it begins in.

    A line that begins with `---` and a blank always begins a document, in quotes and block scalars too
    (YAML 1.2.2, c-forbidden), and no JSON text can hold one.
    """
    line, start = 1, len(_BOM) if raw.startswith(_BOM) else 0
    while start < len(raw):
        end = _next_separator(raw, start)
        chunk = raw[start:end]
        yield line, _without_directives(chunk)
        line += chunk.count(b"\n")
        start = end


def _next_separator(raw: bytes, start: int) -> int:
    """Find where the next document begins, or the end."""
    found = raw.find(b"\n" + _SEPARATOR, start)
    while found >= 0 and raw[found + 4 : found + 5] not in {b"", b" ", b"\t", b"\r", b"\n"}:
        found = raw.find(b"\n" + _SEPARATOR, found + 1)
    return found + 1 if found >= 0 else len(raw)


_directives: Final = re.compile(rb"(?:\A|(?<=\n)\.\.\.[^\n]*\n)((?:[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)+)\Z").search


def _without_directives(chunk: bytes) -> bytes:
    """Leave away the directives (%YAML, %TAG) that stand before the next document's `---`: they say nothing that matters here."""
    if not chunk.startswith(b"%") and b"\n%" not in chunk:
        return chunk
    match = _directives(chunk)
    return chunk[: match.start(1)] if match else chunk


def _parse_chunk(chunk: bytes, proxy_name: str, *, json: bool, bounds: Bounds) -> Generator[None, None, Parsed]:
    """Parse and decode the documents between two separators; raises Malformed with lines counted from the chunk's."""
    try:
        text = chunk.decode()
    except UnicodeDecodeError as error:
        raise Malformed(chunk.count(b"\n", 0, error.start) + 1, f"is not UTF-8 (byte {chunk[error.start]:#04x})") from error
    value = chunk.removeprefix(_SEPARATOR).lstrip()
    if json or value.startswith((b"{", b"[")):
        try:
            return (yield from _parse_json(value, proxy_name))
        except _NotJson as error:
            if json:
                before = text.count("\n", 0, len(text) - len(value.decode()))
                raise Malformed(before + error.line, error.reason, error.before) from error
    return (yield from _parse_yaml(text, bounds, proxy_name))


def _parse_yaml(text: str, bounds: Bounds, proxy_name: str) -> Generator[None, None, Parsed]:
    found: list[tuple[Decoded, ...]] = []
    for document in (yield from read(text, bounds)):
        if document is not None:
            decoded = yield from _decode_parsed(document, proxy_name)
            found.append(decoded)
    return tuple(found)


def _decode_parsed(document: Any, proxy_name: str) -> Generator[None, None, tuple[Decoded, ...]]:  # noqa: ANN401 - whatever a document holds
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or len(items) <= ITEMS_PER_STEP:
        return decode(document, proxy_name)
    found: list[Decoded] = []
    for start in range(0, len(items), ITEMS_PER_STEP):
        found += decode({**document, "items": items[start : start + ITEMS_PER_STEP]}, proxy_name)
        yield
    return tuple(found)


class _List(Struct, rename="camel", gc=False):
    """A JSON document whose items, if it has any, are left as text."""

    api_version: Raw | UnsetType = UNSET
    kind: Raw | UnsetType = UNSET
    items: Raw | UnsetType = UNSET


class _NotJson(Exception):
    """Text that is no JSON: the line where that shows, the reason, and the number of values before it that are."""

    def __init__(self, line: int, reason: str, before: int) -> None:
        super().__init__(line, reason, before)
        self.line = line
        self.reason = reason
        self.before = before


_value: Final = msgspec.json.Decoder(Raw)
_list: Final = msgspec.json.Decoder(_List)
_items: Final = msgspec.json.Decoder(list[Raw])
_one_of_many: Final = JSONDecoder().raw_decode
_after_blanks: Final = re.compile(r"[ \t\r\n]*").match


def _parse_json(value: bytes, proxy_name: str) -> Generator[None, None, Parsed]:
    """Decode a JSON value, or several that stand one after the other. Raises _NotJson."""
    try:
        _value.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return (yield from _parse_json_values(value.decode(), proxy_name))
    yield
    return ((yield from _decode_json(value, proxy_name)),)


def _parse_json_values(text: str, proxy_name: str) -> Generator[None, None, Parsed]:
    """Decode JSON values that stand one after the other, which msgspec does not do. Raises _NotJson."""
    found: list[tuple[Decoded, ...]] = []
    start = 0
    try:
        while start < len(text):
            document, end = _one_of_many(text, start)
            decoded = yield from _decode_parsed(document, proxy_name)
            found.append(decoded)
            blanks = _after_blanks(text, end)
            start = blanks.end() if blanks else end
            yield
    except JSONDecodeError as error:
        raise _NotJson(error.lineno, f"is not JSON: {error.msg} (column {error.colno})", len(found)) from error
    except RecursionError as error:
        raise _NotJson(1, "is nested too deeply", len(found)) from error
    return tuple(found)


def _decode_json(value: bytes, proxy_name: str) -> Generator[None, None, tuple[Decoded, ...]]:
    try:
        head = _list.decode(value)
        yield
        items = _items.decode(head.items) if isinstance(head.items, Raw) else []
    except (msgspec.MsgspecError, RecursionError):  # no object, or items that are no list: decode has the words for it
        return decode_json(value, proxy_name)
    if len(items) <= ITEMS_PER_STEP:
        return decode_json(value, proxy_name)
    found: list[Decoded] = []
    for start in range(0, len(items), ITEMS_PER_STEP):
        part = b"[" + b",".join(map(bytes, items[start : start + ITEMS_PER_STEP])) + b"]"
        found += decode_json(msgspec.json.encode(_List(head.api_version, head.kind, Raw(part))), proxy_name)
        yield
    return tuple(found)
