"""The project's own rules for texts: documents agree with the code, links lead somewhere, no machine or registry is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

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
LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
PIN: Final = re.compile(r"^([a-z0-9][\w.-]*)==([^\s;]+)", re.MULTILINE)
PINNED_WITH_HASHES: Final = re.compile(r"^([a-z0-9][\w.-]*)==[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", re.MULTILINE)


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
