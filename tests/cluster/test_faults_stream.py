"""What a watch is based on is no more: history compacted, a backup restored; or the bytes on the way are damaged in every way."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import NODE_PROXIER
from tests.cluster.control_plane import STATIC_TOKENS
from tests.cluster.fed import Fed
from tests.cluster.fixtures import require_binaries
from tests.cluster.relay import HEALTHY, STALLED, Fault, Relay

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.topology import Host

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SAYS: Final = 24
"""Lines about it: a watch's end and a list for each kind, what the server is lost for, that it is back."""
WITHIN: Final = 30.0
PATIENT: Final = {"connectTimeout": "30s", "requestTimeout": "30s"}
"""So that a request which was made while the API server was away is still there when it is back."""
SEED: Final = 1936
STEPS: Final = 40
SHORT: Final = (0.1, 0.7)
"""Seconds that a step lasts: from less than a request takes to longer than one may take."""
HASTY: Final = {"connectTimeout": "500ms", "requestTimeout": "500ms", "stallTimeout": "2s", "retryBase": "50ms", "retryLimit": "1s"}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Give a lab that is fed by a control plane."""
    require_binaries()
    with Fed(tmp_path_factory.mktemp("fed")) as made:
        yield made


class Holding:
    """A relay that holds connections back while the API server is away, as a balancer does: who asks meanwhile is answered later.

    So uproxy meets another history without ever having been refused. A context manager.
    """

    def __init__(self, fed: Fed) -> None:
        self._fed = fed
        self._there = threading.Event()
        self._there.set()
        host, parts = fed.lab.node2, urlsplit(fed.plane.url)
        self._target = (str(parts.hostname), int(parts.port or 0))
        self.relay = Relay(self._connect, address=host.address(4), namespace=host.namespace)

    def _connect(self) -> socket.socket:
        if not self._there.wait(WITHIN):
            raise ConnectionRefusedError("it did not come back")
        return self._fed.plane.connect(self._target)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nothing through for a while, neither what was on its way when it began nor what comes meanwhile."""
        self._there.clear()
        try:
            with self.relay.faulty(STALLED):
                yield
                self.relay.cut()
        finally:
            self._there.set()


@pytest.fixture
def holding(fed: Fed) -> Iterator[Holding]:
    """Give such a relay."""
    made = Holding(fed)
    with made.relay:
        yield made


def test_a_history_that_was_compacted_under_the_watch_is_listed_anew(fed: Fed, holding: Holding) -> None:
    uproxy = fed.start(fed.plane.kubeconfig(server=holding.relay.url), **PATIENT)
    with fed.undisturbed(lines=SAYS):
        with holding.away():
            fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
            late = fed.add("late", fed.lab.neighbour)
            fed.plane.compact()
        for kind in ("Service", "EndpointSlice", "Node"):
            uproxy.wait_for_log("watch_restarted", f"kind={kind}", "reason=gone", within=WITHIN)
        fed.remove(late)
    assert "api_server_lost" not in uproxy.log()


@pytest.mark.parametrize("noticed", [True, False], ids=["refused meanwhile", "held meanwhile"])
def test_a_backup_takes_what_is_served_back(fed: Fed, holding: Holding, noticed: bool) -> None:  # noqa: FBT001 - a case
    uproxy = fed.start(fed.plane.kubeconfig(server="" if noticed else holding.relay.url), **PATIENT)
    fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
    backup = fed.plane.snapshot()
    with fed.undisturbed(lines=SAYS):
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour2)
        undone = fed.add("undone", fed.lab.neighbour)
        fed.assert_listeners()
        if noticed:
            fed.plane.restore(backup)
            uproxy.wait_for_log("api_server_back", within=WITHIN)
        else:
            with holding.away():
                fed.plane.restore(backup)
            uproxy.wait_for_log("watch_restarted", "reason=version_too_large", within=WITHIN)
        fed.forget(undone)
        fed.assert_listeners()
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour)


def faults(choice: random.Random) -> Iterator[Fault]:
    """Make one fault after the other, for ever."""
    makers: list[Callable[[], Fault]] = [
        lambda: HEALTHY,
        lambda: Fault(delay=choice.uniform(0.01, 0.4)),
        lambda: Fault(flip_every=choice.randrange(2, 5000)),
        lambda: Fault(replace=(choice.choice([b"\n", b'"', b"}", b"{", b":", b"0"]), b"")),
        lambda: Fault(then="close", after=choice.randrange(5000)),
        lambda: Fault(then="reset", after=choice.randrange(5000)),
        lambda: Fault(then="stall", after=choice.randrange(5000)),
    ]
    while True:
        yield choice.choice(makers)()


def change(fed: Fed, choice: random.Random) -> None:
    """Change something that uproxy follows."""
    lab = fed.lab
    others: list[Host] = [lab.remote, lab.neighbour, lab.neighbour2]
    fed.retarget(fed.moving, lab.pod2, *choice.sample(others, choice.randrange(3)))
    extra = fed.extra
    if len(extra) < 3 and choice.random() < 0.5:
        fed.add(f"extra-{choice.randrange(10**6)}", choice.choice(others))
    elif extra and choice.random() < 0.5:
        fed.remove(choice.choice(extra))


def test_whatever_happens_to_the_bytes_on_the_way_what_is_served_is_right_in_the_end(fed: Fed) -> None:
    server, choice = fed.lab.node2, random.Random(SEED)
    user = kubeconfigs.with_token(STATIC_TOKENS[NODE_PROXIER])
    with fed.plane.relay(namespace=server.namespace, address=server.address(4)) as relay:
        fed.start(fed.plane.kubeconfig(user, server=relay.url), **HASTY)
        with fed.undisturbed(lines=400) as clients:
            for _, fault in zip(range(STEPS), faults(choice), strict=False):
                relay.fault = fault
                change(fed, choice)
                event = choice.choice(["", "", "cut", "reset", "refuse"])
                if event == "refuse":
                    relay.refuse()
                if event:
                    relay.cut(reset=event == "reset")
                clients.are_served_for(choice.uniform(*SHORT))
                if event == "refuse":
                    relay.accept()
            relay.fault = HEALTHY

