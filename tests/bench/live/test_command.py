"""`bench load` as a process: its output, its exit codes, and what signals do to it."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
from time import perf_counter

import msgspec
import pytest

from bench.live.command import main
from bench.live.summary import Summary
from tests.bench.live.servers import nowhere, tcp_server

COMMAND = [sys.executable, "-m", "bench", "load"]
LONG = ("--rate", "100", "--duration", "60s")


async def ignore(_number: int, _message: bytes, _writer: asyncio.StreamWriter) -> None:
    return


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *argv], capture_output=True, text=True, check=False, timeout=30)


def interrupt(number: signal.Signals, *argv: str) -> tuple[int, str]:
    """Send a signal after the first second's line."""
    with subprocess.Popen([*COMMAND, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert "in flight" in process.stderr.readline()
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert "Traceback" not in errors
    return process.returncode, output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_with_the_summary_of_what_was_done(number: signal.Signals, code: int) -> None:
    with tcp_server() as server:
        returned, output = interrupt(number, "tcp", server.address, *LONG, "--json")
    found = msgspec.json.decode(output, type=Summary)

    assert returned == code
    assert found.interrupted
    assert 1 <= found.seconds < 10
    assert found.answered > 0
    assert found.sent == len(server.arrivals)
    assert found.sent == found.answered + found.failed + found.cut_off


def test_what_is_under_way_at_ctrl_c_is_cut_off_and_not_waited_for() -> None:
    began = perf_counter()
    with tcp_server(ignore) as server:
        returned, output = interrupt(signal.SIGINT, "tcp", server.address, *LONG, "--timeout", "50s", "--connections", "7")

    assert returned == 130
    assert "cut off      7 under way at the interruption" in output
    assert perf_counter() - began < 20


def test_without_a_terminal_each_second_is_a_line_and_the_table_comes_at_the_end() -> None:
    with tcp_server() as server:
        done = run("tcp", server.address, "--rate", "50", "--duration", "2s")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["1", "2"]
    assert all("/s of 50/s  in flight" in line for line in done.stderr.splitlines())
    assert re.search(r"^sent +\d+$", done.stdout, re.MULTILINE)
    assert "up to " in done.stdout


def test_on_a_terminal_it_draws_what_happens_and_leaves_the_summary() -> None:
    with tcp_server() as server:
        terminal, its = pty.openpty()
        termios.tcsetwinsize(its, (30, 100))
        argv = [*COMMAND, "tcp", server.address, "--duration", "1500ms"]
        with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"}) as process:
            os.close(its)
            shown = _all_of(terminal)

    assert process.returncode == 0
    assert all(words in shown for words in ("100/s", "in flight", "p99.9", "rate 60 s", "of 1.5 s"))
    assert shown.count("in flight") >= 4
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert re.search(r"^sent +1\d\d\r$", shown.rpartition("\x1b")[2], re.MULTILINE)


def _all_of(terminal: int) -> str:
    found = bytearray()
    try:
        while part := os.read(terminal, 65_536):
            found += part
    except OSError:  # that is how Linux tells that the other side has ended
        os.close(terminal)
    return found.decode()


def test_output_that_cannot_show_blocks_gets_plain_characters() -> None:
    with tcp_server() as server:
        argv = [*COMMAND, "tcp", server.address, "--duration", "200ms"]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=30, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert done.returncode == 0
    assert b"  ####" in done.stdout


def test_nothing_reached_is_said_and_exit_code_1() -> None:
    address = nowhere()
    done = run("tcp", address, "--duration", "200ms", "--quiet")

    assert done.returncode == 1
    assert re.search(rf"\n\nNothing answered at {address}: connection refused \d+\.\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("tcp", "no-such-host.invalid:80"), "ADDRESS no-such-host.invalid:80: no-such-host.invalid cannot be resolved ("),
        (("tcp", f"{'a' * 64}.example:80"), "cannot be resolved (not a host name)"),
        (("http", "http://no-such-host.invalid/"), "no-such-host.invalid cannot be resolved ("),
        (("udp", "224.0.0.1:53"), "224.0.0.1 is a group of receivers, name one of them"),
        (("udp", "[ff02::1]:53"), "ff02::1 is a group of receivers"),
        (("udp", "255.255.255.255:53"), "255.255.255.255 is a group of receivers"),
        (("tcp", "127.0.0.1:80", "--rate", "many"), "--rate: 'many' is no rate"),
    ],
)
def test_what_cannot_be_carried_out_is_one_line_and_exit_code_2(
    argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(argv)
    found = capsys.readouterr()

    assert code == 2
    assert found.out == ""
    assert found.err.startswith("bench load: ")
    assert words in found.err
    assert found.err.count("\n") == 1


def test_more_connections_than_descriptors_are_refused() -> None:
    argv = [*COMMAND, "tcp", "127.0.0.1:80", "--connections", "500"]
    done = subprocess.run(["prlimit", "--nofile=256:256", *argv], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 2
    assert done.stderr == "bench load: --connections 500: this process may have 192 (more with ulimit -n 564)\n"


def test_the_soft_limit_of_descriptors_is_raised_as_far_as_needed() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tcp_server(ignore) as server:
        argv = ["--connections", "200", "--rate", "1000", "--duration", "500ms", "--timeout", "2s", "--json", "--quiet"]
        command = ["prlimit", f"--nofile=128:{hard}", *COMMAND, "tcp", server.address, *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    found = msgspec.json.decode(done.stdout, type=Summary)

    assert found.opened == 200
    assert found.reasons == {"no answer in time": 200}
