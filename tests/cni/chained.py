"""A node with an outside, where plugins are chained behind bridge: real attachments, real packets, rules to compare.

Addresses: the host is 192.0.2.1 and 2001:db8::1 on a link to the outside, which has .9 and ::9; pods get theirs from bridge.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.cni.bridge import node as nodes
from tests.cni.bridge.node import ROOT, Answer, Json, Node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from tests.lab.namespaces import Namespace, Namespaces

CHAINED: Final = ("portmap", "firewall")
OLD: Final = "1.1.1"
NEW: Final = "1.9.1"
BUILT: Final = ROOT / ".cache/cni" / f"v{NEW}"
V4: Final = "10.66.0.0/24"
V6: Final = "fd66::/64"
HOST: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
OUTSIDE: Final = {4: "192.0.2.9", 6: "2001:db8::9"}
GATEWAY: Final = {4: "10.66.0.1", 6: "fd66::1"}
SECONDS: Final = 60
SOON: Final = 3.0
NOT_AT_ALL: Final = 0.5
"""Seconds in which a packet that is dropped has not come."""
_COUNTERS: Final = re.compile(r"\[\d+:\d+\]|counter packets \d+ bytes \d+ ?")
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def reference(release: str) -> Path:
    """Find the plugins of a release; skip the test when they are not there."""
    debian = nodes.reference()
    if release == OLD and debian is not None:
        return debian
    if release == NEW and (BUILT / "portmap").is_file():
        return BUILT
    pytest.skip(f"needs release {release} of the reference plugins: scripts/debian-tools.sh as root, scripts/cni-binaries.sh")


def ours(folder: Path) -> Path:
    """Make executables of our plugins, the chained ones too."""
    nodes.ours(folder)
    for name in CHAINED:
        text = nodes.STUB.format(python=os.path.realpath(sys.executable), root=str(ROOT), name=name)
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


TRACKING: Final = (
    "add table inet node\nadd chain inet node tracked { type filter hook prerouting priority 0; }\nadd rule inet node tracked ct state new"
)
"""As on any node flows are tracked, whatever rules the plugins have; the kernel stops when no rule of anybody asks for it."""


class Pod(NamedTuple):
    """An attachment made by bridge."""

    namespace: Namespace
    container: str
    result: Json

    def address(self, family: int) -> str:
        """Give its address of a family."""
        return next(str(ip["address"]).partition("/")[0] for ip in self.result["ips"] if (":" in ip["address"]) == (family == 6))


class Chain:
    """One host, its pods and the outside."""

    def __init__(self, namespaces: Namespaces, folder: Path) -> None:
        self._node = Node(namespaces, ours(folder / "bin"), folder / "store")
        self.plugins = folder / "bin"
        self.host = self._node.host
        self._namespaces = namespaces
        (self.outside,) = namespaces.make("out")
        self.host.ip(f"link add out type veth peer name in netns {self.outside.name}", "link set out up", "link set lo up")
        self.host.ip("addr add 192.0.2.1/24 dev out", "addr add 2001:db8::1/64 dev out nodad")
        self.host.nft(TRACKING)
        self.outside.ip("link set in up", "addr add 192.0.2.9/24 dev in", "addr add 2001:db8::9/64 dev in nodad")
        self.outside.ip("route add 10.66.0.0/16 via 192.0.2.1", "route add fd66::/16 via 2001:db8::1")

    def pod(self, container: str = "cid1", bridge: str = "cni0", subnets: tuple[str, ...] = (V4, V6)) -> Pod:
        """Attach a container to a bridge."""
        namespace = self._node.pod()
        config = self._node.config(*subnets, bridge=bridge, name=f"on-{bridge}", isDefaultGateway=True, hairpinMode=True)
        return Pod(namespace, container, self._node.add(config, namespace, CNI_CONTAINERID=container))

    def environment(self, command: str, pod: Pod | None, **variables: str) -> dict[str, str]:
        """Give a runtime's environment of a request."""
        netns = {"CNI_NETNS": f"/run/netns/{pod.namespace.name}"} if pod else {}
        names = {"CNI_COMMAND": command, "CNI_CONTAINERID": pod.container if pod else "cid1", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
        return {"PATH": os.environ["PATH"], **names, **netns, **variables}

    def execute(self, argv: Sequence[str], environment: dict[str, str], config: Json) -> Answer:
        """Run a program in the host's namespace as a runtime runs a plugin."""
        done = self.host.call(
            subprocess.run,
            [*argv],
            env=environment,
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            cwd=ROOT,
        )
        return Answer(done.returncode, str(done.stdout), str(done.stderr))

    def run(self, command: str, config: Json, pod: Pod | None = None, plugins: Path | None = None, **variables: str) -> Answer:
        """Run the plugin that the configuration names; the pod's result is the previous one unless the configuration has one."""
        previous = {"prevResult": pod.result} if pod and command in {"ADD", "DEL", "CHECK"} else {}
        argv = [str((plugins or self.plugins) / config["type"])]
        return self.execute(argv, self.environment(command, pod, **variables), {**previous, **config})

    def add(self, config: Json, pod: Pod, plugins: Path | None = None, **variables: str) -> Json:
        return self.run("ADD", config, pod, plugins, **variables).result()

    def delete(self, config: Json, pod: Pod | None = None, plugins: Path | None = None, **variables: str) -> None:
        self.run("DEL", config, pod, plugins, **variables).result()

    def dying(self, number: int, command: str, config: Json, pod: Pod) -> Answer:
        """Run our plugin and kill it in place of that step; when it has no such step, stderr tells how many it had."""
        argv = [sys.executable, "-m", "tests.cni.dying", config["type"], str(number)]
        return self.execute(argv, self.environment(command, pod), {"prevResult": pod.result, **config})

    def rules(self, table: str) -> list[str]:
        """List both families' iptables rules of a table, without counters."""
        lines: list[str] = []
        for program in ("iptables-save", "ip6tables-save"):
            saved = self.host.run(program, "-t", table).splitlines()
            lines += [f"{program[: -len('tables-save')]} {_COUNTERS.sub('', line).strip()}" for line in saved if line[0] in ":-"]
        return lines

    def nft_rules(self, table: str = "cni_hostport") -> list[str]:
        """List both families' tables of that name."""
        listed = self.host.run("nft", "list", "ruleset").splitlines()
        found, inside = [], False
        for line in listed:
            inside = (line.startswith("table ") and f" {table} " in line) or (inside and line != "}")
            found += [line.strip()] if inside else []
        return [line for line in found if line not in {"", "}"}]


def named(config_type: str, **keys: Any) -> Json:  # noqa: ANN401 - whatever a configuration holds
    """Give a configuration of a chained plugin."""
    return {"cniVersion": "1.1.0", "name": "net1", "type": config_type, **keys}


def ports(*mappings: tuple[Any, ...]) -> Json:
    """Give a runtime's port mappings: host port, container port, protocol, and the host's address if need be."""
    keys = ("hostPort", "containerPort", "protocol", "hostIP")
    return {"portMappings": [dict(zip(keys, mapping, strict=False)) for mapping in mappings]}


def family_of(address: str) -> int:
    return 6 if ":" in address else 4


def connects(client: Namespace, target: str, port: int, server: Namespace, server_port: int, *, seconds: float = SOON) -> str:
    """Connect by TCP; give the address that the server sees, or nothing when no connection comes about."""
    family = _FAMILIES[family_of(target)]
    with server.call(socket.socket, family) as listener, client.call(socket.socket, family) as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", server_port))
        listener.listen()
        for one in (listener, caller):
            one.settimeout(seconds)
        try:
            caller.connect((target, port))
            accepted, address = listener.accept()
        except OSError:
            return ""
        accepted.close()
        return str(address[0])


class UdpEcho:
    """A UDP server that says what came, and from whom."""

    def __init__(self, namespace: Namespace, port: int, family: int = 4) -> None:
        self._socket = namespace.call(socket.socket, _FAMILIES[family], socket.SOCK_DGRAM)
        self._socket.bind(("", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def received(self, seconds: float = SOON) -> str:
        """Give the address of the next datagram's sender; nothing when none comes."""
        self._socket.settimeout(seconds)
        try:
            data, address = self._socket.recvfrom(100)
        except TimeoutError:
            return ""
        self._socket.sendto(data, address)
        return str(address[0])


def udp_client(namespace: Namespace, target: str, port: int) -> socket.socket:
    """Give a socket that keeps its port, as the client of a black hole does."""
    client: socket.socket = namespace.call(socket.socket, _FAMILIES[family_of(target)], socket.SOCK_DGRAM)
    client.settimeout(SOON)
    client.connect((target, port))
    return client
