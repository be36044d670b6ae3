"""Where a control plane may run, what it leaves behind, and what else may stand beside it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import binaries, objects
from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fixtures import require_binaries
from tests.cluster.kube_proxy import kube_proxy
from tests.lab import wiring
from tests.lab.namespaces import Namespaces, batch
from tests.lab.topology import Host
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace

STREAMING_LIST: Final = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
PLACES: Final = (wiring.ADDRESSES["outside"][0], wiring.ADDRESSES["node"][0])
RUN_AND_WAIT: Final = """
import pathlib, sys, time
from tests.cluster.control_plane import ControlPlane
with ControlPlane(pathlib.Path(sys.argv[1])) as plane:
    print(plane.etcd.program.pid, plane.api_server.pid, plane.controllers().pid, flush=True)
    time.sleep(60)
"""
START_MANY: Final = """
import pathlib, sys
from tests.cluster.program import Program
for number in range(20):
    Program(["sleep", "60"], pathlib.Path(sys.argv[1])).start()
    print(number, flush=True)
"""


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_outlives_a_test_run_that_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    require_binaries()
    argv = [sys.executable, "-c", RUN_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(argv, cwd=binaries.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        run.send_signal(number)
    eventually(lambda: not any(map(is_alive, pids)), within=20)


def living_in(folder: Path) -> list[str]:
    """List the processes whose working folder it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(process.name)
    return found


@pytest.mark.parametrize("started", range(1, 9))
def test_a_program_does_not_outlive_tests_that_end_while_it_starts(tmp_path: Path, started: int) -> None:
    argv = [sys.executable, "-c", START_MANY, str(tmp_path)]
    with subprocess.Popen(argv, cwd=binaries.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        for _ in range(started):
            assert run.stdout.readline()
        run.kill()
    eventually(lambda: not living_in(tmp_path), within=20)


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "ROOT", tmp_path)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    reason = binaries.missing()
    assert all(name in reason for name in (*binaries.NEEDED, binaries.version(), "scripts/kubernetes-binaries.sh"))
    (tmp_path / "etcd").symlink_to(sys.executable)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert binaries.binary("etcd") == tmp_path / "etcd"
    with pytest.raises(FileNotFoundError, match=r"scripts/kubernetes-binaries\.sh kube-proxy"):
        binaries.binary("kube-proxy")


def test_before_an_old_etcd_the_api_server_refuses_a_streaming_list(tmp_path: Path) -> None:
    require_binaries()
    if not os.access(binaries.OLD_ETCD, os.X_OK):
        pytest.skip("needs Debian's etcd: scripts/debian-tools.sh as root")
    with ControlPlane(tmp_path, etcd=binaries.OLD_ETCD) as plane:
        snapshot = plane.snapshot()
        plane.admin.create(objects.service("default", "web", {"http": 80}))
        (event,) = plane.admin.watch("Service", seconds=2, **STREAMING_LIST)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 500)
        assert "RequestWatchProgress is disabled" in event["object"]["message"]
        plane.restore(snapshot)
        assert [each["metadata"]["name"] for each in plane.admin.list("Service")["items"]] == ["kubernetes"]


@pytest.fixture
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Give two namespaces with a cable between them; their addresses are PLACES."""
    made = Namespaces()
    try:
        ends = made.make("cluster", "node")
        batch([f"link add eth0 netns {ends[0].name} type veth peer name eth0 netns {ends[1].name}"])
        for address, end in zip(PLACES, ends, strict=True):
            end.ip("link set lo up", "link set eth0 up", f"addr add {address}/16 dev eth0")
        yield ends[0], ends[1]
    finally:
        made.remove()


def handshake(inside: Namespace, address: tuple[str, int], authority: bytes) -> str:
    """Connect from a namespace to an API server that an authority vouches for; give the TLS version."""
    tls = ssl.create_default_context(cadata=authority.decode())
    with inside.call(socket.create_connection, address, 10) as raw, tls.wrap_socket(raw, server_hostname=address[0]) as connection:
        return connection.version() or ""


@pytest.mark.netns
def test_it_runs_in_a_network_namespace_and_tells_where(tmp_path: Path, two_namespaces: tuple[Namespace, Namespace]) -> None:
    require_binaries()
    cluster, node = two_namespaces
    with ControlPlane(tmp_path, namespace=cluster, address=PLACES[0]) as plane:
        assert handshake(node, (PLACES[0], plane.port), plane.authority.pem) == "TLSv1.3"

        def told() -> list[str]:
            slices = plane.admin.list("EndpointSlice")["items"]
            return [address for each in slices for one in each["endpoints"] for address in one["addresses"]]

        eventually(lambda: told() == [PLACES[0]], within=20)


@pytest.mark.netns
def test_a_relay_brings_the_shared_one_into_any_namespace(control_plane: ControlPlane, two_namespaces: tuple[Namespace, Namespace]) -> None:
    here, there = two_namespaces
    for plain in (False, True):
        with control_plane.relay(namespace=here, address=PLACES[0], plain=plain) as relay:
            assert handshake(there, (PLACES[0], relay.port), control_plane.authority.pem) == "TLSv1.3"


@pytest.mark.netns
def test_the_real_kube_proxy_serves_what_the_control_plane_says(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, two_namespaces: tuple[Namespace, Namespace]
) -> None:
    require_binaries("kube-proxy")
    node, admin = two_namespaces[1], control_plane.admin
    objects.create_node(admin, "lab-node", [PLACES[1]])
    made = admin.create(objects.service(namespace, "web", {"http": 80}))
    admin.create(objects.endpoint_slice(namespace, "web-1", "web", [PLACES[0]], {"http": 8080}))
    with control_plane.relay(namespace=node, plain=True) as relay:
        kubeconfig = control_plane.kubeconfig(NODE_PROXIER, server=relay.url)
        proxy = kube_proxy(tmp_path, Host("lab-node", node, wiring.ADDRESSES["node"]), kubeconfig)
        proxy.start()
        try:
            eventually(lambda: made["spec"]["clusterIP"] in node.run("nft", "list", "table", "ip", "kube-proxy"), within=30)
        finally:
            proxy.kill()
            admin.delete("Node", "lab-node")
