"""The lab's address plan and the ip commands that build it. Text only: topology.py runs it.

    far -- hop --(MTU 1300)-- router -- outside
                               |   |
      pod pod2 bridged bridged2 neighbour neighbour2 -- node   node2 -- remote

pod, pod2: /32 and /128 behind a veth each. bridged, bridged2: /32 and /128 on one bridge. neighbour,
neighbour2: /24 and /64 on another bridge, so layer-2 neighbours. The router sends service addresses to node.
"""

from __future__ import annotations

from typing import Final

NARROW_MTU: Final = 1300
GATEWAY4: Final = "169.254.1.1"
GATEWAY6: Final = "fe80::1"
HOST_PODS: Final = ("pod", "pod2")
BRIDGED_PODS: Final = ("bridged", "bridged2")
NEIGHBOUR_PODS: Final = ("neighbour", "neighbour2")

ADDRESSES: Final[dict[str, tuple[str, str]]] = {
    "router": ("10.0.1.254", "fd10:0:1::fe"),
    "node": ("10.0.1.1", "fd10:0:1::1"),
    "node2": ("10.0.2.1", "fd10:0:2::1"),
    "outside": ("10.0.9.2", "fd10:0:9::2"),
    "hop": ("10.0.7.1", "fd10:0:7::1"),
    "far": ("10.0.8.2", "fd10:0:8::2"),
    "pod": ("10.244.1.11", "fd10:244:1::11"),
    "pod2": ("10.244.1.12", "fd10:244:1::12"),
    "bridged": ("10.244.1.21", "fd10:244:1::21"),
    "bridged2": ("10.244.1.22", "fd10:244:1::22"),
    "neighbour": ("10.244.2.11", "fd10:244:2::11"),
    "neighbour2": ("10.244.2.12", "fd10:244:2::12"),
    "remote": ("10.244.3.11", "fd10:244:3::11"),
}
"""The primary addresses; the router has the last host number of each of its networks."""

POD_CIDRS: Final = ("10.244.1.0/24", "fd10:244:1::/64", "10.244.2.0/24", "fd10:244:2::/64")
REMOTE_POD_CIDRS: Final = ("10.244.3.0/24", "fd10:244:3::/64")
SERVED: Final = ("10.96.0.0/16", "fd10:96::/64", "198.51.100.0/24", "2001:db8:51::/64", "203.0.113.0/25", "2001:db8:113::/64")
"""Where cluster IPs, external IPs and load-balancer addresses come from: the router sends them to node."""
BALANCER: Final = ("203.0.113.254", "2001:db8:b::fe")
"""Addresses that outside has too, as a load balancer of its own would; the router sends them there."""
NODES: Final = {
    **dict.fromkeys((*HOST_PODS, *BRIDGED_PODS, *NEIGHBOUR_PODS, "node"), "node"),
    **dict.fromkeys(("remote", "node2"), "node2"),
}
"""The node that a host is, or is a pod of. The others are outside of the cluster."""


def node_of(address: str) -> str | None:
    """Give the node that an address belongs to."""
    return next((node for name, node in NODES.items() if address in ADDRESSES[name]), None)


ALL_SYSCTLS: Final = {
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv4.conf.default.accept_redirects": 0,
    "net.ipv6.conf.all.accept_redirects": 0,
    "net.ipv6.conf.default.accept_redirects": 0,
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
}
ROUTER_SYSCTLS: Final = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
NODE_SYSCTLS: Final = {
    **ROUTER_SYSCTLS,
    "net.ipv4.conf.all.rp_filter": 1,
    "net.ipv4.conf.default.rp_filter": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
}
SYSCTLS: Final = {"router": ROUTER_SYSCTLS, "hop": ROUTER_SYSCTLS, "node": NODE_SYSCTLS, "node2": NODE_SYSCTLS}


def cables() -> list[tuple[str, str, str]]:
    """List the veth pairs as (host, other host, the other end's device); the host's own end is eth0."""
    pairs = [(name, "router", f"to-{name}") for name in ("node", "node2", "outside", "hop")]
    pairs += [("far", "hop", "to-far"), ("remote", "node2", "to-remote")]
    return pairs + [(name, "node", f"to-{name}") for name in (*HOST_PODS, *BRIDGED_PODS, *NEIGHBOUR_PODS)]


