"""Two pods of one node and a Service between them, with a real uproxy: the endpoint sees the client's own address.

That needs every packet between the pods to pass the node. With addresses of a host's prefix it does, unless the pods learn
a direct way from redirects, which a node sends when a packet leaves by the interface that it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.manifests import Services, targets
from tests.lab.process import Uproxy
from tests.lab.servers import Servers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.pods.conftest import Estate
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/24", "fd61::/64"
GATEWAYS = ("10.61.0.1", "fd61::1")


def ping(pod: Host, other: Host) -> None:
    """Send 20 packets in each family, enough for every redirect that the node has to give (net.ipv4.route.redirect_number)."""
    for address in other.addresses:
        assert "20 received" in pod.namespace.run("ping", "-c20", "-i0.02", "-W2", address)


def learnt(pod: Host, other: Host) -> list[str]:
    """Give the ways that the pod takes to the other one, by the kernel's word, where they are not through the gateway."""
    ways = [pod.namespace.run("ip", "route", "get", address).split("\n")[0] for address in other.addresses]
    return [way for way, gateway in zip(ways, GATEWAYS, strict=True) if f" via {gateway} " not in way]


def test_an_endpoint_sees_a_client_pod_of_its_own_node_after_packets_that_could_have_taught_the_direct_way(
    estate: Estate, tmp_path: Path
) -> None:
    config = estate.plugins.config(V4, V6, isDefaultGateway=True, podPrefix="host")
    pod, other = estate.pod(config), estate.pod(config)
    services = Services(tmp_path / "manifests")
    services.write_node(estate.node, pod_cidrs=(V4, V6))
    served = services.add("between", targets([other]))
    with Servers([other]):
        uproxy = Uproxy(estate.node, manifests=services.folder)
        try:
            uproxy.wait_healthy()
            for family in (4, 6):
                client.poll(pod, served.vip(family), served.port)
            ping(pod, other)
            ping(other, pod)
            assert learnt(pod, other) + learnt(other, pod) == []
            for family in (4, 6):
                for protocol in ("TCP", "UDP"):
                    answer = client.ask(pod, served.vip(family), served.port, protocol)
                    assert (answer.name, answer.address) == (other.name, pod.address(family)), f"IPv{family}, {protocol}"
        finally:
            uproxy.stop()
    assert "Traceback" not in uproxy.log()


def test_a_pod_that_accepts_redirects_would_learn_the_direct_way(estate: Estate) -> None:
    """What the plugin's setting is for. In IPv6 the kernel believes a gateway's link-local address alone, which is not the gateway here."""
    config = estate.plugins.config(V4, V6, isDefaultGateway=True, podPrefix="host")
    pod, other = estate.pod(config), estate.pod(config)
    pod.namespace.sysctl({f"net.{family}.conf.{name}.accept_redirects": 1 for family in ("ipv4", "ipv6") for name in ("all", "eth0")})
    ping(pod, other)
    assert [way.split()[2] for way in learnt(pod, other)] == [other.address(4)]
