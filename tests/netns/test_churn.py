"""A thousand changes a minute on a thousand Services, under traffic: nobody else notices, and nothing is left of them.

The Services come from a folder of manifests. An API server could take the rate as well, but it and its etcd then take a
quarter of a CPU, of the two that uproxy, clients and endpoints share, and the folder takes next to nothing; with it each
change is also one step for a Service and its slices. What an API server's watch adds is for the tests of tests/cluster.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import pytest

from tests.cluster.clients import Address, Client, Clients
from tests.lab import churn, client
from tests.lab.churn import NUMBER, RESTLESS, UNTOUCHED, Population
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from tests.lab.process import Uproxy
    from tests.lab.stand import Stand
    from tests.lab.topology import Host

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PER_MINUTE: Final = 1000
SECONDS: Final = 120
WARM_UP_SECONDS: Final = 30
"""Of these: by then each sort of change was made some fifty times, and there was traffic of each sort."""
SETTINGS: Final = ("capture: {linger: 1s}", "udp: {unansweredTimeout: 2s, answeredTimeout: 2s}")
"""So that what traffic leaves behind is gone soon after it; by default it takes a minute and two."""
SETTLES_SECONDS: Final = 30.0
MORE_MEMORY: Final = 6 << 20
"""Bytes by which the process may grow in ninety seconds and 1,500 changes. It grows by 2 MB, and by 6 before it grows no
more (9,000 changes, while the number of blocks that Python has in use stays what it was): a leak of 4 kB a change shows."""
PAUSE: Final = 0.01
"""Seconds between two questions of one client."""
ASKING: Final = 4
"""Threads that ask Services that nobody changes."""
PATIENCE: Final = 10.0
"""Seconds after which no answer is a failure there; elsewhere a fraction of one is enough."""
CURT: Final = 0.2
MORE_THREADS: Final = 5
"""asyncio's executor has up to six on two CPUs, the first of them from the start."""
AT_A_TIME: Final = 150
"""Connections that each thread keeps open to Services that change: some four seconds each."""
ANY_ENDPOINT: Final = tuple({name for names in churn.ENDPOINTS for name in names})


class Asking:
    """A thread that does one thing after the other until the with statement ends; what goes wrong is kept."""

    def __init__(self, things: Iterable[Callable[[], None]]) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._things = itertools.cycle(things)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE):
            thing = next(self._things)
            try:
                thing()
            except (OSError, ValueError, AssertionError) as error:
                self.failures.append(f"{thing} at {time.monotonic():.3f}: {error!r}")
            self.done += 1


@dataclass(frozen=True)
class Question:
    """One connection or flow to a Service, and the endpoints that may answer it."""

    host: Host
    address: str
    port: int
    protocol: client.Protocol
    patience: float
    endpoints: Sequence[str]

    def __call__(self) -> None:
        """Ask; raises OSError, ValueError for half an answer and AssertionError for the answer of somebody else's endpoint."""
        found = client.ask(self.host, self.address, self.port, self.protocol, self.patience).name
        assert found in self.endpoints, found


def questions(stand: Stand, numbers: Sequence[int], patience: float) -> list[Question]:
    """Give everything that can be asked of some Services at their first addresses, from each side."""
    lab, found = stand.lab, list[Question]()
    for number in numbers:
        shape = churn.first_shape(number)
        endpoints = shape.endpoints if number < UNTOUCHED else ANY_ENDPOINT
        for (kind, address, port), protocol in itertools.product(churn.entrances(number, lab.node.addresses), shape.protocols):
            hosts = (lab.bridged, lab.node) if kind == "ClusterIP" else (lab.outside, lab.neighbour)
            found += (Question(who, address, port, protocol, patience, endpoints) for who in hosts)
    return found


