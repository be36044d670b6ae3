"""The back end that needs no packet filter: service addresses are local addresses, bound directly."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, kernel
from tests.lab.manifests import targets
from tests.lab.process import run_once
from tests.lab.ways import FAMILIES, PROTOCOLS, Way, ask, assert_served, ways

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns


def test_every_client_is_served_with_the_nodes_address_and_without_a_packet_filter(stand: Stand) -> None:
    stand.start("--redirect", "routes")
    served = stand.serve("web", stand.lab.pod2)
    assert_served(stand, served, "pod2")
    for way in ways(clients=["pod", "outside"]):
        assert ask(stand, served, way).address in stand.lab.node.every_address()
    assert kernel.rules(stand.lab.node).ruleset == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_services_come_and_go(stand: Stand, protocol: client.Protocol) -> None:
    stand.start("--redirect", "routes")
    served = stand.serve("web", stand.lab.pod2)
    for family in FAMILIES:
        client.poll_refusal(stand.lab.pod, served.vip(family), 4444, protocol)
    stand.retarget(served, to=[])
    for family in FAMILIES:
        client.poll_refusal(stand.lab.pod, served.vip(family), served.port, protocol)
    stand.retarget(served, targets([stand.lab.bridged]))
    for family in FAMILIES:
        assert client.poll(stand.lab.outside, served.vip(family), served.port, protocol).name == "bridged"


def test_a_host_process_on_every_address_costs_that_port_alone_until_it_ends(stand: Stand) -> None:
    stand.start("--redirect", "routes")
    served = stand.services.plan("web", port=7000)
    with client.open_socket(stand.lab.node, "0.0.0.0", socket.SOCK_STREAM) as held:
        held.bind(("0.0.0.0", served.port))
        held.listen()
        stand.services.put(served, targets([stand.lab.pod2]))
        stand.uproxy.wait_for_log("listen_failed", f"{served.vip(4)}:{served.port}/TCP")
        assert client.poll(stand.lab.pod, served.vip(4), served.port, "UDP").name == "pod2"
        assert client.poll(stand.lab.pod, served.vip(6), served.port).name == "pod2"
    assert client.poll(stand.lab.pod, served.vip(4), served.port, within=10).name == "pod2"


def test_a_restart_takes_over_and_cleanup_leaves_nothing(stand: Stand) -> None:
    before = kernel.rules(stand.lab.node)
    stand.start("--redirect", "routes")
    served = stand.serve("web", stand.lab.pod2)
    installed = kernel.rules(stand.lab.node)
    stand.uproxy.kill()
    stand.start("--redirect", "routes")
    assert kernel.rules(stand.lab.node) == installed
    assert ask(stand, served, Way("pod", "ClusterIP", 4, "TCP")).name == "pod2"
    stand.uproxy.stop()
    for _ in range(2):
        assert run_once(stand.lab.node, "cleanup").returncode == 0
        assert kernel.rules(stand.lab.node) == before


def test_changing_the_back_end_leaves_nothing_of_the_other(stand: Stand) -> None:
    stand.start("--redirect", "routes")
    served = stand.serve("web", stand.lab.pod2)
    stand.uproxy.stop()
    assert run_once(stand.lab.node, "cleanup").returncode == 0
    stand.start()
    assert_served(stand, served, "pod2", clients=["pod", "node", "outside"])


def test_foreign_removal_of_a_route_is_repaired(stand: Stand) -> None:
    stand.start("--redirect", "routes")
    served = stand.serve("web", stand.lab.pod2)
    before = kernel.rules(stand.lab.node)
    stand.lab.node.namespace.ip(f"route del local {served.vip(4)} table local")
    client.poll(stand.lab.pod, served.vip(4), served.port, within=1.0)
    assert kernel.rules(stand.lab.node) == before
