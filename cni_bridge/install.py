"""Putting the plugins on a node, and taking them away again.

Owns two folders: in one the executables that runtimes look for, in the other, below a folder per installation, modules and
byte code. Invariant: at every moment each executable is a whole one with whole modules. Modules are written first, below
a new name; executables are renamed into place; the modules that executables used until now stay until the next installation,
for processes that have begun to start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cni_bridge import stub
from cni_bridge.executable import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_bridge.interpreter import Interpreter

SOURCES: Final = Path(__file__).parent
BIN_DIR: Final = "/opt/cni/bin"
LIB_DIR: Final = "/opt/cni/lib/cni_bridge"
REPLACED: Final = "replaced"
"""The folder, beside those of installations, of executables that were there first: uninstalling puts them back."""
_FOLDER_MODE, _PROGRAM_MODE, _FILE_MODE = 0o755, 0o755, 0o644
_NOT_IN_PATHS: Final = "'\"\\\n\r\0"
_UNFINISHED: Final = ".{}.cni_bridge-unfinished"
_COMPILE: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cni_bridge import bundle, home
for name in sys.argv[3:]:
    bundle.write(name, Path(sys.argv[1]))
home.write(Path(sys.argv[1]), sys.argv[2])
"""


class Unsuitable(Exception):
    """A folder that nothing can be installed into; the message names it and the reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the plugins are: absolute paths as the node knows them, and the node's root folder as this process sees it."""

    bin_dir: str = BIN_DIR
    lib_dir: str = LIB_DIR
    root: str = ""

    def __post_init__(self) -> None:
        for path in (self.bin_dir, self.lib_dir):
            if not path.startswith("/") or any(character in _NOT_IN_PATHS for character in path):
                raise Unsuitable(f"{path!r} is no absolute path, or one with quotes, backslashes or line ends")

    @property
    def bin(self) -> Path:
        """Where this process finds the executables."""
        return Path(self.root + self.bin_dir)

    @property
    def lib(self) -> Path:
        """Where this process finds the installations."""
        return Path(self.root + self.lib_dir)


def plugins() -> list[str]:
    """List the plugins there are."""
    return sorted(VERBS)


def digest() -> str:
    """Give a name for this version of the plugins, from their sources."""
    whole = hashlib.sha256()
    for path in _sources():
        whole.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def install(place: Place, python: Interpreter) -> list[str]:
    """Install every plugin and give their names. Raises OSError, Unsuitable and interpreter.Unusable; then all is as it was.

    An executable of somebody else's with a plugin's name is kept in the folder `replaced`.
    """
    for folder in (place.bin, place.lib):
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    with _locked(place.lib):
        former = {Path(found["folder"]).name for found in installed(place).values()}
        generation = f"{digest()}-{secrets.token_hex(3)}"
        try:
            _write_modules(place, generation, python)
        except BaseException:
            shutil.rmtree(place.lib / generation, ignore_errors=True)
            raise
        names = plugins()
        for name in names:
            _write_executable(place, generation, name, python)
        _remove_generations(place, keep={generation, *former})
    return names


def uninstall(place: Place) -> list[str]:
    """Remove what `install` put there, and put back what it replaced; give the plugins' names. Raises OSError."""
    if not place.lib.is_dir():
        return []
    with _locked(place.lib):
        names = sorted(installed(place))
        for name in names:
            _remove_executable(place, name)
        _remove_generations(place, keep=set())
        replaced = place.lib / REPLACED
        if replaced.is_dir() and not any(replaced.iterdir()):
            replaced.rmdir()
        if not any(place.lib.iterdir()):
            place.lib.rmdir()
    return names


def installed(place: Place) -> dict[str, dict[str, str]]:
    """Give what the executables of ours say of themselves, by name: see `stub.read`."""
    found = {path.name: _read(path) for path in sorted(place.bin.iterdir())} if place.bin.is_dir() else {}
    return {name: said for name, said in found.items() if said}


def _read(path: Path) -> dict[str, str] | None:
    """Read an executable's head; None when it is none of ours."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        said = stub.read(file.read(stub.HEAD_BYTES))
    return said if said and said["name"] == path.name else None


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _write_modules(place: Place, generation: str, python: Interpreter) -> None:
    """Copy the package, and have the interpreter that will run it compile it."""
    folder = place.lib / generation
    for source in _sources():
        target = folder / SOURCES.name / source.relative_to(SOURCES)
        target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        _write(target, source.read_bytes(), _FILE_MODE)
    python.run(_COMPILE, f"{place.lib_dir}/{generation}", python.path, *plugins())
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():  # the interpreter's own mode is not ours to change
            path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)
    for name in plugins():
        _sync(folder / f"{name}.bundle")
    _sync(folder)


def _write_executable(place: Place, generation: str, name: str, python: Interpreter) -> None:
    version = ".".join(map(str, python.version))
    folder = Path(place.lib_dir) / generation
    text = stub.write(name, python=python.path, version=version, magic=python.magic, folder=folder)
    target = place.bin / name
    if target.exists() and _read(target) is None:
        _keep(target, place.lib / REPLACED)
    _put(target, text.encode(), _PROGRAM_MODE)


def _keep(found: Path, folder: Path) -> None:
    """Copy what is replaced: a rename would leave a moment without the plugin."""
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    unfinished = folder / _UNFINISHED.format(found.name)
    shutil.copy2(found, unfinished)
    _sync(unfinished)
    unfinished.replace(folder / found.name)


def _put(target: Path, content: bytes, mode: int) -> None:
    """Write a file under another name and rename it: who executes it now goes on with the former one."""
    unfinished = target.with_name(_UNFINISHED.format(target.name))
    try:
        _write(unfinished, content, mode)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file through to the disk, with exactly this mode whatever the umask is."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_executable(place: Place, name: str) -> None:
    former = place.lib / REPLACED / name
    if former.is_file():
        _put(place.bin / name, former.read_bytes(), former.stat().st_mode & 0o7777)
        former.unlink()
    else:
        (place.bin / name).unlink()


def _remove_generations(place: Place, keep: set[str]) -> None:
    """Remove the folders of installations, whole or not; nothing else in there is ours."""
    for folder in place.lib.iterdir():
        if folder.name not in keep and (folder / SOURCES.name).is_dir():
            shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one installer at a time work in the folder; the others wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
