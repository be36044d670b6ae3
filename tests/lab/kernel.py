"""What a node's kernel holds of rules and routes, as text that two moments can be compared by."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.lab.topology import Host

_COUNTERS = re.compile(r"packets \d+ bytes \d+")
_KERNELS_OWN = re.compile(r"\bfe80:|^multicast ff00:")
"""Link-local addresses and what comes with them: each link has its own a while after it came up (RFC 4862)."""
_VOLATILE = re.compile(r" (?:expires \d+sec|pref medium|error -?\d+)")


class Rules(NamedTuple):
    """Rule set, policy rules and routes of both families."""

    ruleset: str
    policy: str
    routes: str


def rules(host: Host) -> Rules:
    """Read the whole rule set, all policy rules and the routes of all tables but those of link-local addresses."""
    run = host.namespace.run
    ruleset = _COUNTERS.sub("", run("nft", "list", "ruleset"))
    policy = "".join(run("ip", family, "rule") for family in ("-4", "-6"))
    routes = "".join(run("ip", family, "route", "show", "table", "all") for family in ("-4", "-6"))
    ours = [line for line in _VOLATILE.sub("", routes).splitlines() if not _KERNELS_OWN.search(line)]
    return Rules(_sorted_elements(ruleset), policy, "\n".join(sorted(ours)))


def _sorted_elements(ruleset: str) -> str:
    """Put the elements of each set into one order: nft lists a hash set in the order of its buckets."""
    return re.sub(r"elements = \{([^}]*)\}", lambda found: ",".join(sorted("".join(found[1].split()).split(","))), ruleset)


def hooks(host: Host) -> set[tuple[str, str]]:
    """List (type, hook) of every base chain of the node."""
    listing = json.loads(host.namespace.run("nft", "-j", "list", "chains"))["nftables"]
    return {(found["chain"]["type"], found["chain"]["hook"]) for found in listing if "hook" in found.get("chain", {})}


def tracked_connections(host: Host) -> int:
    """Count the conntrack entries of the node."""
    return int(host.namespace.read_sysctl("net.netfilter.nf_conntrack_count"))
