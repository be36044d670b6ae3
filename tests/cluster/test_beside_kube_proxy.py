"""uproxy and the real kube-proxy on one node: side by side, each with its own Services, and one after the other."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import objects
from tests.cluster.binaries import ROOT, binary
from tests.cluster.fixtures import require_binaries
from tests.cluster.kube_proxy import kube_proxy
from tests.cluster.nodes import DUAL, PORTS, SERVED, Cluster, Made
from tests.lab import client, kernel
from tests.lab.process import Uproxy, run_once
from tests.lab.waiting import eventually
from tests.lab.ways import CLIENTS, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.nodes import Tenant
    from tests.cluster.program import Program
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

LABEL: Final = "service.kubernetes.io/service-proxy-name"
NAME: Final = "uproxy"
RULES: Final = ROOT / "deploy" / "nftables" / "beside-kube-proxy.nft"
ELSEWHERE: Final = ("--healthz-bind-address=127.0.0.1:11256", "--metrics-bind-address=127.0.0.1:11249")
"""kube-proxy has the usual ports."""
HEALTH_PORT: Final = 11256
EXTERNAL: Final = ("198.51.100.77", "2001:db8:51::77")
SECONDS: Final = 20.0
"""For kube-proxy's start and its first sync; 1 s when nothing else runs."""
ALL: Final = tuple(itertools.product((0, 1), PROTOCOLS))
"""Index of the address, and protocol."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster of this module's own: kube-proxy leaves traces on a node."""
    require_binaries()
    require_binaries("kube-proxy")
    with Cluster(tmp_path_factory.mktemp("two-proxies")) as made:
        yield made


@contextmanager
def running_kube_proxy(cluster: Cluster, folder: Path, mode: str = "nftables") -> Iterator[Program]:
    """Run kube-proxy on the node; what it leaves in the kernel is gone afterwards."""
    program = kube_proxy(folder, cluster.lab.node, cluster.plane.kubeconfig(), mode=mode)
    program.start()
    try:
        yield program
    finally:
        program.kill()
        clean_up_after_kube_proxy(cluster.lab.node)


def clean_up_after_kube_proxy(node: Host) -> None:
    node.namespace.run(str(binary("kube-proxy")), "--cleanup")


@contextmanager
def running_uproxy(cluster: Cluster, *flags: str) -> Iterator[Uproxy]:
    """Run uproxy on the node; nothing of it is left in the kernel afterwards."""
    started = Uproxy(cluster.lab.node, "--kubeconfig", str(cluster.plane.kubeconfig()), "--state-dir", "", *ELSEWHERE, *flags)
    try:
        eventually(lambda: started.get("/healthz", HEALTH_PORT).status == HTTPStatus.OK, within=SECONDS)
        yield started
    finally:
        started.kill()
        run_once(cluster.lab.node, "cleanup")
    assert "Traceback" not in started.log(), started.log()


