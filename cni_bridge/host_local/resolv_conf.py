"""A resolver configuration (resolv.conf(5)) as a result's dns: what the reference implementation reads of it, and no more."""

from __future__ import annotations

from cni_bridge.protocol.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_bridge.protocol.results import Dns


def read(path: str) -> Dns:
    """Read the file. Raises CniError (7) when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib costs more than this whole run
            return parse(file.read())
    except (OSError, ValueError) as reason:
        raise CniError(INVALID_CONFIG, f'"ipam.resolvConf" is "{path}": {reason}') from None


def parse(text: str) -> Dns:
    """Take nameservers, the last domain, and all of search and options; comments begin with # or ;."""
    dns: Dns = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0][0] not in "#;":
            _take(dns, words[0], words[1:])
    return dns


def _take(dns: Dns, keyword: str, values: list[str]) -> None:
    if keyword == "nameserver":
        dns.setdefault("nameservers", []).append(values[0])
    elif keyword == "domain":
        dns["domain"] = values[0]
    elif keyword == "search":
        dns.setdefault("search", []).extend(values)
    elif keyword == "options":
        dns.setdefault("options", []).extend(values)
