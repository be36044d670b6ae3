"""The native load is built when it is first needed, once, and Python takes its place where it cannot be."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.load import native
from bench.load.server import ANSWER, COUNTS, DISCARD, ECHO, NAME, STREAM
from tests.bench.loads import NATIVE, PYTHON, environment, load, measured, server

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.99.0.6"
"""An address of its own: the ports are the same everywhere."""
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the C compiler behind a script that notes each call; give the notes."""
    real = next(filter(None, map(shutil.which, native.COMPILERS)), None)
    assert real is not None
    notes = _compiler(tmp_path, monkeypatch, f'exec {real} "$@"')
    monkeypatch.setenv("PATH", f"{notes.parent}:/usr/bin:/bin")
    return notes


def _compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Path:
    """Make the only compiler in PATH a script."""
    (folder / "bin").mkdir()
    notes = folder / "bin" / "notes"
    script = folder / "bin" / "cc"
    script.write_text("\n".join(["#!/bin/sh", f"echo called >>{notes}", *lines, ""]))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    return notes


def test_it_is_built_once_for_its_sources_and_flags(tmp_path: Path, compiler: Path) -> None:
    folder = tmp_path / "built"

    first, again, other = native.build(folder, "-O0"), native.build(folder, "-O0"), native.build(folder, "-O1")

    assert first == again != other
    assert sorted(path.name for path in folder.iterdir()) == sorted(["lock", first.name, other.name])
    assert compiler.read_text().count("called") == 2


def test_two_that_need_it_at_once_build_it_once(tmp_path: Path, compiler: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        built = set(pool.map(native.build, [tmp_path / "built"] * 3))

    assert len(built) == 1
    assert compiler.read_text().count("called") == 1
    assert subprocess.run([built.pop()], capture_output=True, check=False).returncode == 2


def test_without_a_compiler_the_load_is_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert native.implementation() == "python, no C compiler"


def test_a_compiler_that_fails_is_told_with_its_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path / "built")
    _compiler(tmp_path, monkeypatch, "echo 'in file' >&2", "echo 'fatal error: stdio.h: no such file' >&2", "echo 'ended.' >&2", "exit 1")

    assert native.implementation() == f"python, {tmp_path}/bin/cc fails: fatal error: stdio.h: no such file"
    assert [path.name for path in (tmp_path / "built").iterdir()] == ["lock"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "FOLDER", tmp_path / "file" / "folder")

    assert native.implementation().startswith("python, [Errno 20] Not a directory")


def test_which_one_it_is_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_LOAD", raising=False)
    assert native.implementation() == "native"
    monkeypatch.setenv("BENCH_LOAD", "python")
    assert native.implementation() == "python, as BENCH_LOAD asks for"


@pytest.mark.parametrize(("implementation", "native_program"), [(NATIVE, True), (PYTHON, False)])
def test_server_and_generators_replace_their_own_process(implementation: str, *, native_program: bool) -> None:
    with server(implementation, HOST) as pid:
        assert _is_native(pid) is native_program
        command = [sys.executable, "-m", "bench.load", "requests", HOST, str(ECHO), "--seconds", "30", "--warm-up", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(implementation)) as process:
            try:
                assert process.stdout
                assert "measuring" in process.stdout.readline()
                assert _is_native(process.pid) is native_program
            finally:
                process.kill()


def test_a_kind_that_is_not_native_is_python_beside_the_native_server() -> None:
    with server(NATIVE, HOST):
        assert measured(load(NATIVE, "down", (HOST, STREAM))).units > 1_000_000


def test_a_port_that_is_taken_is_one_line_and_exit_code_1() -> None:
    with socket.create_server((HOST, NAME)):
        command = [str(native.program()), "server", HOST]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"server {HOST}:{NAME}: Address already in use\n"


def test_a_command_line_that_it_does_not_know_is_exit_code_2() -> None:
    for arguments in (["up", HOST, str(ECHO), "1", "0", "1", "1"], ["requests", HOST], []):
        done = subprocess.run([str(native.program()), *arguments], capture_output=True, text=True, check=False, timeout=10)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program so that it ends at any misuse of memory or undefined operation, and says which."""
    return native.build(tmp_path_factory.mktemp("built"), *SANITIZERS)


@contextmanager
def checked_server(program: Path) -> Iterator[None]:
    """Run the sanitized server; it must not have complained until left."""
    with subprocess.Popen([program, "server", HOST], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.terminate()
            words = process.communicate(timeout=30)[1]
    assert (process.returncode, words) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("size", [1, 300_000])
@pytest.mark.parametrize("kind", native.KINDS)
def test_no_generator_misuses_memory(kind: str, size: int, sanitized: Path) -> None:
    port = ANSWER if kind == "connections-until-end" else ECHO
    size = min(size, 65_000) if kind in {"datagrams", "queries", "connections-until-end"} else size
    with checked_server(sanitized):
        command = [str(sanitized), kind, HOST, str(port), "0.3", "0.1", "20", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert measured(done).units > 0


def test_no_generator_misuses_memory_when_all_fails(sanitized: Path) -> None:
    for kind in native.KINDS:
        command = [str(sanitized), kind, HOST, "1", "0.3", "0", "20", "100000"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr
        assert done.returncode == (kind == "requests")


def test_the_server_misuses_no_memory_when_clients_vanish(sanitized: Path) -> None:
    with checked_server(sanitized):
        for port in (ECHO, DISCARD, COUNTS, NAME, STREAM, ANSWER) * 3:
            with socket.create_connection((HOST, port), timeout=10) as sock:
                sock.settimeout(0.05)
                _fill(sock)
        with socket.create_connection((HOST, NAME), timeout=10) as sock:
            assert sock.recv(100).startswith(HOST.encode())


def _fill(sock: socket.socket) -> None:
    """Send more than an echo whose answer nobody reads can take."""
    with suppress(OSError):
        for _ in range(50):
            sock.send(bytes(300_000))


def _is_native(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").resolve().parent == native.FOLDER.resolve()
