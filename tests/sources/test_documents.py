"""A file's bytes become documents: separators, encodings, JSON, Lists, and remembering what did not change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.sources.stepping import count_steps, finish
from uproxy.core.decode import Skipped
from uproxy.core.model import EndpointSlice, Node, ObjectKey, Refusal, Service
from uproxy.sources.documents import Broken, Content, parse
from uproxy.sources.yaml_reader import Bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uproxy.sources.documents import Parsed

BOUNDS = Bounds(nodes=1_000_000, depth=64)


def service(name: str, address: str = "10.96.0.1") -> dict[str, object]:
    """Make a Service's document."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    }


def yaml_service(name: str, address: str = "10.96.0.1") -> str:
    """Make a Service's document as YAML."""
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"


def content(text: str | bytes, *, is_json: bool = False, known: Mapping[bytes, Parsed] | None = None) -> Content:
    raw = text.encode() if isinstance(text, str) else text
    return finish(parse(raw, json=is_json, bounds=BOUNDS, known=known or {}))


def names(found: Content) -> list[tuple[int, str]]:
    """Give each Service's document number and name."""
    return [(document.number, each.key.name) for document in found.documents for each in document.decoded if isinstance(each, Service)]


def broken(text: str | bytes, *, is_json: bool = False) -> Broken:
    with pytest.raises(Broken) as refused:
        content(text, is_json=is_json)
    return refused.value


def test_documents_are_numbered_and_empty_ones_are_not_counted() -> None:
    text = f"# a licence\n---\n---\n{yaml_service('a')}---\n# nothing\n--- # with a comment\n{yaml_service('b')}...\n"
    found = content(text)
    assert names(found) == [(1, "a"), (2, "b")]
    assert [document.line for document in found.documents] == [3, 10]


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"---\n", b"# only a comment\n", b"\xef\xbb\xbf", b"---\n---\n...\n"])
def test_a_file_without_documents_is_fine(raw: bytes) -> None:
    assert content(raw).documents == ()


def test_separators_end_documents_wherever_they_stand_and_only_as_lines_of_their_own() -> None:
    text = f"note: |\n  --- not here\n---text: neither\n--- {json.dumps(service('a'))}\n---\t\n{yaml_service('b')}"
    with pytest.raises(Broken):
        content("note: |\n  x\n---text: [\n")
    assert names(content(text.replace("---text: neither\n", "")))[0] == (2, "a")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    text = f"{yaml_service('a')}---\n{yaml_service('b')}".replace("\n", "\r\n")
    assert names(content(b"\xef\xbb\xbf" + text.encode())) == [(1, "a"), (2, "b")]


def test_directives_before_a_document_are_passed_over() -> None:
    text = f"%YAML 1.2\n# why\n---\n{yaml_service('a')}...\n%YAML 1.1\n%TAG ! tag:example.com,2000:\n---\n{yaml_service('b')}"
    assert names(content(text)) == [(1, "a"), (2, "b")]


def test_a_percent_sign_within_a_document_is_no_directive() -> None:
    text = f"{yaml_service('a')}---\nkind: ConfigMap\napiVersion: v1\ndata:\n  x: |\n    a\n%\n"
    assert broken(text).document == 2


@pytest.mark.parametrize(
    ("raw", "document", "line", "reason"),
    [
        (f"{yaml_service('a')}---\n{yaml_service('b')}---\nkind: [\n".encode(), 3, 12, "flow"),
        (f"{yaml_service('a')}---\nkind: Service\nkind: Service\n".encode(), 2, 7, "duplicate key 'kind'"),
        (b"kind: Service\nname: \xff\n", 1, 2, "is not UTF-8 (byte 0xff)"),
        (yaml_service("a").encode("utf-16"), 1, 1, "is not UTF-8"),
        (yaml_service("a").encode("utf-16-le"), 1, 1, "control characters"),
    ],
)
def test_a_file_that_cannot_be_read_says_in_which_document_and_line(raw: bytes, document: int, line: int, reason: str) -> None:
    refused = broken(raw)
    assert (refused.document, refused.line) == (document, line)
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("text", "document", "line"),
    [
        ('{\n"kind": }', 1, 2),
        ('{\n"kind": 1', 1, 2),
        ('{"kind": "A", "apiVersion": "v1"}\n{"kind": }', 2, 2),
        ("kind: Service\n", 1, 1),
        ("[" * 100_000, 1, 1),
    ],
)
def test_a_json_file_that_is_none_says_where(text: str, document: int, line: int) -> None:
    refused = broken(text, is_json=True)
    assert (refused.document, refused.line) == (document, line)


