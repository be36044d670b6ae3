"""The two proxies on their nodes: started, asked what they used, stopped, and all that they left in the kernel removed.

Owns command lines and where facts come from: uproxy's log lines, /proc, metrics. Seconds and bytes.
"""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import uproxy
from bench import nft_times
from bench.processes import Memory, cpu_seconds, memory, waiting_seconds
from bench.scale_run import metric, metrics
from bench.subjects.uproxy import HEALTH, METRICS, settings
from bench.topology import end, python, start
from tests.cluster.binaries import binary, missing, version
from tests.cluster.kube_proxy import kube_proxy
from tests.lab.namespaces import Namespace as LabNamespace
from tests.lab.topology import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.cluster_site import Site

LOOP_PROBE: Final = "5ms"
"""Finds every pause that matters."""
PHASES: Final = ("plan", "listen", "program")
"""Of one of uproxy's rounds."""


class Costs(NamedTuple):
    """What a proxy has used so far. waited: for a CPU. pause: the longest one of uproxy's loop; None for others."""

    cpu: float
    waited: float
    memory: Memory
    pause: float | None


class Proxy(Protocol):
    """A proxy on its node."""

    title: str
    node: str
    tables: nft_times.Tables

    def reason(self) -> str:
        """Say why it cannot run here; empty when it can."""

    def running(self, site: Site) -> AbstractContextManager[None]:
        """Run it until left; no trace of it stays in the node's kernel."""

    def costs(self, site: Site) -> Costs:
        """Give what it used so far."""

    def facts(self, site: Site) -> dict[str, float]:
        """Give what it says itself about its start and its changes: milliseconds by name."""

    def last_words(self) -> str:
        """Give the end of its log."""


class UProxy:
    """The real `uproxy run --kubeconfig`. sync: settings of that group."""

    node = "uproxy"
    tables = nft_times.UPROXY

    def __init__(self, folder: Path, sync: Mapping[str, str]) -> None:
        self.title = f"uproxy {uproxy.__version__}"
        self._folder = folder
        self._sync = dict(sync)
        self._starts = 0
        self._log = folder / "uproxy.log"
        self._process: subprocess.Popen[str] | None = None

    def reason(self) -> str:
        """Say nothing: it can run where the control plane can."""
        return ""

    @contextmanager
    def running(self, site: Site) -> Iterator[None]:
        """Run it until left, each time without a last known state, which it does keep."""
        self._starts += 1
        self._log = self._folder / f"uproxy-{self._starts}.log"
        namespace = site.node(self.node)
        with self._log.open("w") as log:
            self._process = start(namespace, None, self._argv(site), stdout=subprocess.DEVNULL, stderr=log)
        try:
            yield
        finally:
            end(self._process)
            subprocess.run([*namespace.prefix, *python("uproxy", "cleanup")], check=True, stdout=subprocess.DEVNULL)

    def _argv(self, site: Site) -> list[str]:
        config = settings(self._folder, metrics={"loopProbe": LOOP_PROBE}, sync=self._sync)
        source = ["--kubeconfig", str(site.plane.kubeconfig()), "--state-dir", str(self._folder / f"state-{self._starts}")]
        addresses = ["--healthz-bind-address", HEALTH, "--metrics-bind-address", METRICS]
        itself = ["--config", str(config), "--node-name", self.node, "--logging-format", "json"]
        return [*python("uproxy", "run"), *source, *itself, *addresses]

    def costs(self, site: Site) -> Costs:
        """Give what it used so far."""
        pid = self._process.pid if self._process else 0
        pause = metric(site.node(self.node), "uproxy_loop_pause_seconds_max")
        return Costs(cpu_seconds(pid), waiting_seconds(pid), memory(pid), pause)

    def facts(self, site: Site) -> dict[str, float]:  # noqa: ARG002 - as Proxy says: its log has all of it
        """Give the times of the lists and of the first round, and medians of the rounds after it, which changes made."""
        found: dict[str, float] = {}
        rounds: list[dict[str, Any]] = []
        for line in self._lines():
            if line.get("event") == "listed":
                for name in ("milliseconds", "decode_milliseconds"):
                    found.setdefault(f"{line['kind']} {name}", line[name])
            elif line.get("event") == "synced":
                rounds.append(line)
        for name in PHASES if rounds else ():
            found[name] = rounds[0][f"{name}_milliseconds"]
            if rounds[1:]:
                found[f"{name} of a change"] = median(each[f"{name}_milliseconds"] for each in rounds[1:])
        return found

    def last_words(self) -> str:
        """Give the last line of its log."""
        return next(iter(self._log.read_text().splitlines()[-1:]), "nothing")

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self._log.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                yield json.loads(line)


class KubeProxy:
    """kube-proxy in nftables mode with its own defaults."""

    node = "kube-proxy"
    tables = nft_times.KUBE_PROXY

    def __init__(self, folder: Path) -> None:
        self.title = f"kube-proxy {version()}"
        self._folder = folder / "kube-proxy"
        self._pid = 0
        self._log = self._folder / "kube-proxy.log"

    def reason(self) -> str:
        """Say what is missing."""
        return missing("kube-proxy")

    @contextmanager
    def running(self, site: Site) -> Iterator[None]:
        """Run it until left."""
        namespace = site.node(self.node)
        host = Host(self.node, LabNamespace(namespace.name), ("10.77.2.2", ""))
        program = kube_proxy(self._folder, host, site.plane.kubeconfig())
        program.start()
        self._pid = program.pid
        try:
            yield
        finally:
            program.stop()
            subprocess.run([*namespace.prefix, str(binary("kube-proxy")), "--cleanup"], check=False, capture_output=True)

    def costs(self, site: Site) -> Costs:  # noqa: ARG002 - as Proxy says
        """Give what it used so far."""
        return Costs(cpu_seconds(self._pid), waiting_seconds(self._pid), memory(self._pid), None)

    def facts(self, site: Site) -> dict[str, float]:
        """Give the means of its rounds, of IPv4: whole ones ("program"), which a start has, and those for changes alone."""
        text = metrics(site.node(self.node))
        kinds = {"program": "full", "program of a change": "partial"}
        means = {name: _mean(text, f"kubeproxy_sync_{kind}_proxy_rules_duration_seconds") for name, kind in kinds.items()}
        return {name: 1000 * mean for name, mean in means.items() if mean is not None}

    def last_words(self) -> str:
        """Give the last line of its log."""
        return next(iter(self._log.read_text(errors="replace").splitlines()[-1:]), "nothing")


def _mean(text: str, name: str) -> float | None:
    """Give the mean of a histogram of IPv4 among metrics; None if nothing was counted."""
    parts = [re.search(rf'^{name}_{part}{{ip_family="IPv4"}} (\S+)$', text, re.MULTILINE) for part in ("sum", "count")]
    total, count = (float(part[1]) if part else 0.0 for part in parts)
    return total / count if count else None
