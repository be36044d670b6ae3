"""The place that plugins' interpreter starts from: a start finds UTF-8 there and everything else where it always is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cni_bridge import home, interpreter, stub
from cni_bridge import install as installing
from cni_bridge.install import Place
from tests.cni.plugins import ROOT, call, variables
from tests.cni.test_interpreters import INTERPRETERS

WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cni_bridge import home
home.write(Path(sys.argv[2]), sys.argv[3])
"""
BEGUN_WITH = "import sys; print(*sys.modules); print(sys.stdout.encoding, sys.getfilesystemencoding()); print(*sys.path, sep=chr(10))"
EVERYTHING_ELSE = """
import codecs, encodings.idna, json, locale, re, subprocess, sys
assert "encodings.aliases" in sys.modules
assert "grün".encode("latin-1") == b"gr\\xfcn"
assert "grün".encode("idna") == b"xn--grn-ioa"
assert b"gr\\xfcn".decode("iso8859_15") == "grün"
assert codecs.lookup("utf-8").streamreader and codecs.lookup("utf-8").name == "utf-8"
assert encodings.normalize_encoding("utf 8") == "utf_8" and sys.modules["encodings"].__file__.endswith("encodings/__init__.py")
assert open(sys.argv[1], encoding="ascii").read() == "asked\\n"
try:
    "".encode("none such")
except LookupError:
    print(sys.stdin.read(), "ü", codecs.lookup("cp437").name)
"""


@pytest.fixture(params=list(INTERPRETERS.values()), ids=list(INTERPRETERS))
def python(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Make a home for each interpreter; give the link."""
    subprocess.run([request.param, "-ISB", "-c", WRITE, str(ROOT), str(tmp_path), request.param], check=True)
    return str(tmp_path / home.LINK)


def run(python: str, code: str, *arguments: str, stdin: str = "", **variables: str) -> str:
    done = subprocess.run([python, "-ISB", "-c", code, *arguments], input=stdin, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_start_reads_no_other_encoding_and_finds_the_interpreters_own_modules(python: str) -> None:
    loaded, encoding, first, *others = run(python, BEGUN_WITH).splitlines()
    assert "encodings" in loaded.split()
    assert {"codecs", "encodings.aliases", "encodings.utf_8"}.isdisjoint(loaded.split())
    assert encoding == "utf-8 utf-8"
    assert first == str(Path(python).parent / "start")
    assert others == run(str(Path(python).resolve()), "import os, sys; print(*filter(os.path.isdir, sys.path), sep=chr(10))").splitlines()


def test_whatever_else_is_asked_for_is_there(python: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("asked\n", encoding="ascii")
    assert run(python, EVERYTHING_ELSE, str(tmp_path / "said"), stdin="größer") == "größer ü cp437\n"


def test_a_locale_with_another_encoding_is_served_too(python: str) -> None:
    done = subprocess.run(
        [python, "-ISBXutf8=0", "-c", "import sys; print(sys.getfilesystemencoding())"],
        env={"LC_ALL": "POSIX"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() in {b"ascii", b"utf-8"}


def test_a_path_too_long_for_a_first_line_is_served_from_the_interpreters_own_place(tmp_path: Path) -> None:
    lib = tmp_path / ("l" * interpreter.LONGEST_LINE)
    place = Place(str(tmp_path / "bin"), str(lib))
    installing.install(place, interpreter.find(sys.executable))
    said = installing.installed(place)["host-local"]
    text = (place.bin / "host-local").read_text(encoding="utf-8")
    assert text.startswith(f"#!{said['python']} -ISB\n")
    answer = call((str(place.bin / "host-local"),), variables("VERSION"), "")
    assert (answer.code, answer.said["cniVersion"]) == (0, "1.1.0")


def test_the_first_line_names_the_link_and_the_second_the_interpreter(tmp_path: Path) -> None:
    text = stub.write("bridge", python="/usr/bin/python3", version="3.11.2", magic="a70d0d0a", folder=tmp_path)
    assert text.startswith(f"#!{tmp_path}/python3 -ISB\n")
    assert stub.read(text.encode()) == {
        "name": "bridge",
        "python": "/usr/bin/python3",
        "version": "3.11.2",
        "magic": "a70d0d0a",
        "folder": str(tmp_path),
    }
