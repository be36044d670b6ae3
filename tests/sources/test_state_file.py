"""The format of the last known state: everything comes back, and nothing that is not whole or not understood does."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.states import EVERY_FIELD, GOLDEN, HEADER, many_services, one_service, state_of, written
from uproxy.core.model import (
    EndpointSlice,
    Family,
    KubernetesObject,
    Node,
    ObjectKey,
    Protocol,
    Service,
    ServiceOptions,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from uproxy.core.state import State
from uproxy.sources import state_file
from uproxy.sources.state_file import Fault, Header, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

PREAMBLE: Final = 13 + 32 + 4 + 4 + 8

names = st.text(max_size=12)
addresses = st.text("0123456789abcdef:.", max_size=20)
numbers = st.integers(0, 65535)
keys = st.builds(ObjectKey, names, names)
protocols = st.sampled_from(Protocol)
flags = st.booleans()


def several(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


seconds = st.floats(0, 2_592_000)
services = st.builds(
    Service,
    keys,
    several(addresses),
    several(st.builds(ServicePort, names, protocols, numbers, numbers)),
    several(addresses),
    st.none() | numbers,
    flags,
    several(addresses),
    several(addresses),
    flags,
    flags,
    numbers,
    st.builds(ServiceOptions, flags, seconds, numbers, seconds, numbers, seconds),
)
slices = st.builds(
    EndpointSlice,
    keys,
    keys,
    st.sampled_from(Family),
    several(st.builds(SliceEndpoint, addresses, flags, flags, flags, st.none() | names, several(names), several(names))),
    several(st.builds(SlicePort, names, protocols, numbers)),
)
nodes = st.builds(Node, names, several(addresses), several(addresses), names, flags)


def objects_of(state: State) -> tuple[KubernetesObject, ...]:
    return state_file.read(written(state))[1]


def structs_in(found: object) -> Iterator[msgspec.Struct]:
    """Give all structs inside a value, itself included."""
    if isinstance(found, msgspec.Struct):
        yield found
        found = tuple(getattr(found, name) for name in found.__struct_fields__)
    if isinstance(found, tuple):
        for each in found:
            yield from structs_in(each)


@given(st.lists(services | slices | nodes, max_size=8))
def test_every_state_comes_back_as_it_was(objects: list[KubernetesObject]) -> None:
    state = state_of(objects)
    assert state_of(objects_of(state)) == state


def test_a_state_of_many_batches_comes_back_as_it_was() -> None:
    state = many_services(3 * state_file.BATCH)
    breaths: list[None] = []
    raw = state_file.write(HEADER, state, lambda: breaths.append(None))
    assert state_of(state_file.read(raw)[1]) == state
    assert len(breaths) == 3 + 9 + 1, "Services, slices with two endpoints each, a Node"


def test_the_header_comes_back_as_it_was() -> None:
    header = Header(1.5, "knoten-ä", "")
    assert state_file.read(written(one_service(1), header))[0] == header


def test_a_model_that_changed_has_a_format_of_its_own() -> None:
    golden = (GOLDEN / f"state-{state_file.FORMAT}").read_bytes()
    batches = b"".join(struct.pack(">I", len(batch)) + batch for batch in state_file.encode(state_of(EVERY_FIELD)))
    (head_size,) = struct.unpack_from(">I", golden, 13 + 32 + 4)
    remedy = "the model's encoding changed: raise FORMAT in uproxy/sources/state_file.py, then python -m tests.sources.states"
    assert zlib.decompress(golden[PREAMBLE + head_size :]) == batches, remedy
    assert golden[PREAMBLE : PREAMBLE + head_size] == msgspec.msgpack.encode(HEADER), remedy


def test_the_golden_file_has_a_value_beside_the_default_in_every_field() -> None:
    found_structs = list(structs_in(EVERY_FIELD))
    assert {type(found) for found in found_structs} == {Service, ServicePort, ServiceOptions, EndpointSlice, SliceEndpoint, SlicePort, Node}
    for found in found_structs:
        for field in msgspec.structs.fields(found):
            assert field.required or getattr(found, field.name) != field.default, f"{type(found).__name__}.{field.name}"


@pytest.mark.parametrize("number", sorted(state_file.READABLE))
def test_every_format_that_counts_as_readable_is_read(number: int) -> None:
    header, objects = state_file.read((GOLDEN / f"state-{number}").read_bytes())
    assert header == HEADER
    assert state_of(objects).complete
    assert {str(each.key) for each in objects} == {"shop/web", "shop/web-abcde", "shop/web-fghij", "node-1"}


def test_the_present_golden_file_holds_what_it_should() -> None:
    assert state_file.read((GOLDEN / f"state-{state_file.FORMAT}").read_bytes()) == (HEADER, EVERY_FIELD)


def test_no_byte_can_change_without_being_noticed() -> None:
    raw = bytearray(written(one_service(1)))
    for place in range(len(raw)):
        for change in range(1, 256):
            raw[place] ^= change
            with pytest.raises(Unreadable):
                state_file.read(bytes(raw))
            raw[place] ^= change
    state_file.read(bytes(raw))


def test_no_byte_can_be_missing_or_too_much_without_being_noticed() -> None:
    raw = written(one_service(1))
    for length in range(len(raw)):
        with pytest.raises(Unreadable) as cut:
            state_file.read(raw[:length])
        assert cut.value.fault is Fault.DAMAGED
        assert "cut short" in cut.value.reason
    with pytest.raises(Unreadable):
        state_file.read(raw + b"\0")


@pytest.mark.parametrize(("number", "fault"), [(state_file.FORMAT + 1, Fault.NEWER), (4294967295, Fault.NEWER), (0, Fault.OLDER)])
def test_another_format_is_told_from_damage_whatever_it_holds(number: int, fault: Fault) -> None:
    with pytest.raises(Unreadable) as refused:
        state_file.read(state_file.seal(number, b"what only", b"that version knows"))
    assert refused.value.fault is fault
    assert str(number) in refused.value.reason


@pytest.mark.parametrize(
    "body",
    [
        b"not zlib",
        zlib.compress(b"abc"),
        zlib.compress(struct.pack(">I", 9) + b"\xc1"),
        zlib.compress(struct.pack(">I", 1) + b"\x90"),
        zlib.compress(struct.pack(">I", 6) + msgspec.msgpack.encode({"kind": 1})),
    ],
)
def test_a_whole_file_that_does_not_fit_its_format_is_damaged(body: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        state_file.read(state_file.seal(state_file.FORMAT, msgspec.msgpack.encode(HEADER), body))
    assert refused.value.fault is Fault.DAMAGED
    assert f"format {state_file.FORMAT}" in refused.value.reason
