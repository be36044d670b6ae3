"""YAML as Kubernetes reads it, its traps, and the bounds on what a text may unfold to."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.stepping import count_steps, finish
from uproxy.sources import yaml_reader
from uproxy.sources.yaml_reader import Bounds, Malformed, read

BOUNDS = Bounds(nodes=10_000, depth=20)


def documents(text: str, bounds: Bounds = BOUNDS) -> list[Any]:
    return finish(read(text, bounds))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("80", 80),
        ("-1", -1),
        ("+7", 7),
        ("0", 0),
        ("010", 8),
        ("0o10", 8),
        ("0x1F90", 8080),
        ("0b11", 3),
        ("1_000", 1000),
        ("08", 8.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("on", True),
        ("No", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("fd00::1", "fd00::1"),
        ("10.96.0.1", "10.96.0.1"),
        ("0x", "0x"),
        ("1" * 41, "1" * 41),
        (".inf", ".inf"),
        ("'80'", "80"),
        ('"on"', "on"),
        ("!!str 80", "80"),
        ("!!int '80'", 80),
    ],
)
def test_a_scalar_means_what_it_means_to_kubectl(written: str, value: object) -> None:
    (found,) = documents(f"key: {written}\n")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert documents("on: 1\n80: 2\n2024-01-01: 3\n") == [{"on": 1, "80": 2, "2024-01-01": 3}]


def test_documents_are_told_apart_and_empty_ones_are_none() -> None:
    assert documents("a: 1\n---\n---\n- b\n...\n") == [{"a": 1}, None, ["b"]]


def test_an_anchor_gives_its_value_again_and_merge_keys_take_it_over() -> None:
    (found,) = documents("base: &base {x: 1, y: 2}\nsame: *base\nmore: {<<: *base, x: 3}\nmost: {<<: [*base, {x: 9, z: 4}]}\n")
    assert found["same"] == {"x": 1, "y": 2}
    assert found["more"] == {"x": 3, "y": 2}
    assert found["most"] == {"x": 1, "y": 2, "z": 4}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a'"),
        ("a:\n  b: [1, 2\n", 3, "did not find expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, "found a tab character"),
        ("a: *nothing\n", 1, "the alias *nothing stands for nothing"),
        ("&a [*a]\n", 1, "or for what it is in"),
        ("a: !!python/object:os.system x\n", 1, "is not known here"),
        ("a: !Ref x\n", 1, "is not known here"),
        ("a: !!set {x}\n", 1, "is not known here"),
        ("a: !!int x\n", 1, "is not what its tag says"),
        ("a: !!int on\n", 1, "is not what its tag says"),
        ("\n? [a]\n: b\n", 2, "cannot be a key"),
        ("? {a: b}\n: b\n", 1, "cannot be a key"),
        ("a: &a [1]\n*a : 2\n", 2, "a key must be text"),
        ("a: 1\n<<: 5\n", 2, "<< takes a map"),
        ("a: \x01\n", 1, "control characters are not allowed"),
        ("a: 1\nb: \x07\n", 2, "control characters are not allowed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line_and_the_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        documents(text)
    assert refused.value.line == line
    assert reason in refused.value.reason


def test_a_refusal_tells_how_many_documents_before_it_are_good() -> None:
    with pytest.raises(Malformed) as refused:
        documents("a: 1\n---\nb: 2\n---\nc: [\n")
    assert refused.value.before == 2


def test_a_yaml_bomb_is_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 30))
    with pytest.raises(Malformed, match="comes to more than 10000 values"):
        documents(bomb)


def test_a_bomb_of_merge_keys_is_refused_too() -> None:
    wide = ", ".join(f"k{index}: 1" for index in range(100))
    bomb = f"base: &base {{{wide}}}\nlist:\n" + "".join("- {<<: [" + ", ".join(["*base"] * 10) + "]}\n" for _ in range(20))
    with pytest.raises(Malformed, match="comes to more than 10000 values"):
        documents(bomb)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(Malformed, match="nested deeper than 20 levels"):
        documents("[" * 100_000)


def test_bounds_hold_for_each_document_not_for_all_together() -> None:
    text = "---\n" + "- x\n" * 6_000
    assert len(documents(text * 3)) == 3


def test_a_large_document_is_read_in_many_short_steps() -> None:
    text = "items:\n" + "- {name: a, port: 80}\n" * 5_000
    number, longest = count_steps(read(text, Bounds(nodes=100_000, depth=20)))
    assert number > 300
    assert longest < 0.02


def test_documents_leave_nothing_for_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    builders: list[weakref.ref[Any]] = []

    class Watched(yaml_reader._Builder):
        def __init__(self, bounds: Bounds) -> None:
            super().__init__(bounds)
            builders.append(weakref.ref(self))

    monkeypatch.setattr(yaml_reader, "_Builder", Watched)
    gc.disable()
    try:
        documents("a: &a {b: [1, 2]}\nc: {<<: *a}\n")
        assert [builder() for builder in builders] == [None]
    finally:
        gc.enable()


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(plain_values)
def test_what_a_yaml_library_writes_is_read_back(value: object) -> None:
    written = yaml.dump(value, Dumper=yaml.CSafeDumper, allow_unicode=True)
    assert documents(written, Bounds(nodes=100_000, depth=100)) == [value]


@given(st.text(alphabet="ab:- \n[]{}&*!|>'\"#,?%@<~0\t\\", max_size=60))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        documents(text)
    except Malformed as error:
        refused = error
    else:
        return
    assert refused.line >= 1
    assert refused.reason
