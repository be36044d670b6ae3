"""States to save and to read: one with every field of the model in it, and ones of any size.

`python -m tests.sources.states` writes the golden file of the present format anew: for a model that changed and a
format that went up with it, never to make a test pass.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uproxy.core.model import (
    EndpointSlice,
    Family,
    Kind,
    Node,
    ObjectKey,
    Protocol,
    Service,
    ServiceOptions,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from uproxy.core.state import Listed, Put, State, fold
from uproxy.sources import state_file
from uproxy.sources.state_file import Header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uproxy.core.model import KubernetesObject

PATIENCE: Final = 20.0
"""Seconds that a test waits for what must come."""
GOLDEN: Final = Path(__file__).with_name("golden")
HEADER: Final = Header(1790000000.25, "node-1", "edge")

# No field has its default, and there is an object of each family.
EVERY_FIELD: Final[tuple[KubernetesObject, ...]] = (
    Service(
        key=ObjectKey("shop", "web"),
        cluster_ips=("10.96.0.10", "fd00:96::a"),
        ports=(ServicePort("http", Protocol.TCP, 80, 30080), ServicePort("dns", Protocol.UDP, 53, 30053)),
        external_ips=("198.51.100.7",),
        affinity_seconds=10800,
        keep_client_address=False,
        load_balancer_ips=("203.0.113.10", "2001:db8:1::a"),
        source_ranges=("192.0.2.0/24", "2001:db8::/64"),
        internal_local=True,
        external_local=True,
        health_check_node_port=32000,
        options=ServiceOptions(least_connections=True, drain=30.0, proxy_protocol=2, hold=60.0, max_connections=100, idle_timeout=300.5),
    ),
    EndpointSlice(
        key=ObjectKey("shop", "web-abcde"),
        service=ObjectKey("shop", "web"),
        family=Family.IPV4,
        endpoints=(
            SliceEndpoint("10.244.1.2", False, False, True, "node-1", for_nodes=("node-1", "node-2"), for_zones=("zone-a", "zone-b")),
        ),
        ports=(SlicePort("http", Protocol.TCP, 8080), SlicePort("dns", Protocol.UDP, 5353)),
    ),
    EndpointSlice(
        key=ObjectKey("shop", "web-fghij"),
        service=ObjectKey("shop", "web"),
        family=Family.IPV6,
        endpoints=(
            SliceEndpoint("fd00:244::2", False, False, True, "node-1", for_nodes=("node-1", "node-2"), for_zones=("zone-a", "zone-b")),
        ),
        ports=(SlicePort("http", Protocol.TCP, 8080),),
    ),
    Node(name="node-1", addresses=("192.0.2.1", "2001:db8::1"), pod_cidrs=("10.244.1.0/24",), zone="zone-a", eligible=False),
)


def state_of(objects: Iterable[KubernetesObject], listed: Iterable[Kind] = Kind) -> State:
    """Make the state in which these objects are all there is of the kinds that were listed."""
    return fold(State(), [*map(Put, objects), *map(Listed, listed)])[0]


def one_service(number: int) -> State:
    """Make a complete state that differs for each number."""
    return state_of([Service(ObjectKey("default", f"web-{number}"), ("10.96.0.1",), (ServicePort("http", Protocol.TCP, 80),))])


def many_services(number: int, first: int = 0) -> State:
    """Make a state of so many Services with one slice of two endpoints each."""
    objects: list[KubernetesObject] = []
    for index in range(first, first + number):
        key, place = ObjectKey("default", f"service-{index}"), f"{index >> 8 & 255}.{index & 255}"
        objects.append(Service(key, (f"10.96.{place}",), (ServicePort("http", Protocol.TCP, 80),)))
        endpoints = tuple(SliceEndpoint(f"10.{244 + each}.{place}", node_name=f"node-{each}") for each in range(2))
        ports = (SlicePort("http", Protocol.TCP, 8080),)
        objects.append(EndpointSlice(ObjectKey("default", f"service-{index}-x7k2p"), key, Family.IPV4, endpoints, ports))
    return state_of([*objects, Node("node-1", ("192.0.2.1",))])


def written(state: State, header: Header = HEADER) -> bytes:
    """Give a state's file."""
    return state_file.write(header, state, lambda: None)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds: what a thread does to a disk announces itself to nobody."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {PATIENCE} s"
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / f"state-{state_file.FORMAT}").write_bytes(written(state_of(EVERY_FIELD)))
