"""uproxy itself: the real `uproxy run` with a folder of manifests, the client on a service address.

Its settings are the defaults, except for the backlog: every proxy here has the same one.
"""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING, Final

import yaml

import uproxy
from bench.manifests import endpoint_slice, service
from bench.subjects.base import PORTS, VIP, CannotRun, Running, launch
from bench.subjects.feed import ManifestFeed
from bench.topology import BACKLOG, CLIENT, NODE, SERVER, Topology, python

if TYPE_CHECKING:
    from pathlib import Path

HEALTH: Final = "127.0.0.1:10256"
METRICS: Final = "127.0.0.1:10249"


class UProxy:
    """One Service with all ports, one endpoint.

    pods: the node reaches client and server by host routes, as it does pods, so that the client's address is kept.
    redirect: the back end; with "none" the Service's address is the node's own, where the other proxies listen.
    """

    udp = True

    def __init__(self, title: str, *, role: str = "variant", pods: bool = False, loop: str = "uvloop", redirect: str = "nftables") -> None:
        self.title = title
        self.role = role
        self._pods = pods
        self._loop = loop
        self._redirect = redirect
        self._addresses = NODE if redirect == "none" else VIP

    def version(self) -> str:
        """Give its version and the interpreter's; raises CannotRun where the kernel's tool is missing."""
        if self._redirect == "nftables" and shutil.which("nft") is None:
            raise CannotRun("nft is not installed")
        return f"{uproxy.__version__}, Python {platform.python_version()}"

    def start(self, topology: Topology, folder: Path) -> Running:
        """Start it on the node; raises CannotRun."""
        self.version()
        if self._pods:
            for family, length in ((4, 32), (6, 128)):
                topology.node.ip(f"route add {CLIENT[family]}/{length} dev to-client", f"route add {SERVER[family]}/{length} dev to-server")
        manifests = folder / "manifests"
        manifests.mkdir()
        documents = [
            document
            for family, vip in self._addresses.items()
            for document in (service(f"bench-{family}", vip, PORTS), endpoint_slice(f"bench-{family}", [SERVER[family]], PORTS))
        ]
        (manifests / "bench.yaml").write_text(yaml.safe_dump_all(documents))
        argv = command(manifests, settings(folder, loop=self._loop, tcp={"backlog": BACKLOG}), redirect=self._redirect)
        running = launch(topology, folder, argv, self._addresses)
        if self._redirect != "none":
            running.feed = ManifestFeed(manifests)
        return running


def command(manifests: Path, config: Path, *, redirect: str = "nftables") -> list[str]:
    """Give the command line of a uproxy on a node of the measurements."""
    addresses = ["--healthz-bind-address", HEALTH, "--metrics-bind-address", METRICS]
    where = ["--manifests", str(manifests), "--config", str(config), "--node-name", "node"]
    return [*python("uproxy", "run"), *where, "--redirect", redirect, *addresses]


def settings(folder: Path, **values: object) -> Path:
    """Write a settings file and give its path."""
    config = folder / "uproxy.yaml"
    config.write_text(yaml.safe_dump({"apiVersion": "uproxy.io/v1alpha1", "kind": "UproxyConfiguration", **values}))
    return config
