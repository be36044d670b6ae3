"""Pods reach each other, their node and what is outside; the other side sees them, or the node in their place outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.servers import PORT, Servers

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.pods.conftest import Estate

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/24", "fd61::/64"


@pytest.mark.parametrize("keys", [{}, {"podPrefix": "host"}, {"ipMasqBackend": "iptables"}], ids=["subnet", "host", "iptables"])
def test_every_way_of_a_pod_works_in_both_families_and_shows_the_right_address(estate: Estate, keys: Json) -> None:
    config = estate.plugins.config(V4, V6, isDefaultGateway=True, ipMasq=True, hairpinMode=True, **keys)
    pod, other = estate.pod(config), estate.pod(config)
    with Servers([pod, other, estate.node, estate.outside]):
        for family in (4, 6):
            for protocol in ("TCP", "UDP"):
                for target, seen in ((other, pod), (pod, pod), (estate.node, pod), (estate.outside, estate.node)):
                    answer = client.ask(pod, target.address(family), PORT, protocol)
                    assert (answer.name, answer.address) == (target.name, seen.address(family)), f"{target.name}, IPv{family}, {protocol}"
            answer = client.ask(estate.node, pod.address(family), PORT)
            assert answer.address in estate.node.every_address()
