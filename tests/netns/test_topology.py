"""Topology hints as packets show them: for nodes, else for zones, narrowing down the ready endpoints of policy Cluster and nothing else."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES
from tests.netns.answering import ALL, EXTERNAL, HERE, THERE, await_answers, everybody, inside, make, one_sync, place, rewrite
from tests.netns.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def _without_a_zone(shared: Stand) -> Iterator[None]:
    yield
    shared.services.write_node(shared.lab.node)


def hints(stand: Stand, **of: str) -> dict[str, str]:
    """Hint the endpoints of these hosts for a zone or a node."""
    return {address: place for name, place in of.items() for address in stand.lab[name].addresses}


@pytest.mark.parametrize("family", FAMILIES)
def test_zone_hints_follow_the_nodes_label(shared: Stand, family: int) -> None:
    served = make(shared, f"zoned-{family}", HERE, THERE, zones=hints(shared, pod2="a", remote="b"))
    for zone, names in (("", {HERE, THERE}), ("a", {HERE}), ("b", {THERE}), ("c", {HERE, THERE}), ("a", {HERE}), ("", {HERE, THERE})):
        shared.services.write_node(shared.lab.node, zone=zone)
        await_answers(shared, served, ["ClusterIP", "NodePort"], family, {"pod": names, "outside": names})


@pytest.mark.parametrize("family", FAMILIES)
def test_node_hints_come_before_zone_hints(shared: Stand, family: int) -> None:
    shared.services.write_node(shared.lab.node, zone="a")
    zones = hints(shared, pod2="b", remote="a")
    served = make(shared, f"noded-{family}", HERE, THERE, zones=zones, nodes=hints(shared, pod2="node", remote="node2"))
    await_answers(shared, served, ALL, family, everybody(HERE))
    rewrite(shared, served, HERE, THERE, zones=zones, nodes=hints(shared, pod2="node2", remote="node2"))
    await_answers(shared, served, ALL, family, everybody(THERE))
    rewrite(shared, served, HERE, THERE, nodes=hints(shared, pod2="node2", remote="node2"))
    await_answers(shared, served, ["ClusterIP", "NodePort"], family, everybody(HERE, THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_ready_endpoint_without_a_hint_ends_the_narrowing_and_one_that_is_not_ready_does_not(shared: Stand, family: int) -> None:
    shared.services.write_node(shared.lab.node, zone="a")
    zones = hints(shared, pod2="a", remote="b")
    served = make(shared, f"unhinted-{family}", HERE, THERE, zones=zones)
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE))
    rewrite(shared, served, HERE, THERE, "bridged", zones=zones)
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE, THERE, "bridged"))
    rewrite(shared, served, HERE, THERE, "bridged", zones=zones, leaving=shared.lab.bridged.addresses)
    await_answers(shared, served, ["ClusterIP"], family, inside(HERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_hints_mean_nothing_to_what_terminates_and_to_policy_local(shared: Stand, family: int) -> None:
    shared.services.write_node(shared.lab.node, zone="a")
    zones = hints(shared, pod2="b", remote="a")
    served = make(shared, f"unmoved-{family}", HERE, THERE, zones=zones, external="Local")
    await_answers(shared, served, EXTERNAL, family, {"outside": {HERE}, **inside(THERE)})
    terminating = [*shared.lab.pod2.addresses, *shared.lab.remote.addresses]
    rewrite(shared, served, HERE, THERE, zones=zones, leaving=terminating)
    await_answers(shared, served, ["ClusterIP", "NodePort"], family, everybody(HERE, THERE))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_of_zone_breaks_no_connection_and_moves_no_flow(shared: Stand, family: int) -> None:
    served = make(shared, f"steady-{family}", HERE, THERE, zones=hints(shared, pod2="a", remote="b"))
    shared.services.write_node(shared.lab.node, zone="a")
    await_answers(shared, served, ["ClusterIP"], family, {"pod": {HERE}})
    address, port = place(shared, served, "ClusterIP", family)
    with client.tcp(shared.lab.pod, address, port) as stream, client.udp(shared.lab.pod, address, port) as flow:
        before = [client.who(each) for each in (stream, flow)]
        with Traffic(shared.lab.outside, shared.lab.node.address(family), served.node_port) as traffic:
            for zone, name in itertools.islice(itertools.cycle((("b", THERE), ("a", HERE))), 4):
                with one_sync(shared):
                    shared.services.write_node(shared.lab.node, zone=zone)
                assert client.ask(shared.lab.pod, address, port).name == name
                assert [client.who(each) for each in (stream, flow)] == before
        assert traffic.attempts
        assert not traffic.errors()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_object_that_disappears_takes_its_zone_along_and_nothing_else(shared: Stand, family: int) -> None:
    served = make(shared, f"nodeless-{family}", HERE, THERE, zones=hints(shared, pod2="a", remote="b"))
    shared.services.write_node(shared.lab.node, zone="b")
    await_answers(shared, served, ["NodePort"], family, everybody(THERE))
    (shared.services.folder / "node-node.yaml").unlink()
    await_answers(shared, served, ["NodePort"], family, everybody(HERE, THERE))
    shared.services.write_node(shared.lab.node, zone="b")
    eventually(partial(is_alone, shared, THERE, served.vip(family), served.port))


def is_alone(stand: Stand, name: str, address: str, port: int) -> bool:
    """Tell whether one endpoint has all connections."""
    return {client.ask(stand.lab.pod, address, port).name for _ in range(4)} == {name}
