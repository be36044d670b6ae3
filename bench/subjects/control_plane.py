"""A kube-apiserver with its etcd for one node of the measurements: who tells the kube-proxies of Services.

It listens on the node's loopback, off the packets' way, runs on the load's CPU and sleeps (SIGSTOP) while nobody changes anything:
a proxy keeps what it knows, and the 2 % of a CPU that an idle API server takes would count against every rate. After a long sleep a
proxy opens its watches anew, which takes it a few seconds.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.manifests import NAMESPACE, endpoint_slice, service
from bench.processes import cpu_seconds
from bench.subjects.base import PORTS, VIP, CannotRun
from bench.subjects.feed import OTHERS
from bench.topology import LOAD_CPU, NODE, SERVER
from tests.cluster.api_client import Refusal
from tests.cluster.control_plane import ControlPlane
from tests.cluster.objects import create_node
from tests.lab.namespaces import Namespace as LabNamespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from bench.topology import Topology
    from tests.cluster.program import Program

NODE_NAME: Final = "node"
CONNECTIONS: Final = 8
"""Requests at the same time."""


class Plane:
    """The control plane with the Services that are measured, one for each family; a Feed, too. A context manager.

    v1_endpoints: make Endpoints beside slices. Raises CannotRun.
    """

    def __init__(self, topology: Topology, folder: Path, families: Sequence[int], *, v1_endpoints: bool = False) -> None:
        self._asleep = False
        self._v1_endpoints = v1_endpoints
        try:
            with ExitStack() as owned:
                self._plane = owned.enter_context(ControlPlane(folder / "plane", namespace=LabNamespace(topology.node.name)))
                self._programs: tuple[Program, ...] = (self._plane.api_server, self._plane.etcd.program)
                self._set_up(families)
                self._owned = owned.pop_all()
        except (AssertionError, OSError, Refusal, RuntimeError) as error:
            raise CannotRun(f"its API server does not start: {error}") from error

    def _set_up(self, families: Sequence[int]) -> None:
        for program in self._programs:
            pin(program.pid, LOAD_CPU)
        create_node(self._plane.admin, NODE_NAME, NODE.values())
        for name in (NAMESPACE, OTHERS):
            self._plane.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        slices = [endpoint_slice(f"bench-{family}", [SERVER[family]], PORTS) for family in families]
        self._create([*slices, *(service(f"bench-{family}", VIP[family], PORTS) for family in families)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owned.close()

    def kubeconfig(self) -> Path:
        """Write the kubeconfig of a kube-proxy."""
        return self._plane.kubeconfig()

    def sleep(self) -> None:
        """Stop both processes where they are; connections stay open."""
        for program in self._programs:
            program.pause()
        self._asleep = True

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let them go on until left."""
        was_asleep, self._asleep = self._asleep, False
        for program in self._programs:
            program.resume()
        try:
            yield
        finally:
            if was_asleep:
                self.sleep()

    def fill(self, services: Sequence[dict[str, Any]], slices: Sequence[dict[str, Any]]) -> None:
        """Create them."""
        with _understood():
            self._create([*slices, *services])

    def change(self, place: int, new: dict[str, Any]) -> None:  # noqa: ARG002 - as Feed says: here a slice's name is enough
        """Replace a slice."""
        with _understood():
            self._plane.admin.replace(new)
            if self._v1_endpoints:
                self._plane.admin.replace(endpoints(new))

    def clear(self) -> None:
        """Delete all that is in their namespace."""
        # A Service takes the Endpoints that have its name along.
        kinds = ("Service", "EndpointSlice")
        with _understood():
            found = [(kind, each["metadata"]["name"]) for kind in kinds for each in self._plane.admin.list(kind, OTHERS)["items"]]
            self._together(lambda each: self._plane.admin.delete(each[0], each[1], OTHERS), found)

    def cpu_seconds(self) -> float:
        """Give what both processes and this program have used."""
        return time.process_time() + sum(cpu_seconds(program.pid) for program in self._programs)

    def _create(self, documents: Sequence[dict[str, Any]]) -> None:
        old = [endpoints(document) for document in documents if self._v1_endpoints and document["kind"] == "EndpointSlice"]
        self._together(self._plane.admin.create, [*documents, *old])

    @staticmethod
    def _together(work: Callable[[Any], object], over: Sequence[Any]) -> None:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                for future in [pool.submit(work, each) for each in over]:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)


@contextmanager
def _understood() -> Iterator[None]:
    """Raise what the API server refuses as Feed says."""
    try:
        yield
    except Refusal as refusal:
        raise RuntimeError(f"the API server refuses: {refusal}") from refusal


def endpoints(piece: Mapping[str, Any]) -> dict[str, Any]:
    """Give the v1 Endpoints that say the same as a slice of one Service: what kube-proxy read before there were slices."""
    metadata = {"name": piece["metadata"]["labels"]["kubernetes.io/service-name"], "namespace": piece["metadata"]["namespace"]}
    addresses = [{"ip": address} for endpoint in piece["endpoints"] for address in endpoint["addresses"]]
    subsets = [{"addresses": addresses, "ports": piece["ports"]}]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


def pin(pid: int, cpu: int) -> None:
    """Keep a process on one CPU, all its threads; those that they start later stay there, too (sched_setaffinity(2))."""
    for thread in Path("/proc", str(pid), "task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {cpu})
