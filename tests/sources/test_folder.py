"""Which files of a folder count, how they are told from their former selves, and what is refused at the start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from uproxy.errors import UsageError
from uproxy.sources.folder import check_folder, is_manifest, read_file, scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("web.yaml", True),
        ("web.yml", True),
        ("web.json", True),
        (".web.yaml", False),
        (".#web.yaml", False),
        ("#web.yaml#", False),
        ("#web.yaml", False),
        ("web.yaml~", False),
        ("~web.yaml", False),
        (".web.yaml.swp", False),
        ("web.yaml.tmp", False),
        ("web.yaml.bak", False),
        ("4913", False),
        ("..data", False),
        ("README.md", False),
        ("web.YAML", False),
    ],
)
def test_only_manifests_count_not_hidden_files_and_editors_temporaries(name: str, *, counts: bool) -> None:
    assert is_manifest(name) is counts


def test_files_come_in_the_order_of_their_names_and_only_files_do(tmp_path: Path) -> None:
    for name in ("c.yaml", "a.yaml", "b.json", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert list(scan(str(tmp_path)).files) == ["a.yaml", "b.json", "c.yaml", "link.yaml"]


def test_a_file_with_the_same_size_and_mtime_is_still_told_from_its_former_self(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    before = scan(str(tmp_path)).files["a.yaml"]
    path.write_text("two")
    os.utime(path, ns=(10**18, 10**18))
    after = scan(str(tmp_path)).files["a.yaml"]
    assert (before.size, before.mtime_ns) == (after.size, after.mtime_ns)
    assert before != after


def test_a_file_is_read_with_the_signature_that_the_scan_gives(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"x" * 100)
    assert read_file(str(tmp_path), "a.yaml", 100) == (b"x" * 100, scan(str(tmp_path)).files["a.yaml"])


def test_a_file_beyond_the_limit_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"x" * 101)
    with pytest.raises(ValueError, match=r"is longer than 100 bytes \(manifest.maxFileBytes\)"):
        read_file(str(tmp_path), "a.yaml", 100)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_file(str(tmp_path), "pipe.yaml", 100)


def test_a_folder_that_is_none_is_the_operators_mistake_and_the_message_names_the_flag(tmp_path: Path) -> None:
    check_folder(str(tmp_path))
    with pytest.raises(UsageError, match=r"--manifests .*missing: does not exist"):
        check_folder(str(tmp_path / "missing"))
    (tmp_path / "file.yaml").write_text("")
    with pytest.raises(UsageError, match=r"--manifests .*file.yaml: is not a folder"):
        check_folder(str(tmp_path / "file.yaml"))
