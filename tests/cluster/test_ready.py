"""When a process is ready: after its first sync, and systemd hears of it then and not before."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.nodes import SECONDS, SERVED
from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.nodes import Cluster, Tenant

pytestmark = pytest.mark.netns

IMPATIENT: Final = {"kubernetes": {"connectTimeout": "500ms", "requestTimeout": "500ms", "retryBase": "200ms", "retryLimit": "500ms"}}


@contextmanager
def systemd(path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(SECONDS)
        yield heard


def is_silent(heard: socket.socket) -> bool:
    heard.settimeout(0.1)
    try:
        heard.recv(4096, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        heard.settimeout(SECONDS)
    return False


def test_systemd_hears_that_it_is_ready_after_the_first_sync_and_not_while_the_api_server_hangs(
    cluster: Cluster, tenant: Tenant, tmp_path: Path
) -> None:
    made = tenant.deploy("web", cluster.lab.pod2)
    eventually(lambda: tenant.lists_endpoint("web", ready=True))
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (
        systemd(tmp_path / "notify") as heard,
        cluster.plane.paused(),
        cluster.running(settings=IMPATIENT, environment=environment, healthy=False) as uproxy,
    ):
        uproxy.wait_for_log("api_server_lost", within=SECONDS)
        assert uproxy.get("/healthz").status == 503
        assert is_silent(heard)
        cluster.plane.api_server.resume()
        assert b"READY=1" in heard.recv(4096).splitlines()
        assert client.ask(cluster.lab.pod, made.vip, SERVED).name == "pod2", "whoever waited for it is served at once"
        eventually(lambda: uproxy.get("/healthz").status == 200)
        assert is_silent(heard), "it is said once"
