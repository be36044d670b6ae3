"""kube-proxy as a subject: the real one with its API server, the userspace one where the machine lets it, and their arrangement."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.load.server import ECHO, NAME
from bench.manifests import endpoint_slice
from bench.measurement import load_server
from bench.namespaces import FOLDER
from bench.subjects import SUBJECTS, kube_proxy_userspace
from bench.subjects.base import CannotRun, Running, name_of_endpoint
from bench.subjects.control_plane import endpoints, pin
from bench.subjects.kube_proxy_userspace import DESCRIPTORS, may_open, program, version
from bench.topology import LOAD_CPU, SERVER, Topology
from tests.cluster.fixtures import require_binaries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@contextmanager
def started(name: str) -> Iterator[tuple[Topology, Running]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Topology() as topology, load_server(topology):
        running = SUBJECTS[name].start(topology, Path(folder))
        try:
            yield topology, running
        finally:
            running.stop()


def echoed(topology: Topology, address: str) -> bytes:
    """Send a datagram and give what comes back."""
    with topology.client.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(5)
        sock.connect((address, ECHO))
        sock.send(b"hello")
        return sock.recv(100)


def children(*names: str, beside: Collection[psutil.Process] = ()) -> list[psutil.Process]:
    """List descendants of these names; other tests of this process may have an API server of their own."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() in names and child not in beside]


@pytest.mark.netns
def test_kube_proxy_translates_addresses_of_both_families_and_its_control_plane_sleeps() -> None:
    require_binaries()
    require_binaries("kube-proxy")
    others = children("kube-apiserver", "etcd")
    with started("kube-proxy") as (topology, running):
        for family, address in running.addresses.items():
            assert name_of_endpoint(topology, (address, NAME)) == SERVER[family]
            assert echoed(topology, address) == b"hello"
        assert running.process is None, "nobody's CPU time counts: no packet meets a process"
        plane = children("kube-apiserver", "etcd", beside=others)
        assert [child.status() for child in plane] == [psutil.STATUS_STOPPED] * 2
        assert all(child.cpu_affinity() == [LOAD_CPU] for child in plane)
        everything = children("kube-apiserver", "etcd", "kube-proxy", beside=others)

    assert len(everything) == 3
    assert not any(child.is_running() for child in everything)
    assert not list(FOLDER.glob(f"ubench{os.getpid()}-*"))


def test_a_kube_proxy_that_was_not_built_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.subjects.kube_proxy.missing", lambda *_names: "needs Go to build kube-proxy")
    monkeypatch.setattr("bench.subjects.kube_proxy_userspace.program", lambda: tmp_path / "kube-proxy")

    with pytest.raises(CannotRun, match="needs Go to build kube-proxy"):
        SUBJECTS["kube-proxy"].version()
    with pytest.raises(CannotRun, match=r"v1\.25\.16 was not built: scripts/kubernetes-binaries\.sh kube-proxy-1\.25"):
        SUBJECTS["kube-proxy-userspace"].version()


def test_where_64000_descriptors_are_not_to_be_had_it_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "kube-proxy"
    binary.touch()
    monkeypatch.setattr(kube_proxy_userspace, "program", lambda: binary)
    monkeypatch.setattr(kube_proxy_userspace, "missing", lambda: "")
    monkeypatch.setattr(kube_proxy_userspace, "may_open", lambda _descriptors: False)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    with pytest.raises(CannotRun, match=f"insists on 64,000 descriptors, this machine gives {hard:,}"):
        SUBJECTS["kube-proxy-userspace"].version()


def test_descriptors_are_asked_for_as_kube_proxy_asks() -> None:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())

    assert may_open(soft)
    assert not may_open(most + 1)


def require_userspace() -> None:
    require_binaries()
    if not program().exists():
        pytest.skip("needs Go to build it: scripts/kubernetes-binaries.sh kube-proxy-1.25")


@pytest.mark.netns
def test_kube_proxy_itself_insists_on_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    require_userspace()
    if may_open(DESCRIPTORS):
        assert SUBJECTS["kube-proxy-userspace"].version() == version()
        return
    others = children("kube-apiserver", "etcd")
    monkeypatch.setattr(kube_proxy_userspace, "may_open", lambda _descriptors: True)
    with pytest.raises(CannotRun, match="failed to set open file handler limit to 64000"), started("kube-proxy-userspace"):
        pass

    assert not children("kube-apiserver", "etcd", "kube-proxy", beside=others)


@pytest.mark.netns
def test_userspace_kube_proxy_carries_ipv4_where_the_machine_has_the_descriptors() -> None:
    require_userspace()
    if not may_open(DESCRIPTORS):
        with pytest.raises(CannotRun, match="insists on 64,000 descriptors"):
            SUBJECTS["kube-proxy-userspace"].version()
        return
    with started("kube-proxy-userspace") as (topology, running):
        assert list(running.addresses) == [4]
        assert name_of_endpoint(topology, (running.addresses[4], NAME)) == SERVER[4]
        assert echoed(topology, running.addresses[4]) == b"hello"
        assert running.process is not None
        assert psutil.Process(running.process.pid).name() == "kube-proxy"


def test_the_version_of_userspace_kube_proxy_is_that_of_its_module() -> None:
    assert version() == "v1.25.16"


def test_v1_endpoints_say_what_the_slice_says() -> None:
    piece = endpoint_slice("web", ["10.244.0.1", "10.244.0.2"], {"http": ("TCP", 80), "dns": ("UDP", 53)})

    made = endpoints(piece)

    assert made["metadata"] == {"name": "web", "namespace": "bench"}
    [subset] = made["subsets"]
    assert [each["ip"] for each in subset["addresses"]] == ["10.244.0.1", "10.244.0.2"]
    assert [(each["port"], each["protocol"]) for each in subset["ports"]] == [(80, "TCP"), (53, "UDP")]


def test_a_process_is_pinned_with_all_its_threads() -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); print(flush=True); time.sleep(60)"
    with subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            pin(process.pid, LOAD_CPU)
            threads = [int(path.name) for path in Path("/proc", str(process.pid), "task").iterdir()]
            assert [os.sched_getaffinity(thread) for thread in threads] == [{LOAD_CPU}] * 2
        finally:
            process.kill()
