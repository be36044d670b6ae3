"""Packing and reading netlink bytes, where no kernel is needed."""

from __future__ import annotations

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st

from cni_bridge.netlink import message
from cni_bridge.netlink.message import Message, NetlinkError

PAIRS = st.lists(st.tuples(st.integers(0, message.TYPE_MASK), st.binary(max_size=40)), max_size=8)


def test_a_request_is_its_header_and_its_body() -> None:
    packed = Message(18, 0, b"\1\2\3\4", "read").pack(7, message.ACK)
    assert packed == struct.pack("=IHHII", 20, 18, message.REQUEST | message.ACK, 7, 0) + b"\1\2\3\4"


@given(PAIRS)
def test_what_is_packed_as_attributes_is_read_back(pairs: list[tuple[int, bytes]]) -> None:
    assert message.attribute_list(b"".join(message.attribute(kind, payload) for kind, payload in pairs)) == pairs


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read_without_an_exception(data: bytes) -> None:
    message.attributes(data)
    for _, _, _, payload in message.split(data):
        assert len(payload) <= len(data)


def test_flag_bits_are_no_part_of_an_attribute_kind() -> None:
    assert message.attributes(message.u8(5 | message.NESTED, 1)) == {5: b"\1"}


def test_an_attribute_that_is_cut_short_is_left_out() -> None:
    assert message.attribute_list(message.u8(1, 9) + struct.pack("=HH", 12, 2) + b"\0") == [(1, b"\x09")]


def test_an_error_report_gives_number_and_the_kernels_words() -> None:
    refused = struct.pack("=IHHII", 32, 16, 5, 1, 0)
    words = message.text(1, "Device is not a bridge")
    capped = struct.pack("=i", -errno.EINVAL) + refused + words
    whole = struct.pack("=i", -errno.EINVAL) + refused + bytes(16) + words
    assert message.error_of(message.ACK_TLVS | message.CAPPED, capped) == (errno.EINVAL, "Device is not a bridge")
    assert message.error_of(message.ACK_TLVS, whole) == (errno.EINVAL, "Device is not a bridge")
    assert message.error_of(message.CAPPED, capped) == (errno.EINVAL, "")


def test_an_error_says_what_was_asked_what_the_kernel_said_and_what_errno_means() -> None:
    assert str(NetlinkError(errno.EEXIST, "create bridge cni0")) == "create bridge cni0: File exists"
    assert str(NetlinkError(errno.EINVAL, "set up", "No such port")) == "set up: No such port (Invalid argument)"
