"""All the ways in which a Service can be reached: who, by which address, over which protocol."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab import client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

CLIENTS: Final = ("pod", "bridged", "neighbour", "node", "outside")
ADDRESS_CLASSES: Final = ("ClusterIP", "NodePort", "externalIP")
FAMILIES: Final = (4, 6)
PROTOCOLS: Final[tuple[client.Protocol, ...]] = ("TCP", "UDP")


class Way(NamedTuple):
    """One of them. who: the name of the client's host."""

    who: str
    address_class: str
    family: int
    protocol: client.Protocol

    def __str__(self) -> str:
        return f"{self.who}-{self.address_class}-IPv{self.family}-{self.protocol}"


def ways(*, clients: Iterable[str] = CLIENTS, families: Iterable[int] = FAMILIES) -> list[Way]:
    """List every way from these clients over these families."""
    return [Way(*each) for each in itertools.product(clients, ADDRESS_CLASSES, families, PROTOCOLS)]


def entrance(stand: Stand, served: Served, address_class: str, family: int) -> tuple[str, int]:
    """Give the address and the port that a client of this class and family uses."""
    if address_class == "NodePort":
        return stand.lab.node.address(family), served.node_port
    return served.vip(family) if address_class == "ClusterIP" else served.external(family), served.port


def ask(stand: Stand, served: Served, way: Way) -> client.Answer:
    """Ask the endpoint behind a Service who it is and whom it sees."""
    address, port = entrance(stand, served, way.address_class, way.family)
    return client.ask(stand.lab[way.who], address, port, way.protocol)


def assert_served(stand: Stand, served: Served, name: str, *, clients: Iterable[str] = CLIENTS, families: Iterable[int] = FAMILIES) -> None:
    """Go every way once; the one that fails is named."""
    for way in ways(clients=clients, families=families):
        try:
            answer = ask(stand, served, way)
        except OSError as error:
            raise AssertionError(f"{way}: {error!r}\n{stand.uproxy.log()}") from error
        assert answer.name == name, f"{way}: {answer}"
