"""Listeners of Services with annotations, for the tests of each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.ports import free_port
from uproxy.core.model import Endpoint, Protocol, RouteKey, ServiceOptions
from uproxy.dataplane.context import Binding

if TYPE_CHECKING:
    from tests.dataplane.running import RunningPlane
    from uproxy.core.balance import Balancer


class Annotated:
    """A listener of a Service with annotations, on a free port of `vip`."""

    def __init__(
        self, plane: RunningPlane, options: ServiceOptions, *endpoints: Endpoint, vip: str = "127.0.0.1", name: str = "web"
    ) -> None:
        self._plane = plane
        self.options = options
        self.balancer: Balancer = plane.balancer(name=name)
        self.key = RouteKey(vip, Protocol.TCP, free_port(vip))
        self._set(endpoints)
        binding = Binding(self.key, self.key.port)
        plane.call(lambda: plane.plane.open(binding, self.balancer.service_port, self.balancer, keep_client_address=False, options=options))

    def _set(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.balancer.set(endpoints, None, least_connections=self.options.least_connections)

    def lead_to(self, *endpoints: Endpoint) -> None:
        """Put other endpoints behind it."""

        def update() -> None:
            self._set(endpoints)
            self._plane.plane.update(self.key, self.balancer, keep_client_address=False, options=self.options)

        self._plane.call(update)

    def ask_for(self, options: ServiceOptions) -> None:
        """Change the annotations."""
        self.options = options
        self.lead_to(*self.balancer.endpoints)
