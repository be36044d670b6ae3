"""Paths that are narrower than they look, and shortcuts that must not be taken."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.lab import client
from tests.lab.stand import Stand
from tests.lab.ways import FAMILIES
from tests.lab.wiring import NARROW_MTU

pytestmark = pytest.mark.netns

BULK = 2_000_000


def assert_bulk_flows(stand: Stand, who: str, vip: str) -> None:
    data = client.pattern(BULK)
    assert client.download(stand.lab[who], vip, 80, BULK) == data
    assert client.upload(stand.lab[who], vip, 80, data) == f"{BULK} {hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("family", FAMILIES)
def test_bulk_data_with_a_kept_address_flows_to_an_endpoint_behind_a_narrow_hop(shared: Stand, family: int) -> None:
    served = shared.serve(f"far-{family}", shared.lab.far)
    assert client.ask(shared.lab.pod, served.vip(family), 80).address == shared.lab.pod.address(family)
    assert_bulk_flows(shared, "pod", served.vip(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_bulk_data_flows_to_a_client_behind_a_narrow_hop(shared: Stand, family: int) -> None:
    served = shared.serve(f"near-{family}", shared.lab.pod2)
    assert_bulk_flows(shared, "far", served.vip(family))


def test_the_hop_is_narrow_on_the_way_that_data_took(shared: Stand) -> None:
    served = shared.serve("measured", shared.lab.far)
    client.upload(shared.lab.pod, served.vip(4), 80, client.pattern(BULK))
    route = json.loads(shared.lab.node.namespace.run("ip", "-j", "route", "get", shared.lab.far.address(4)))[0]
    assert {"mtu": NARROW_MTU} in route.get("metrics", [])


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_of_one_bridge_that_were_told_a_shortcut_still_talk_through_the_service(shared: Stand, family: int) -> None:
    """The node redirects pods that share a bridge; one that believed it would answer past the node."""
    served = shared.serve(f"bridged-{family}", shared.lab.bridged2)
    before = redirects_sent(shared, family)
    for _ in range(20):
        assert client.ask(shared.lab.bridged, shared.lab.bridged2.address(family), 8080, "UDP").name == "bridged2"
    assert redirects_sent(shared, family) > before
    for _ in range(5):
        answer = client.ask(shared.lab.bridged, served.vip(family), 80)
        assert (answer.name, answer.address) == ("bridged2", shared.lab.bridged.address(family))


def redirects_sent(stand: Stand, family: int) -> int:
    name = "IcmpOutRedirects" if family == 4 else "Icmp6OutRedirects"
    listing = stand.lab.node.namespace.run("nstat", "-asz", name)
    return next(int(line.split()[1]) for line in listing.splitlines() if line.startswith(name))
