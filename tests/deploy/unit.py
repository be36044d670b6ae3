"""The unit file as systemd's own tools read it, without a running systemd.

The tools are the machine's, else those that scripts/debian-tools.sh has unpacked. Nothing here starts systemd itself: in
a namespace too it would tidy up the whole machine's folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = PROJECT / "deploy" / "systemd"
UNIT: Final = FOLDER / "uproxy.service"
UNPACKED: Final = PROJECT / ".cache" / "debian"
UNITS: Final = "usr/lib/systemd/system"


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of systemd's tools to its end."""
    program, environ = tool, dict(os.environ)
    if shutil.which(tool) is None:
        program = next(str(found) for folder in ("usr/bin", "bin") if (found := UNPACKED / folder / tool).exists())
        libraries = {str(found.parent) for name in ("libsystemd*.so*", "libseccomp.so*") for found in UNPACKED.rglob(name)}
        environ["LD_LIBRARY_PATH"] = ":".join(sorted(libraries))
    environ["SYSTEMD_COLORS"] = environ["SYSTEMD_EMOJI"] = "0"
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environ, timeout=60, check=False)


def directives() -> list[tuple[str, str]]:
    """Give all settings of the unit in their order; a key may come several times."""
    lines = (line.partition("=") for line in UNIT.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] != "#")
    return [(key, value) for key, _, value in lines]


def setting(key: str) -> list[str]:
    """Give the words of all values of one key."""
    return [word for name, value in directives() if name == key for word in value.split()]


def installed(root: Path) -> Path:
    """Put the unit and what it names below root, as docs say, beside Debian's targets; give the unit's place."""
    home = next(path for path in (Path("/", UNITS), UNPACKED / UNITS, UNPACKED / "lib/systemd/system") if (path / "basic.target").exists())
    (root / UNITS).mkdir(parents=True)
    for target in home.glob("*.target"):
        shutil.copy(target, root / UNITS, follow_symlinks=True)
    program = root / setting("ExecStart")[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    place = root / "etc/systemd/system" / UNIT.name
    place.parent.mkdir(parents=True)
    shutil.copy(UNIT, place)
    return place


def exposure() -> float:
    """Give the score of systemd-analyze security: 0 is best, 10 is worst."""
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stderr
    return float(done.stdout.partition(f"exposure level for {UNIT.name}: ")[2].split()[0])


def allowed_system_calls() -> set[str]:
    """Give the system calls that the unit's SystemCallFilter= leaves."""
    groups = _groups()
    allowed: set[str] = set()
    for name, value in directives():
        if name == "SystemCallFilter":
            calls = _expand(value.lstrip("~").split(), groups)
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    members: list[str] = []
    for line in run("systemd-analyze", "syscall-filter").stdout.splitlines():
        word = line.strip()
        if word.startswith("@") and line == word:
            members = found.setdefault(word, [])
        elif word and not word.startswith("#"):
            members.append(word)
    return found


def _expand(words: Iterable[str], groups: dict[str, list[str]]) -> set[str]:
    return {call for word in words for call in (_expand(groups[word], groups) if word.startswith("@") else {word})}
