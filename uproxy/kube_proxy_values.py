"""What a value of kube-proxy's configuration must be like, and what it is in our terms.

Owns kube-proxy's validation rules and their words (pkg/proxy/apis/config/validation), and the conversions. Knows
neither fields nor files. A check gives what is wrong, "" for nothing; None as a converted value sets nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from uproxy.config_rules import PORTS, Duration

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
JSON: Final = "application/json"
OTHER_MODES: Final = ("iptables", "ipvs", "nftables", "kernelspace")
SCHEDULERS: Final = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq")
BITS: Final = 31
FORMER_UDP_IDLE: Final = 0.25
CLUSTER_CIDRS: Final = 2
_RANGE: Final = re.compile(r"\s*(\d+)\s*(?:([-+])\s*(\d+)\s*)?")


def positive(value: float) -> str:
    """Refuse 0 and less."""
    return "" if value > 0 else "must be greater than 0"


def not_negative(value: float) -> str:
    """Refuse less than 0."""
    return "" if value >= 0 else "must be greater than or equal to 0"


def not_blank(text: str) -> str:
    """Refuse a text of blanks alone; an empty one stands for none."""
    return "is blank (write a node's name)" if text and not text.strip() else ""


def flush_frequency(value: object) -> str:
    """Take a duration, or a whole number of nanoseconds, as component-base does."""
    if isinstance(value, int) and not isinstance(value, bool):
        return not_negative(value)
    try:
        Duration.parse(str(value))
    except ValueError as error:
        return str(error)
    return ""


def address(text: str) -> str:
    """Refuse what is no IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return f"{text!r} is not an IP address (write it like 192.168.0.10 or ::)" if text else ""
    return ""


def single_address(text: str) -> str:
    """Give an address; "" for those that stand for all."""
    return "" if not text or ipaddress.ip_address(text).is_unspecified else str(ipaddress.ip_address(text))


def with_port(text: str, port: int) -> str:
    """Append the port to a bare IP address; anything else stays as it is."""
    try:
        bare = ipaddress.ip_address(text)
    except ValueError:
        return text
    return f"[{text}]:{port}" if bare.version == 6 else f"{text}:{port}"  # noqa: PLR2004 - IPv6


def port_or_none(port: int) -> str:
    """Take a port, or 0 for none."""
    return "" if 0 <= port <= PORTS else f"{port} is not a port (0 switches it off)"


def mode(text: str) -> str:
    """Take kube-proxy's name for this way of working, or none."""
    if text in {"", "userspace"}:
        return ""
    if text in OTHER_MODES:
        return f"{text} is a mode of kube-proxy alone: uproxy has none but userspace (leave it empty, or write userspace)"
    return f"{text!r} is not a mode (leave it empty, or write userspace)"


def bit(number: int) -> str:
    """Take the number of one of a mark's bits."""
    return "" if 0 <= number <= BITS else "must be within the range [0, 31]"


def scheduler(text: str) -> str:
    """Take IPVS' names."""
    return "" if not text or text in SCHEDULERS else f"{text!r} is not one of {', '.join(SCHEDULERS)}"


def cidrs(texts: list[str]) -> str:
    """Refuse a list in which something is no CIDR."""
    return next((f"{text!r} is not a CIDR (write it like 192.168.0.0/16)" for text in texts if family_of_cidr(text) is None), "")


def family_of_cidr(text: str) -> int | None:
    """Give 4 or 6; None for what is no CIDR."""
    try:
        return ipaddress.ip_network(text, strict=False).version if "/" in text else None
    except ValueError:
        return None


def split(text: str) -> list[str]:
    """Take a list apart that is written with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def cluster_cidr(text: str) -> str:
    """Take one CIDR, or one of each family."""
    parts = text.split(",") if text else []
    wrong = cidrs([part.strip() for part in parts])
    if wrong:
        return wrong
    families = [family_of_cidr(part.strip()) for part in parts]
    if len(parts) > CLUSTER_CIDRS or len(set(families)) < len(families):
        return f"{text!r} is more than one CIDR per family (write it like 10.100.0.0/16,fde4:8dba:82e1::/48)"
    return ""


def port_range(text: str) -> str:
    """Take a-b, a+n, a single port, and nothing (k8s.io/apimachinery/pkg/util/net, ParsePortRange)."""
    found = _RANGE.fullmatch(text)
    if text and (not found or not 0 <= _bounds(found)[0] <= _bounds(found)[1] <= PORTS):
        return f"{text!r} is not a range of ports (write it like 20000-29999 or 20000+9999)"
    return ""


def ports_of(text: str) -> tuple[int, int] | None:
    """Give first and last port; None for no range."""
    found = _RANGE.fullmatch(text)
    return _bounds(found) if found and _bounds(found) != (0, 0) else None


def _bounds(found: re.Match[str]) -> tuple[int, int]:
    first, sign, second = int(found[1]), found[2], found[3]
    if sign is None:
        return first, first
    return (first, min(first + int(second), PORTS)) if sign == "+" else (first, int(second))


def client_address(masquerade_all: bool) -> str | None:  # noqa: FBT001 - the one value that is converted
    """Say what becomes of the client's address where everything is masqueraded."""
    return "never" if masquerade_all else None


def unless_zero(duration: Duration) -> Duration | None:
    """Give a duration; 0 stands for the default."""
    return duration or None


def unless_former_default(duration: Duration) -> Duration | None:
    """Give a duration; kube-proxy's former default, too short for a proxy that remembers flows, stands for ours."""
    return None if duration == FORMER_UDP_IDLE else duration
