"""A run as a user starts it: what it measures is kept whatever happens meanwhile, and nothing else stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.__main__ import COMMANDS
from bench.document import read
from bench.namespaces import FOLDER
from bench.run import parse
from bench.subjects import DEFAULT
from bench.workloads import WORKLOADS
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.document import Document

RUN = [sys.executable, "-m", "bench", "run", "--rounds", "1", "--seconds", "0.2"]


def suite(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *flags], capture_output=True, text=True, check=False, timeout=100)


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run whose results and temporary files are in a folder."""
    (folder / "temporary").mkdir()
    command = ["env", f"TMPDIR={folder / 'temporary'}", *RUN, "--output", str(folder / "results"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kept(folder: Path) -> Document:
    """Read the one document in a folder."""
    [path] = folder.glob("run-*.json")
    return read(path)


def child(process: subprocess.Popen[str], *words: str) -> psutil.Process:
    """Give the process of a run whose command line has all these words."""
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if set(words) <= set(each.cmdline()):
                return each
    raise AssertionError(f"no process has {words}")


@pytest.mark.netns
def test_a_run_keeps_raw_runs_and_both_reports_and_names_them(tmp_path: Path) -> None:
    done = suite("--only", "haproxy/requests,none/datagrams,haproxy/datagrams", "--families", "4,6", "--output", str(tmp_path))

    assert done.returncode == 0, done.stderr
    document = kept(tmp_path)
    assert document.complete
    cells = {(run.subject, run.workload, run.family) for run in document.runs}
    assert cells == {(subject, load, family) for subject, load in (("haproxy", "requests"), ("none", "datagrams")) for family in (4, 6)}
    assert {(cell.subject, cell.workload, cell.reason) for cell in document.empty} == {("haproxy", "datagrams", "carries no UDP")}
    for path in tmp_path.iterdir():
        assert str(path) in done.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".html"}


@pytest.mark.netns
def test_a_proxy_has_switches_and_system_calls_and_what_is_no_proxy_has_neither(tmp_path: Path) -> None:
    done = suite("--subjects", "uproxy,none", "--workloads", "connections", "--output", str(tmp_path))

    document = kept(tmp_path)
    assert done.returncode == 0, done.stderr
    ours, direct = document.runs
    assert ours.values["cpu"] > 0
    assert 0 < ours.values["switches"] < 10
    assert {"cpu", "switches"} & direct.values.keys() == set()
    [calls] = document.system_calls or pytest.fail(str(document.remarks))
    assert (calls.subject, calls.unit) == ("uproxy", "connection")
    # One of each per connection. Counters and load begin and end apart by what switching takes: a tenth where others are busy.
    assert 0.7 < calls.per_unit["connect"] < 1.2
    assert 0.7 < calls.per_unit["accept4"] < 1.5


@pytest.mark.netns
def test_a_run_says_which_machine_it_was_and_what_the_machine_did_meanwhile(tmp_path: Path) -> None:
    suite("--subjects", "none", "--workloads", "request", "--output", str(tmp_path))

    document = kept(tmp_path)
    assert {"processor", "cpus", "kernel", "python", "python_build", "pinned"} <= document.machine.keys()
    assert document.conditions is not None
    assert document.conditions.seconds > 0.2
    assert 0 <= document.conditions.others <= (psutil.cpu_count() or 0)
    assert document.conditions.stolen >= 0
    assert all(1 <= run.attempts <= 4 and run.disturbed == (run.others > 0.15) for run in document.runs)


@pytest.mark.netns
def test_another_measurement_is_kept_and_reported_next_to_the_table(tmp_path: Path) -> None:
    done = suite("--quick", "--only", "none/request,cni", "--output", str(tmp_path))

    document = kept(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [run.subject for run in document.runs] == ["none"]
    assert list(document.sections) == ["cni"]
    assert document.sections["cni"]["markdown"].splitlines()[0] in done.stdout
    assert "0:00 left cni: done" in done.stderr


@pytest.mark.netns
def test_a_proxy_that_dies_leaves_an_empty_cell_with_its_last_words_and_is_started_again_for_the_others(tmp_path: Path) -> None:
    with running(tmp_path, "--subjects", "uproxy", "--workloads", "up,requests", "--no-system-calls", "--seconds", "3") as process:
        eventually(lambda: child(process, "bench.load", "up"), within=30)
        child(process, "uproxy", "run").kill()
        _output, errors = process.communicate(timeout=60)

    document = kept(tmp_path / "results")
    [cell] = document.empty
    assert (cell.subject, cell.workload) == ("uproxy", "up"), errors
    assert cell.reason.startswith("the proxy ended (exit code -9): ")
    assert "says nothing" not in cell.reason
    assert [run.workload for run in document.runs] == ["requests"]
    assert document.complete
    assert process.returncode == 0


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_it_has_and_leaves_no_namespace_process_or_file(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--subjects", "uproxy,none", "--workloads", "up", "--rounds", "500") as process:
        eventually(lambda: kept_after_a_round(tmp_path), within=60)
        eventually(lambda: child(process, "bench.load", "up"), within=30)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "namespaces are removed" in errors
    document = kept(tmp_path / "results")
    assert not document.complete
    assert document.runs
    assert "| bulk up, 1 connection: throughput |" in output
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".json", ".md", ".html"}
    assert not list(FOLDER.glob(f"ubench{process.pid}-*"))
    assert not any(each.is_running() for each in children)
    assert not list((tmp_path / "temporary").iterdir())


def kept_after_a_round(folder: Path) -> None:
    assert kept(folder / "results").runs if list((folder / "results").glob("run-*.json")) else False


@pytest.mark.netns
def test_a_run_that_is_interrupted_at_once_leaves_nothing_at_all(tmp_path: Path) -> None:
    with running(tmp_path, "--subjects", "none", "--workloads", "up", "--seconds", "60") as process:
        eventually(lambda: list(FOLDER.glob(f"ubench{process.pid}-*")) != [], within=20)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert process.returncode == 130
    assert not list((tmp_path / "results").iterdir())
    assert not list((tmp_path / "temporary").iterdir())
    assert not list(FOLDER.glob(f"ubench{process.pid}-*"))


@pytest.mark.netns
def test_a_subject_that_this_machine_cannot_run_is_left_out_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    few = ["prlimit", "--nofile=4096", *RUN]  # that kube-proxy insists on 64,000 descriptors, and is nowhere without Go
    flags = ["--subjects", "kube-proxy-userspace,none", "--workloads", "request", "--output", str(tmp_path)]
    done = subprocess.run([*few, *flags], capture_output=True, text=True, check=False, timeout=100)

    document = kept(tmp_path)
    assert done.returncode == 0, done.stderr
    assert document.subjects["kube-proxy-userspace"].reason
    assert f"left {document.subjects['kube-proxy-userspace'].title}: {document.subjects['kube-proxy-userspace'].reason}" in done.stderr
    assert [run.subject for run in document.runs] == ["none"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--subjects", "uproxy,envoy"), "--subjects: envoy is none of uproxy, haproxy, nginx, "),
        (("--workloads", "ping"), "--workloads: ping is none of up, down, "),
        (("--families", "5"), "--families: 5 is none of 4, 6"),
        (("--only", "uproxy/ping"), "--only: uproxy/ping is none of subjects uproxy, haproxy, "),
        (("--rounds", "0"), "--rounds: 1 or more"),
    ],
)
def test_what_is_unknown_is_refused_in_one_line_with_what_is_known(flags: tuple[str, ...], words: str) -> None:
    done = suite(*flags)

    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]


