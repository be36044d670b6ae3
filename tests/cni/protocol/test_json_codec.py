"""JSON in and out, with the interpreter's own scanner and with the module json in its place."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge.protocol import json_codec
from tests.cni.plugins import ROOT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_written_is_read_again_here_and_by_others(value: json_codec.Json) -> None:
    written = json_codec.encode(value)
    assert written.isascii()
    assert "\n" not in written
    assert json.loads(written) == value
    assert json_codec.decode(written.encode()) == value


@given(st.one_of(st.binary(), st.text(alphabet='{}[]":,0123456789.eE+-truefalsn\\u \t\n').map(str.encode)))
def test_what_is_no_json_is_refused_with_valueerror_only(data: bytes) -> None:
    try:
        expected = json.loads(data.decode("utf-8", "replace").strip(" \t\r\n"))
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            json_codec.decode(data)
    else:
        assert json_codec.decode(data) == expected


# Converting 5000 digits would be refused only by interpreters with a limit on it, which is 3.11 and later.
@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "", " ", "1 2", "[" * 100_000, "9" * 5000, "\ufeff{}", '"\t"', "{'a': 1}"]
)
def test_what_json_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_codec.decode(text.encode())


def test_broken_texts_become_replacement_characters() -> None:
    assert json_codec.decode(b'["\xff", "\\ud800", {"\\udc00x": 1}, "\\ud83d\\ude00"]') == ["�", "�", {"�x": 1}, "😀"]


def test_what_has_no_form_in_json_is_a_bug() -> None:
    with pytest.raises(TypeError):
        json_codec.encode({"a": {1}})
    assert json_codec.encode([1.5, (True, None)]) == "[1.5,[true,null]]"
    assert math.isinf(json.loads(json_codec.encode(1e308 * 10).replace("inf", "Infinity")))


PROBE = """
import sys
if {missing!r}: import os, signal, socket, struct
sys.path.insert(0, {root!r})
for name in {missing!r}: sys.modules[name] = None
from cni_bridge.protocol import json_codec
from cni_bridge import addresses, fast
assert addresses.text(addresses.parse("fd00::1")) == "fd00::1"
assert fast.Struct("=I").size == 4 and fast.signal.SIGALRM and fast.socket
assert json_codec.decode(b'{{"a": [1, "\\\\u00e9"]}}') == {{"a": [1, "\\u00e9"]}}
assert json_codec.encode({{"a": [1, "\\u00e9", None, 2.5]}}) == '{{"a":[1,"\\\\u00e9",null,2.5]}}'
for text in (b"", b"[1", b"[NaN]", b"1 2"):
    try: json_codec.decode(text)
    except ValueError: continue
    raise SystemExit("accepted " + text.decode())
"""


@pytest.mark.parametrize(
    "missing", [(), ("_json",), ("_json", "_signal", "_socket", "_struct", "posix")], ids=["nothing missing", "no _json", "none of them"]
)
def test_it_does_without_the_interpreters_own_modules(missing: tuple[str, ...]) -> None:
    source = PROBE.format(root=str(ROOT), missing=missing)
    done = subprocess.run([sys.executable, "-IS", "-c", source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (done.returncode, done.stderr) == (0, "")
