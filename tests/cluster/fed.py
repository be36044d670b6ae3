"""A lab whose node is fed by a control plane on another host, and clients that ask all the while: what faults are made in.

Owns the lab, the control plane, endpoints, two Services that are always there, and the uproxy that runs. `undisturbed`
is what every fault has to leave behind: nobody noticed, what is served is what a fresh list says, nothing was lost on
the way. Slices are the test's own, without controllers: so it knows at any moment what the API server says.
"""

from __future__ import annotations

import itertools
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster import fresh, objects
from tests.cluster.clients import Address, Client, Clients
from tests.cluster.control_plane import ControlPlane
from tests.lab import kernel
from tests.lab.manifests import IPV6, Served, endpoint_slice, service, targets
from tests.lab.process import METRICS_PORT, Uproxy
from tests.lab.servers import Servers
from tests.lab.topology import Lab
from tests.lab.waiting import eventually
from tests.lab.wiring import POD_CIDRS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from tests.lab.topology import Host

ENDPOINTS: Final = ("pod", "pod2", "neighbour", "neighbour2", "remote")
"""The hosts that serve; the others ask."""
NAMESPACE: Final = "default"
REQUEST_SECONDS: Final = 5
"""How long the API server lets a request take, and so how long it takes to end when it is asked to: it is a minute by default."""
QUARTERS: Final = {"connectTimeout": "2500ms", "requestTimeout": "7500ms", "retryBase": "250ms", "retryLimit": "7500ms"}
"""A quarter of what they are by default: what takes a minute otherwise then takes 15 s, attempt by attempt."""
SETTINGS: Final = {
    "udp": {"unansweredTimeout": "2s", "answeredTimeout": "2s"},
    "capture": {"linger": "1s"},
    "state": {"saveInterval": "2500ms"},
    "sync": {"resync": "7500ms"},
}
"""So that what clients leave behind is gone soon after them, and several saves and resyncs happen during a loss."""
SETTLES_SECONDS: Final = 20.0
"""Within which everything is as it should be, once the API server can be had. A second when nothing else runs."""
MORE_MEMORY: Final = 4 << 20
"""Bytes by which a process may grow by its first fault, for code and buffers that it had no use for before: 0.6 MB, after
forty faults 3 MB."""


class Footprint(NamedTuple):
    """What uproxy takes: descriptors that are no listeners, and memory in bytes."""

    descriptors: int
    resident: int


