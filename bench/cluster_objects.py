"""Thousands of Services in a real API server, and the changes that are made to them while somebody watches.

Service number n of the fleet has the cluster IP 10.96.1.0 + n, port 80, and two endpoints in one slice. What a change
asks for is never there before: endpoints are used once. Requests go over several connections at the same time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from bench.load.server import NAME
from bench.manifests import NAMESPACE, Document, endpoint_slice, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.cluster.api_client import ApiClient

PORT: Final = 80
MOST: Final = 16000
"""More Services than that would need more endpoints than are set aside."""
CONNECTIONS: Final = 8
ENDPOINT_NETWORK: Final = "10.244.0.0/16"
SERVICE_NETWORK: Final = "10.96.0.0/16"
_PORTS: Final = {"http": ("TCP", PORT)}
_TARGETS: Final = {"http": ("TCP", NAME)}
_VIPS = IPv4Address("10.96.1.0")
_FIRST_NEW_VIP = IPv4Address("10.96.128.0")
_ENDPOINTS = IPv4Address("10.244.0.2")
_NEW_ENDPOINTS = IPv4Address("10.244.128.0")
_NEW = 16000


T = TypeVar("T")


class Change(NamedTuple):
    """One request to the API server, and what a client sees once it is served: one of these endpoints at this address."""

    address: str
    expected: tuple[str, ...]
    send: Callable[[], object]


def vip(number: int) -> str:
    """Give a Service's cluster IP."""
    return str(_VIPS + number)


def _endpoints(number: int) -> list[str]:
    return [str(_ENDPOINTS + 2 * number + place) for place in range(2)]


def documents(number: int) -> list[Document]:
    """Give a Service of the fleet and its slice."""
    name = f"service-{number:05}"
    return [endpoint_slice(name, _endpoints(number), _TARGETS), service(name, vip(number), _PORTS)]


class Fleet:
    """The objects of one control plane."""

    def __init__(self, admin: ApiClient) -> None:
        self.size = 0
        self._admin = admin
        self._changes = 0
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})

    def grow(self, size: int, said: Callable[[str], None]) -> float:
        """Create Services until there are so many; tell the progress; give the objects created per second."""
        wanted = [document for number in range(self.size, size) for document in documents(number)]
        began = time.monotonic()
        for done in self._together(self._admin.create, wanted):
            rate = done / (time.monotonic() - began)
            said(f"{done:,} of {len(wanted):,} objects created, {(len(wanted) - done) / rate:.0f} s left")
        self.size = size
        return len(wanted) / (time.monotonic() - began)

    def new_endpoints(self, count: int) -> Iterator[Change]:
        """Give changes that put other endpoints behind Services that are there, spread over all of them."""
        for place in range(count):
            number = place * self.size // count if count <= self.size else place % self.size
            addresses = self._unused_endpoints()
            document = endpoint_slice(f"service-{number:05}", addresses, _TARGETS)
            yield Change(vip(number), tuple(addresses), partial(self._admin.replace, document))

    def new_services(self, count: int) -> Iterator[Change]:
        """Give changes that add a Service each: its slice is made beforehand, the request is the Service. Clear up afterwards."""
        made = [(f"new-{place:05}", str(_FIRST_NEW_VIP + place), self._unused_endpoints()) for place in range(count)]
        slices = [endpoint_slice(name, addresses, _TARGETS) for name, _, addresses in made]
        for _ in self._together(self._admin.create, slices):
            pass
        for name, address, addresses in made:
            yield Change(address, tuple(addresses), partial(self._admin.create, service(name, address, _PORTS)))

    def remove_new_services(self, count: int) -> None:
        """Remove what new_services added."""
        names = [(kind, f"new-{place:05}{suffix}") for place in range(count) for kind, suffix in (("Service", ""), ("EndpointSlice", "-1"))]
        for _ in self._together(lambda name: self._admin.delete(*name, NAMESPACE), names):
            pass

    def _unused_endpoints(self) -> list[str]:
        first = _NEW_ENDPOINTS + 2 * (self._changes % _NEW)
        self._changes += 1
        return [str(first), str(first + 1)]

    @staticmethod
    def _together(work: Callable[[T], object], over: Iterable[T]) -> Iterator[int]:
        """Do work over several connections at the same time; give the number of those that are done, as it grows."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                for done, future in enumerate(as_completed([pool.submit(work, each) for each in over]), start=1):
                    future.result()
                    yield done
            finally:
                pool.shutdown(cancel_futures=True)
