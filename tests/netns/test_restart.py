"""Ending and starting again: what drains, what stays in the kernel, what the next uproxy takes over."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, kernel
from tests.lab.manifests import targets
from tests.lab.process import run_once
from tests.lab.waiting import eventually
from tests.lab.ways import CLIENTS, FAMILIES, assert_served
from tests.netns.traffic import Traffic

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

ANYWHERE = ("0.0.0.0/0", "::/0")
LATE = """
table inet late {
  chain out { type filter hook output priority 0; tcp dport 80 tcp flags & (syn | ack) == ack drop; }
}
"""
"""What a client says last in a handshake, and all after it, is lost until this is gone."""


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_next_start_takes_over_what_is_in_the_kernel(stand: Stand, end: str) -> None:
    first = stand.start()
    served = [stand.serve(name, stand.lab.pod2, port=port) for name, port in (("web", 80), ("api", 443), ("late", 80))]
    before = kernel.rules(stand.lab.node)
    getattr(first, end)()
    assert kernel.rules(stand.lab.node) == before
    stand.start()
    assert kernel.rules(stand.lab.node) == before
    for each in served:
        assert_served(stand, each, "pod2", clients=["pod", "outside"])
    assert kernel.rules(stand.lab.node) == before


@pytest.mark.parametrize("who", CLIENTS)
def test_a_crash_and_a_restart_refuse_nobody(stand: Stand, who: str) -> None:
    first = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    with Traffic(stand.lab[who], served.vip(4), 80) as traffic:
        eventually(lambda: len(traffic.attempts) > 20)
        first.kill()
        stand.start()
        restarted, already = time.monotonic(), len(traffic.attempts)
        eventually(lambda: len(traffic.attempts) > already + 20)
    assert not [error for error in traffic.errors() if isinstance(error, ConnectionRefusedError)]
    # The one that was open, and one that the dying process's socket still took.
    assert len(traffic.errors()) <= 2, "only connections that the process had when it died may break"
    assert traffic.seconds_until_served(restarted) < 1.5, "a lost SYN is sent again after one second"


def test_a_planned_restart_breaks_no_connection(stand: Stand) -> None:
    first = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    with Traffic(stand.lab.pod, served.vip(4), 80) as traffic:
        eventually(lambda: len(traffic.attempts) > 20)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        stand.start()
        already = len(traffic.attempts)
        eventually(lambda: len(traffic.attempts) > already + 20)
    assert traffic.errors() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_who_is_in_a_handshake_when_it_ends_comes_in(stand: Stand, family: int) -> None:
    """The client is far away: its last word of the handshake comes after the signal, when nobody can begin one any more."""
    uproxy, outside = stand.start_with("drainHandshake: 2s"), stand.lab.outside
    served = stand.services.plan("web")
    stand.services.put(served, targets([stand.lab.pod2]), ingress=served.ingress(), ranges=ANYWHERE)
    addresses = (served.vip(family), served.balancer(family))
    for address in addresses:
        client.poll(outside, address, served.port)
    outside.namespace.nft(LATE)
    with ExitStack() as late:
        handshakes = [late.enter_context(client.tcp(outside, address, served.port)) for address in addresses]
        uproxy.signal(signal.SIGTERM)
        eventually(lambda: uproxy.get("/healthz").status == 503)
        for address in addresses:
            with pytest.raises(TimeoutError):
                client.tcp(outside, address, served.port, patience=0.3)
        outside.namespace.run("nft", "delete", "table", "inet", "late")
        assert [client.who(handshake).name for handshake in handshakes] == ["pod2", "pod2"]
    assert uproxy.wait() == 0


def test_services_removed_while_nobody_ran_are_gone_after_the_start(stand: Stand) -> None:
    stand.start().kill()
    stand.start()
    gone, stays = stand.serve("gone", stand.lab.pod2), stand.serve("stays", stand.lab.pod2)
    stand.uproxy.kill()
    stand.services.remove(gone)
    stand.start()
    assert stays.vip(4) in kernel.rules(stand.lab.node).ruleset
    assert gone.vip(4) not in "".join(kernel.rules(stand.lab.node))


def test_told_to_end_it_lets_open_connections_finish(stand: Stand) -> None:
    uproxy = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    with client.tcp(stand.lab.pod, served.vip(4), 80) as conversation:
        assert client.who(conversation).name == "pod2"
        uproxy.signal(signal.SIGTERM)
        eventually(lambda: uproxy.get("/healthz").status == 503)
        with client.open_socket(stand.lab.pod, served.vip(4), conversation.type) as late:
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect((served.vip(4), 80))
        assert client.who(conversation).name == "pod2"
        assert uproxy.is_running()
    assert uproxy.wait(5) == 0


def test_the_drain_timeout_ends_connections_that_do_not_finish(stand: Stand) -> None:
    uproxy = stand.start("--drain-timeout", "1s")
    served = stand.serve("web", stand.lab.pod2)
    with client.tcp(stand.lab.pod, served.vip(4), 80) as conversation, client.measured() as taken:
        assert client.who(conversation).name == "pod2"
        uproxy.signal(signal.SIGTERM)
        assert uproxy.wait() == 0
    assert 0.9 < taken[0] < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(stand: Stand, number: signal.Signals) -> None:
    uproxy = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    with client.tcp(stand.lab.pod, served.vip(4), 80) as conversation:
        assert client.who(conversation).name == "pod2"
        uproxy.signal(number)
        eventually(lambda: uproxy.get("/healthz").status == 503)
        uproxy.signal(number)
        assert uproxy.wait(2) == 0


def test_without_open_connections_it_ends_at_once(stand: Stand) -> None:
    uproxy = stand.start()
    stand.serve("web", stand.lab.pod2)
    uproxy.signal(signal.SIGTERM)
    assert uproxy.wait(2) == 0


def test_a_second_one_in_the_same_network_is_refused_and_names_the_first(stand: Stand) -> None:
    first = stand.start()
    second = stand.launch()
    assert second.wait() == 2
    assert str(first.pid) in second.log()
    assert len(second.lines) == 1
    assert first.get("/healthz").status == 200


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_cleanup_leaves_nothing_and_may_be_repeated(stand: Stand, end: str) -> None:
    before = kernel.rules(stand.lab.node)
    uproxy = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    assert kernel.rules(stand.lab.node) != before
    getattr(uproxy, end)()
    for _ in range(2):
        cleaned = run_once(stand.lab.node, "cleanup")
        assert cleaned.returncode == 0, cleaned.stderr
        assert kernel.rules(stand.lab.node) == before
    stand.start()
    stand.await_served(served)


@pytest.mark.parametrize(
    ("prefix", "missing"),
    [(("env", "PATH=/nonexistent"), "nft"), (("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"), "NET_ADMIN")],
)
def test_what_is_missing_is_said_in_one_line_with_what_would_work(stand: Stand, prefix: tuple[str, ...], missing: str) -> None:
    refused = stand.launch(prefix=prefix)
    assert refused.wait() == 2
    assert missing in refused.lines[-1]
    assert "--redirect" in refused.lines[-1]
    assert "Traceback" not in refused.log()
