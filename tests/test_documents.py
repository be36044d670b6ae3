"""The project's own rules for texts: documents agree with the code, links lead somewhere, no machine or registry is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args, get_type_hints

import msgspec
import pytest
from msgspec import Struct

from uproxy.core.wire import WireService, WireSlice

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
NOT_OURS: Final = re.compile(r"\.(git|venv|cache|hypothesis|\w+_cache)|__pycache__|results|build|dist|.*\.egg-info")

# In pieces, so that this file does not contain what it looks for.
FORBIDDEN: Final = (
    r"(?<![\w.~-])/(?:work|root|ho" + r"me)/\w",
    r"\bpy" + r"pi\.org",
    r"\bpython" + r"hosted",
    r"\bdeb\." + r"debian",
    r"\bissue" + r" #?\d",
    r"\bpy" + r"env\b",
)
TEST_LINK: Final = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
SEMANTICS: Final = "docs/semantics.md"
PIN: Final = re.compile(r"^([a-z0-9][\w.-]*)==([^\s;]+)", re.MULTILINE)
PINNED_WITH_HASHES: Final = re.compile(r"^([a-z0-9][\w.-]*)==[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", re.MULTILINE)


def structs_in(found: object) -> Iterator[type[Struct]]:
    """Give a struct and all those in its fields, from the fields' annotations."""
    if isinstance(found, type) and issubclass(found, Struct):
        yield found
        found = tuple(get_type_hints(found).values())
    for each in found if isinstance(found, tuple) else get_args(found):
        yield from structs_in(each)


WIRES: Final = sorted({*structs_in(WireService), *structs_in(WireSlice)}, key=lambda wire: wire.__name__)
"""What is read of a Service and of an EndpointSlice."""


def texts() -> Iterator[tuple[Path, str]]:
    """Give every text file of the project, by its path in it: all but what tools make."""
    for folder, inner, names in os.walk(ROOT):
        # Whole trees are left out before they are entered: .cache holds the file systems of images.
        inner[:] = sorted(name for name in inner if not NOT_OURS.fullmatch(name))
        for path in (Path(folder, name) for name in sorted(names) if not NOT_OURS.fullmatch(name)):
            try:
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_nothing_names_a_machine_or_a_registry() -> None:
    forbidden = re.compile("|".join(FORBIDDEN))
    lines = ((path, number, line) for path, text in texts() for number, line in enumerate(text.splitlines(), start=1))
    assert [f"{path}:{number}: {line.strip()[:80]}" for path, number, line in lines if forbidden.search(line)] == []


def test_links_in_documents_lead_to_files_that_exist() -> None:
    links = [(path, target) for path, text in texts() if path.suffix == ".md" for target in LINK.findall(text) if "://" not in target]
    assert links
    assert [f"{path}: {target}" for path, target in links if not (ROOT / path.parent / target).exists()] == []


def test_every_test_that_a_document_names_exists() -> None:
    named = [(path, *link) for path, text in texts() if path.suffix == ".md" for link in TEST_LINK.findall(text)]
    assert named
    defined = {file: set(re.findall(r"^ *(?:async )?def (test_\w+)", read(file), re.MULTILINE)) for file in {file for _, _, file in named}}
    assert [f"{path}: {test} is not in {file}" for path, test, file in named if test not in defined[file]] == []


def test_every_row_and_difference_of_the_semantics_names_its_test() -> None:
    """A row without a test is a promise without a proof. The head of a table is the row above a line of dashes."""
    page = read(SEMANTICS)
    rows = re.findall(r"^\| .*$(?!\n\|---)", page, re.MULTILINE)
    differences = re.findall(r"^\* \*\*.*(?:\n  .*)*", page, re.MULTILINE)
    assert min(len(rows), len(differences)) > 0
    assert [one[:80] for one in (*rows, *differences) if not TEST_LINK.search(one)] == []


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.__name__)
def test_every_field_that_is_read_of_services_and_slices_is_in_the_semantics(wire: type[Struct]) -> None:
    page = read(SEMANTICS)
    fields = [field.encode_name for field in msgspec.structs.fields(wire)]
    assert [name for name in fields if not re.search(rf"`[^`]*\b{name}\b[^`]*`", page)] == []


@pytest.mark.parametrize("script", ["readme.py", "configuration.py", "metrics_page.py"])
def test_generated_documents_agree_with_the_code(script: str) -> None:
    done = subprocess.run([sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_locked_version_has_hashes_and_no_place_to_get_it_from(name: str) -> None:
    text = read(name)
    assert PINNED_WITH_HASHES.findall(text) == [package for package, _ in PIN.findall(text)] != []
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_development_uses_the_versions_that_users_get() -> None:
    assert set(PIN.findall(read("requirements.txt"))) <= set(PIN.findall(read("requirements-dev.txt")))


def test_make_alone_lists_every_target_with_what_it_is_for() -> None:
    targets = read("Makefile").rpartition(".PHONY:")[2].split()
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split(maxsplit=2)[1] for line in listed] == targets
