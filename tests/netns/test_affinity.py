"""Session affinity by the client's address, as the client sees it: what holds, for how long, and what ends it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, PROTOCOLS
from tests.netns.answering import ALL, answering, await_refusal, make, one_sync, place, rewrite

if TYPE_CHECKING:
    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

LONG, SHORT = 3600, 1
BEHIND = ("pod2", "bridged", "remote")
TWO = ("pod2", "remote")


def ask(stand: Stand, served: Served, family: int, protocol: client.Protocol = "TCP", who: str = "pod") -> str:
    """Give the endpoint of a new connection or flow to the cluster IP."""
    return client.ask(stand.lab[who], served.vip(family), served.port, protocol).name


def sticky(stand: Stand, name: str, *behind: str, seconds: int = LONG) -> Served:
    """Write a Service with affinity and wait until it is served, without a client of the tests being pinned."""
    served = stand.services.plan(name)
    with one_sync(stand):
        rewrite(stand, served, *behind, affinity_seconds=seconds)
    return served


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_addresses_of_a_service_port_share_a_clients_endpoint(shared: Stand, family: int, protocol: client.Protocol) -> None:
    served = sticky(shared, f"shared-{family}-{protocol}".lower(), *BEHIND)
    for who in ("pod", "node", "outside"):
        found = [answering(shared, who, *place(shared, served, address_class, family), protocol) for address_class in ALL]
        assert len(set.union(*found)) == 1, f"{who}: {found}"


@pytest.mark.parametrize(("family", "protocol"), [(4, "TCP"), (6, "UDP")])
def test_the_time_runs_from_the_last_connection_and_then_the_turn_decides(shared: Stand, family: int, protocol: client.Protocol) -> None:
    served = sticky(shared, f"timed-{family}-{protocol}".lower(), *TWO, seconds=SHORT)
    first = ask(shared, served, family, protocol)
    for _ in range(5):
        time.sleep(0.3 * SHORT)  # the time that passes is what this is about
        assert ask(shared, served, family, protocol) == first
    time.sleep(1.1 * SHORT)
    assert {first, ask(shared, served, family, protocol)} == set(TWO)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_timeout_that_changes_alone_holds_for_clients_that_are_known(shared: Stand, family: int) -> None:
    served = sticky(shared, f"retimed-{family}", *TWO, seconds=SHORT)
    first = ask(shared, served, family)
    with one_sync(shared):
        rewrite(shared, served, *TWO, affinity_seconds=LONG)
    time.sleep(1.1 * SHORT)
    assert ask(shared, served, family) == first
    with one_sync(shared):
        rewrite(shared, served, *TWO, affinity_seconds=SHORT)
    time.sleep(1.1 * SHORT)
    assert ask(shared, served, family) != first


@pytest.mark.parametrize("family", FAMILIES)
def test_affinity_switched_on_and_off_holds_for_new_connections_and_breaks_none(shared: Stand, family: int) -> None:
    served = make(shared, f"switched-{family}", *BEHIND)
    eventually(partial(ask, shared, served, family))
    with client.tcp(shared.lab.pod, served.vip(family), 80) as stream, client.udp(shared.lab.pod, served.vip(family), 80) as flow:
        before = [client.who(each) for each in (stream, flow)]
        for _ in range(2):
            with one_sync(shared):
                rewrite(shared, served, *BEHIND, affinity_seconds=LONG)
            for protocol in PROTOCOLS:
                assert len(answering(shared, "pod", served.vip(family), 80, protocol)) == 1
            with one_sync(shared):
                rewrite(shared, served, *BEHIND)
            for protocol in PROTOCOLS:
                assert answering(shared, "pod", served.vip(family), 80, protocol) == set(BEHIND)
            assert [client.who(each) for each in (stream, flow)] == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_whose_endpoint_is_gone_has_another_one_for_good(shared: Stand, family: int, protocol: client.Protocol) -> None:
    served = sticky(shared, f"bereft-{family}-{protocol}".lower(), *BEHIND)
    first = ask(shared, served, family, protocol)
    with one_sync(shared):
        rewrite(shared, served, *(name for name in BEHIND if name != first), affinity_seconds=LONG)
    second = ask(shared, served, family, protocol)
    assert second != first
    with one_sync(shared):
        rewrite(shared, served, *BEHIND, affinity_seconds=LONG)
    assert {ask(shared, served, family, protocol) for _ in BEHIND} == {second}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_whose_endpoint_terminates_goes_to_one_that_is_ready(shared: Stand, family: int) -> None:
    served = sticky(shared, f"ending-{family}", *BEHIND)
    first = ask(shared, served, family)
    with one_sync(shared):
        rewrite(shared, served, *BEHIND, affinity_seconds=LONG, leaving=shared.lab[first].addresses)
    assert first not in answering(shared, "pod", served.vip(family), 80)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_scaled_to_zero_and_back_knows_its_clients(shared: Stand, family: int) -> None:
    served = sticky(shared, f"scaled-{family}", *BEHIND)
    pinned = {who: ask(shared, served, family, who=who) for who in ("pod", "outside", "bridged2")}
    assert set(pinned.values()) == set(BEHIND)
    rewrite(shared, served, affinity_seconds=LONG)
    await_refusal(shared, served, ["ClusterIP"], family, "pod")
    with one_sync(shared):
        rewrite(shared, served, *BEHIND, affinity_seconds=LONG)
    for _ in range(2):
        assert {who: ask(shared, served, family, who=who) for who in pinned} == pinned


@pytest.mark.parametrize("family", FAMILIES)
def test_where_the_policies_differ_a_client_has_an_endpoint_of_the_list_of_each_address(shared: Stand, family: int) -> None:
    """Nothing but the pin is shared: who comes from outside must not be led to another node because of it."""
    with one_sync(shared):
        served = make(shared, f"differing-{family}", "pod2", "remote", external="Local", affinity_seconds=LONG)
    for _ in range(3):
        assert ask(shared, served, family, who="outside") in TWO
        assert answering(shared, "outside", shared.lab.node.address(family), served.node_port) == {"pod2"}
