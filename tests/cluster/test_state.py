"""The last known state: a node serves from it at once when nobody answers, says so, and converges without touching the rest."""

from __future__ import annotations

import json
import stat
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.nodes import DUAL, SECONDS, SERVED
from tests.lab import client
from tests.lab.process import run_once
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.nodes import Cluster, Made, Tenant
    from tests.lab.process import Uproxy
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

SOON: Final = {"state": {"saveInterval": "100ms"}, "kubernetes": {"retryLimit": "2s"}}
READ_ONLY: Final = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
"""In a mount namespace of its own (ip netns exec made it): the folder $0 on a file system that nobody may write to."""
STARTS: Final = 3
URGENT: Final = ("chrt", "--rr", "1")
"""What else the machine does is not what is measured: uproxy gets a CPU when it wants one, and the quickest start counts."""
LOCAL: Final = 4
"""The column of `ss -tul` that has the address."""


def listeners(host: Host, *addresses: str) -> dict[str, str]:
    """Read the inode of each TCP and UDP listener on these addresses: a new socket has a new one."""
    found = {}
    for line in host.namespace.run("ss", "-H", "-l", "-n", "-t", "-u", "-e").splitlines():
        columns = line.split()
        local = columns[LOCAL]
        if local.rpartition(":")[0].strip("[]") in addresses:
            found[f"{columns[0]} {local}"] = next(column for column in columns if column.startswith("ino:"))
    return found


def slice_addresses(cluster: Cluster, tenant: Tenant, name: str) -> set[str]:
    found = cluster.admin.list("EndpointSlice", tenant.namespace, labelSelector=f"kubernetes.io/service-name={name}")["items"]
    return {address for each in found for endpoint in each["endpoints"] or () for address in endpoint["addresses"]}


def seconds_to_the_first_answer(cluster: Cluster, folder: Path, made: Made) -> float:
    """Start as after the machine did, with nothing in the kernel; from the exec until a pod is answered."""
    assert run_once(cluster.lab.node, "cleanup").returncode == 0
    started = time.monotonic()
    with cluster.running("--state-dir", str(folder), settings=SOON, prefix=URGENT, healthy=False):
        client.poll(cluster.lab.pod, made.vip, SERVED)
        return time.monotonic() - started


