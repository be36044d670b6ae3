"""uproxy.io/hold in the real process: addresses that would be refused are accepted, at all of them, as long as it is asked for."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.waiting import eventually
from tests.lab.ways import entrance
from tests.netns.annotated import (
    ENTRANCES,
    Counting,
    annotated,
    await_accepted,
    by_every_entrance,
    held,
    is_open,
    is_reset,
    is_turned_away,
)  # fmt: skip
from tests.netns.answering import is_silent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.manifests import Served
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

LIMIT = 16


def add_held(stand: Stand, name: str, hold: str = "60s") -> Served:
    """Add a Service without endpoints that holds its clients."""
    served = stand.services.add(name, [], annotations=annotated(hold=hold))
    await_accepted(stand, served)
    return served


@pytest.mark.parametrize("who", ["outside", "pod", "node"])
def test_a_service_without_endpoints_is_accepted_held_and_answered_by_every_address_and_datagrams_are_refused(
    shared: Stand, who: str
) -> None:
    served, counting = add_held(shared, f"held-{who}"), Counting(shared)
    with ExitStack() as owned:
        waiting = by_every_entrance(shared, served, who, owned)
        for each in waiting:
            each.sendall(b"who\n")
        eventually(lambda: held(shared) == len(ENTRANCES))
        for address_class, family in ENTRANCES:
            client.poll_refusal(shared.lab[who], *entrance(shared, served, address_class, family), "UDP")
        assert held(shared) == len(ENTRANCES)
        shared.retarget(served, targets([shared.lab.pod2]), annotations=annotated(hold="60s"))
        assert {each.recv(256).split()[0] for each in waiting} == {b"pod2"}
    assert held(shared) == 0
    assert counting.added("uproxy_hold_outcomes_total") == len(ENTRANCES)


def test_sixteen_wait_over_all_addresses_and_the_next_one_is_reset(shared: Stand) -> None:
    served, lab = add_held(shared, "crowded"), shared.lab
    with ExitStack() as owned:
        for number in range(LIMIT):
            owned.enter_context(client.tcp(lab.outside, *entrance(shared, served, *ENTRANCES[number % len(ENTRANCES)])))
        eventually(lambda: held(shared) == LIMIT)
        for each in ENTRANCES:
            assert is_turned_away(lab.outside, *entrance(shared, served, *each))
        assert held(shared) == LIMIT
        assert shared.uproxy.metrics(outcome="too_many")["uproxy_hold_outcomes_total"] == len(ENTRANCES)
    eventually(lambda: held(shared) == 0)


def test_held_clients_are_reset_when_their_service_disappears(shared: Stand) -> None:
    served = add_held(shared, "vanishing")
    with ExitStack() as owned:
        waiting = by_every_entrance(shared, served, "outside", owned)
        eventually(lambda: held(shared) == len(waiting))
        shared.services.remove(served)
        assert all(map(is_reset, waiting))
        client.poll_refusal(shared.lab.outside, served.vip(4), served.port)
    assert held(shared) == 0


def test_held_clients_are_reset_when_the_annotation_goes_and_new_ones_refused_until_it_is_back(shared: Stand) -> None:
    served = add_held(shared, "undecided")
    for _ in range(2):
        with ExitStack() as owned:
            waiting = by_every_entrance(shared, served, "outside", owned)
            eventually(lambda: held(shared) == len(ENTRANCES))
            shared.retarget(served, [])
            assert all(map(is_reset, waiting))
            shared.await_refused(served)
        shared.retarget(served, [], annotations=annotated(hold="60s"))
        await_accepted(shared, served)


def test_with_policy_local_clients_are_dropped_as_ever_while_endpoints_are_elsewhere_and_held_when_there_are_none(shared: Stand) -> None:
    lab, options = shared.lab, annotated(hold="60s")
    served = shared.services.add("local", targets([lab.remote]), external="Local", annotations=options)
    client.poll(lab.pod, served.vip(4), served.port)
    eventually(lambda: is_silent(shared, "outside", served.external(4), served.port))
    assert held(shared) == 0
    shared.retarget(served, [], external="Local", annotations=options)
    waiting = eventually(lambda: client.tcp(lab.outside, served.external(4), served.port, client.POLLING))
    with waiting:
        eventually(lambda: held(shared) == 1)
        shared.retarget(served, targets([lab.remote]), external="Local", annotations=options)
        eventually(lambda: is_silent(shared, "outside", served.external(4), served.port))
        shared.retarget(served, targets([lab.pod2]), external="Local", annotations=options)
        waiting.settimeout(client.PATIENCE)
        assert client.who(waiting).name == "pod2"


def test_a_client_that_waited_long_enough_is_reset(shared: Stand) -> None:
    served = add_held(shared, "hopeless", hold="500ms")
    with client.measured() as taken, client.tcp(shared.lab.outside, served.vip(4), served.port) as waiting:
        assert is_reset(waiting)
    assert 0.4 < taken[0] < 2
    assert shared.uproxy.metrics(outcome="timeout")["uproxy_hold_outcomes_total"] == 1


def test_how_many_may_wait_is_a_setting(stand: Stand, tmp_path: Path) -> None:
    config = tmp_path / "uproxy.yaml"
    config.write_text("apiVersion: uproxy.io/v1alpha1\nkind: UproxyConfiguration\ntcp:\n  heldConnections: 1\n")
    stand.start("--config", str(config))
    served = add_held(stand, "single")
    place = served.vip(4), served.port
    with client.tcp(stand.lab.outside, *place) as first:
        eventually(lambda: held(stand) == 1)
        assert is_turned_away(stand.lab.outside, *place)
        stand.retarget(served, targets([stand.lab.pod2]), annotations=annotated(hold="60s"))
        assert is_open(first)
