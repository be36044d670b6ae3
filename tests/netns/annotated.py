"""Services with annotations in the lab: clients at every address, and what the metrics say of them."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.lab import client
from tests.lab.waiting import eventually
from tests.lab.ways import ADDRESS_CLASSES, FAMILIES, entrance

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from contextlib import ExitStack

    from tests.lab.manifests import Served
    from tests.lab.stand import Stand
    from tests.lab.topology import Host

ENTRANCES: Final = tuple(itertools.product(ADDRESS_CLASSES, FAMILIES))


def annotated(**values: str) -> dict[str, str]:
    """Give annotations: idle_timeout="1s" is uproxy.io/idle-timeout: 1s."""
    return {f"uproxy.io/{name.replace('_', '-')}": value for name, value in values.items()}


def is_open(conversation: socket.socket) -> bool:
    """Tell whether the endpoint at the other end still answers; raises ConnectionResetError."""
    return client.who(conversation).name != ""


def is_reset(conversation: socket.socket) -> bool:
    """Tell whether a conversation is reset within the client's patience, and not merely closed."""
    try:
        assert conversation.recv(16) == b"", "it is not over"
    except ConnectionResetError:
        return True
    return False


def is_turned_away(host: Host, address: str, port: int) -> bool:
    """Tell whether a new connection is reset at once, not refused: that may be known before connect() returns."""
    try:
        with client.tcp(host, address, port) as opened:
            return is_reset(opened)
    except ConnectionResetError:
        return True


class Counting:
    """What has been added to the metrics since it was made."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._before = stand.uproxy.metrics()

    def added(self, name: str) -> float:
        """Give the sum over all labels."""
        return self._stand.uproxy.metrics().get(name, 0.0) - self._before.get(name, 0.0)


def by_every_entrance(stand: Stand, served: Served, who: str, owned: ExitStack) -> list[socket.socket]:
    """Connect once by each class of address and family, without asking anything."""
    places = [entrance(stand, served, *each) for each in ENTRANCES]
    return [owned.enter_context(client.tcp(stand.lab[who], *place)) for place in places]


@contextmanager
def conversation(stand: Stand, served: Served, who: str = "outside", family: int = 4) -> Iterator[socket.socket]:
    """Keep a connection open that its endpoint has answered."""
    with client.tcp(stand.lab[who], served.vip(family), served.port) as made:
        assert is_open(made)
        yield made


def await_names(stand: Stand, served: Served, *names: str) -> None:
    """Wait until these endpoints and no others are behind a Service, on both families."""
    for family in FAMILIES:
        eventually(partial(_are_behind, stand, served.vip(family), served.port, set(names)))


def _are_behind(stand: Stand, vip: str, port: int, names: set[str]) -> bool:
    return {client.ask(stand.lab.pod, vip, port).name for _ in range(6)} == names


def await_accepted(stand: Stand, served: Served) -> None:
    """Wait until a Service accepts at each of its addresses, whatever it does with connections then, and has none."""
    for each in ENTRANCES:
        eventually(partial(_accepts, stand, *entrance(stand, served, *each)))
    eventually(lambda: held(stand) == 0)


def _accepts(stand: Stand, address: str, port: int) -> None:
    client.tcp(stand.lab.outside, address, port).close()


def held(stand: Stand) -> float:
    """Count the connections that wait for an endpoint."""
    return stand.uproxy.metrics()["uproxy_held_connections"]
