"""The demo on loopback addresses keeps its promises, needs no rights, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from tests.lab.waiting import eventually

DEMO = [sys.executable, "-m", "examples.demo"]
SHORT = ["--seconds", "0.4"]
POWERLESS = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
"""Root without a single capability is as good as anybody else; whoever is not root needs no help to have none."""


def play(*flags: str, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*(prefix or []), *DEMO, *flags], capture_output=True, text=True, check=False, timeout=60)


def test_the_demo_counts_every_request_and_none_fails_even_without_any_rights() -> None:
    powerless = POWERLESS if os.geteuid() == 0 and shutil.which("setpriv") else []

    done = play(*SHORT, prefix=powerless)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(r"^(\d+) requests in \d+ s, 0 failed; (\d+) of (\d+) promises kept\.$", done.stdout, re.MULTILINE)
    assert summary, done.stdout
    assert int(summary[1]) > 300
    assert summary[2] == summary[3]
    assert "NOT SO" not in done.stdout
    assert "What to try next" in done.stdout


def test_the_story_has_six_phases_and_a_new_endpoint_answers_within_a_second() -> None:
    done = play(*SHORT)

    assert re.findall(r"^(\d)/6 ", done.stdout, re.MULTILINE) == list("123456")
    added = re.search(r"d answers after (\d+) ms", done.stdout)
    assert added, done.stdout
    assert int(added[1]) < 1000


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with closing(socket.create_server(("127.20.0.2", 18088))):
        done = play(*SHORT)

    assert done.returncode == 2
    assert done.stderr == "demo: 127.20.0.2:18088/TCP is taken by another program (`ss -lntup` lists who listens)\n"
    assert done.stdout == ""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_takes_its_processes_along(ending: signal.Signals) -> None:
    with subprocess.Popen([*DEMO, "--plain", "--seconds", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any(line.startswith("1/6") for line in process.stdout)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        _output, errors = process.communicate(timeout=30)

    assert len(children) >= 5
    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    if ending != signal.SIGKILL:
        assert process.returncode == 130
        assert errors == "interrupted: everything that was started has ended\n"


def test_on_a_terminal_the_table_shows_shares_and_totals() -> None:
    text = _on_a_terminal([*DEMO, *SHORT])

    assert "1/6  Three endpoints." in text
    assert re.search(r"a\s+ready\s+█+·*\s+\d+\s+3\d%", text)
    assert re.search(r"requests [\d,]+   failed 0", text)
    assert re.search(r"✓ web, clock: a, b, d have equal shares", text)


def _on_a_terminal(command: list[str]) -> str:
    """Run a program on a terminal of 110 columns and give what it drew, without colours."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": "110", "LINES": "40", "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True):
        os.close(theirs)
        drawn = bytearray()
        while part := _read(ours):
            drawn += part
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux tells that the last writer has closed a terminal
        return b""
