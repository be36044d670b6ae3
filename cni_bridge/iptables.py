"""iptables' rules of one table: read by iptables-save, changed by iptables-restore, one run and one transaction each.

Owns the wording of programs and scripts; knows no rule. A rule is text as iptables-save writes it, without "-A <chain>";
a line of a script is what iptables-restore takes. The reference plugins execute iptables once per look and per rule.
Invariant: a transaction is carried out wholly or not at all, whenever this process dies.
"""

from __future__ import annotations

from cni_bridge import program
from cni_bridge.netlink import nftables
from cni_bridge.rules_lock import LockHeldError, RulesLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Chains = dict[str, list[str]]

_LOCK_SECONDS = "10"
_HEADER_LINES = 1  # "*table" stands before the first line of ours
_NEEDS_QUOTES = frozenset(" \t\"'\\")


class IptablesError(Exception):
    """iptables is missing, or it refused: the message holds its own words."""


class UnusableError(IptablesError):
    """The rules of a family cannot even be read."""


class Family:
    """The programs for one family. size: the bytes of its addresses; netlink: its number for nfnetlink."""

    __slots__ = ("bits", "netlink", "restore", "save", "size")

    def __init__(self, size: int, prefix: str, netlink: int) -> None:
        self.size = size
        self.bits = size * 8
        self.save = f"{prefix}-save"
        self.restore = f"{prefix}-restore"
        self.netlink = netlink


IPV4 = Family(4, "iptables", nftables.IPV4)
IPV6 = Family(16, "ip6tables", nftables.IPV6)
FAMILIES = (IPV4, IPV6)


def quoted(word: str) -> str:
    """Write one word for iptables-restore, as iptables-save would."""
    if word and not _NEEDS_QUOTES.intersection(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_there() -> bool:
    """Tell whether there is any iptables to execute, working or not."""
    return any(program.find(family.save) for family in FAMILIES)


def read(family: Family, table: str) -> Chains:
    """List the chains of a table with their rules. Raises UnusableError."""
    try:
        done = _run(family.save, "-t", table)
    except IptablesError as error:
        raise UnusableError(str(error)) from None
    chains: Chains = {}
    for line in done.stdout.splitlines():
        if line.startswith(":"):
            chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            chains.setdefault(chain, []).append(rule)
    return chains


def change(family: Family, table: str, plan: Callable[[Chains], list[str]]) -> None:
    """Read and change as one step: plan gets what is there and gives a script's lines; none, and nothing is done.

    Raises IptablesError, LockHeldError.
    """
    with RulesLock():
        lines = plan(read(family, table))
        if lines:
            _apply(family, table, lines)


def change_both(table: str, plan: Callable[[Family, Chains], list[str]]) -> None:
    """Change both families, each as `change` does and whatever becomes of the other.

    Raises IptablesError with all that failed; one family that is unusable is no failure: it had no rules to begin with.
    """
    failures, unusable = [], []
    for family in FAMILIES:
        try:
            change(family, table, bound(plan, family))
        except UnusableError as error:
            unusable.append(str(error))
        except (IptablesError, LockHeldError) as error:
            failures.append(str(error))
    if failures or len(unusable) == len(FAMILIES):
        raise IptablesError("; ".join([*failures, *unusable]))


def bound(plan: Callable[[Family, Chains], list[str]], family: Family) -> Callable[[Chains], list[str]]:
    """Give the plan for one family."""
    return lambda there: plan(family, there)


def first_missing(family: Family, table: str, lines: list[str]) -> str:
    """Give the first line ("-C <chain> <rule>") that names no rule; empty when all are there. Raises IptablesError."""
    try:
        done = program.run(family.restore, *_OPTIONS, stdin=_script(table, lines))
    except OSError as error:
        raise IptablesError(f"{family.restore}: {error.strerror}") from None
    if not done.code:
        return ""
    line = _refused_line(done.stderr, lines)
    if not line:
        raise IptablesError(f"{family.restore}: {done.stderr}")
    return line


_OPTIONS = ("--noflush", "--wait", _LOCK_SECONDS)


def _apply(family: Family, table: str, lines: list[str]) -> None:
    try:
        _run(family.restore, *_OPTIONS, stdin=_script(table, lines))
    except IptablesError as error:
        line = _refused_line(str(error), lines)
        raise IptablesError(f"{error} [{line}]" if line else str(error)) from None


def _script(table: str, lines: list[str]) -> str:
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _run(name: str, *arguments: str, stdin: str = "") -> program.Done:
    try:
        done = program.run(name, *arguments, stdin=stdin)
    except OSError as error:
        raise IptablesError(f"{name}: {error.strerror}") from None
    if done.code:
        raise IptablesError(f"{name}: {done.stderr or f'exit code {done.code}'}")
    return done


def _refused_line(said: str, lines: list[str]) -> str:
    """Find the line that "line 3 failed" means; empty when nothing like it was said, or it means the end."""
    words = said.replace(":", " ").split()
    for place, word in enumerate(words[:-1]):
        if word == "line" and words[place + 1].isdecimal():
            number = int(words[place + 1]) - _HEADER_LINES - 1
            return lines[number] if 0 <= number < len(lines) else ""
    return ""
