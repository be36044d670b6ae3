"""The comparison as a user starts it: every subject carries every load, and nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from bench.namespaces import FOLDER
from bench.subjects import SUBJECTS
from bench.subjects.base import CannotRun
from tests.lab.waiting import eventually

RUN = [sys.executable, "-m", "bench.run", "--rounds", "1", "--seconds", "0.2"]


def suite(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *flags], capture_output=True, text=True, check=False, timeout=100)


def rows(text: str) -> list[list[str]]:
    """Split the figures of a Markdown table into cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.netns
@pytest.mark.parametrize("subject", [name for name, subject in SUBJECTS.items() if subject.udp])
def test_every_load_passes_through(subject: str) -> None:
    done = suite("--subjects", subject)

    assert done.returncode == 0, done.stderr
    empty = {row[0] for row in rows(done.stdout) if row[2] == "-"}
    assert all(title.partition(": ")[2].startswith("CPU") for title in empty) if subject == "none" else not empty
    assert "failed" not in done.stdout


@pytest.mark.netns
def test_haproxy_carries_tcp_and_has_empty_cells_for_udp() -> None:
    done = suite("--subjects", "haproxy", "--workloads", "connections,datagrams")

    assert [row[2] == "-" for row in rows(done.stdout)] == [False, False, True, True], done.stdout + done.stderr


@pytest.mark.netns
def test_an_interrupted_comparison_leaves_no_namespace_and_no_process() -> None:
    command = [*RUN, "--subjects", "none", "--workloads", "up", "--seconds", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        children = eventually(lambda: loads(process), within=20)
        process.send_signal(signal.SIGINT)
        _output, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "namespaces are removed" in errors
    assert not list(FOLDER.glob(f"ubench{process.pid}-*"))
    assert not any(child.is_running() for child in children)


def test_an_unknown_subject_is_one_line_with_the_known_ones() -> None:
    done = suite("--subjects", "uproxy,envoy")

    assert done.returncode == 2
    assert "--subjects: envoy is none of uproxy, haproxy, nginx, none" in done.stderr


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.subjects.haproxy.find", lambda _name: None)

    with pytest.raises(CannotRun, match="haproxy is not installed"):
        SUBJECTS["haproxy"].version()


def loads(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Give the processes of a comparison once its load's client is among them."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("bench.load" in child.cmdline() for child in children)
    return children