@pytest.fixture(params=["nftables", "iptables"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give each of kube-proxy's modes."""
    return str(request.param)


def serve_ours(cluster: Cluster, tenant: Tenant) -> Made:
    """Make a Service that has our name from the start, with pod2 behind it."""
    tenant.add_pod("ours", cluster.lab.pod2)
    document = objects.service(tenant.namespace, "ours", {}, externalIPs=EXTERNAL, **DUAL)
    document["spec"]["ports"] = list(PORTS)
    document["metadata"]["labels"] = {LABEL: NAME}
    made = Made.of(cluster.admin.create(document))
    await_served(cluster.lab.pod, made)
    return made


def await_served(who: Host, made: Made) -> None:
    """Wait until a Service answers on both families, over both protocols."""
    for index, protocol in ALL:
        assert client.poll(who, made.vips[index], SERVED, protocol, within=SECONDS).name == "pod2"


def is_kube_proxys(cluster: Cluster, made: Made) -> bool:
    return made.vip in cluster.lab.node.namespace.run("nft", "list", "table", "ip", "kube-proxy")


def is_ours(cluster: Cluster, made: Made) -> bool:
    return made.vip in cluster.lab.node.namespace.run("nft", "list", "set", "inet", "uproxy", "vips4")


def is_lost(who: Host, address: str, protocol: client.Protocol) -> bool:
    """Tell whether nobody answers and nobody refuses. A datagram that is dropped on its way out is told as EPERM."""
    try:
        client.ask(who, address, SERVED, protocol, patience=0.5)
    except (TimeoutError, PermissionError):
        return True
    return False


def test_each_serves_its_own_services_to_everybody_but_the_node_itself(
    cluster: Cluster, tenant: Tenant, tmp_path: Path, mode: str
) -> None:
    with running_kube_proxy(cluster, tmp_path, mode), running_uproxy(cluster, "--service-proxy-name", NAME):
        theirs, ours = tenant.serve("theirs", cluster.lab.pod2, **DUAL), serve_ours(cluster, tenant)
        for who in (cluster.lab[name] for name in CLIENTS if name != "node"):
            await_served(who, theirs)
            await_served(who, ours)
        assert (is_ours(cluster, ours), is_ours(cluster, theirs)) == (True, False)
        await_served(cluster.lab.node, theirs)


def test_beside_iptables_rules_the_node_itself_is_served_too(cluster: Cluster, tenant: Tenant, tmp_path: Path) -> None:
    with running_kube_proxy(cluster, tmp_path, "iptables"), running_uproxy(cluster, "--service-proxy-name", NAME):
        await_served(cluster.lab.node, serve_ours(cluster, tenant))


def test_beside_nftables_rules_the_node_itself_needs_the_documented_ones(cluster: Cluster, tenant: Tenant, tmp_path: Path) -> None:
    node = cluster.lab.node
    with running_kube_proxy(cluster, tmp_path), running_uproxy(cluster, "--service-proxy-name", NAME):
        theirs, ours = tenant.serve("theirs", cluster.lab.pod2, **DUAL), serve_ours(cluster, tenant)
        eventually(lambda: "drop" in node.namespace.run("nft", "list", "chain", "ip", "kube-proxy", "cluster-ips-check"))
        for index, protocol in ALL:
            assert is_lost(node, ours.vips[index], protocol)
            # Not an address of the ServiceCIDRs, so kube-proxy has no opinion on it.
            assert client.poll(node, EXTERNAL[index], SERVED, protocol).name == "pod2"
        for _ in range(2):
            node.namespace.run("nft", "-f", str(RULES))
        for who in (cluster.lab[name] for name in CLIENTS):
            await_served(who, ours)
            await_served(who, theirs)
        assert client.download(node, ours.vip, SERVED, 1_000_000) == client.pattern(1_000_000)
        node.namespace.run("nft", "delete", "table", "inet", "uproxy-beside-kube-proxy")
        assert is_lost(node, ours.vip, "TCP")


def test_the_label_hands_a_live_service_over_at_once_and_its_open_connections_are_reset(
    cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    pod = cluster.lab.pod
    with running_kube_proxy(cluster, tmp_path), running_uproxy(cluster, "--service-proxy-name", NAME):
        made = tenant.serve("web", cluster.lab.pod2, **DUAL)
        assert is_kube_proxys(cluster, made)
        assert not is_ours(cluster, made)
        with client.tcp(pod, made.vip, SERVED) as conversation:
            assert client.who(conversation).name == "pod2"
            tenant.change("web", {LABEL: NAME})
            eventually(lambda: is_ours(cluster, made) and not is_kube_proxys(cluster, made), within=SECONDS)
            await_served(pod, made)
            with pytest.raises(ConnectionResetError):
                client.who(conversation)


def test_without_the_label_kube_proxy_serves_again_once_the_last_open_connection_has_ended(
    cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    pod = cluster.lab.pod
    settings = tmp_path / "uproxy.yaml"
    settings.write_text("{apiVersion: uproxy.io/v1alpha1, kind: UproxyConfiguration, capture: {linger: 200ms}}", encoding="utf-8")
    with running_kube_proxy(cluster, tmp_path), running_uproxy(cluster, "--service-proxy-name", NAME, "--config", str(settings)):
        made = serve_ours(cluster, tenant)
        with client.tcp(pod, made.vip, SERVED) as conversation:
            assert client.who(conversation).name == "pod2"
            tenant.change("ours", {LABEL: None})
            eventually(lambda: is_kube_proxys(cluster, made), within=SECONDS)
            client.poll_refusal(pod, made.vip, SERVED, within=SECONDS)
            assert client.who(conversation).name == "pod2"
        eventually(lambda: not is_ours(cluster, made), within=SECONDS)
        await_served(pod, made)


def test_what_kube_proxy_leaves_takes_services_from_the_node_until_it_is_removed_and_then_there_is_a_way_back(
    cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    node = cluster.lab.node
    with running_kube_proxy(cluster, tmp_path) as theirs:
        made = tenant.serve("web", cluster.lab.pod2, **DUAL)
        await_served(node, made)
        theirs.stop()
        await_served(node, made)
        with running_uproxy(cluster) as ours:
            await_served(cluster.lab.pod, made)
            assert is_lost(node, made.vip, "TCP")
            for family in ("ip", "ip6"):
                command = f"nft delete table {family} kube-proxy"
                ours.wait_for_log("host_finding", command)
                node.namespace.run(*command.split())
            await_served(node, made)
        assert "uproxy" not in kernel.rules(node).ruleset
        theirs.start()
        await_served(node, made)


def test_kube_proxys_own_cleanup_leaves_nothing_that_uproxy_complains_about(
    cluster: Cluster, tenant: Tenant, tmp_path: Path, mode: str
) -> None:
    with running_kube_proxy(cluster, tmp_path, mode):
        tenant.serve("web", cluster.lab.pod2, **DUAL)
    with running_uproxy(cluster) as ours:
        await_served(cluster.lab.node, Made.of(cluster.admin.get("Service", "web", tenant.namespace)))
        assert "host_finding" not in ours.log()