def test_json_may_hold_one_document_several_or_a_list() -> None:
    one, two = json.dumps(service("a")), json.dumps(service("b"), indent=2)
    assert names(content(one, is_json=True)) == [(1, "a")]
    assert names(content(f"{one}\n{two}\n", is_json=True)) == [(1, "a"), (2, "b")]
    assert names(content(f"{one}{two}", is_json=True)) == [(1, "a"), (2, "b")]
    assert names(content(f"{one}\n---\n{two}\n", is_json=True)) == [(1, "a"), (2, "b")]
    both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [service("a"), service("b")]})
    assert names(content(both, is_json=True)) == [(1, "a"), (1, "b")]


def test_a_yaml_file_may_hold_json_and_flow_style_that_is_none() -> None:
    flow = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}"
    assert names(content(f"{json.dumps(service('a'))}\n---\n{flow}\n")) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("kind", ["List", "ServiceList"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_long_list_gives_every_item_in_order_and_in_short_steps(kind: str, *, as_json: bool) -> None:
    items = [service(f"s{index}") for index in range(1_000)]
    if kind == "ServiceList":
        for item in items:
            del item["kind"], item["apiVersion"]
    document = {"apiVersion": "v1", "kind": kind, "items": items}
    text = json.dumps(document) if as_json else "# YAML\n" + json.dumps(document)
    found = content(text, is_json=as_json)
    assert names(found) == [(1, f"s{index}") for index in range(1_000)]
    number, longest = count_steps(parse(text.encode(), json=as_json, bounds=BOUNDS, known={}))
    assert number > 25
    assert longest < 0.02


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null", '{"items": 3, "kind": "List", "apiVersion": "v1"}', '[{"kind": "Service"}]'])
def test_a_document_that_is_no_object_is_refused_by_itself(text: str) -> None:
    found = content(f"{text}\n---\n{yaml_service('a')}")
    assert [name for _, name in names(found)] == ["a"]
    others = [each for document in found.documents for each in document.decoded if not isinstance(each, Service)]
    assert all(isinstance(each, Refusal) for each in others)


def test_all_kinds_that_matter_are_decoded_and_others_named() -> None:
    text = (
        "kind: Node\napiVersion: v1\nmetadata: {name: n}\n---\n"
        "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\naddressType: IPv4\n"
        "metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]\n---\n"
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: d}\n"
    )
    node, endpoints, other = (document.decoded[0] for document in content(text).documents)
    assert isinstance(node, Node)
    assert isinstance(endpoints, EndpointSlice)
    assert isinstance(other, Skipped)
    assert other.key == ObjectKey("default", "d")


def test_what_did_not_change_is_not_parsed_again() -> None:
    before = content(f"{yaml_service('a')}---\n{yaml_service('b')}---\n{yaml_service('c')}")
    after = content(f"{yaml_service('x')}---\n{yaml_service('b')}---\n{yaml_service('c')}", known=before.chunks)
    assert names(after) == [(1, "x"), (2, "b"), (3, "c")]
    kept = [later.decoded is former.decoded for former, later in zip(before.documents, after.documents, strict=True)]
    assert kept == [False, True, True]


def test_what_is_gone_is_not_remembered() -> None:
    before = content(f"{yaml_service('a')}---\n{yaml_service('b')}")
    after = content(yaml_service("a"), known=before.chunks)
    assert len(before.chunks) == 2
    assert list(after.chunks) == list(before.chunks)[:1]
