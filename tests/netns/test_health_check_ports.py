"""healthCheckNodePort as load balancers outside use it: what they hear, on which of the node's addresses, and until when."""

from __future__ import annotations

import json
import signal
import socket
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.lab import client
from tests.lab.manifests import endpoint_slice, service, targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES
from tests.lab.wiring import ADDRESSES

if TYPE_CHECKING:
    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

FOLLOWED_SECONDS = 2.0
NODE = ADDRESSES["node"]
MORE = "10.0.1.50"
SELDOM = "sync: {resync: 10m}"


class Said(NamedTuple):
    """What a node says of a Service."""

    status: int
    name: str
    weight: str | None
    body: str


class Asking:
    """A load balancer's connection, kept open between its questions. A context manager."""

    def __init__(self, stand: Stand, address: str, port: int, who: str = "outside") -> None:
        self._raw = client.tcp(stand.lab[who], address, port)
        self._http = HTTPConnection(address, port)
        self._http.sock = self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def ask(self, method: str = "GET", path: str = "/healthz") -> Said:
        """Ask once more; raises OSError when the connection has ended."""
        self._http.request(method, path)
        with self._http.getresponse() as response:
            assert response.headers["Content-Type"].startswith("application/json")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            body = response.read().decode()
            name = json.loads(body)["service"]["name"] if body else ""
            return Said(response.status, name, response.headers["X-Load-Balancing-Endpoint-Weight"], body)


def ask(stand: Stand, port: int, address: str = NODE[0], who: str = "outside") -> Said:
    """Ask over a new connection; raises OSError when nobody listens."""
    with Asking(stand, address, port, who) as asking:
        return asking.ask()


def await_status(stand: Stand, port: int, status: int, address: str = NODE[0]) -> None:
    eventually(lambda: ask(stand, port, address).status == status)


def put(stand: Stand, served: Served, port: int, *behind: str, leaving: tuple[str, ...] = (), external: str = "Local") -> None:
    """Write a Service of type LoadBalancer that has the port."""
    to = targets([stand.lab[name] for name in behind])
    stand.services.put(served, to, ingress=served.ingress(), external=external, health_check=port, leaving=leaving)


