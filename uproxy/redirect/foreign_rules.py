"""Other programs' packet filter rules that would take service traffic away or drop it.

Owns recognising a leftover kube-proxy and INPUT chains that drop by default, in nftables and in the legacy
iptables, and the command that helps. Blocking; reads only lists of tables and chains, and the rules of chains
that hook input. Invariant: it changes nothing, and a listing that fails becomes a finding of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from uproxy.core.ruleset import TABLE
from uproxy.errors import RedirectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from uproxy.core.ruleset import Marks
    from uproxy.redirect.nft_runner import Nft

_LEGACY_TIMEOUT: Final = 10.0
# kubelet itself makes other KUBE- chains; these are kube-proxy's.
_KUBE_PROXY_CHAINS: Final = frozenset({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PORTALS-CONTAINER"})
_LEFTOVER: Final = "a kube-proxy that ran here left rules that keep taking service addresses"
_BESIDE: Final = "uproxy-beside-kube-proxy"
_LEGACY: Final = {
    "iptables": (Path("/proc/net/ip_tables_names"), ("iptables-legacy", "iptables")),
    "ip6tables": (Path("/proc/net/ip6_tables_names"), ("ip6tables-legacy", "ip6tables")),
}


class Finding(Struct, frozen=True):
    """Something on the host: what it is, why it matters, what to do. is_fatal: nothing can work with it."""

    what: str
    why: str
    remedy: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; remedy: {self.remedy}"


def find(nft: Nft, marks: Marks, *, beside: bool = False) -> Iterator[Finding]:
    """Look through nftables and the legacy iptables. beside: a kube-proxy is meant to run here as well."""
    try:
        chains = _objects(nft.list_json("chains"), "chain")
        tables = _objects(nft.list_json("tables"), "table")
        yield from neighbours(tables) if beside else leftovers(tables, chains)
        for chain in chains:
            if chain.get("hook") == "input" and chain["table"] != TABLE:
                listed = _objects(nft.list_json("chain", chain["family"], chain["table"], chain["name"]), "rule")
                yield from dropping(chain, listed, marks)
    except (RedirectError, ValueError, KeyError) as error:
        yield Finding("foreign nftables rules not checked", str(error), "nft list ruleset shows them")
    for program, (names, candidates) in _LEGACY.items():
        yield from legacy(program, _saved(names, candidates), marks, beside=beside)


def _objects(listing: bytes, kind: str) -> list[dict[str, Any]]:
    return [entry[kind] for entry in json.loads(listing)["nftables"] if kind in entry]


def leftovers(tables: Iterable[dict[str, Any]], chains: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Name what kube-proxy left in nftables, given man 5 libnftables-json's objects."""
    for table in tables:
        if table["name"] == "kube-proxy":
            name = f"{table['family']} kube-proxy"
            yield Finding(f"nftables table {name}", _LEFTOVER, f"nft delete table {name}")
    for family in sorted({chain["family"] for chain in chains if chain["name"] in _KUBE_PROXY_CHAINS}):
        program = "ip6tables" if family == "ip6" else "iptables"
        yield Finding(f"KUBE-SERVICES chains in {program} (nf_tables)", _LEFTOVER, _cleanup_command(program))


def neighbours(tables: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Name what a kube-proxy in nftables mode does to our ClusterIPs, unless the rules that help are there."""
    names = {table["name"] for table in tables}
    if "kube-proxy" in names and _BESIDE not in names:
        why = "kube-proxy's nftables mode drops this node's own connections to ClusterIPs that it does not serve itself"
        yield Finding("nftables table kube-proxy", why, "nft -f beside-kube-proxy.nft (docs/install.md, deploy/nftables)")


def dropping(chain: dict[str, Any], rules: list[dict[str, Any]], marks: Marks) -> Iterator[Finding]:
    """Name a chain that hooks input and drops what it does not know, unless one of its rules admits our mark."""
    drops = chain.get("policy") == "drop" or (bool(rules) and _refuses_all(rules[-1].get("expr", [])))
    if not drops or any(_admits(rule.get("expr", []), marks.deliver) for rule in rules):
        return
    family, table, name = chain["family"], chain["table"], chain["name"]
    yield _dropped(f"nftables chain {family} {table} {name}", _admission(family, table, name, marks))


def _dropped(what: str, remedy: str) -> Finding:
    return Finding(what, "it drops what it does not know, traffic to service addresses too", f"admit uproxy's mark: {remedy}")


def _admission(family: str, table: str, name: str, marks: Marks) -> str:
    """Give the one rule that admits what carries our mark."""
    if table == "filter" and name == "INPUT" and family in ("ip", "ip6"):
        return _admission_by("ip6tables" if family == "ip6" else "iptables", marks)
    rule = f"nft insert rule {family} {table} {name} meta mark and {marks.deliver:#x} != 0 accept"
    return f"{rule} (again after each firewall-cmd --reload)" if table == "firewalld" else rule


def _admission_by(program: str, marks: Marks) -> str:
    return f"{program} -I INPUT -m mark --mark {marks.deliver:#x}/{marks.deliver:#x} -j ACCEPT"


def _refuses_all(expression: list[dict[str, Any]]) -> bool:
    """Say whether a rule drops or rejects without a condition."""
    return bool(expression) and all(part.keys() & {"drop", "reject", "counter", "log"} for part in expression) and _ends(expression)


def _ends(expression: list[dict[str, Any]]) -> bool:
    return bool(expression[-1].keys() & {"drop", "reject"})


def _admits(expression: list[dict[str, Any]], mark: int) -> bool:
    """Say whether a rule looks at our bit of the mark, or with iptables' own match at some, and accepts."""
    if not any("accept" in part or (part.get("xt") or {}).get("name") == "ACCEPT" for part in expression):
        return False
    looks = [json.dumps(part) for part in expression if "match" in part]
    by_bit = any('"key": "mark"' in look and str(mark) in look for look in looks)
    return by_bit or any((part.get("xt") or {}).get("name") == "mark" for part in expression)


def legacy(program: str, saved: str, marks: Marks, *, beside: bool = False) -> Iterator[Finding]:
    """Name leftovers and a dropping INPUT chain, given what iptables-save printed."""
    if not beside and any(f":{chain} " in saved for chain in _KUBE_PROXY_CHAINS):
        yield Finding(f"KUBE-SERVICES chains in {program} (legacy)", _LEFTOVER, _cleanup_command(f"{program}-legacy"))
    admitted = any(
        line.startswith("-A INPUT") and f"--mark {marks.deliver:#x}/{marks.deliver:#x}" in line and line.endswith("-j ACCEPT")
        for line in saved.splitlines()
    )
    if ":INPUT DROP" in saved and not admitted:
        yield _dropped(f"chain INPUT of {program} (legacy)", _admission_by(f"{program}-legacy", marks))


def _cleanup_command(program: str) -> str:
    return f"kube-proxy --cleanup, or {program}-save | grep -v KUBE- | {program}-restore"


def _saved(names: Path, candidates: tuple[str, ...]) -> str:
    """Give what iptables-save prints for the legacy tables; "" where the kernel has none or the program is missing."""
    try:
        if not names.read_text(encoding="ascii").strip():
            return ""
    except OSError:
        return ""
    program = next(filter(None, (shutil.which(f"{candidate}-save") for candidate in candidates)), None)
    if program is None:
        return ""
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=_LEGACY_TIMEOUT, close_fds=False)
    return done.stdout
