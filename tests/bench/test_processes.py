"""What a process tree costs is read from the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from bench.processes import busy_seconds, context_switches, cpu_seconds, cpus_of, family, memory, switched

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def python(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_cpu_time_includes_children_that_live_and_those_that_were_waited_for() -> None:
    parent = f"""
import subprocess, sys
burn = {BURN!r}
subprocess.run([sys.executable, "-c", burn])
child = subprocess.Popen([sys.executable, "-c", burn + "print('burnt', flush=True); input()"])
child.wait()
"""
    with python(parent) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "burnt\n"
            assert len(family(process.pid)) == 2
            assert 0.6 <= cpu_seconds(process.pid) < 1.5
        finally:
            process.communicate("\n")


def test_memory_is_that_of_the_kernel() -> None:
    with python("block = bytes(range(256)) * 400_000\nprint('there', flush=True)\ninput()") as process:
        try:
            assert process.stdout
            process.stdout.readline()
            found = memory(process.pid)
            resident = psutil.Process(process.pid).memory_info().rss
        finally:
            process.communicate("\n")

    assert found.resident > 100_000_000
    assert abs(found.resident - resident) < 1_000_000
    assert found.proportional <= found.resident
    assert 100_000_000 < found.anonymous <= found.resident


def test_a_process_that_is_gone_costs_nothing() -> None:
    with python("") as process:
        process.wait()

    assert memory(process.pid) == (0, 0, 0)


def test_a_busy_machine_is_noticed() -> None:
    with python("while True: pass") as process:
        try:
            before = busy_seconds()
            time.sleep(0.5)
            assert busy_seconds() - before > 0.25
        finally:
            process.kill()


def test_context_switches_are_those_of_all_threads_of_all_processes_of_a_tree() -> None:
    sleeper = "import time\nfor _ in range(300): time.sleep(0.0001)\n"
    parent = f"""
import subprocess, sys, threading
sleeper = {sleeper!r}
print("there", flush=True)
input()
thread = threading.Thread(target=exec, args=(sleeper,))
thread.start()
child = subprocess.Popen([sys.executable, "-c", sleeper + "print('slept', flush=True); input()"])
thread.join()
print("slept", flush=True)
threading.Event().wait(30)
"""
    with python(parent) as process:
        try:
            assert process.stdout
            assert process.stdin
            process.stdout.readline()
            before = context_switches(process.pid)
            process.stdin.write("\n")
            process.stdin.flush()
            assert [process.stdout.readline() for _ in range(2)] == ["slept\n"] * 2
            after = context_switches(process.pid)
        finally:
            for member in reversed(family(process.pid)):
                psutil.Process(member).kill()

    assert process.pid in before
    assert 300 <= switched(before, after) < 3000


def test_a_thread_that_is_new_counts_in_full_and_one_that_is_gone_not_at_all() -> None:
    assert switched({1: 10, 2: 50}, {1: 15, 3: 7}) == 12


def test_time_that_the_hypervisor_took_is_not_time_in_use() -> None:
    found = cpus_of("cpu  100 20 300 4000 50 6 70 800 9 1\ncpu0 1 2 3\n")

    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert found.busy == pytest.approx((100 + 20 + 300 + 6 + 70) * tick)
    assert found.stolen == pytest.approx(800 * tick)
