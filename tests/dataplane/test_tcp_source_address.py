"""From which address and port an endpoint sees a connection come: the client's own where it is to be kept."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import WAIT, RunningPlane, Server, connect, echo, read_exactly
from uproxy.config import Config, TcpSettings
from uproxy.config_rules import Duration
from uproxy.dataplane.upstream import NodeAddressOnly

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from uproxy.core.model import Endpoint

CLONE_NEWNET = 0x40000000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: IP_TRANSPARENT asks for CAP_NET_ADMIN")


class KeepAll:
    """On loopback every answer comes back to us."""

    def keeps(self, client: str, endpoint: Endpoint) -> bool:  # noqa: ARG002 - the Protocol's parameters
        """Tell that it may be kept."""
        return True


def ping(client: socket.socket) -> None:
    """See that the connection works."""
    client.sendall(b"ping")
    assert read_exactly(client, 4) == b"ping"


@needs_root
@pytest.mark.parametrize("keep", [True, False])
def test_the_endpoint_sees_the_clients_address_only_where_it_is_kept(start_plane: Callable[..., RunningPlane], *, keep: bool) -> None:
    plane = start_plane(client_addresses=KeepAll())
    with Server(echo) as server:
        key = plane.serve(server.endpoint, keep_client_address=keep)
        with connect(key, source="127.0.0.5") as client:
            ping(client)
        ((address, port),) = server.peers
    assert address == ("127.0.0.5" if keep else "127.0.0.1")
    assert (61000 <= port <= 65535) == keep
    assert plane.counters.kept_addresses == keep


@needs_root
def test_an_ipv6_clients_address_is_kept(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(client_addresses=KeepAll())
    with Server(echo, address="::1") as server:
        with connect(plane.serve(server.endpoint, vip="::1", keep_client_address=True)) as client:
            ping(client)
        ((address, port),) = server.peers
    assert address == "::1"
    assert 61000 <= port <= 65535


@needs_root
def test_a_source_port_in_use_is_passed_by_and_without_a_free_one_the_nodes_address_is_used(
    start_plane: Callable[..., RunningPlane],
) -> None:
    """Two ports serve two connections to each endpoint; other endpoints have the same two ports to themselves."""
    plane = start_plane(Config(tcp=TcpSettings(source_ports=(61998, 61999))), client_addresses=KeepAll())
    with Server(echo) as server, Server(echo) as other, ExitStack() as stack:
        key, other_key = (plane.serve(one.endpoint, keep_client_address=True, name=str(one.endpoint.port)) for one in (server, other))
        for each in (key, key, key, key, other_key, other_key):
            ping(stack.enter_context(connect(each, source="127.0.0.5")))
        assert sorted(server.peers)[2:] == [("127.0.0.5", 61998), ("127.0.0.5", 61999)]
        assert [address for address, _ in sorted(server.peers)[:2]] == ["127.0.0.1"] * 2
        assert sorted(other.peers) == [("127.0.0.5", 61998), ("127.0.0.5", 61999)]
    assert plane.counters.kept_address_fallbacks == {"ports": 2}
    assert plane.counters.connect_failures == {}


@needs_root
def test_a_pair_that_holds_half_of_the_ports_in_one_piece_still_gets_the_others(start_plane: Callable[..., RunningPlane]) -> None:
    """Its next attempts would all be neighbours of the first, and in use too, if they were not spread."""
    plane = start_plane(Config(tcp=TcpSettings(source_ports=(61900, 61963), source_port_attempts=4)), client_addresses=KeepAll())
    with Server(echo) as server, ExitStack() as stack:
        key = plane.serve(server.endpoint, keep_client_address=True)
        for _ in range(32):
            ping(stack.enter_context(connect(key, source="127.0.0.5")))
        for _ in range(64):
            with connect(key, source="127.0.0.5") as client:
                ping(client)
            plane.until(lambda: plane.plane.open_connections == 32)
    assert plane.counters.kept_address_fallbacks == {}
    assert plane.counters.kept_addresses == 96


@needs_root
def test_an_explicit_source_port_is_free_again_as_soon_as_its_connection_has_ended(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(tcp=TcpSettings(source_ports=(61990, 61999))), client_addresses=KeepAll())
    with Server(echo) as server:
        key = plane.serve(server.endpoint, keep_client_address=True)
        for _ in range(500):
            with connect(key, source="127.0.0.5") as client:
                ping(client)
            plane.until(lambda: plane.plane.open_connections == 0)
    assert plane.counters.kept_address_fallbacks == {}
    assert plane.counters.kept_addresses == 500


@needs_root
def test_a_kept_address_with_an_endpoint_that_refuses_moves_on(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(client_addresses=KeepAll())
    with Server(echo) as server:
        key = plane.serve(server.endpoint, server.endpoint._replace(address="127.0.0.2"), keep_client_address=True)
        for _ in range(4):
            with connect(key, source="127.0.0.5") as client:
                ping(client)
    assert set(plane.counters.connect_failures) <= {"ECONNREFUSED"}
    assert {address for address, _ in server.peers} == {"127.0.0.5"}


def in_a_network_of_its_own(function: Callable[[], None]) -> None:
    """Run function in a thread with a network namespace of its own (unshare(2)), where lo is up."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.netns
def test_exhausted_ephemeral_ports_are_counted_and_hurt_no_other_endpoint(loop_name: str) -> None:
    def check() -> None:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("60000 60019", "ascii")
        plane = RunningPlane(loop_name, Config(), NodeAddressOnly())
        with Server(echo) as server, Server(echo) as other, ExitStack() as stack:
            # Clients have addresses of their own, so that only the way to the endpoint runs out of ports.
            key, other_key = plane.serve(server.endpoint), plane.serve(other.endpoint, name="other")
            working = 0
            for number in range(25):
                with suppress(ConnectionError):
                    ping(stack.enter_context(connect(key, source=f"127.0.1.{number + 1}")))
                    working += 1
            assert 10 <= working <= 20
            assert plane.counters.connect_failures == {"EADDRNOTAVAIL": 25 - working}
            assert plane.counters.connections_failed == 25 - working
            assert plane.counters.ejections == 0
            ping(stack.enter_context(connect(other_key, source="127.0.2.1")))
        plane.stop()

    in_a_network_of_its_own(check)


@pytest.mark.netns
@pytest.mark.parametrize("transfer", ["idle", "sending"])
def test_a_client_that_vanishes_is_noticed_and_the_endpoint_is_freed(loop_name: str, transfer: str) -> None:
    """Idle: keep-alive finds out. Sending: unacknowledged data does (TCP_USER_TIMEOUT)."""

    def check() -> None:
        settings = TcpSettings(keepalive_idle=Duration(1), keepalive_interval=Duration(1), keepalive_probes=2, user_timeout=Duration(2))
        plane = RunningPlane(loop_name, Config(tcp=settings), NodeAddressOnly())
        gone, ended = threading.Event(), threading.Event()

        def serve(sock: socket.socket) -> None:
            sock.sendall(sock.recv(4))
            assert gone.wait(WAIT)
            if transfer == "sending":
                sock.sendall(b"never acknowledged")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            ended.set()

        with Server(serve) as server:
            key = plane.serve(server.endpoint)
            client = connect(key)
            ping(client)
            drop = f"tcp dport {key.port} drop; tcp sport {key.port} drop;"
            rules = f"table inet gone {{ chain in {{ type filter hook input priority 0; {drop} }}; }}"
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
            gone.set()
            assert ended.wait(WAIT)
            plane.until(lambda: plane.plane.open_connections == 0)
            client.close()
        plane.stop()

    in_a_network_of_its_own(check)
