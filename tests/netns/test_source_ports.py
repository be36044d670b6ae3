"""Many connections one after another to one endpoint: no source port runs out, nothing gets slower."""

from __future__ import annotations

import socket
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import kernel

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]

CONNECTIONS = 60_000
# Without free ports the kernel tries all 14,116 odd ones for each connection: 4 ms instead of 0.3 for more than 8,000 of
# them in a row, and quick again when the first have waited their minute. So the quick ones of each block tell (their
# tenth percentile), wherever it lies; of a machine that is busy with something else they tell the least.
BLOCK = 5_000
SLOWER = 4.0


def seconds_of_each(address: str, port: int, connections: int = CONNECTIONS) -> list[float]:
    """Connect, ask and close, one after another; any failure raises OSError."""
    taken = []
    for _ in range(connections):
        start = time.perf_counter()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as conversation:
            conversation.settimeout(5)
            conversation.connect((address, port))
            conversation.send(b"who\n")
            assert conversation.recv(64)
        taken.append(time.perf_counter() - start)
    return taken


def assert_none_gets_slower(taken: list[float]) -> None:
    quick = [statistics.quantiles(taken[start : start + BLOCK], n=10)[0] for start in range(0, len(taken), BLOCK)]
    assert max(quick) < SLOWER * min(quick), f"us, of each {BLOCK}: {[round(each * 1e6) for each in quick]}"


def test_sixty_thousand_connections_that_keep_the_clients_address_stay_quick(stand: Stand) -> None:
    """The client closes first each time, so that the upstream side would hold the port of every connection."""
    stand.lab.pod.namespace.sysctl({"net.ipv4.tcp_tw_reuse": 1})
    stand.start()
    served = stand.serve("web", stand.lab.pod2)
    assert_none_gets_slower(stand.lab.pod.namespace.call(seconds_of_each, served.vip(4), served.port))
    assert kernel.tracked_connections(stand.lab.node) == 0


def test_sixty_thousand_connections_with_the_nodes_address_stay_quick(stand: Stand) -> None:
    """Here the kernel chooses the ports, and can only reuse them in time with tcp_tw_reuse."""
    stand.lab.pod.namespace.sysctl({"net.ipv4.tcp_tw_reuse": 1})
    stand.lab.node.namespace.sysctl({"net.ipv4.tcp_tw_reuse": 1})
    stand.start()
    served = stand.serve("web", stand.lab.pod2, annotations={"uproxy.io/keep-client-address": "never"})
    assert_none_gets_slower(stand.lab.pod.namespace.call(seconds_of_each, served.vip(4), served.port))


def test_an_endpoint_without_timestamps_gets_the_nodes_address_once_the_clients_ports_are_used_up(stand: Stand) -> None:
    """Without timestamps a closed connection holds its port for a minute, and there are 4,536 of them."""
    stand.lab.pod2.namespace.sysctl({"net.ipv4.tcp_timestamps": 0})
    stand.lab.pod.namespace.sysctl({"net.ipv4.tcp_tw_reuse": 1})
    uproxy = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    stand.lab.pod.namespace.call(seconds_of_each, served.vip(4), served.port, 6_000)
    metrics = uproxy.metrics()
    assert metrics["uproxy_kept_addresses_total"] > 4_000
    assert metrics["uproxy_kept_address_fallbacks_total"] > 1_000
    assert metrics["uproxy_connections_failed_total"] == 0
