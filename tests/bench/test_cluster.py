"""The measurement with an API server: its objects, its client, its table, and a small run from start to end."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.cluster_client import Seen
from bench.cluster_objects import ENDPOINT_NETWORK, MOST, SERVICE_NETWORK, documents, vip
from bench.cluster_report import markdown, percentile
from bench.cluster_run import KINDS, Plan, Run, Series
from bench.cluster_subjects import Costs
from bench.namespaces import FOLDER
from bench.nft_times import Times
from bench.processes import Memory
from tests.cluster.fixtures import require_binaries
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = [sys.executable, "-m", "bench.cluster"]
PROBER = [sys.executable, "-m", "bench.cluster_prober"]
COSTS = Costs(1.5, 0.25, Memory(60_000_000, 50_000_000, 40_000_000), 0.0123)


@contextmanager
def prober() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(PROBER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], port: int, expected: str, patience: float = 20.0) -> None:
    assert process.stdin
    process.stdin.write(f"7 127.0.0.1 {port} {time.monotonic():.6f} {patience} {expected}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


def serve(listener: socket.socket, names: list[str]) -> None:
    """Answer one connection with each name, or until the listener is closed."""
    with suppress(OSError):
        for name in names:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(f"{name} somebody\n".encode())


def run(kind: str = KINDS[0], *seen: Seen) -> Run:
    changes = [Series(kind, 10, 0.0, list(seen))] if seen else []
    facts = {"Service milliseconds": 20.0, "Service decode_milliseconds": 5.0, "plan": 7.0, "listen": 8.0, "program": 9.0}
    return Run("uproxy 1", 1000, 0.5, 0.75, 0, 0.0, facts, COSTS, COSTS, changes, COSTS, Times(1_500_000, 0.0625, 0.0041))


def cells(text: str) -> dict[str, str]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {label.strip(): value.strip() for label, value in rows}


def test_every_service_has_an_address_and_two_endpoints_of_its_own() -> None:
    made = [documents(number) for number in range(MOST)]
    endpoints = [one["addresses"][0] for endpoint_slice, _ in made for one in endpoint_slice["endpoints"]]

    assert len({service["spec"]["clusterIP"] for _, service in made}) == MOST
    assert len(set(endpoints)) == 2 * MOST
    assert (SERVICE_NETWORK, vip(9999)) == ("10.96.0.0/16", "10.96.40.15")
    assert (ENDPOINT_NETWORK, max(map(socket.inet_aton, endpoints))) == ("10.244.0.0/16", socket.inet_aton("10.244.125.1"))


def test_the_client_asks_until_one_of_those_that_are_expected_answers() -> None:
    with prober() as process, socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener, ["old", "old", "new", "late"]), daemon=True)
        ask(process, listener.getsockname()[1], "new,newer")
        time.sleep(0.3)
        server.start()
        name, seconds = answer(process)

    assert name == "7"
    assert 0.3 <= float(seconds) < 10


def test_the_client_gives_up_when_nobody_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with prober() as process:
        ask(process, port, "*", patience=0.2)
        assert answer(process) == ["7", "-"]


def test_the_client_is_not_kept_by_a_connection_that_is_never_answered() -> None:
    with prober() as process, socket.create_server(("127.0.0.1", 0)) as listener:
        ask(process, listener.getsockname()[1], "*")
        silent, _ = listener.accept()
        with silent:
            serve(listener, ["somebody"])
            assert answer(process)[0] == "7"


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = [float(number) for number in range(1, 101)]

    assert (percentile(hundred, 0.5), percentile(hundred, 0.99)) == (50.0, 99.0)
    assert percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.5))


def test_the_table_has_what_was_measured_and_says_what_was_not() -> None:
    found = cells(markdown([run(KINDS[0], Seen(0.004, 0.06), Seen(0.005, 0.08))], [10]))

    assert found["endpoints replaced, 10/s: p50 / p99, ms"] == "60 / 80"
    assert found["endpoints replaced, 10/s: of it the API server p50 / p99, ms"] == "4 / 5"
    assert found["Service added, 10/s: p50 / p99, ms"] == "-"
    assert found["list Services (of it decode), ms"] == "20 (5)"
    assert found["list EndpointSlices (of it decode), ms"] == "-"
    assert found["idle memory: anonymous, MB"] == "40.0"
    assert found["longest pause of the loop: start, ms"] == "12.3"
    assert found["program, a round of changes, ms"] == "-"
    assert found["nft: the table as text, MB"] == "1.50"
    assert found["nft: the whole table loaded, ms"] == "62"
    assert found["nft: one Service more, ms"] == "4.1"


def test_a_change_that_is_never_served_is_the_slowest() -> None:
    found = cells(markdown([run(KINDS[1], Seen(0.004, None), Seen(0.005, 0.08))], [10]))

    assert found["Service added, 10/s: p50 / p99, ms"] == "80 / inf (1 never)"


def test_changes_are_neither_too_few_nor_too_many() -> None:
    plan = Plan(1000, 1.0, (1, 10, 100), 20.0)

    assert [plan.changes(rate) for rate in plan.rates] == [20, 200, 1000]
    assert Plan(1000, 1.0, (1,), 1.0).changes(1) == 20


def test_more_services_than_there_are_addresses_are_refused() -> None:
    done = subprocess.run([*CLUSTER, "--services", "16001"], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "--services: numbers from 1 to 16000" in done.stderr


@pytest.mark.netns
@pytest.mark.slow
def test_a_small_run_serves_every_change_and_measures_both_proxies() -> None:
    require_binaries()
    require_binaries("kube-proxy")
    size = ["--services", "50", "--idle-services", "0", "--idle", "1", "--rates", "10", "--seconds", "1"]
    done = subprocess.run([*CLUSTER, *size], capture_output=True, text=True, check=False, timeout=110)

    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("|")]
    assert ["Services that do not answer then", "0", "0"] in rows
    assert not any("never" in cell or "nan" in cell for row in rows for cell in row)
    assert not any(row[1] == "-" for row in rows), "all of uproxy's figures were found"


def names_below(pid: int) -> list[str]:
    """Give the names of all processes below one, those left out that end while they are asked."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(child.name())
    return found


@pytest.mark.netns
def test_an_interrupted_run_leaves_no_namespace_and_no_process() -> None:
    require_binaries()
    with subprocess.Popen([*CLUSTER, "--services", "2000", "--idle-services", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        eventually(lambda: any("kube-apiserver" in name for name in names_below(process.pid)), within=30)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _output, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "namespaces are removed" in errors
    assert not list(FOLDER.glob(f"ubench{process.pid}-*"))
    assert not any(child.is_running() for child in children)