class Fed:
    """A context manager. steady: a Service that nobody changes. moving: one whose endpoints come and go; pod2 is always one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._uproxy: Uproxy | None = None
        self._flags: tuple[str, ...] = ()
        with ExitStack() as owned:
            self.lab: Final = owned.enter_context(Lab())
            owned.enter_context(Servers([self.lab[name] for name in ENDPOINTS]))
            server, flags = self.lab.node2, (f"--request-timeout={REQUEST_SECONDS}s",)
            plane = ControlPlane(folder / "plane", address=server.address(4), namespace=server.namespace, flags=flags)
            self.plane: Final = owned.enter_context(plane)
            owned.callback(self._end)
            self._register()
            self.steady: Final = self.add("steady", self.lab.pod, self.lab.pod2)
            self.moving: Final = self.add("moving", self.lab.pod2, self.lab.neighbour)
            self._owned = owned.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    def _register(self) -> None:
        """Make the Node, and wait for the namespace that the API server makes by itself."""
        node, admin = self.lab.node, self.plane.admin
        objects.create_node(admin, node.name, node.addresses, pod_cidrs=POD_CIDRS[:2])
        eventually(lambda: NAMESPACE in {each["metadata"]["name"] for each in admin.list("Namespace")["items"]}, within=SETTLES_SECONDS)

    # What the API server says

    def add(self, name: str, *to: Host) -> Served:
        """Make a Service behind which these hosts are, at addresses of its own."""
        number = next(self._numbers)
        cluster = (f"10.96.1.{number}", f"fd10:96::1{number:03x}")
        external = (f"198.51.100.{number}", f"2001:db8:51::{number:x}")
        served = Served(name, cluster, external, 80, 30000 + 2 * number)
        self.plane.admin.apply(service(served))
        self.retarget(served, *to)
        return served

    def retarget(self, served: Served, *to: Host) -> None:
        """Give a Service other endpoints."""
        for family in (4, IPV6):
            self.plane.admin.apply(endpoint_slice(served.name, family, targets(to)))

    def remove(self, name: str) -> None:
        """Remove a Service and its endpoints."""
        self.plane.admin.delete("Service", name, NAMESPACE)
        self.plane.admin.delete_all("EndpointSlice", NAMESPACE, labelSelector=f"{fresh.SERVICE_LABEL}={name}")

    def _remove_others(self) -> None:
        """Remove what other tests left behind."""
        ours = {"kubernetes", self.steady.name, self.moving.name}
        for name in {each["metadata"]["name"] for each in self.plane.admin.list("Service", NAMESPACE)["items"]} - ours:
            self.remove(name)

    # What uproxy makes of it

    @property
    def uproxy(self) -> Uproxy:
        """The uproxy that runs."""
        assert self._uproxy is not None, "none was started"
        return self._uproxy

    def start(self, kubeconfig: Path | None = None, **kubernetes: str) -> Uproxy:
        """Start an uproxy that knows nothing yet, in the place of the one that runs; wait until it serves steady and moving alone.

        kubernetes: its settings in the group of that name, where they are not QUARTERS.
        """
        self._remove_others()
        config = self._folder / f"config-{next(self._numbers)}.yaml"
        settings = {**SETTINGS, "kubernetes": {**QUARTERS, **kubernetes}}
        config.write_text(json.dumps({"apiVersion": "uproxy.io/v1alpha1", "kind": "UproxyConfiguration", **settings}), encoding="utf-8")
        self._flags = ("--kubeconfig", str(kubeconfig or self.plane.kubeconfig()), "--config", str(config))
        return self._start()

    def _start(self) -> Uproxy:
        self._end()
        state = self._folder / f"state-{next(self._numbers)}"
        self._uproxy = Uproxy(self.lab.node, *self._flags, "--state-dir", str(state))
        self._uproxy.wait_healthy()
        return self._uproxy

    def _end(self) -> None:
        uproxy, self._uproxy = self._uproxy, None
        if uproxy is not None:
            try:
                assert uproxy.stop() == 0, uproxy.log()
            finally:
                uproxy.kill()
            assert "Traceback" not in uproxy.log(), uproxy.log()

    def count(self, name: str, **labels: str) -> float:
        """Scrape a metric: the sum of its samples with these labels."""
        families = text_string_to_metric_families(self.uproxy.get("/metrics", METRICS_PORT).body)
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def said(self, *words: str) -> list[str]:
        """Give the lines that uproxy has logged which hold all words."""
        return [line for line in self.uproxy.lines if all(word in line for word in words)]

    # What nobody may notice

    @contextmanager
    def undisturbed(self, *, lines: int) -> Iterator[Clients]:
        """Let clients ask while the body makes a fault and mends it.

        Nobody of them may notice, then or until everything is as a fresh list says; what it took is given back; and an
        uproxy that is started afresh afterwards finds nothing to change. lines: how many may be logged.
        """
        self.assert_listeners()
        uproxy, logged, before = self.uproxy, len(self.uproxy.lines), self._footprint()
        with Clients(self._clients()) as clients:
            yield clients
            self.assert_listeners()
            clients.are_served()
        clients.assert_undisturbed()
        assert uproxy is self.uproxy
        assert uproxy.is_running(), uproxy.log()
        self._assert_fresh()
        self._eventually(lambda: self._assert_given_back(before))
        assert len(uproxy.lines) - logged <= lines, "\n".join(uproxy.lines[logged:])
        self._assert_like_a_new_one()

    def _clients(self) -> list[Client]:
        lab, steady, moving = self.lab, self.steady, self.moving
        lasting = [
            Address(lab.bridged, steady.vip(4), 80),
            Address(lab.outside, steady.external(6), 80),
            Address(lab.bridged, steady.vip(4), 80, "UDP"),
            Address(lab.outside, lab.node.address(6), steady.node_port, "UDP"),
            Address(lab.bridged, moving.vip(6), 80),
        ]
        # No flows to moving: one that waits for an answer while its endpoint is taken away gets none, as it should.
        new = [
            Address(lab.bridged, steady.vip(4), 80),
            Address(lab.outside, steady.external(6), 80),
            Address(lab.bridged, steady.vip(6), 80, "UDP"),
            Address(lab.outside, lab.node.address(4), steady.node_port, "UDP"),
            Address(lab.bridged, moving.vip(6), 80),
            Address(lab.outside, moving.external(4), 80),
        ]
        return [*(Client(each, lasting=True) for each in lasting), *map(Client, new)]

    def assert_listeners(self) -> None:
        """Wait until what is listened on is what a fresh list says."""
        self._eventually(lambda: fresh.assert_listeners(self.plane.admin, self.lab))

    def _assert_fresh(self) -> None:
        """Wait until all that can be seen is what a fresh list says: listeners, who answers, numbers."""
        self.assert_listeners()
        self._eventually(lambda: fresh.assert_answers(self.plane.admin, self.lab))
        self._eventually(lambda: fresh.assert_numbers(self.plane.admin, self.lab, self.uproxy))

    def _eventually(self, attempt: Callable[[], None]) -> None:
        """Wait until it is so; show what uproxy has logged when it never is."""
        try:
            eventually(attempt, within=SETTLES_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.uproxy.log()}") from error

    def _footprint(self) -> Footprint:
        process = Path(f"/proc/{self.uproxy.pid}")
        status = (process / "status").read_text(encoding="ascii").splitlines()
        resident = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))
        listeners = fresh.listening(self.lab.node).total()
        return Footprint(len(list((process / "fd").iterdir())) - listeners, resident)

    def _assert_given_back(self, before: Footprint) -> None:
        now = self._footprint()
        assert now.descriptors <= before.descriptors, f"{before} became {now}"
        assert now.resident <= before.resident + MORE_MEMORY, f"{before} became {now}"

    def _assert_like_a_new_one(self) -> None:
        """Put an uproxy that knows nothing in the place of the one that runs: it finds nothing to change in the kernel."""
        before = kernel.rules(self.lab.node), fresh.listening(self.lab.node)
        self._start()
        assert (kernel.rules(self.lab.node), fresh.listening(self.lab.node)) == before
