"""What is kept is kept whole, and says on which machine it was found."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import programs
from bench.document import Document, read, write
from bench.programs import environment, find
from bench.results import build, machine, new_path


def document(rounds: int) -> Document:
    return Document("2026-01-02T03:04:05+00:00", {"cpus": 2}, 1.0, rounds, [4], {}, {}, complete=False)


def test_a_file_that_is_written_again_has_the_new_document_and_no_other_file_stays(tmp_path: Path) -> None:
    path = new_path("run", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), tmp_path / "made" / "for it")

    write(document(1), path)
    write(document(2), path)

    assert path.name == "run-20260102-030405.json"
    assert read(path) == document(2)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write(document(1), path)
    unwritable = document(2)
    unwritable.sections = {"scale": {"not": object()}}

    with pytest.raises(TypeError):
        write(unwritable, path)

    assert read(path) == document(1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'--enable-optimizations' '--with-lto' '--prefix=/usr/local'", "profile guided optimization, link time optimization"),
        ("'--prefix=/opt/python' '--enable-optimizations'", "profile guided optimization"),
        (
            "'--enable-shared' '--prefix=/usr' '--without-ensurepip'",
            "the distribution's (Debian's and Fedora's have profile guided optimization)",
        ),
        ("'--prefix=/usr/local'", "no profile guided optimization"),
        ("", "no profile guided optimization"),
    ],
)
def test_how_an_interpreter_was_optimized_is_told_by_what_configure_was_told(arguments: str, words: str) -> None:
    assert build(arguments) == words


def test_the_machine_is_this_one() -> None:
    found = machine()

    assert found["kernel"] == os.uname().release
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert all(found.values())


def test_an_unpacked_program_is_found_in_bin_and_in_sbin_with_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CACHE", tmp_path)
    libraries = tmp_path / "debian/usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for folder in ("bin", "sbin"):
        program = tmp_path / f"debian/usr/{folder}/only-in-{folder}"
        program.parent.mkdir(parents=True)
        program.touch()

        assert find(f"only-in-{folder}") == str(program)
        assert environment(str(program)) == {"LD_LIBRARY_PATH": str(libraries)}

    assert find("nowhere-at-all") is None
    assert environment("/usr/bin/env") == {}
