"""What nft takes for the tables of a proxy: to load all of them anew, and to add one Service. In a namespace of its own."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.namespaces import Namespaces

if TYPE_CHECKING:
    from bench.namespaces import Namespace

SECONDS: Final = 300.0


class Tables(NamedTuple):
    """Whose tables: one of them by family and name, and what adds a Service to it."""

    table: str
    one_more: str


class Times(NamedTuple):
    """bytes: of the table as nft writes it; whole, one: seconds to load it, and to add a Service to it then."""

    bytes: int
    whole: float
    one: float


UPROXY: Final = Tables("inet uproxy", "add element inet uproxy ports4 { 10.111.0.1 . tcp . 80 : 20080 }\n")
KUBE_PROXY: Final = Tables(
    "ip kube-proxy",
    """\
add element ip kube-proxy cluster-ips { 10.111.0.1 }
add chain ip kube-proxy service-bench
add rule ip kube-proxy service-bench meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.1 . 80 , 1 : 10.244.0.2 . 80 }
add element ip kube-proxy service-ips { 10.111.0.1 . tcp . 80 : goto service-bench }
""",
)
"""What kube-proxy 1.36 itself writes for a Service with two endpoints."""


def measure(node: Namespace, tables: Tables) -> Times:
    """Take what is in a node's kernel now; raises RuntimeError with nft's words."""
    script = _nft(node, "list", "table", *tables.table.split())
    with Namespaces("nft") as fresh:
        whole = _seconds(fresh["nft"], script)
        return Times(len(script), whole, _seconds(fresh["nft"], tables.one_more))


def _seconds(namespace: Namespace, script: str) -> float:
    began = time.perf_counter()
    _nft(namespace, "-f", "-", script=script)
    return time.perf_counter() - began


def _nft(namespace: Namespace, *arguments: str, script: str | None = None) -> str:
    argv = [*namespace.prefix, "nft", *arguments]
    done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(f"nft {' '.join(arguments)}: {done.stderr.strip()[:500]}")
    return done.stdout
