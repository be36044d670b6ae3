"""Host processes and uproxy share the node's ports: neither disturbs the other, and a real conflict costs one port."""

from __future__ import annotations

import itertools
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.ways import FAMILIES, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

WILDCARDS = {4: (socket.AF_INET, "0.0.0.0"), 6: (socket.AF_INET6, "::")}
fresh_ports = itertools.count(7001)


@contextmanager
def host_process(stand: Stand, family: int, protocol: client.Protocol, port: int) -> Iterator[socket.socket]:
    """Bind a port on every address of the node, as a daemon of the host would: IPv6's wildcard takes both families."""
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    own, address = WILDCARDS[family]
    with stand.lab.node.namespace.call(socket.socket, own, kind) as held:
        held.settimeout(client.PATIENCE)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is socket.SOCK_STREAM)
        held.bind((address, port))
        if kind is socket.SOCK_STREAM:
            held.listen()
        yield held


def assert_host_process_answers(stand: Stand, held: socket.socket, family: int, port: int) -> None:
    protocol: client.Protocol = "TCP" if held.type == socket.SOCK_STREAM else "UDP"
    with client.connect(stand.lab.outside, stand.lab.node.address(family), port, protocol) as conversation:
        conversation.send(b"for the host")
        if protocol == "UDP":
            assert held.recv(64) == b"for the host"
        else:
            accepted, _ = held.accept()
            with accepted:
                assert accepted.recv(64) == b"for the host"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_process_that_was_there_before_the_service_keeps_its_port(shared: Stand, family: int, protocol: client.Protocol) -> None:
    port = next(fresh_ports)
    with host_process(shared, family, protocol, port) as held:
        served = shared.services.add(f"after-{port}", targets([shared.lab.pod2]), port)
        for who in ("pod", "outside", "node"):
            assert client.poll(shared.lab[who], served.vip(family), port, protocol).name == "pod2"
        assert_host_process_answers(shared, held, family, port)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_process_that_comes_after_the_service_gets_its_port(shared: Stand, family: int, protocol: client.Protocol) -> None:
    port = next(fresh_ports)
    served = shared.serve(f"before-{port}", shared.lab.pod2, port=port)
    with host_process(shared, family, protocol, port) as held:
        assert_host_process_answers(shared, held, family, port)
        for who in ("pod", "outside", "node"):
            assert client.ask(shared.lab[who], served.vip(family), port, protocol).name == "pod2"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_process_on_a_node_port_costs_that_port_alone_until_it_ends(shared: Stand, protocol: client.Protocol) -> None:
    served = shared.services.plan(f"contested-{protocol}".lower())
    other: client.Protocol = "UDP" if protocol == "TCP" else "TCP"
    node, outside = shared.lab.node.address(4), shared.lab.outside
    with host_process(shared, 4, protocol, served.node_port) as held:
        shared.services.put(served, targets([shared.lab.pod2]))
        shared.await_served(served)
        shared.uproxy.wait_for_log("listen_failed", f"{node}:{served.node_port}/{protocol}")
        assert shared.uproxy.metrics()["uproxy_failed_listeners"] == 1
        assert client.ask(outside, node, served.node_port, other).name == "pod2"
        assert client.ask(outside, served.external(4), served.port, protocol).name == "pod2"
        assert client.ask(outside, shared.lab.node.address(6), served.node_port, protocol).name == "pod2"
        assert_host_process_answers(shared, held, 4, served.node_port)
    client.poll(outside, node, served.node_port, protocol, within=10)
