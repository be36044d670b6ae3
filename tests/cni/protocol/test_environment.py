"""CNI_ARGS, and names of containers and interfaces."""

from __future__ import annotations

import pytest

from cni_bridge.protocol.environment import Environment, is_name, parse_args
from cni_bridge.protocol.errors import CniError


def test_only_wanted_keys_are_given() -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.0.0.5"
    assert parse_args(args, ("IP",)) == {"IP": "10.0.0.5"}
    assert parse_args("", ("IP",)) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("FOO=BAR", 'ARGS: unknown args ["FOO=BAR"]'),
        ("ip=10.0.0.5;A=B", 'ARGS: unknown args ["ip=10.0.0.5" "A=B"]'),
        ("FOO=BAR;IgnoreUnknown=false", 'ARGS: unknown args ["FOO=BAR"]'),
        ("FOO", 'ARGS: invalid pair "FOO"'),
        ("IP=1=2", 'ARGS: invalid pair "IP=1=2"'),
        ("IP=1;", 'ARGS: invalid pair ""'),
        ("A=B;IgnoreUnknown=yes", 'ARGS: IgnoreUnknown="yes" is neither true nor false'),
    ],
)
def test_bad_args_are_refused_with_key_and_value(args: str, message: str) -> None:
    with pytest.raises(CniError) as refused:
        parse_args(args, ("IP",))
    assert (refused.value.code, refused.value.msg) == (4, message)


@pytest.mark.parametrize(
    ("text", "good"), [("a", True), ("0_.-", True), ("_a", False), ("", False), ("a/b", False), ("a\n", False), ("ä", False), ("a ", False)]
)
def test_names_are_made_as_the_specification_says(text: str, *, good: bool) -> None:
    assert is_name(text) is good


def test_bytes_that_are_no_utf_8_survive() -> None:
    environment = Environment({b"CNI_IFNAME": b"a\xff"})
    assert environment.ifname.encode("utf-8", "surrogateescape") == b"a\xff"