def test_everything_is_the_default_and_quick_is_the_main_part_of_it() -> None:
    whole, quick = parse([]), parse(["--quick"])

    assert whole.matrix.subjects == quick.matrix.subjects == DEFAULT
    assert whole.matrix.workloads == tuple(WORKLOADS)
    assert set(quick.matrix.workloads) < set(WORKLOADS)
    assert whole.matrix.sections == quick.matrix.sections == ("scale", "cluster", "cni")
    assert (whole.rounds, whole.seconds, whole.system_calls) == (3, 3.0, True)
    assert (quick.rounds, quick.seconds, quick.system_calls) == (1, 1.0, False)


@pytest.mark.parametrize(
    ("flags", "sections"),
    [
        (["--without-control-plane"], ()),
        (["--subjects", "uproxy"], ()),
        (["--subjects", "uproxy", "--control-plane"], ("scale", "cluster", "cni")),
        (["--only", "uproxy/up"], ()),
        (["--only", "uproxy/up,cni"], ("cni",)),
    ],
)
def test_the_control_plane_is_measured_when_everything_is_or_when_it_is_asked_for(flags: list[str], sections: tuple[str, ...]) -> None:
    assert parse(flags).matrix.sections == sections


def test_only_may_name_a_subject_that_is_not_measured_else() -> None:
    assert parse(["--only", "uproxy-kept/up"]).matrix.subjects == ("uproxy-kept",)
    assert "uproxy-kept" not in parse(["--only", "uproxy*/up"]).matrix.subjects


def test_an_output_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = suite("--output", str(tmp_path / "file"))

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr


def test_every_command_is_listed_with_what_it_does_and_knows_its_own_help() -> None:
    usage = subprocess.run([sys.executable, "-m", "bench"], capture_output=True, text=True, check=True)

    for name, command in COMMANDS.items():
        assert f"  {name:8} {command.about}" in usage.stdout.splitlines()
        help_of = subprocess.run([sys.executable, "-m", "bench", name, "--help"], capture_output=True, text=True, check=False)
        assert (help_of.returncode, help_of.stderr) == (0, "")
        assert f"bench {name}" in help_of.stdout


def test_an_unknown_command_is_one_line_with_the_known_ones() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "race"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == f"python -m bench: race is none of {', '.join(COMMANDS)}\n"