def test_a_start_without_an_api_server_serves_within_a_second_and_converges_without_closing_what_did_not_change(
    cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    lab, folder = cluster.lab, tmp_path / "state"
    flags = ("--state-dir", str(folder))
    with cluster.running(*flags, settings=SOON) as first:
        stays = tenant.serve("stays", lab.pod2, type="NodePort", **DUAL)
        goes, moves = tenant.serve("goes", lab.pod2), tenant.serve("moves", lab.pod2)
        save_after(first, tenant, cluster)
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o600
    comes = change_meanwhile(cluster, tenant)
    with cluster.without_api_server():
        taken = [seconds_to_the_first_answer(cluster, folder, stays) for _ in range(STARTS)]
        assert min(taken) < 1.0, taken
        with cluster.running(*flags, settings=SOON) as uproxy:
            for name in (goes, moves, stays):
                cluster.until_answered_by(lab.outside, name.vip, "pod2")
            assert_says_that_it_is_old(uproxy, folder)
            before = listeners(lab.node, *stays.vips)
            assert len(before) == 4, "TCP and UDP of both families"
            with (
                client.tcp(lab.outside, stays.vip, SERVED) as stream,
                client.udp(lab.pod, stays.vips[1], SERVED) as flow,
                client.tcp(lab.outside, lab.node.address(6), stays.node_ports[0]) as on_node_port,
            ):
                answers = [client.who(each) for each in (stream, flow, on_node_port)]
                cluster.plane.start()
                cluster.until_answered_by(lab.pod, comes.vip, "bridged2", within=30)
                cluster.until_answered_by(lab.pod, moves.vip, "bridged2")
                client.poll_refusal(lab.pod, goes.vip, SERVED)
                assert [client.who(each) for each in (stream, flow, on_node_port)] == answers
            assert listeners(lab.node, *stays.vips) == before
            assert_says_that_it_is_new(uproxy)


def save_after(uproxy: Uproxy, tenant: Tenant, cluster: Cluster) -> None:
    """Have everything written: what is served now is known, and one change more makes a save due if it was written already."""
    tenant.serve("last", cluster.lab.bridged)
    now = time.time()
    tenant.change("last", sessionAffinity="ClientIP")
    eventually(lambda: uproxy.metrics()["uproxy_state_saved_timestamp_seconds"] >= now, within=SECONDS)


def change_meanwhile(cluster: Cluster, tenant: Tenant) -> Made:
    """While no uproxy runs, one Service goes, another one's endpoint moves, a third one comes; it is given."""
    lab = cluster.lab
    tenant.delete("goes")
    tenant.add_pod("moves", lab.bridged2)
    tenant.remove_pod("moves", lab.pod2)
    comes = tenant.deploy("comes", lab.bridged2)
    for name in ("moves", "comes"):
        eventually(lambda: slice_addresses(cluster, tenant, name) == {lab.bridged2.address(4)}, within=SECONDS)  # noqa: B023 - called at once
    return comes


def assert_says_that_it_is_old(uproxy: Uproxy, folder: Path) -> None:
    assert "objects=" in uproxy.wait_for_log("state_read", str(folder / "state"))
    assert "what was served before" in uproxy.wait_for_log("api_server_lost", "connection refused")
    eventually(lambda: uproxy.metrics()["uproxy_state_age_seconds"] > 1)
    assert uproxy.metrics()["uproxy_state_saved_timestamp_seconds"] == 0, "what comes from the disk is not written there again"
    reply = uproxy.get("/healthz")
    assert reply.status == 200
    assert json.loads(reply.body)["lastKnownStateFrom"].startswith(time.strftime("%Y-", time.gmtime()))


def assert_says_that_it_is_new(uproxy: Uproxy) -> None:
    uproxy.wait_for_log("api_server_back", within=SECONDS)
    eventually(lambda: uproxy.metrics()["uproxy_state_age_seconds"] == 0, within=SECONDS)
    reply = uproxy.get("/healthz")
    assert reply.status == 200
    assert "lastKnownStateFrom" not in reply.body
    eventually(lambda: uproxy.metrics()["uproxy_state_saved_timestamp_seconds"] > 0, within=SECONDS)


@pytest.mark.parametrize("folder", ["read-only", "below a file"])
def test_a_folder_that_cannot_be_written_to_costs_a_warning_and_nothing_else(
    cluster: Cluster, tenant: Tenant, tmp_path: Path, folder: str
) -> None:
    lab = cluster.lab
    (tmp_path / "file").touch()
    read_only = folder == "read-only"
    path = tmp_path if read_only else tmp_path / "file" / "state"
    prefix = ("sh", "-c", READ_ONLY, str(tmp_path)) if read_only else ()
    with cluster.running("--state-dir", str(path), settings=SOON, prefix=prefix) as uproxy:
        line = uproxy.wait_for_log("state_not_saved", str(path), within=SECONDS)
        assert ("Read-only file system" if read_only else "Not a directory") in line
        assert "--state-dir" in line
        made = tenant.serve("web", lab.pod2)
        failures = uproxy.metrics()["uproxy_state_failures_total"]
        tenant.add_pod("web", lab.bridged2)
        cluster.until_answered_by(lab.pod, made.vip, "pod2", "bridged2")
        eventually(lambda: uproxy.metrics()["uproxy_state_failures_total"] > failures, within=SECONDS)
        assert uproxy.get("/healthz").status == 200
        assert sum("state_not_saved" in line for line in uproxy.lines) == 1


def test_without_a_state_a_start_without_an_api_server_says_that_there_is_nothing_and_waits(cluster: Cluster, tmp_path: Path) -> None:
    flags = ("--state-dir", str(tmp_path))
    with cluster.without_api_server(), cluster.running(*flags, settings=SOON, healthy=False) as uproxy:
        assert "no last known state" in uproxy.wait_for_log("api_server_lost", "connection refused", within=SECONDS)
        assert uproxy.get("/healthz").status == 503
        assert uproxy.get("/livez").status == 200
        cluster.plane.start()
        uproxy.wait_healthy()
    reasons = [line.partition(": GET")[0] for line in uproxy.lines if "api_server_lost" in line]
    assert len(reasons) == len(set(reasons)), "an API server that starts forbids everything for a moment, which is another fact"
