"""The real kube-proxy in a node's namespace, fed by a control plane: to compare with, and to run beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.binaries import binary
from tests.cluster.program import Program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.topology import Host


def kube_proxy(folder: Path, host: Host, kubeconfig: Path, *flags: str, mode: str = "nftables") -> Program:
    """Prepare a kube-proxy for a node; start() and kill() it."""
    folder.mkdir(parents=True, exist_ok=True)
    return Program(command(host.name, kubeconfig, *flags, mode=mode), folder, namespace=host.namespace)


def command(node: str, kubeconfig: Path, *flags: str, mode: str = "nftables", program: Path | None = None) -> list[str]:
    """Give the command line of a kube-proxy, this one or the one that was built; it writes no sysctl that the whole machine shares.

    Its ports are kube-proxy's own: 10256 /healthz, 10249 /metrics on loopback.
    """
    return [
        str(program or binary("kube-proxy")),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node}",
        f"--proxy-mode={mode}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        *flags,
    ]
