"""Nodes of three kinds, used by all tests of a module: with our plugins, with Debian's Go plugins, with release 1.9.1 of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.bridge import node as nodes
from tests.cni.bridge.node import ROOT, Json, Node, listed
from tests.cni.matrix.cases import NEW, OLD
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace

OURS: Final = "ours"
BUILT: Final = ROOT / ".cache/cni" / f"v{NEW}"


def plugins_of(release: str) -> Path:
    """Find a release; skip the test when it is not there."""
    if release == OLD and (debian := nodes.reference()):
        return debian
    if release == NEW and (BUILT / "bridge").is_file():
        return BUILT
    pytest.skip(f"needs release {release} of the reference plugins: scripts/debian-tools.sh as root, scripts/cni-binaries.sh")


class Bench:
    """One node and one pod per kind of plugins, made when first asked for and wiped before each use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespaces = Namespaces()
        self._nodes: dict[str, Node] = {}
        self._stores = 0

    def remove(self) -> None:
        """Remove the namespaces."""
        self._namespaces.remove()

    def node(self, kind: str) -> tuple[Node, Namespace]:
        """Give a node with nothing on it, and its pod."""
        if kind not in self._nodes:
            plugins = nodes.ours(self._folder / "bin") if kind == OURS else plugins_of(kind)
            made = Node(self._namespaces, plugins, self._folder)
            made.pod()
            self._nodes[kind] = made
        node = self._nodes[kind]
        node.plugins = self._folder / "bin" if kind == OURS else plugins_of(kind)
        self._stores += 1
        node.store = self._folder / f"store{self._stores}"
        for namespace in (node.host, node.pods[0]):
            names = [one["ifname"] for one in listed(namespace, "link") if one["ifname"] != "lo" and one.get("link_type") == "ether"]
            namespace.run("sh", "-c", "; ".join(["nft flush ruleset", *[f"ip link del {name} 2>/dev/null" for name in names], "true"]))
        node.host.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})
        return node, node.pods[0]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("matrix"))
    yield made
    made.remove()


@pytest.fixture(scope="module")
def seen_of_ours() -> dict[str, Json]:
    """Keep what a case gave with our plugins, which every release is compared with."""
    return {}