def is_closed(stand: Stand, port: int, address: str = NODE[0]) -> bool:
    try:
        client.tcp(stand.lab.outside, address, port, client.PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def listening(stand: Stand, port: int) -> set[str]:
    """Give the addresses on which the node listens; * is all of them."""
    lines = stand.lab.node.namespace.run("ss", "-Hlnt", f"sport = :{port}").splitlines()
    return {line.split()[3].rpartition(":")[0].strip("[]") for line in lines}


def identity(stand: Stand, port: int, address: str) -> str:
    """Give the kernel's number of the listening socket, another one for every other socket."""
    line = stand.lab.node.namespace.run("ss", "-Hlnte", f"sport = :{port}", "and", "src", address)
    return next(word for word in line.split() if word.startswith("ino:"))


def await_listening(stand: Stand, port: int, *addresses: str, within: float = FOLLOWED_SECONDS) -> None:
    eventually(lambda: listening(stand, port) == set(addresses), within=within)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_the_whole_of_what_kube_proxy_says(shared: Stand, family: int) -> None:
    served, port = shared.services.plan(f"answered-{family}"), 32100 + family
    put(shared, served, port, "pod", "pod2", "remote")
    await_status(shared, port, 200, NODE[family == 6])
    with Asking(shared, NODE[family == 6], port) as asking:
        for method, path in (("GET", "/"), ("POST", "/healthz"), ("DELETE", "/any/path?at=all")):
            said = asking.ask(method, path)
            assert (said.status, said.weight) == (200, "2")
            assert said.body == (
                f'{{\n\t"service": {{\n\t\t"namespace": "default",\n\t\t"name": "{served.name}"\n\t}},\n'
                '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}'
            )
        assert asking.ask("HEAD")[::2] == (200, "2")
        put(shared, served, port, "remote")
        eventually(lambda: asking.ask()[::2] == (503, "0"))


def test_a_node_whose_endpoints_all_terminate_says_no_while_they_still_serve(shared: Stand) -> None:
    served, port = shared.services.plan("ending"), 32110
    put(shared, served, port, "pod2")
    await_status(shared, port, 200)
    put(shared, served, port, "pod2", leaving=shared.lab.pod2.addresses)
    await_status(shared, port, 503)
    assert client.ask(shared.lab.outside, served.balancer(4), served.port).name == "pod2"


def test_a_port_that_changes_is_closed_and_the_new_one_open(shared: Stand) -> None:
    served = shared.services.plan("moved")
    for port in (32120, 32121, 32120):
        put(shared, served, port, "pod2")
        await_status(shared, port, 200)
        await_listening(shared, 32241 - port)
        assert is_closed(shared, 32241 - port)


def test_two_services_can_exchange_their_ports_in_one_change(shared: Stand) -> None:
    """The loop of the process closes listening sockets later than it is told to."""
    names, ports = ("left", "right"), (32130, 32131)
    planned = [shared.services.plan(name) for name in names]
    for _ in range(4):
        documents = [
            service(each, ingress=each.ingress(), external="Local", health_check=port) for each, port in zip(planned, ports, strict=True)
        ]
        slices = [endpoint_slice(name, 4, targets([shared.lab.pod2])) for name in names]
        shared.services.write("both", *documents, *slices)
        for name, port in zip(names, ports, strict=True):
            eventually(lambda port=port, name=name: ask(shared, port).name == name)  # type: ignore[misc]  # a lambda's defaults have no types
        ports = ports[::-1]
    assert "service_health_listen_failed" not in shared.uproxy.log()


@pytest.mark.parametrize("change", ["policy", "type", "deletion"])
def test_the_port_closes_with_the_need_for_it_and_who_is_still_connected_hears_no(shared: Stand, change: str) -> None:
    served, port = shared.services.plan(f"closing-{change}"), {"policy": 32140, "type": 32141, "deletion": 32142}[change]
    put(shared, served, port, "pod2")
    await_status(shared, port, 200)
    with Asking(shared, NODE[0], port) as asking:
        assert asking.ask().status == 200
        if change == "policy":
            put(shared, served, port, "pod2", external="Cluster")
        elif change == "type":
            shared.services.put(served, targets([shared.lab.pod2]), external="Local", health_check=port)
        else:
            shared.services.remove(served)
        await_listening(shared, port)
        said = asking.ask()
        assert (said.status, said.weight, '"serviceProxyHealthy": false' in said.body) == (503, "0", True)


def test_a_port_that_a_daemon_has_is_named_and_had_once_the_daemon_ends(stand: Stand) -> None:
    stand.start_with("bindRetry: 200ms", SELDOM)
    contested, free = stand.services.plan("contested"), stand.services.plan("free")
    with client.listen(stand.lab.node, NODE[0], 32150):
        put(stand, contested, 32150, "pod2")
        put(stand, free, 32151, "pod2")
        said = stand.uproxy.wait_for_log("service_health_listen_failed", "default/contested", "32150")
        assert "in use" in said
        await_status(stand, 32151, 200)
        assert listening(stand, 32150) == {NODE[0]}, "the daemon's alone"
    await_status(stand, 32150, 200)
    stand.uproxy.wait_for_log("service_health_listening", "default/contested")
    assert stand.uproxy.log().count("service_health_listen_failed") == 1


def test_the_ports_are_on_the_addresses_of_node_ports_and_follow_them_without_touching_what_stays(stand: Stand) -> None:
    stand.start_with("nodePortAddresses: [10.0.1.0/24, localhost]", SELDOM)
    served, port = stand.services.plan("web"), 32160
    put(stand, served, port, "pod2")
    await_listening(stand, port, NODE[0], "127.0.0.1", "::1", within=5)
    assert is_closed(stand, port, NODE[1])
    before = identity(stand, port, NODE[0])
    with Asking(stand, NODE[0], port) as asking:
        for _ in range(2):
            stand.lab.node.namespace.ip(f"addr add {MORE}/24 dev eth0")
            eventually(lambda: ask(stand, port, MORE).status == 200, within=FOLLOWED_SECONDS)
            stand.lab.node.namespace.ip(f"addr del {MORE}/24 dev eth0")
            await_listening(stand, port, NODE[0], "127.0.0.1", "::1")
            assert asking.ask().status == 200, "a connection to another address goes on"
            assert identity(stand, port, NODE[0]) == before, "its socket has never been closed"
    assert ask(stand, port, "127.0.0.1", "node").status == 200


def test_the_ports_are_on_every_address_until_the_operator_chooses_some(stand: Stand) -> None:
    stand.start_with(SELDOM)
    served, port = stand.services.plan("web"), 32170
    put(stand, served, port, "pod2")
    await_listening(stand, port, "*", within=5)
    for _ in range(2):
        stand.set("nodePortAddresses: [localhost]", SELDOM)
        await_listening(stand, port, "127.0.0.1", "::1", within=5)
        stand.set(SELDOM)
        await_listening(stand, port, "*", within=5)
    for family in FAMILIES:
        assert ask(stand, port, NODE[family == 6]).status == 200


def test_a_daemon_on_an_address_that_comes_later_costs_that_address_alone(stand: Stand) -> None:
    stand.start_with("nodePortAddresses: [10.0.1.0/24, '::1/128']", "bindRetry: 200ms", SELDOM)
    served, port = stand.services.plan("web"), 32180
    put(stand, served, port, "pod2")
    await_status(stand, port, 200)
    with client.open_socket(stand.lab.node, MORE, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
        held.bind((MORE, port))
        held.listen()
        stand.lab.node.namespace.ip(f"addr add {MORE}/24 dev eth0")
        stand.uproxy.wait_for_log("service_health_listen_failed", "default/web")
        assert ask(stand, port).status == 200
    eventually(lambda: ask(stand, port, MORE).status == 200)


def test_a_proxy_that_drains_sends_load_balancers_elsewhere_while_connections_go_on(stand: Stand) -> None:
    stand.start()
    served, port = stand.services.plan("web"), 32190
    put(stand, served, port, "pod2")
    await_status(stand, port, 200)
    with client.tcp(stand.lab.outside, served.balancer(4), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
        stand.uproxy.signal(signal.SIGTERM)
        stand.uproxy.wait_for_log("draining")
        said = ask(stand, port)
        assert (said.status, said.weight, '"serviceProxyHealthy": false' in said.body) == (503, "1", True)
        assert client.who(conversation).name == "pod2"
    eventually(partial(is_closed, stand, port))
