"""What a watch is based on is no more: history compacted, a backup restored. Or the bytes on the way are damaged in every way."""

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

    from tests.cluster.clients import Clients

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SAYS: Final = 24
"""Lines about it: watches' ends and a list for each kind, what the server is lost for, that it is back, three syncs."""
WITHIN: Final = 30.0
PATIENT: Final = {"connectTimeout": "30s", "requestTimeout": "30s"}
"""So that a request which was made while the API server was away is still there when it is back."""
HASTY: Final = {"connectTimeout": "500ms", "requestTimeout": "500ms", "stallTimeout": "2s", "retryBase": "50ms", "retryLimit": "1s"}
"""So that as much is tried within a step of the schedule as in many minutes otherwise."""
SEED: Final = 1936
STEPS: Final = 40
STEP_SECONDS: Final = (0.05, 0.6)
"""From less than a request takes to longer than one may take."""
SAYS_PER_STEP: Final = 5
LEAST_MET: Final = 10
"""Watches that ended before their time, and requests that failed: what the schedule comes to hangs on the clock: 20 and 35 mostly."""
EXTRAS: Final = 3


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Give a lab that is fed by a control plane."""
    require_binaries()
    with Fed(tmp_path_factory.mktemp("fed")) as made:
        yield made


class Holding:
    """A relay that holds connections while the API server is away, as a balancer may: who asks then is answered later.

    So uproxy meets another history without ever having been refused.
    """

    def __init__(self, fed: Fed) -> None:
        self._plane = fed.plane
        self._there = threading.Event()
        self._there.set()
        host, parts = fed.lab.node2, urlsplit(fed.plane.url)
        self._target = (str(parts.hostname), int(parts.port or 0))
        self.relay = Relay(self._connect, address=host.address(4), namespace=host.namespace)

    def _connect(self) -> socket.socket:
        if not self._there.wait(WITHIN):
            raise ConnectionRefusedError("it did not come back")
        return self._plane.connect(self._target)

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
            # Nothing that it knows: what changed last is looked at before a watch goes on.
            fed.add("late", fed.lab.neighbour)
            fed.plane.compact()
        for kind in ("Service", "EndpointSlice"):
            uproxy.wait_for_log("watch_restarted", f"kind={kind}", "reason=gone", within=WITHIN)
        assert fed.said("api_server_lost") == []


def test_a_backup_that_is_restored_takes_what_is_served_back(fed: Fed) -> None:
    uproxy = fed.start()
    fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
    backup = fed.plane.snapshot()
    with fed.undisturbed(lines=SAYS):
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour2)
        fed.add("undone", fed.lab.neighbour)
        fed.assert_listeners()
        fed.plane.restore(backup)
        uproxy.wait_for_log("api_server_back", within=WITHIN)


def test_a_backup_that_is_restored_behind_a_balancer_is_noticed_by_its_history(fed: Fed, holding: Holding) -> None:
    uproxy = fed.start(fed.plane.kubeconfig(server=holding.relay.url), **PATIENT)
    fed.retarget(fed.moving, fed.lab.pod2, fed.lab.remote)
    backup = fed.plane.snapshot()
    with fed.undisturbed(lines=SAYS):
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour2)
        fed.add("undone", fed.lab.neighbour)
        fed.assert_listeners()
        with holding.away():
            fed.plane.restore(backup)
        uproxy.wait_for_log("watch_restarted", "kind=Service", "reason=version_too_large", within=WITHIN)
        fed.assert_listeners()
        fed.retarget(fed.moving, fed.lab.pod2, fed.lab.neighbour)
        assert fed.said("api_server_lost") == []


class Schedule:
    """What happens in each step, to the bytes and to the cluster: the same whenever the seed is."""

    def __init__(self, fed: Fed, relay: Relay, seed: int) -> None:
        self._fed = fed
        self._relay = relay
        self._choice = random.Random(seed)
        self._extras: list[str] = []
        self._names = iter(f"extra-{number}" for number in range(STEPS))

    def step(self, clients: Clients) -> None:
        """Have a fault, perhaps end all connections or refuse new ones, change the cluster, let some time pass."""
        choice, relay = self._choice, self._relay
        relay.fault = self._fault()
        self._change()
        end = choice.choice(["", "", "", "close", "reset", "refuse"])
        if end == "refuse":
            relay.refuse()
        if end:
            relay.cut(reset=end == "reset")
        clients.are_served_for(choice.uniform(*STEP_SECONDS))
        if end == "refuse":
            relay.accept()

    def _fault(self) -> Fault:
        choice = self._choice
        makers: list[Callable[[], Fault]] = [
            lambda: HEALTHY,
            lambda: Fault(delay=choice.uniform(0.01, 0.4)),
            lambda: Fault(flip_every=choice.randrange(2, 5000)),
            lambda: Fault(replace=(choice.choice([b"\n", b'"', b"}", b"{", b":", b"0"]), b"")),
            lambda: Fault(then="close", after=choice.randrange(5000)),
            lambda: Fault(then="reset", after=choice.randrange(5000)),
            lambda: Fault(then="stall", after=choice.randrange(5000)),
        ]
        return choice.choice(makers)()

    def _change(self) -> None:
        fed, choice = self._fed, self._choice
        others = [fed.lab.remote, fed.lab.neighbour, fed.lab.neighbour2]
        fed.retarget(fed.moving, fed.lab.pod2, *choice.sample(others, choice.randrange(len(others))))
        what = choice.choice(["add", "remove", "nothing"])
        if what == "add" and len(self._extras) < EXTRAS:
            self._extras.append(fed.add(next(self._names), choice.choice(others)).name)
        elif what == "remove" and self._extras:
            fed.remove(self._extras.pop(choice.randrange(len(self._extras))))


def test_whatever_happens_to_the_bytes_on_the_way_what_is_served_is_right_in_the_end(fed: Fed) -> None:
    server, user = fed.lab.node2, kubeconfigs.with_token(STATIC_TOKENS[NODE_PROXIER])
    with fed.plane.relay(namespace=server.namespace, address=server.address(4)) as relay:
        fed.start(fed.plane.kubeconfig(user, server=relay.url), **HASTY)
        schedule = Schedule(fed, relay, SEED)
        with fed.undisturbed(lines=SAYS_PER_STEP * STEPS) as clients:
            for _ in range(STEPS):
                schedule.step(clients)
            relay.fault = HEALTHY
            fed.assert_listeners()
            assert fed.count("uproxy_watch_restarts_total") >= LEAST_MET, "the schedule does not come to much any more"
            assert fed.count("rest_client_requests_total", code="<error>") >= LEAST_MET, "the schedule does not come to much any more"
