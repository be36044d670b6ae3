"""Things that happen to machines: the clock is set, a peer falls silent, somebody floods a listener."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
SLEEP_BY_SELECT = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds) and None"
"""libfaketime 0.9.10 with a true monotonic clock lets clock_nanosleep(2) fail with EINVAL, which time.sleep calls."""
QUICK_LOSS = """
apiVersion: uproxy.io/v1alpha1
kind: UproxyConfiguration
tcp:
  userTimeout: 2s
  keepaliveIdle: 1s
  keepaliveInterval: 1s
  keepaliveProbes: 2
"""
SILENCE = """
table inet silence {
  chain out { type filter hook output priority 0; policy drop; }
}
"""


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("hours", [1, -1])
def test_setting_the_clock_touches_neither_affinity_nor_flows_nor_syncs(stand: Stand, tmp_path: Path, hours: int) -> None:
    """The affinity of ten minutes would be over after an hour; the flow's idle timeout too."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    (tmp_path / "sitecustomize.py").write_text(SLEEP_BY_SELECT)
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(tmp_path),
    }
    uproxy = stand.start(prefix=["env", *(f"{name}={value}" for name, value in faked.items())])
    sticky = stand.serve("sticky", stand.lab.pod, stand.lab.pod2, stand.lab.bridged, affinity_seconds=600)
    plain = stand.serve("plain", stand.lab.pod, stand.lab.pod2, stand.lab.bridged)
    with client.udp(stand.lab.outside, plain.vip(4), plain.port) as flow:
        pinned, flowing = client.ask(stand.lab.outside, sticky.vip(4), sticky.port).name, client.who(flow)
        clock.write_text(f"{3600 * hours:+d}")
        assert {client.ask(stand.lab.outside, sticky.vip(4), sticky.port).name for _ in range(6)} == {pinned}
        assert client.who(flow) == flowing
    with client.measured() as taken:
        stand.serve("new", stand.lab.pod2)
    assert taken[0] < 1.5
    said = uproxy.metrics()["kubeproxy_sync_proxy_rules_last_timestamp_seconds"]
    assert abs(said - time.time() - 3600 * hours) < 60, "the clock that uproxy sees was set"


@pytest.mark.parametrize("who", ["pod", "outside"])
def test_a_client_that_falls_silent_is_given_up_and_its_endpoint_told(stand: Stand, tmp_path: Path, who: str) -> None:
    configuration = tmp_path / "uproxy.yaml"
    configuration.write_text(QUICK_LOSS)
    stand.start("--config", str(configuration))
    with client.listen(stand.lab.pod2, stand.lab.pod2.address(4), 9090) as listener:
        served = stand.services.add("web", targets([stand.lab.pod2], 9090))
        conversation = eventually(partial(client.tcp, stand.lab[who], served.vip(4), 80, client.POLLING))
        accepted, _ = listener.accept()
        with conversation, accepted:
            conversation.sendall(b"hello")
            accepted.settimeout(15)
            assert accepted.recv(16) == b"hello"
            stand.lab[who].namespace.nft(SILENCE)
            with client.measured() as taken:
                accepted.sendall(b"anybody there?")
                assert client.is_ended(accepted)
            assert taken[0] < 10
