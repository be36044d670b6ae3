"""What a process tree costs is read from the kernel."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from bench.processes import busy_seconds, cpu_seconds, family, memory

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
