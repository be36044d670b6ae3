"""A node with pods, and a host outside that knows no way back to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.cni.bridge.node import Json, Node, ours
from tests.lab.namespaces import Namespaces
from tests.lab.topology import Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODE, OUTSIDE = ("192.0.2.1", "2001:db8::1"), ("192.0.2.9", "2001:db8::9")


class Estate(NamedTuple):
    """The node, its plugins' side of it, and the host outside."""

    plugins: Node
    node: Host
    outside: Host

    def pod(self, config: Json) -> Host:
        """Attach a pod."""
        namespace = self.plugins.pod()
        name = f"pod{len(self.plugins.pods)}"
        loopback = {"cniVersion": config["cniVersion"], "name": "lo", "type": "loopback"}
        self.plugins.add(loopback, namespace, CNI_CONTAINERID=name, CNI_IFNAME="lo")
        result = self.plugins.add(config, namespace, CNI_CONTAINERID=name)
        four, six = (ip["address"].partition("/")[0] for ip in result["ips"])
        return Host(name, namespace, (four, six))


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    namespaces = Namespaces()
    try:
        node = Node(namespaces, ours(tmp_path / "bin"), tmp_path / "store")
        (outside,) = namespaces.make("outside")
        node.host.ip("link set lo up", f"link add up0 type veth peer name in netns {outside.name}", "link set up0 up")
        for namespace, name, addresses in ((node.host, "up0", NODE), (outside, "in", OUTSIDE)):
            namespace.ip(f"link set {name} up", f"addr add {addresses[0]}/24 dev {name}", f"addr add {addresses[1]}/64 dev {name} nodad")
        yield Estate(node, Host("node", node.host, NODE), Host("outside", outside, OUTSIDE))
    finally:
        namespaces.remove()
