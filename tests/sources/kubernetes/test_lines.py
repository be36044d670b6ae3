"""Cutting a stream into lines: whatever the chunks, within bounds, and in time that grows with the bytes alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uproxy.sources.kubernetes.api_errors import Garbled
from uproxy.sources.kubernetes.lines import Lines

LIMIT = 1000


def cut(*chunks: bytes, limit: int = LIMIT) -> list[bytes]:
    lines = Lines(limit, "/a/path")
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    lines.end()
    return found


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and line.strip())), st.data())
def test_the_lines_are_the_same_however_the_stream_is_cut_into_chunks(written: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    assert cut(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True))) == written


def test_a_line_is_given_with_the_chunk_that_ends_it() -> None:
    lines = Lines(LIMIT, "/a/path")
    assert list(lines.feed(b"a\nb")) == [b"a"]
    assert list(lines.feed(b"c")) == []
    assert list(lines.feed(b"\n")) == [b"bc"]


def test_empty_lines_are_left_out() -> None:
    assert cut(b"\n\r\na\n\n") == [b"a"]


def test_a_stream_that_ends_within_a_line_is_garbled() -> None:
    with pytest.raises(Garbled, match=r"ended within a line \(\{\"type\"\): /a/path"):
        cut(b'whole\n{"type"')


def test_lines_before_one_that_is_too_long_are_given() -> None:
    lines = Lines(10, "/a/path")
    found = lines.feed(b"short\n" + 11 * b"x")
    assert next(found) == b"short"
    with pytest.raises(Garbled, match=r"longer than 10 bytes.*maxLineBytes"):
        next(found)


@pytest.mark.parametrize("chunks", [[11 * b"x" + b"\n"], [6 * b"x", 6 * b"x"], [6 * b"x", 5 * b"x" + b"\n"]], ids=["one", "two", "ended"])
def test_a_line_that_is_too_long_is_garbled_as_soon_as_that_is_known(chunks: list[bytes]) -> None:
    lines = Lines(10, "/a/path")
    with pytest.raises(Garbled):
        [list(lines.feed(chunk)) for chunk in chunks]


def test_a_line_of_exactly_the_limit_is_given() -> None:
    assert cut(10 * b"x" + b"\n", limit=10) == [10 * b"x"]


def test_a_line_of_megabytes_in_small_chunks_costs_no_more_than_its_bytes() -> None:
    def seconds(megabytes: int) -> float:
        started = time.thread_time()
        assert len(cut(*([b"x" * 1024] * (1024 * megabytes)), b"\n", limit=2**26)[0]) == megabytes * 2**20
        return time.thread_time() - started

    best = min(seconds(2) for _ in range(3))
    assert min(seconds(16) for _ in range(3)) < 40 * best  # eight times the bytes; squared it would be 64
