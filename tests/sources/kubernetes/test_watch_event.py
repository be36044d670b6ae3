"""What a line of a watch says: keys, versions, bookmarks, trigger times, errors; nothing else passes for an event."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.documents import slice_document
from tests.sources.kubernetes import spoken
from uproxy.core.model import ObjectKey
from uproxy.sources.kubernetes.api_errors import ApiError, Garbled, Gone, ServerFailed, TooManyRequests
from uproxy.sources.kubernetes.watch_event import Bookmark, Changed, Removed, parse_event, parse_item

TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def parse(line: bytes) -> object:
    return parse_event(line, "/a/path")


def changed(document: object, kind: str = "MODIFIED") -> Changed:
    found = parse(msgspec.json.encode({"type": kind, "object": document}))
    assert isinstance(found, Changed)
    return found


def triggered(written: object) -> float:
    return changed(slice_document(resourceVersion="5", annotations={TRIGGER: written})).triggered


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_an_object_is_given_as_it_is_written(kind: str) -> None:
    found = changed(spoken.service("web", 7), kind)
    assert (found.key, found.resource_version, found.triggered) == (ObjectKey("shop", "web"), 7, 0)
    assert msgspec.json.decode(found.raw) == spoken.service("web", 7)


def test_a_deletion_names_what_is_gone() -> None:
    assert parse(spoken.deleted(spoken.service("web", 8))) == Removed(ObjectKey("shop", "web"), 8)


def test_a_node_has_no_namespace() -> None:
    assert changed({"kind": "Node", "metadata": {"name": "n1", "resourceVersion": "3"}}).key == ObjectKey("", "n1")


def test_a_bookmark_tells_the_version_and_whether_it_ends_a_streamed_list() -> None:
    assert parse(spoken.bookmark(9)) == Bookmark(9)
    assert parse(spoken.initial_events_end(9)) == Bookmark(9, initial_events_end=True)
    assert parse(spoken.bookmark(9, {"k8s.io/initial-events-end": "false"})) == Bookmark(9)


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (spoken.error(410, "Expired", "too old resource version: 1 (5)"), Gone, "gone"),
        (spoken.error(0, "Gone"), Gone, "gone"),
        (spoken.error(429, "TooManyRequests"), TooManyRequests, "too_many_requests"),
        (spoken.error(500, "InternalError", "etcdserver: no leader"), ServerFailed, "server_error"),
        (b'{"type":"ERROR","object":{}}', Garbled, "garbled"),
    ],
)
def test_an_error_event_is_raised_as_what_it_says(line: bytes, kind: type[ApiError], reason: str) -> None:
    with pytest.raises(kind) as found:
        parse(line)
    assert found.value.reason == reason


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"not JSON",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ADDED","object":{}}',
        b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1x"}}}',
        '{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"\u0661"}}}'.encode(),
        b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"-1"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"' + b"9" * 5000 + b'"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":5}}}',
        b'{"type":"RENAMED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":"\xff","resourceVersion":"1"}}}',
        spoken.added(spoken.service("web", 7))[:-20],
    ],
)
def test_what_is_no_event_is_garbled(line: bytes) -> None:
    with pytest.raises(Garbled) as found:
        parse(line)
    assert found.value.where == "/a/path"
    assert len(str(found.value)) < 500


@given(st.binary())
def test_bytes_of_any_kind_give_an_event_or_an_error_of_ours(line: bytes) -> None:
    with suppress(ApiError):
        parse(line)


@given(st.data())
def test_an_event_that_was_cut_anywhere_is_garbled(data: st.DataObject) -> None:
    line = spoken.added(spoken.service("web", 7)).strip()
    with pytest.raises(Garbled):
        parse(line[: data.draw(st.integers(0, len(line) - 1))])


def test_one_damaged_byte_anywhere_is_enough_to_believe_none_of_an_event() -> None:
    line = spoken.added(spoken.service("web", 7)).strip()
    for place in range(len(line)):
        with pytest.raises(Garbled):
            parse(line[:place] + bytes([line[place] ^ 0xFF]) + line[place + 1 :])


def test_names_in_any_script_are_read() -> None:
    found = changed(spoken.service("web", 7, annotations={"owner": "Łukasz 東京"}))
    assert msgspec.json.decode(found.raw)["metadata"]["annotations"] == {"owner": "Łukasz 東京"}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.25Z", 1767323045.25),
        ("2026-01-02T03:04:05.123456789Z", 1767323045.123457),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
    ],
)
def test_the_trigger_time_is_read_in_every_form_that_go_writes(written: str, seconds: float) -> None:
    assert triggered(written) == pytest.approx(seconds, abs=2e-6)


@pytest.mark.parametrize(
    "written", ["", "soon", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", 5, None, [], "0001-01-01T00:00:00Z"]
)
def test_a_trigger_time_that_is_none_is_passed_over(written: object) -> None:
    assert triggered(written) == 0


def test_the_trigger_time_of_a_list_says_nothing() -> None:
    item = slice_document(resourceVersion="5", annotations={TRIGGER: "2026-01-02T03:04:05Z"})
    assert parse_item(msgspec.Raw(msgspec.json.encode(item)), "/a/path").triggered == 0


@pytest.mark.parametrize("item", [b"null", b"{}", b'{"metadata":{"name":"a"}}', b'{"metadata":{"resourceVersion":"1"}}'])
def test_what_is_no_item_is_garbled(item: bytes) -> None:
    with pytest.raises(Garbled):
        parse_item(msgspec.Raw(item), "/a/path")
