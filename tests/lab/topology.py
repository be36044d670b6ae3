"""The lab: the hosts of wiring.py as network namespaces, up when the constructor returns.

Owns the namespaces and removes them. Knows nothing of uproxy: without it the network routes plain
traffic between all hosts.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.lab import wiring
from tests.lab.namespaces import Namespace, Namespaces, batch, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


@dataclass(frozen=True)
class Host:
    """A namespace with the IPv4 and the IPv6 address that identify it."""

    name: str
    namespace: Namespace
    addresses: tuple[str, str]

    def address(self, family: int) -> str:
        """Give the primary address of family 4 or 6."""
        return self.addresses[family == 6]

    def every_address(self) -> set[str]:
        """Read all addresses that the host has now."""
        listing = self.namespace.run("ip", "-o", "addr").splitlines()
        return {line.split()[3].partition("/")[0] for line in listing}


class Lab:
    """The whole network. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        sweep()
        self._namespaces = Namespaces()
        try:
            self._hosts = self._build()
        except BaseException:
            self.close()
            raise
        self.node, self.node2, self.router = self["node"], self["node2"], self["router"]
        self.pod, self.pod2, self.remote = self["pod"], self["pod2"], self["remote"]
        self.bridged, self.bridged2 = self["bridged"], self["bridged2"]
        self.neighbour, self.neighbour2 = self["neighbour"], self["neighbour2"]
        self.outside, self.hop, self.far = self["outside"], self["hop"], self["far"]

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove every namespace and what runs inside."""
        self._namespaces.remove()

    @contextmanager
    def without_default_route(self, host: Host) -> Iterator[None]:
        """Take a host's default routes away for a while; the networks beyond its router get routes of their own."""
        namespace = host.namespace
        via = [wiring.router_of(address) for address in host.addresses]
        ways = [f"{'fd10::/16' if ':' in router else '10.0.0.0/8'} via {router}" for router in via]
        namespace.ip(*(f"route add {way}" for way in ways), *(f"route del default via {router}" for router in via))
        try:
            yield
        finally:
            namespace.ip(*(f"route add default via {router}" for router in via), *(f"route del {way}" for way in ways))

    def _build(self) -> dict[str, Host]:
        made = dict(zip(wiring.ADDRESSES, self._namespaces.make(*wiring.ADDRESSES), strict=True))
        for name, namespace in made.items():
            namespace.sysctl({**wiring.ALL_SYSCTLS, **wiring.SYSCTLS.get(name, {})})
        batch(
            f"link add eth0 netns {made[host].name} type veth peer name {device} netns {made[other].name}"
            for host, other, device in wiring.cables()
        )
        for name, namespace in made.items():
            namespace.ip(*wiring.host_lines(name))
        return {name: Host(name, made[name], addresses) for name, addresses in wiring.ADDRESSES.items()}
