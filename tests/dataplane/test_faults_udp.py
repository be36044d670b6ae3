"""What goes wrong around UDP: endpoints removed and refusing, recreated Services, floods, a loop that is held up, no descriptors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dataplane.datagrams import DNS, UdpServer, ask, balancer_of, change, client, drops, held_up, serve, silence, tagged
from tests.dataplane.running import open_descriptors, resident_bytes
from tests.lab.ports import free_port
from uproxy.config import Config, EjectionSettings, UdpSettings
from uproxy.core.model import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dataplane.running import RunningPlane

PROJECT = Path(__file__).resolve().parents[2]
UNREACHABLE = Endpoint("255.255.255.255", 9)
"""connect(2) refuses it: a broadcast address."""


def dead_endpoint() -> Endpoint:
    """Give an endpoint whose datagrams are refused by ICMP."""
    return Endpoint("127.0.0.1", free_port("127.0.0.1", socket.SOCK_DGRAM))


def test_after_an_endpoint_is_removed_the_same_client_socket_reaches_a_live_one_with_its_next_datagram(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        old, new = (stack.enter_context(UdpServer(tagged(name))) for name in (b"old", b"new"))
        balancer = balancer_of(plane, old.endpoint)
        key = serve(plane, balancer)
        sock = stack.enter_context(client(key))
        for _ in range(50):
            assert ask(sock, b"1") == b"old 1"
            change(plane, key, balancer, new.endpoint)
            assert ask(sock, b"2") == b"new 2"
            change(plane, key, balancer, old.endpoint)


def test_after_a_service_is_recreated_no_datagram_of_an_old_client_socket_reaches_the_old_endpoint(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        old, new = (stack.enter_context(UdpServer(tagged(name))) for name in (b"old", b"new"))
        key = serve(plane, balancer_of(plane, old.endpoint))
        sock = stack.enter_context(client(key))
        assert ask(sock, b"1") == b"old 1"
        plane.call(lambda: plane.plane.close(key))
        serve(plane, balancer_of(plane, new.endpoint, name=DNS._replace(name="recreated")), port=key.port)
        assert [ask(sock, str(number).encode()) for number in range(20)] == [b"new %d" % number for number in range(20)]
        assert len(old.received) == 1


def test_an_icmp_refusal_sends_the_next_datagram_to_the_next_endpoint(plane: RunningPlane) -> None:
    with UdpServer() as live:
        dead = dead_endpoint()
        balancer = balancer_of(plane, dead)
        key = serve(plane, balancer)
        with client(key) as sock:
            sock.send(b"lost")
            plane.until(lambda: plane.counters.datagrams_dropped == {"ECONNREFUSED": 1})
            plane.call(lambda: balancer.set([dead, live.endpoint], None))
            assert ask(sock, b"next") == b"next"
            assert [ask(sock, b"again") for _ in range(3)] == [b"again"] * 3
        assert len(set(live.sources)) == 1
        assert live.endpoint not in plane.ejector.suspects


def test_a_refusal_moves_a_client_with_session_affinity_too(plane: RunningPlane) -> None:
    with UdpServer() as live:
        dead = dead_endpoint()
        balancer = balancer_of(plane, dead, affinity_seconds=600)
        key = serve(plane, balancer)
        with client(key) as sock, client(key) as other:
            sock.send(b"lost")
            plane.until(lambda: plane.counters.datagrams_dropped == {"ECONNREFUSED": 1})
            plane.call(lambda: balancer.set([dead, live.endpoint], 600))
            assert ask(sock, b"next") == b"next"
            assert ask(other, b"pinned as well") == b"pinned as well"


def test_a_datagram_whose_own_send_reports_the_refusal_is_sent_again_elsewhere(start_plane: Callable[..., RunningPlane]) -> None:
    """Both datagrams are in one batch: the second is sent while the refusal of the first waits in the socket."""
    plane = start_plane(Config(ejection=EjectionSettings(failures=0)))
    with UdpServer() as live:
        dead = dead_endpoint()
        balancer = balancer_of(plane, dead, live.endpoint)
        if balancer.endpoints[0] != dead:
            balancer.pick("anybody", 0.0)
        with client(serve(plane, balancer)) as sock:
            with held_up(plane):
                sock.send(b"lost")
                sock.send(b"saved")
            assert sock.recv(100) == b"saved"
        assert plane.counters.datagrams_dropped == {"ECONNREFUSED": 1}


def test_a_sole_endpoint_that_refused_is_asked_again_by_the_next_datagram(plane: RunningPlane) -> None:
    port = free_port("127.0.0.1", socket.SOCK_DGRAM)
    key = serve(plane, balancer_of(plane, Endpoint("127.0.0.1", port)))
    with client(key) as sock:
        for number in range(1, 6):
            sock.send(b"lost")
            plane.until(lambda number=number: plane.counters.datagrams_dropped == {"ECONNREFUSED": number})  # type: ignore[misc] # as mypy has it
        with UdpServer(port=port):
            assert ask(sock, b"back") == b"back"
        assert len(plane.flows) == 1


def test_a_refused_flow_changes_nothing_for_the_listeners_other_flows(plane: RunningPlane) -> None:
    with UdpServer() as live, ExitStack() as stack:
        balancer = balancer_of(plane, live.endpoint)
        key = serve(plane, balancer)
        settled = [stack.enter_context(client(key)) for _ in range(10)]
        for sock in settled:
            ask(sock, b"")
        sources = set(live.sources)
        dead = dead_endpoint()
        plane.call(lambda: balancer.set([dead], None))
        unlucky = [stack.enter_context(client(key)) for _ in range(10)]
        for number, sock in enumerate(unlucky, 1):
            sock.send(b"lost")
            plane.until(lambda number=number: plane.counters.datagrams_dropped.get("ECONNREFUSED") == number)  # type: ignore[misc] # as above
            assert ask(settled[number - 1], b"fine") == b"fine"
        assert set(live.sources) == sources


def test_with_half_of_the_endpoints_dead_a_few_first_datagrams_are_lost_and_then_none(plane: RunningPlane) -> None:
    with ExitStack() as stack:
        live = [stack.enter_context(UdpServer()).endpoint for _ in range(2)]
        key = serve(plane, balancer_of(plane, *live, dead_endpoint(), dead_endpoint()))
        attempts = []
        for _ in range(40):
            sock = stack.enter_context(client(key))
            sock.settimeout(0.2)
            for attempt in range(1, 10):
                try:
                    ask(sock, b"data")
                except TimeoutError:
                    continue
                attempts.append(attempt)
                break
        assert len(attempts) == 40
        # Three failures running eject an endpoint (EjectionSettings.failures).
        assert sum(attempts) - 40 <= 6
        assert attempts[20:] == [1] * 20
        assert plane.counters.ejections == 2


def test_an_answer_clears_an_endpoint_of_its_earlier_refusals(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(ejection=EjectionSettings(failures=2)))
    port = free_port("127.0.0.1", socket.SOCK_DGRAM)
    key = serve(plane, balancer_of(plane, Endpoint("127.0.0.1", port)))
    with client(key) as before, client(key) as between, client(key) as after, client(key) as last:
        before.send(b"lost")
        plane.until(lambda: plane.counters.datagrams_dropped == {"ECONNREFUSED": 1})
        with UdpServer(port=port):
            assert ask(between, b"data") == b"data"
        for number, sock in ((2, after), (3, last)):
            assert plane.counters.ejections == 0
            sock.send(b"lost")
            plane.until(lambda number=number: plane.counters.datagrams_dropped == {"ECONNREFUSED": number})  # type: ignore[misc] # as above
        assert plane.counters.ejections == 1


def test_an_endpoint_that_cannot_be_reached_at_all_is_passed_by_with_the_same_datagram(plane: RunningPlane) -> None:
    with UdpServer() as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, UNREACHABLE, server.endpoint))
        for _ in range(10):
            assert ask(stack.enter_context(client(key)), b"data") == b"data"
        assert plane.counters.datagrams_dropped == {}
        assert plane.call(lambda: UNREACHABLE in plane.ejector.suspects)


def test_without_a_reachable_endpoint_a_datagram_is_dropped_and_nothing_is_left(plane: RunningPlane) -> None:
    with client(serve(plane, balancer_of(plane, UNREACHABLE))) as sock:
        before = open_descriptors()
        sock.send(b"anybody?")
        plane.until(lambda: plane.counters.datagrams_dropped == {"EACCES": 1})
        assert open_descriptors() == before
        assert len(plane.flows) == 0


@pytest.mark.parametrize("loop_name", ["uvloop"], indirect=True)
def test_fifty_thousand_sources_leave_descriptors_and_memory_bounded_and_a_busy_client_its_flow(
    start_plane: Callable[..., RunningPlane],
) -> None:
    """The flood's sources are gone when the answers come, as with forged ones; the client talks all the while."""
    plane = start_plane(budget=2000)
    begun = time.monotonic()
    with UdpServer() as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        busy = stack.enter_context(client(key, "127.255.0.1"))
        ask(busy, b"mine")
        [mine] = server.sources
        settled = 0
        for number in range(50_000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forged:
                forged.bind((f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}", 0))
                forged.sendto(b"flood", ("127.0.0.1", key.port))
            if number % 200 == 199:
                assert ask(busy, b"mine") == b"mine"
            if number == 10_000:
                settled = resident_bytes()
        plane.until(lambda: plane.plane.totals().datagrams_received == 50_251)
        assert open_descriptors() < 1000 + 200
        assert len(plane.flows) == plane.flows.limit == 1000
        assert plane.counters.flow_evictions == {"cap": 49_001}
        # The endpoint, in this process too, keeps what it received: 40,000 datagrams with their sources, below 20 MB.
        assert resident_bytes() - settled < 32 << 20
        assert {source for source, data in zip(server.sources, server.received, strict=False) if data == b"mine"} == {mine}
        assert drops(plane) == {}
    assert time.monotonic() - begun < 60


def test_a_single_source_that_floods_takes_no_flow_from_a_client_that_is_heard_from_in_between(
    start_plane: Callable[..., RunningPlane],
) -> None:
    plane = start_plane(budget=200)
    with UdpServer() as server, ExitStack() as stack:
        key = serve(plane, balancer_of(plane, server.endpoint))
        quiet = stack.enter_context(client(key, "127.0.0.2"))
        for _ in range(10):
            assert ask(quiet, b"quiet") == b"quiet"
            for _ in range(90):
                with client(key, "127.0.0.3") as sock:
                    sock.send(b"loud")
        assert len({source for source, data in zip(server.sources, server.received, strict=False) if data == b"quiet"}) == 1
        assert plane.counters.flow_evictions["cap"] > 700


def test_what_the_kernel_drops_while_the_loop_is_held_up_is_counted(start_plane: Callable[..., RunningPlane]) -> None:
    plane = start_plane(Config(udp=UdpSettings(receive_buffer=65536)))
    with UdpServer(silence) as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        with held_up(plane):
            for _ in range(1000):
                sock.send(bytes(1400))
        plane.until(lambda: len(server.received) + drops_now(plane) == 1000)
        lost = drops(plane)["listener_buffer_full"]
        assert 0 < lost < 1000
        assert plane.plane.totals().datagrams_received == 1000 - lost
        assert drops(plane) == {"listener_buffer_full": lost}  # asking again does not count again


def drops_now(plane: RunningPlane) -> int:
    """Give the listener's drops; on the loop's thread."""
    plane.plane.note_kernel_drops()
    return plane.counters.datagrams_dropped.get("listener_buffer_full", 0)


def test_answers_that_the_kernel_drops_are_counted_when_their_flow_ends(plane: RunningPlane) -> None:
    with UdpServer(silence) as server, client(serve(plane, balancer_of(plane, server.endpoint))) as sock:
        sock.send(b"ask")
        plane.until(lambda: server.sources != [])
        with held_up(plane):
            for _ in range(1000):
                server.sock.sendto(bytes(1400), server.sources[0])
        plane.until(lambda: plane.plane.totals().datagrams_sent > 0)
        heard = len(drain(sock))
        plane.call(plane.plane.stop_listening)
        lost = plane.counters.datagrams_dropped["flow_buffer_full"]
        assert 0 < lost < 1000
        assert plane.plane.totals().datagrams_sent == 1000 - lost >= heard


def drain(sock: socket.socket) -> list[bytes]:
    """Receive until nothing has come for a while."""
    sock.settimeout(0.3)
    found = []
    try:
        while True:
            found.append(sock.recv(1 << 16))
    except TimeoutError:
        return found


def test_out_of_descriptors_the_least_recently_used_flow_makes_room_and_no_datagram_is_lost() -> None:
    """In a process of its own, whose limit is lowered below its budget: the kernel says EMFILE."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.dataplane.out_of_descriptors"], capture_output=True, text=True, check=False, cwd=PROJECT, timeout=60
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["answers"] == told["clients"]
    assert told["dropped"] == {}
    assert told["flows"] + told["evictions"]["EMFILE"] == told["clients"]
    assert 0 < told["flows"] <= told["room"]
    assert told["unexpected"] == []
