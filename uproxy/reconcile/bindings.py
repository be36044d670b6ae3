"""Where each route's listener is bound, and what the kernel must capture for it.

Owns the local ports and the routes that drain: their listener is closed, their open connections still need
the kernel's rewriting. Opens and closes nothing itself. Invariant: a key keeps its local port from its first
bind() until release(), and across restarts while the kernel's map remembers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uproxy.core.local_ports import allocate
from uproxy.dataplane.context import Binding
from uproxy.errors import ListenError
from uproxy.redirect.base import Capture

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from uproxy.core.model import Protocol, RouteKey
    from uproxy.redirect.base import Redirect


class Bindings:
    """The bindings of all open and draining listeners.

    claimed: every RouteKey that is claimed, so that no local port is also a service port of the same VIP.
    local_ports: first and last. inherited: what the kernel's map had at the start.
    """

    def __init__(
        self, redirect: Redirect, claimed: Container[RouteKey], local_ports: tuple[int, int], inherited: Mapping[RouteKey, int]
    ) -> None:
        self._redirect = redirect
        self._claimed = claimed
        self._first, self._last = local_ports
        self._inherited = dict(inherited)
        self._bound: dict[RouteKey, Binding] = {}
        self._draining: set[RouteKey] = set()
        self._taken: dict[tuple[str, Protocol], set[int]] = {}
        for key, port in inherited.items():
            self._ports_of(key).add(port)

    def bind(self, key: RouteKey, local_addresses: Container[str]) -> Binding:
        """Give where key's listener is to be bound; raises ListenError when the VIP has no local port left."""
        held = self._bound.get(key)
        if held is not None:
            self._draining.discard(key)
            return held
        if not self._redirect.rewrites or key.vip in local_addresses:
            binding = Binding(key, key.port, self._redirect.transparent and key.vip not in local_addresses)
        else:
            binding = Binding(key, self._local_port(key), transparent=True, mark=self._redirect.mark)
        self._bound[key] = binding
        return binding

    def fits(self, key: RouteKey, local_addresses: Container[str]) -> bool:
        """Tell whether key's binding is still the right kind: the VIP may have become an address of the node, or ceased to be one."""
        binding = self._bound.get(key)
        return binding is None or not self._redirect.transparent or binding.transparent == (key.vip not in local_addresses)

    def drain(self, key: RouteKey) -> None:
        """Let new connections be refused while open ones go on."""
        if key in self._bound:
            self._draining.add(key)

    def is_draining(self, key: RouteKey) -> bool:
        """Tell whether key waits for its last connection to end."""
        return key in self._draining

    def release(self, key: RouteKey) -> None:
        """Forget key and give its local port back; one that is not bound is no error."""
        self._draining.discard(key)
        binding = self._bound.pop(key, None)
        if binding is not None:
            self._ports_of(key).discard(binding.port)

    def forget_inherited(self) -> None:
        """Give back the local ports that the kernel remembered and nobody asked for."""
        for key, port in self._inherited.items():
            self._ports_of(key).discard(port)
        self._inherited.clear()

    def capture(self, vips: Iterable[str], local_addresses: Container[str]) -> Capture:
        """Give what the kernel has to deliver: the VIPs that have routes, and those of connections still open."""
        bound = [key for key, binding in self._bound.items() if binding.transparent]
        addresses = {vip for vip in vips if vip not in local_addresses}
        addresses.update(key.vip for key in bound)
        if not self._redirect.rewrites:
            return Capture(frozenset(addresses))
        ports = {key: self._bound[key].port for key in bound}
        return Capture(frozenset(addresses), ports, frozenset(key for key in self._draining if key in ports))

    def _local_port(self, key: RouteKey) -> int:
        taken = self._ports_of(key)
        inherited = self._inherited.pop(key, None)
        if inherited is not None:
            taken.discard(inherited)
        port = allocate(key, inherited, taken, _ServicePorts(key, self._claimed), self._first, self._last)
        if port is None:
            raise ListenError(f"{key}: no local port from {self._first} to {self._last} is free (capture.localPorts sets the range)")
        taken.add(port)
        return port

    def _ports_of(self, key: RouteKey) -> set[int]:
        return self._taken.setdefault((key.vip, key.protocol), set())


class _ServicePorts:
    """The service ports of one VIP and protocol, as a container."""

    def __init__(self, key: RouteKey, claimed: Container[RouteKey]) -> None:
        self._key = key
        self._claimed = claimed

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self._key._replace(port=port) in self._claimed
