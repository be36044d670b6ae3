"""The network of every measurement: client - node - server over two veth pairs, the node routes.

    client 10.77.1.2 ---- 10.77.1.1 node 10.77.2.1 ---- 10.77.2.2 server
        fd77:1::2         fd77:1::1     fd77:2::1        fd77:2::2

The client's way to everything, service addresses included, is the node. The proxy under test runs on the
node. Processes are pinned: the proxy to one CPU, all the load to another one where there are two. Each may
have as many descriptors as the hard limit allows.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bench.namespaces import Namespace, Namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO

CLIENT: Final = {4: "10.77.1.2", 6: "fd77:1::2"}
NODE: Final = {4: "10.77.1.1", 6: "fd77:1::1"}
NODE_TOWARDS_SERVER: Final = {4: "10.77.2.1", 6: "fd77:2::1"}
SERVER: Final = {4: "10.77.2.2", 6: "fd77:2::2"}
"""Addresses, by family."""
FAMILIES: Final = (4, 6)
_LENGTH = {4: "24", 6: "64 nodad"}
PROJECT: Final = Path(__file__).resolve().parent.parent

_CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU: Final = _CPUS[0]
LOAD_CPU: Final = _CPUS[-1]
BACKLOG: Final = 4096
"""Connections that may wait for accept, for every proxy alike: more than any load opens at once."""


class Topology:
    """The three namespaces, up when the constructor returns, removed with all that runs inside when left."""

    def __init__(self) -> None:
        self._namespaces = Namespaces("client", "node", "server")
        self.client, self.node, self.server = (self._namespaces[name] for name in ("client", "node", "server"))
        try:
            self._wire()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what runs inside and remove the namespaces."""
        self._namespaces.remove()

    def _wire(self) -> None:
        for namespace in (self.client, self.node, self.server):
            # Looking for others with an IPv6 address takes seconds, and there are none.
            namespace.sysctl(ipv6__conf__default__accept_dad=0, core__somaxconn=BACKLOG)
            # Without it connect() slows down once a few ten thousand connections to one address are in TIME_WAIT:
            # the same for every subject, and what is to be measured is the proxy, not its ports running out.
            namespace.sysctl(ipv4__tcp_tw_reuse=1)
        self._namespaces.cable("client", "eth0", "node", "to-client")
        self._namespaces.cable("server", "eth0", "node", "to-server")
        for family in FAMILIES:
            length = _LENGTH[family]
            self.client.ip(f"addr add {CLIENT[family]}/{length} dev eth0", f"route add default via {NODE[family]}")
            self.server.ip(f"addr add {SERVER[family]}/{length} dev eth0", f"route add default via {NODE_TOWARDS_SERVER[family]}")
            towards_server = f"addr add {NODE_TOWARDS_SERVER[family]}/{length} dev to-server"
            self.node.ip(f"addr add {NODE[family]}/{length} dev to-client", towards_server)
        self.node.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)


def descriptors() -> int:
    """Give how many descriptors each program has here: the hard limit (getrlimit(2))."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(Path("/proc/sys/fs/nr_open").read_text()) if hard == resource.RLIM_INFINITY else hard


def start(
    namespace: Namespace,
    cpu: int | None,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a program inside a namespace, on one CPU or on all, its soft limit of descriptors raised to the hard one.

    It dies with us; a Ctrl-C of the terminal is ours alone.
    """
    cpus = ",".join(map(str, _CPUS if cpu is None else (cpu,)))
    limits = "prlimit", f"--nofile={descriptors()}"
    prefix = [*namespace.prefix, "setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", cpus, *limits]
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), **(environment or {})}
    return subprocess.Popen(  # the caller ends it: a with statement here would wait for it
        [*prefix, *argv], cwd=PROJECT, env=variables, stdin=stdin, stdout=stdout, stderr=stderr, text=True, start_new_session=True
    )


def bracketed(address: str) -> str:
    """Give an address as it is written before a port."""
    return f"[{address}]" if ":" in address else address


def python(module: str, *arguments: str) -> list[str]:
    """Give the command line of one of our own modules."""
    return [sys.executable, "-m", module, *arguments]


def end(process: subprocess.Popen[str], seconds: float = 5.0) -> None:
    """Ask a process to end (SIGTERM), and kill it when it takes longer than that."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
