"""Namespaces of measurements: nothing stays behind, and nobody but sockets made inside moves."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from bench.namespaces import FOLDER, Namespaces, sweep
from tests.lab.waiting import eventually

pytestmark = pytest.mark.netns

HERE = Path("/proc/thread-self/ns/net")


def test_a_namespace_is_gone_with_all_that_ran_in_it() -> None:
    with Namespaces("one") as made:
        name = made["one"].name
        process = subprocess.Popen([*made["one"].prefix, "sleep", "1000"])
        eventually(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != HERE.readlink())
        assert (FOLDER / name).exists()

    assert not (FOLDER / name).exists()
    assert process.wait() < 0


def test_sockets_made_inside_stay_there_while_the_thread_returns() -> None:
    home = HERE.readlink()
    with Namespaces("one") as made:
        with made["one"].entered():
            inside = socket.create_server(("127.0.0.1", 0))
        with inside, socket.socket() as outside:
            assert HERE.readlink() == home
            assert outside.connect_ex(inside.getsockname()) != 0


def test_what_a_killed_run_left_behind_is_swept_away() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    left, living = f"ubench{process.pid}-0000-left", f"ubench{os.getpid()}-0000-living"
    try:
        for name in (left, living):
            subprocess.run(["ip", "netns", "add", name], check=True)
        sweep()
        assert [name for name in (left, living) if (FOLDER / name).exists()] == [living]
    finally:
        subprocess.run(["ip", "netns", "delete", living], check=True)
        subprocess.run(["ip", "netns", "delete", left], check=False, capture_output=True)
