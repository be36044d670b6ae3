"""The native load (bench/load/native, C): built by this machine's compiler when it is first needed, and started in Python's place.

Why there is one: client and server share a CPU beside the proxy's, and in Python they take as long for a small request as a
proxy does (16 us): then it is the load that ends first. In C they take a quarter less; 95 % of that is the kernel's network
stack. Where no compiler is, or with BENCH_LOAD=python, everything is Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import programs

if TYPE_CHECKING:
    import argparse

KINDS: Final = ("requests", "connections", "connections-until-end", "datagrams", "queries")
"""What it knows beside the server. Where the kernel does nearly all of the work, or a clock sets the pace, Python is good enough."""
SOURCES: Final = Path(__file__).with_name("native")
FOLDER: Final = programs.BUILT
COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
BUILD_SECONDS: Final = 120.0


class CannotBuild(Exception):
    """There will be no native load here, and why."""


def implementation() -> str:
    """Tell which load measurements get here, building it if need be: "native", or "python" and why."""
    try:
        program()
    except CannotBuild as error:
        return f"python, {error}"
    return "native"


def become_load(options: argparse.Namespace) -> None:
    """Replace this process by a native generator; returns if there is none of this kind. options: those of python -m bench.load."""
    if options.kind in KINDS:
        times = repr(options.seconds), repr(options.warm_up)
        _become(options.kind, options.host, str(options.port), *times, str(options.connections), str(options.size))


def become_server(host: str) -> None:
    """Replace this process by the native server; returns if there is none. host: numeric, empty for all addresses."""
    _become("server", *filter(None, [host]))


def program() -> Path:
    """Give the path of the program, which is built if these sources have not been; raises CannotBuild."""
    if os.environ.get("BENCH_LOAD") == "python":
        raise CannotBuild("as BENCH_LOAD asks for")
    try:
        built = build(FOLDER)
    except OSError as error:
        raise CannotBuild(str(error)) from error
    if not os.access(built, os.X_OK):
        raise CannotBuild(f"{built.parent} is where nothing can be executed")
    return built


def build(folder: Path, *flags: str) -> Path:
    """Give the program, made with these flags beside the usual ones, from a folder that keeps all that was built.

    Its name says what it was made from. One process builds at a time, and others see all of it or nothing. Raises CannotBuild, OSError.
    """
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(repr((FLAGS, flags, os.uname().machine)).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    built = folder / f"load-{digest.hexdigest()[:16]}"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _compile([*FLAGS, *flags], [source for source in sources if source.suffix == ".c"], built)
    return built


def _compile(flags: list[str], sources: list[Path], built: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise CannotBuild("no C compiler")
    try:
        programs.build(built, lambda draft: [compiler, *flags, "-o", str(draft), *map(str, sources)], BUILD_SECONDS)
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{compiler} fails: {_first_error(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise CannotBuild(f"{compiler} does not end within {BUILD_SECONDS:g} s") from error


def _first_error(words: str) -> str:
    lines = words.strip().splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else "it says nothing")


def _become(*arguments: str) -> None:
    try:
        path = program()
    except CannotBuild:
        return
    os.execv(path, [str(path), *arguments])  # noqa: S606 - no shell is wanted: the process keeps its id, its CPU and its pipes
