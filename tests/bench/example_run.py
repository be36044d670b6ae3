"""Runs for the tests of reports: values only, so that every figure of a test stands in the test."""

from __future__ import annotations

from typing import Any, Final

from bench.document import Document, EmptyCell, FigureInfo, Run, SubjectInfo, SystemCalls, WorkloadInfo

RATE: Final = FigureInfo("rate", "connections", "k/s", higher_is_better=True)
CPU: Final = FigureInfo("cpu", "CPU per connection", "us", higher_is_better=False)
QUANTILES: Final = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
LATENCY: Final = [FigureInfo(key, title, "us", higher_is_better=False) for key, title in QUANTILES]
SUBJECTS: Final = {
    "uproxy": ("uproxy", "ours"),
    "haproxy": ("HAProxy", "peer"),
    "nginx": ("nginx stream", "peer"),
    "none": ("no proxy", "kernel"),
    "uproxy-asyncio": ("uproxy on asyncio", "variant"),
}
WORKLOAD: Final = "connections"


def run(**rates: list[float]) -> Document:
    """Give a run of one workload in which each subject made so many thousand connections a second, and each cost 500 : rate us."""
    subjects = {name: SubjectInfo(*SUBJECTS[name], version="1.0") for name in rates}
    workloads = {WORKLOAD: WorkloadInfo("new connections, 50 at a time", "connections", [RATE, CPU])}
    found = Document("2026-01-02T03:04:05+00:00", {"processor": "a processor", "cpus": 2}, 3.0, 3, [4], subjects, workloads)
    for subject, rounds in rates.items():
        for number, rate in enumerate(rounds):
            values = {"rate": rate} if subject == "none" else {"rate": rate, "cpu": 500 / rate}
            found.runs.append(Run(subject, WORKLOAD, 4, number, values, int(3000 * rate), 3.0))
    return found


def whole_run() -> Document:
    """Give a run with something of everything: both families, latency, system calls, empty cells, sections."""
    found = run(uproxy=[9.0, 10.0, 14.0], haproxy=[10.0, 10.0, 10.0], nginx=[7.0, 7.0, 7.0], none=[30.0, 30.0, 30.0])
    found.families = [4, 6]
    found.workloads["datagrams"] = WorkloadInfo("UDP <round trips> & answers", "datagrams", [RATE, CPU, *LATENCY])
    for family in found.families:
        for name in ("uproxy", "nginx", "none"):
            values = {"rate": 50.0, "cpu": 17.5, "p50": 140.0, "p99": 410.0, "p999": 1200.0}
            found.runs.append(Run(name, "datagrams", family, 0, values, 150_000, 3.0))
        found.empty.append(EmptyCell("haproxy", "datagrams", family, "HAProxy carries no UDP"))
    calls = {"accept4": 1.0, "epoll_ctl": 2.25, "futex": 0.001}
    found.system_calls.append(SystemCalls("uproxy", WORKLOAD, 4, calls, "connection", "strace"))
    plugins = {"title": "CNI plugins", "markdown": "", "reason": "there are no reference plugins", "runs": []}
    found.sections = {"scale": scale(), "cni": plugins}
    return found


def scale() -> dict[str, Any]:
    """Give the section of two sizes from manifests."""
    sizes = ((1000, 0.8), (10000, 4.5))
    runs = [
        {
            "services": services,
            "form": "json",
            "served": seconds,
            "started": {"cpu": seconds, "memory": {"resident": 6e7 * seconds}, "pause": 0.01 * seconds},
            "endpoint_added": [0.05, 0.06],
            "nft": {"bytes": 1, "whole": 0.1 * seconds, "one": 0.002},
        }
        for services, seconds in sizes
    ]
    table = "| | 1,000 | 10,000 |\n|---|---:|---:|\n| start to all served, s | 0.80 | 4.50 |\n\n2 endpoints each."
    return {"title": "Services from manifests", "markdown": table, "reason": "", "runs": runs}