def host_lines(name: str) -> list[str]:
    """Give the ip commands that configure one host whose cables are plugged in."""
    if name in (*HOST_PODS, *BRIDGED_PODS, "remote"):
        lines = _pod_lines(name)
    elif name in ("outside", "far", *NEIGHBOUR_PODS):
        lines = _stub_lines(name)
    else:
        lines = {"router": _router_lines, "hop": _hop_lines, "node": _node_lines, "node2": _node2_lines}[name]()
    return ["link set lo up", *lines]


def router_of(address: str) -> str:
    """Give the last host number of an address's /24 or /64: where its router is."""
    return address.rpartition("::")[0] + "::fe" if ":" in address else address.rpartition(".")[0] + ".254"


def _network(address: str) -> str:
    return address.rpartition("::")[0] + "::/64" if ":" in address else address.rpartition(".")[0] + ".0/24"


def _on_link(address: str) -> str:
    return f"{address}/64" if ":" in address else f"{address}/24"


def _single(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"


def _assign(device: str, *addresses: str) -> list[str]:
    lines = [f"addr add {address} dev {device}{' nodad' if ':' in address else ''}" for address in addresses]
    return [*lines, f"link set {device} up"]


def _stub_lines(name: str) -> list[str]:
    own = ADDRESSES[name]
    extra = _assign("lo", *map(_single, BALANCER)) if name == "outside" else []
    return [*_assign("eth0", *map(_on_link, own)), *extra, *(f"route add default via {router_of(address)}" for address in own)]


def _pod_lines(name: str) -> list[str]:
    lines = _assign("eth0", *map(_single, ADDRESSES[name]))
    lines += [f"route add {GATEWAY4} dev eth0 scope link", f"route add default via {GATEWAY4} dev eth0"]
    return [*lines, f"route add default via {GATEWAY6} dev eth0"]


def _hop_lines() -> list[str]:
    lines = [*_assign("eth0", *map(_on_link, ADDRESSES["hop"])), f"link set eth0 mtu {NARROW_MTU}"]
    lines += _assign("to-far", *(_on_link(router_of(address)) for address in ADDRESSES["far"]))
    return lines + [f"route add default via {router_of(address)}" for address in ADDRESSES["hop"]]


def _router_lines() -> list[str]:
    lines = []
    for name in ("node", "node2", "outside", "hop"):
        lines += _assign(f"to-{name}", *(_on_link(router_of(address)) for address in ADDRESSES[name]))
    lines.append(f"link set to-hop mtu {NARROW_MTU}")
    reached = {"node": (*POD_CIDRS, *SERVED), "node2": REMOTE_POD_CIDRS, "hop": tuple(map(_network, ADDRESSES["far"]))}
    for name, cidrs in reached.items():
        lines += [f"route add {cidr} via {ADDRESSES[name][':' in cidr]}" for cidr in cidrs]
    return lines + [f"route add {_single(address)} via {ADDRESSES['outside'][':' in address]}" for address in BALANCER]


def _pod_side(device: str, *pods: str) -> list[str]:
    lines = _assign(device, f"{GATEWAY6}/64")
    return lines + [f"route add {_single(address)} dev {device}" for pod in pods for address in ADDRESSES[pod]]


def _bridge(device: str, *pods: str) -> list[str]:
    ports = [f"link set to-{pod} master {device} up" for pod in pods]
    return [f"link add {device} type bridge", *ports]


def _node_lines() -> list[str]:
    lines = [*_stub_lines("node"), f"addr add {GATEWAY4}/32 dev lo scope link"]
    for pod in HOST_PODS:
        lines += _pod_side(f"to-{pod}", pod)
    # The gateway's addresses are the bridge's own and only ones, so that its redirects come from the gateway and are believed.
    lines += [*_bridge("br-single", *BRIDGED_PODS), "link set br-single addrgenmode none"]
    lines += [f"addr add {GATEWAY4}/32 dev br-single scope link", *_pod_side("br-single", *BRIDGED_PODS)]
    gateways = [_on_link(router_of(address)) for address in ADDRESSES[NEIGHBOUR_PODS[0]]]
    return [*lines, *_bridge("br-shared", *NEIGHBOUR_PODS), *_assign("br-shared", *gateways)]


def _node2_lines() -> list[str]:
    return [*_stub_lines("node2"), f"addr add {GATEWAY4}/32 dev lo scope link", *_pod_side("to-remote", "remote")]
