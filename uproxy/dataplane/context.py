"""What listeners of both protocols share: where they are bound, what they work with, and what they offer.

Owns the values Binding and Context and the Protocol Listener; knows nothing of how bytes move. There is one
Context per data plane and everything in it lives as long as that. Shape, for tcp.py and udp.py:

    context.loop, .reactor, .config, .log     the asyncio loop, the epoll, all settings, where facts go
    context.ejector                           .failed(endpoint, now) / .succeeded(endpoint); now is reactor.now
    context.counters                          plain integers (counters.Counters)
    context.traffic                           .acquire(service_port) -> Traffic, .release(service_port): one each per listener
    context.client_addresses                  .keeps(client, endpoint) -> bool
    context.descriptors                       .take(n) -> bool, .give(n), .flow_limit
    context.flows                             Flows(loop, config.udp, descriptors.flow_limit, counters.flow_evictions); .stop() at the end
    context.udp_source_ports                  udp_source_ports.SourcePorts(*config.udp.source_ports)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from uproxy.config import Config
    from uproxy.core.admission import Lists
    from uproxy.core.balance import Balancing, Ejector
    from uproxy.core.model import Endpoint, RouteKey, ServicePortName
    from uproxy.dataplane.counters import Counters, TrafficRegister
    from uproxy.dataplane.descriptors import Descriptors
    from uproxy.dataplane.flows import Flows
    from uproxy.dataplane.reactor import Reactor
    from uproxy.dataplane.udp_flow import Flow
    from uproxy.dataplane.udp_source_ports import SourcePorts
    from uproxy.dataplane.upstream import ClientAddresses
    from uproxy.log import Log


class Binding(Struct, frozen=True, gc=False):
    """Where a listener is bound: key.vip on `port`, with IP_TRANSPARENT or not, SO_MARK if mark is not 0.

    A transparent listener's packets are rewritten between port and key.port by the kernel.
    """

    key: RouteKey
    port: int
    transparent: bool = False
    mark: int = 0


class Context(Struct, frozen=True):
    """What every listener works with; see the module's docstring."""

    loop: asyncio.AbstractEventLoop
    reactor: Reactor
    config: Config
    log: Log
    ejector: Ejector
    counters: Counters
    traffic: TrafficRegister
    client_addresses: ClientAddresses
    descriptors: Descriptors
    flows: Flows[Flow]
    udp_source_ports: SourcePorts


class Listener(Protocol):
    """What the data plane asks of a listener, TCP or UDP. It listens from its construction on (ListenError) until close()."""

    binding: Binding
    service_port: ServicePortName
    balancer: Balancing
    keep_client_address: bool
    admitted: Lists

    def admit(self, lists: Lists) -> None:
        """Drop who is not in each of the lists from now on; open connections stay. Raises ListenError."""

    def endpoints_changed(self, still_serving: Iterable[Endpoint] = ()) -> None:
        """Take note that the balancer (perhaps a new one) has other endpoints: flows to those that left end now.

        still_serving: endpoints that the balancer does not have, but where flows may stay.
        """

    def close(self) -> int:
        """Stop listening at once; give the number of TCP connections that stay open. UDP flows end."""