class Holder:
    """Opens connections to Services that change, and keeps the last few: whatever becomes of them, nobody minds."""

    def __init__(self, asked: Sequence[Question], dice: random.Random) -> None:
        self._asked = asked
        self._dice = dice
        self._kept: deque[socket.socket] = deque()

    def __call__(self) -> None:
        """Open one; raises OSError, and ValueError for half an answer."""
        if len(self._kept) >= AT_A_TIME:
            self._kept.popleft().close()
        one = self._dice.choice(self._asked)
        self._kept.append(client.connect(one.host, one.address, one.port, one.protocol, one.patience))
        client.who(self._kept[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._kept:
            each.close()


class Footprint(NamedTuple):
    """What uproxy has and what the kernel has for it. sockets: of the node, by protocol and state."""

    descriptors: Counter[str]
    sockets: Counter[tuple[str, str]]
    elements: dict[str, frozenset[str]]
    tasks: float
    threads: int
    resident: int

    @classmethod
    def of(cls, stand: Stand) -> Footprint:
        """Measure."""
        uproxy = stand.uproxy
        process = Path(f"/proc/{uproxy.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text(encoding="ascii").splitlines())
        tasks, resident = uproxy.metrics()["uproxy_tasks"], int(status["VmRSS"].split()[0]) << 10
        return cls(descriptors(process), sockets(stand), elements(stand), tasks, int(status["Threads"]), resident)


def descriptors(process: Path) -> Counter[str]:
    """Count a process's descriptors by what they are of."""
    return Counter(str(each.readlink()).partition(":")[0] for each in (process / "fd").iterdir())


def sockets(stand: Stand) -> Counter[tuple[str, str]]:
    """Count uproxy's sockets by protocol and state."""
    rows = stand.lab.node.namespace.run("ss", "-Htuanp").splitlines()
    return Counter((row.split()[0], row.split()[1]) for row in rows if f"pid={stand.uproxy.pid}," in row)


def elements(stand: Stand) -> dict[str, frozenset[str]]:
    """Give what each set and map of uproxy's table holds."""
    listing = json.loads(stand.lab.node.namespace.run("nft", "-j", "list", "table", "inet", "uproxy"))["nftables"]
    stores = (each[kind] for each in listing for kind in ("set", "map") if kind in each)
    return {store["name"]: frozenset(json.dumps(one) for one in store.get("elem", [])) for store in stores}


def brought_back(stand: Stand, population: Population, first: dict[str, frozenset[str]], lasting: int) -> Footprint:
    """Make everything as it was at first, wait until nothing is left of what traffic and changes were, and measure."""
    population.restore()

    def settled() -> None:
        metrics = stand.uproxy.metrics()
        found = [metrics[name] for name in ("uproxy_services", "uproxy_connections_active", "uproxy_flows_active")]
        assert found == [NUMBER, lasting, 0]
        now = elements(stand)
        assert {name: (len(now[name] - first[name]), len(first[name] - now[name])) for name in first} == dict.fromkeys(first, (0, 0))

    eventually(settled, within=SETTLES_SECONDS)
    return eventually(lambda: Footprint.of(stand))


def lasting_clients(stand: Stand) -> list[Client]:
    """Give connections that are kept all the time, to Services that nobody changes."""
    lab = stand.lab
    asked = [one for one in questions(stand, range(16), client.PATIENCE) if one.protocol == "TCP"]
    chosen = [one for one in asked if one.host in (lab.bridged, lab.outside)][::4]
    return [Client(Address(one.host, one.address, one.port), lasting=True) for one in chosen]


def change(population: Population, seconds: float) -> None:
    """Make changes at their rate for so long."""
    begun, number = time.monotonic(), round(seconds * PER_MINUTE / 60)
    for done in range(number):
        time.sleep(max(0.0, begun + done * 60 / PER_MINUTE - time.monotonic()))
        population.change_one()
    assert time.monotonic() - begun < seconds * 1.05, "the changes were made too slowly"


def churn_for(stand: Stand, population: Population, seconds: float) -> list[Asking]:
    """Make changes under traffic; give those who asked Services that nobody changes: all must have been answered."""
    judged = questions(stand, range(UNTOUCHED), PATIENCE)
    dice = random.Random(2)
    dice.shuffle(judged)
    others = questions(stand, range(UNTOUCHED, UNTOUCHED + RESTLESS), CURT)
    with ExitStack() as stack:
        faithful = [stack.enter_context(Asking(judged[part::ASKING])) for part in range(ASKING)]
        holders = [stack.enter_context(Holder(others, random.Random(seed))) for seed in range(2)]
        careless = [stack.enter_context(Asking([holder])) for holder in holders]
        change(population, seconds)
    for each in careless:
        assert len(each.failures) < each.done, "nobody answers at the Services that are changed"
    return faithful


@pytest.mark.timeout(400)
def test_a_thousand_changes_a_minute_disturb_nobody_and_leave_nothing_behind(stand: Stand) -> None:
    population = Population(stand.services, random.Random(1))
    uproxy = stand.start_with(*SETTINGS)
    clients = lasting_clients(stand)
    eventually(lambda: uproxy.metrics()["uproxy_services"] == NUMBER, within=SETTLES_SECONDS)
    first = elements(stand)
    with Clients(clients) as lasting:
        asked = churn_for(stand, population, WARM_UP_SECONDS)
        before = brought_back(stand, population, first, len(clients))
        asked += churn_for(stand, population, SECONDS - WARM_UP_SECONDS)
        after = brought_back(stand, population, first, len(clients))
        lasting.are_served()
    failures = [failure for each in asked for failure in each.failures]
    assert not failures, f"{len(failures)} of {sum(each.done for each in asked)}\n" + "\n".join(failures[:20])
    assert population.changes == PER_MINUTE * SECONDS // 60
    assert_nothing_left(before, after)
    assert_nothing_went_wrong(uproxy)


def assert_nothing_left(before: Footprint, after: Footprint) -> None:
    assert after.descriptors == before.descriptors
    assert after.sockets == before.sockets
    assert after.tasks == before.tasks
    assert after.threads <= before.threads + MORE_THREADS
    assert after.resident <= before.resident + MORE_MEMORY, f"{(after.resident - before.resident) >> 10} KiB more"


def assert_nothing_went_wrong(uproxy: Uproxy) -> None:
    metrics = uproxy.metrics()
    for name in ("uproxy_sync_failures_total", "uproxy_redirect_repairs_total", "uproxy_failed_listeners"):
        assert metrics[name] == 0, uproxy.log()
