"""A node with pods, as network namespaces, and service addresses that no machine has. `sudo make demo-node`.

    outside 192.0.2.9 ---- node 192.0.2.1 ---- pods 10.244.1.11 to .14 (endpoints a b c, later d)
                             |                 pods 10.244.1.21, .22 (clients)
                           uproxy: 10.96.0.1 to .3, delivered by nftables

Packets, rules and processes are real; the namespaces are removed at the end. Nothing of this machine's own
network is touched.
"""

from __future__ import annotations

import shutil
import socket
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.namespaces import Namespace, Namespaces
from examples.show.director import main, needs_root
from examples.show.stage import EXAMPLES, Backend, CannotPlay, Client, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES: Final = {"web": ("10.96.0.1", 80), "cart": ("10.96.0.2", 80), "clock": ("10.96.0.3", 80)}
ENDPOINT_PORT: Final = 8080
GATEWAY: Final = "169.254.1.1"
NODE: Final = "192.0.2.1"
OUTSIDE: Final = "192.0.2.9"
ENDPOINTS: Final = {"a": "10.244.1.11", "b": "10.244.1.12", "c": "10.244.1.13", "d": "10.244.1.14"}
PODS: Final = {"pod-1": "10.244.1.21", "pod-2": "10.244.1.22"}
NEXT_STEPS: Final = (
    "make test                the proof: every guarantee, with real packets",
    "make bench               next to HAProxy and nginx, and with 10,000 Services",
    "uproxy run --manifests DIR      on a node of yours; uproxy cleanup removes all that it installs",
)


@contextmanager
def node() -> Iterator[Stage]:
    """Build the network and give the stage; raises CannotPlay."""
    needs_root("a demo with network namespaces")
    missing = [tool for tool in ("ip", "nft", "nsenter") if shutil.which(tool) is None]
    if missing:
        raise CannotPlay(f"{' and '.join(missing)} missing (Debian: apt-get install iproute2 nftables util-linux)")
    with Namespaces("node", "outside", *ENDPOINTS, *PODS) as network:
        _wire(network)
        yield _stage(network)


def _stage(network: Namespaces) -> Stage:
    backends = tuple(Backend(name, address, ENDPOINT_PORT, tuple(network[name].prefix)) for name, address in ENDPOINTS.items())
    places = {**PODS, "outside": OUTSIDE, "node": NODE}
    return Stage(
        title="uproxy · a node, its pods and a client outside · service addresses that no machine has",
        manifests=EXAMPLES / "node",
        services=SERVICES,
        backends=backends[:3],
        newcomer=backends[3],
        clients=tuple(Client(name, address, partial(_socket_in, network[name])) for name, address in places.items()),
        uproxy=(*network["node"].prefix, sys.executable, "-m", "uproxy", "run", "--redirect", "nftables"),
        seen_as=places,
        next_steps=NEXT_STEPS,
    )


def _socket_in(namespace: Namespace, kind: int) -> socket.socket:
    with namespace.entered():
        return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)


def _wire(network: Namespaces) -> None:
    """Connect the outside by an ordinary network, and each pod as network plugins do: one address, one route to it."""
    network.cable("node", "eth0", "outside", "eth0")
    network["node"].ip(f"addr add {NODE}/24 dev eth0", f"addr add {GATEWAY}/32 dev lo scope link")
    network["outside"].ip(f"addr add {OUTSIDE}/24 dev eth0", f"route add default via {NODE}")
    network["node"].sysctl(ipv4__ip_forward=1)
    for name, address in {**ENDPOINTS, **PODS}.items():
        network.cable("node", f"to-{name}", name, "eth0")
        network["node"].ip(f"route add {address}/32 dev to-{name}")
        network[name].ip(
            f"addr add {address}/32 dev eth0",
            f"route add {GATEWAY} dev eth0 scope link",
            f"route add default via {GATEWAY} dev eth0",
        )


if __name__ == "__main__":
    sys.exit(main("Watch uproxy serve virtual addresses to pods, to the node itself and to a client outside.", node))
