"""System calls are counted by the real tools, of a real process that makes a known number of them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bench.measurement import Failed
from bench.system_calls import attached, by_perf, by_strace, tools

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = tools()
"""Which of both is installed is the machine's business: strace is what scripts/debian-tools.sh unpacks."""

CALLER = """
import os, sys, threading
def answer():
    for line in sys.stdin:
        for _ in range(int(line)):
            os.getppid()
        print("made", flush=True)
thread = threading.Thread(target=answer)
thread.start()
print("there", flush=True)
thread.join()
"""


@contextmanager
def caller() -> Iterator[subprocess.Popen[str]]:
    """Start a process one of whose threads asks for its parent as often as it is told."""
    with subprocess.Popen([sys.executable, "-c", CALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], times: int) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{times}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "made\n"


@pytest.mark.parametrize("name", HERE)
def test_what_every_thread_calls_is_counted_by_name_and_only_while_it_is_asked_for(name: str) -> None:
    with caller() as process, attached(name, [process.pid]) as tracer:
        ask(process, 100)
        with tracer.counting():
            ask(process, 250)
        ask(process, 100)
        found = tracer.counts()

    assert found["getppid"] == 250
    assert 1 <= found["write"] <= 5
    assert "execve" not in found


@pytest.mark.parametrize("name", HERE)
def test_a_process_that_is_gone_is_a_failure_with_the_tools_own_words(name: str) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()

    with pytest.raises(Failed, match=name), attached(name, [gone.pid]) as tracer, tracer.counting():
        pass


@pytest.mark.parametrize("name", HERE)
def test_the_process_goes_on_when_nobody_counts_any_more(name: str) -> None:
    with caller() as process:
        with attached(name, [process.pid]), pytest.raises(ValueError, match="meanwhile"):
            raise ValueError("an error meanwhile")
        ask(process, 1)
        assert process.poll() is None


def test_lines_of_strace_count_where_a_call_begins() -> None:
    text = """strace: Process 7 attached with 2 threads
[pid     8] 99.900000 read(5, ""..., 4) = 4
[pid     7] 100.100000 epoll_wait(4, 0x7f, 64, -1) = 1
[pid     8] 100.200000 accept4(7, 0x7f, [16], SOCK_CLOEXEC <unfinished ...>
[pid     7] 100.300000 epoll_wait(4, 0x7f, 64, -1) = 1
[pid     8] 100.400000 <... accept4 resumed>) = 9
[pid     7] 100.500000 --- SIGCHLD {si_signo=SIGCHLD} ---
[pid     8] 101.000000 read(5, ""..., 4) = 4
[pid     8] 101.100000 +++ exited with 0 +++
"""

    assert by_strace(text, 100.0, 101.0) == {"epoll_wait": 2, "accept4": 1}


def test_strace_leaves_the_process_id_out_when_there_is_one_process_only() -> None:
    assert by_strace("100.1 read(5, 0x7f, 4) = 4\n", 100.0, 101.0) == {"read": 1}


def test_perf_counts_those_by_name_that_have_one_and_the_rest_together() -> None:
    counts = "50,,raw_syscalls:sys_enter,9,100.00,,", "30,,syscalls:sys_enter_sendto,9,100.00,,", "0,,syscalls:sys_enter_read,9,100.00,,"

    assert by_perf("\n".join(["Events disabled", *counts])) == {"sendto": 30, "other": 20}


def test_what_perf_could_not_count_is_a_failure_and_no_zero() -> None:
    with pytest.raises(Failed, match="sys_enter_read: <not counted>"):
        by_perf("<not counted>,,syscalls:sys_enter_read,0,0.00,,\n")
