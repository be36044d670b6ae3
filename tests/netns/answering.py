"""What a client finds at an address: who answers it, and whether it is left without an answer or refused at once."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

from tests.lab import client
from tests.lab.manifests import Options, targets
from tests.lab.waiting import eventually
from tests.lab.ways import PROTOCOLS, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

QUIET: Final = 0.4
"""Seconds without an answer that count as silence: refusals come within milliseconds, answers too."""
AT_ONCE: Final = 0.1
"""Seconds within which a refusal comes, on a busy machine too."""
ASKED: Final = 6
"""Connections that show who is behind an address: round robin has met each of three endpoints by then."""
EXTERNAL: Final = ("NodePort", "externalIP", "LoadBalancer")
ALL: Final = ("ClusterIP", *EXTERNAL)
INSIDE: Final = ("pod", "node")
HERE: Final = "pod2"
"""An endpoint on the node."""
THERE: Final = "remote"
"""An endpoint on the other node."""
SYNC: Final = "kubeproxy_sync_proxy_rules"


def place(stand: Stand, served: Served, address_class: str, family: int) -> tuple[str, int]:
    """Give the address and port of a class."""
    if address_class == "NodePort":
        return stand.lab.node.address(family), served.node_port
    found = {"ClusterIP": served.vip, "externalIP": served.external, "LoadBalancer": served.balancer}
    return found[address_class](family), served.port


@contextmanager
def one_sync(stand: Stand) -> Iterator[None]:
    """Wait, after the body has changed something, until one sync has taken it over; there must be no other change meanwhile."""
    before = stand.uproxy.metrics()[f"{SYNC}_last_queued_timestamp_seconds"]
    yield

    def has_synced() -> bool:
        now = stand.uproxy.metrics()
        queued = now[f"{SYNC}_last_queued_timestamp_seconds"]
        return queued > before and now[f"{SYNC}_last_timestamp_seconds"] > queued

    eventually(has_synced)


def make(stand: Stand, name: str, *behind: str, **options: Unpack[Options]) -> Served:
    """Write a Service with addresses of every class and these hosts as its endpoints."""
    served = stand.services.plan(name)
    rewrite(stand, served, *behind, **options)
    return served


def rewrite(stand: Stand, served: Served, *behind: str, **options: Unpack[Options]) -> None:
    """Write it anew."""
    with_balancer: Options = {"ingress": served.ingress(), **options}
    stand.services.put(served, targets([stand.lab[name] for name in behind]), **with_balancer)


def inside(*names: str) -> dict[str, set[str]]:
    """Say that pods and the node itself find these endpoints."""
    return {who: set(names) for who in INSIDE}


def everybody(*names: str) -> dict[str, set[str]]:
    """Say that clients outside do as well."""
    return {"outside": set(names), **inside(*names)}


def answering(stand: Stand, who: str, address: str, port: int, protocol: client.Protocol = "TCP") -> set[str]:
    """Give the names of all endpoints that answer a client; raises OSError."""
    return {client.ask(stand.lab[who], address, port, protocol, client.PATIENCE).name for _ in range(ASKED)}


def is_silent(stand: Stand, who: str, address: str, port: int, protocol: client.Protocol = "TCP") -> bool:
    """Tell whether a client hears nothing at all: neither an answer nor a refusal."""
    try:
        client.ask(stand.lab[who], address, port, protocol, QUIET)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def await_answers(stand: Stand, served: Served, classes: Iterable[str], family: int, expected: Mapping[str, set[str]]) -> None:
    """Wait until clients find these endpoints, by the client's name, at each of the addresses over each protocol."""
    for address_class, (who, names), protocol in itertools.product(classes, expected.items(), PROTOCOLS):
        eventually(partial(_assert_answering, stand, served, Way(who, address_class, family, protocol), names))


def _assert_answering(stand: Stand, served: Served, way: Way, names: set[str]) -> None:
    found = answering(stand, way.who, *place(stand, served, way.address_class, way.family), way.protocol)
    assert found == names, f"{way}: {found}"


def await_silence(stand: Stand, served: Served, classes: Iterable[str], family: int, *clients: str) -> None:
    """Wait until clients are dropped at each of the addresses, whatever the protocol."""
    for address_class, who, protocol in itertools.product(classes, clients, PROTOCOLS):
        address, port = place(stand, served, address_class, family)
        eventually(partial(is_silent, stand, who, address, port, protocol))


def await_refusal(stand: Stand, served: Served, classes: Iterable[str], family: int, *clients: str) -> None:
    """Wait until clients are refused at each of the addresses, TCP at once."""
    for address_class in classes:
        address, port = place(stand, served, address_class, family)
        for who in clients:
            client.poll_refusal(stand.lab[who], address, port)
            with client.measured() as taken:
                assert client.is_refused(stand.lab[who], address, port)
            assert taken[0] < AT_ONCE, f"{who} at {address}:{port} ({address_class})"
            client.poll_refusal(stand.lab[who], address, port, "UDP", within=10)
