"""Traffic policies as packets show them: who answers, from which address, and who is dropped or refused instead.

Endpoints are pod2 on the node, remote on the other node, and none. Pods and the node itself are inside, outside is not.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.process import Uproxy
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.lab.wiring import REMOTE_POD_CIDRS
from tests.netns.answering import (
    ALL,
    EXTERNAL,
    HERE,
    INSIDE,
    THERE,
    await_answers,
    await_refusal,
    await_silence,
    everybody,
    inside,
    is_silent,
    make,
    place,
    rewrite,
)

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("family", FAMILIES)
def test_policy_cluster_leads_everybody_to_the_endpoints_of_all_nodes(shared: Stand, family: int) -> None:
    served = make(shared, f"cluster-{family}", HERE, THERE)
    await_answers(shared, served, ALL, family, everybody(HERE, THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_internal_policy_local_leads_to_the_endpoints_of_this_node(shared: Stand, family: int) -> None:
    served = make(shared, f"inner-{family}", HERE, THERE, internal="Local")
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE))
    await_answers(shared, served, EXTERNAL, family, everybody(HERE, THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_internal_policy_local_drops_while_endpoints_are_elsewhere_and_refuses_when_there_are_none(shared: Stand, family: int) -> None:
    served = make(shared, f"inner-elsewhere-{family}", THERE, internal="Local")
    await_silence(shared, served, ["ClusterIP"], family, *INSIDE)
    await_answers(shared, served, EXTERNAL, family, everybody(THERE))
    rewrite(shared, served, internal="Local")
    await_refusal(shared, served, ALL, family, *INSIDE)
    rewrite(shared, served, HERE, internal="Local")
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_external_policy_local_leads_who_comes_from_outside_to_this_node_and_everybody_else_to_all(shared: Stand, family: int) -> None:
    served = make(shared, f"outer-{family}", HERE, THERE, external="Local")
    await_answers(shared, served, EXTERNAL, family, {"outside": {HERE}, **inside(HERE, THERE)})
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE, THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_external_policy_local_drops_who_comes_from_outside_while_endpoints_are_elsewhere(shared: Stand, family: int) -> None:
    served = make(shared, f"outer-elsewhere-{family}", THERE, external="Local")
    await_silence(shared, served, EXTERNAL, family, "outside")
    await_answers(shared, served, ALL, family, inside(THERE))
    rewrite(shared, served, external="Local")
    await_refusal(shared, served, EXTERNAL, family, "outside", *INSIDE)
    rewrite(shared, served, HERE, external="Local")
    await_answers(shared, served, EXTERNAL, family, everybody(HERE))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("address_class", EXTERNAL)
def test_under_external_policy_local_the_endpoint_sees_the_clients_own_address(
    shared: Stand, address_class: str, family: int, protocol: client.Protocol
) -> None:
    served = make(shared, f"seen-{address_class}-{family}-{protocol}".lower(), HERE, external="Local")
    address, port = place(shared, served, address_class, family)
    seen = client.poll(shared.lab.outside, address, port, protocol)
    assert (seen.name, seen.address) == (HERE, shared.lab.outside.address(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_policy_that_changes_holds_for_new_connections_and_breaks_none(shared: Stand, family: int) -> None:
    served = make(shared, f"turning-{family}", THERE)
    address, port = place(shared, served, "NodePort", family)
    client.poll(shared.lab.outside, address, port)
    with client.tcp(shared.lab.outside, address, port) as conversation:
        assert client.who(conversation).name == THERE
        for _ in range(2):
            rewrite(shared, served, THERE, external="Local", internal="Local")
            await_silence(shared, served, ["NodePort"], family, "outside")
            await_silence(shared, served, ["ClusterIP"], family, "pod")
            assert client.who(conversation).name == THERE
            rewrite(shared, served, THERE)
            await_answers(shared, served, ALL, family, {"outside": {THERE}, "pod": {THERE}})
        assert client.who(conversation).name == THERE


@pytest.mark.parametrize("family", FAMILIES)
def test_what_terminates_here_serves_policy_local_alone_while_others_are_ready(shared: Stand, family: int) -> None:
    served = make(shared, f"leaving-{family}", HERE, THERE, external="Local", leaving=leaving(shared, HERE))
    await_answers(shared, served, EXTERNAL, family, {"outside": {HERE}, **inside(THERE)})
    await_answers(shared, served, ["ClusterIP"], family, inside(THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_ready_endpoints_what_terminates_and_serves_is_used_by_each_list_for_itself(shared: Stand, family: int) -> None:
    served = make(shared, f"falling-{family}", HERE, THERE, "bridged", external="Local", leaving=leaving(shared, HERE, THERE, "bridged"))
    await_answers(shared, served, EXTERNAL, family, {"outside": {HERE, "bridged"}, **inside(HERE, THERE, "bridged")})
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE, THERE, "bridged"))
    rewrite(shared, served, HERE, THERE, "bridged", external="Local", leaving=leaving(shared, HERE, THERE))
    await_answers(shared, served, ["NodePort"], family, {"outside": {"bridged"}, "pod": {"bridged"}})
    rewrite(shared, served, HERE, THERE, external="Local", gone=leaving(shared, HERE), leaving=leaving(shared, THERE))
    await_silence(shared, served, ["NodePort"], family, "outside")
    await_answers(shared, served, ALL, family, inside(THERE))
    rewrite(shared, served, HERE, THERE, external="Local", gone=leaving(shared, HERE, THERE))
    await_refusal(shared, served, ["NodePort", "ClusterIP"], family, "outside", "pod")


def leaving(stand: Stand, *names: str) -> list[str]:
    return [address for name in names for address in stand.lab[name].addresses]


def test_of_two_nodes_only_the_one_with_an_endpoint_answers_a_load_balancer(stand: Stand) -> None:
    """A uproxy runs on each of them: a balancer that hears nothing at one node finds the endpoint at the other."""
    stand.services.write_node(stand.lab.node2, pod_cidrs=REMOTE_POD_CIDRS)
    stand.start()
    other = Uproxy(stand.lab.node2, manifests=stand.services.folder)
    try:
        other.wait_healthy()
        served = make(stand, "twice", THERE, external="Local")
        for family, protocol in itertools.product(FAMILIES, PROTOCOLS):
            seen = client.poll(stand.lab.outside, stand.lab.node2.address(family), served.node_port, protocol)
            assert (seen.name, seen.address) == (THERE, stand.lab.outside.address(family))
            eventually(partial(is_silent, stand, "outside", stand.lab.node.address(family), served.node_port, protocol))
            assert client.ask(stand.lab.remote, stand.lab.node2.address(family), served.node_port, protocol).name == THERE
        rewrite(stand, served, HERE, external="Local")
        for family, protocol in itertools.product(FAMILIES, PROTOCOLS):
            seen = client.poll(stand.lab.outside, stand.lab.node.address(family), served.node_port, protocol)
            assert (seen.name, seen.address) == (HERE, stand.lab.outside.address(family))
            eventually(partial(is_silent, stand, "outside", stand.lab.node2.address(family), served.node_port, protocol))
    finally:
        other.stop()


def test_service_ports_without_an_endpoint_here_are_counted(stand: Stand) -> None:
    stand.start()
    served = make(stand, "counted", THERE, external="Local", internal="Local")
    await_silence(stand, served, ["ClusterIP"], 4, "pod")
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
    for policy in ("internal", "external"):
        assert stand.uproxy.metrics(traffic_policy=policy)[name] > 0
    rewrite(stand, served, HERE, external="Local", internal="Local")
    await_answers(stand, served, ALL, 4, {"pod": {HERE}})
    for policy in ("internal", "external"):
        assert stand.uproxy.metrics(traffic_policy=policy)[name] == 0
