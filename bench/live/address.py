"""What may stand for ADDRESS: HOST:PORT and [IPV6]:PORT for tcp and udp, a URL for http. No I/O."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from yarl import URL

PORTS: Final = 65535
SCHEMES: Final = ("http", "https")


class Target(NamedTuple):
    """Where the load goes. host: a name or an address without brackets; url: empty but for http."""

    host: str
    port: int
    url: str = ""

    def __str__(self) -> str:
        """As it would be given on the command line; without a password."""
        return self.url or place(self.host, self.port)


def place(host: str, port: int) -> str:
    """Write a host and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint(text: str) -> Target:
    """Read HOST:PORT; raises ValueError saying what would be right."""
    if "://" in text:
        raise ValueError(f"ADDRESS {text}: this takes HOST:PORT, like 10.96.0.1:80; URLs are for http")
    host, colon, port = text.rpartition(":")
    if _is_ipv6(text) or _is_ipv6(host):
        raise ValueError(f"ADDRESS {text}: write an IPv6 address in brackets, like [fd00::1]:80")
    if not colon or not port or port.endswith("]"):
        raise ValueError(f"ADDRESS {text}: its port is missing, write it like {text.rstrip(':')}:80")
    return Target(_host(host, text), _port(port, text))


def web_address(text: str) -> Target:
    """Read a URL; raises ValueError saying what would be right."""
    if "://" not in text:
        raise ValueError(f"ADDRESS {text}: http takes a URL, write it like http://{text or 'web:8080'}")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise ValueError(f"ADDRESS {text}: not a URL ({error}), write it like http://web:8080/") from None
    if url.scheme not in SCHEMES:
        raise ValueError(f"ADDRESS {text}: {url.scheme}:// is neither http:// nor https://")
    if url.user is not None or url.password is not None:
        raise ValueError("ADDRESS: a URL without a name and a password, they would show in the process list")
    if not host or not port:
        raise ValueError(f"ADDRESS {text}: a URL has a host and a port from 1 to {PORTS}, like http://web:8080/")
    return Target(host, port, str(url.with_fragment(None)))


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False


def _host(text: str, address: str) -> str:
    bracketed = text.startswith("[") and text.endswith("]")
    if bracketed and not _is_ipv6(text[1:-1]):
        raise ValueError(f"ADDRESS {address}: {text[1:-1]} is no IPv6 address, brackets are for those")
    host = text[1:-1] if bracketed else text
    if not host or any(mark.isspace() or mark in "[]/@" for mark in host) or (":" in host and not bracketed):
        raise ValueError(f"ADDRESS {address}: write it like 10.96.0.1:80, web:80 or [fd00::1]:80")
    return host


def _port(text: str, address: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(PORTS)) and 1 <= int(text) <= PORTS):
        raise ValueError(f"ADDRESS {address}: the port {text} is no number from 1 to {PORTS}")
    return int(text)
