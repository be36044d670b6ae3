"""The annotations uproxy.io/... in the real process, fed by manifests: packets, metrics, and changes while connections are open."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.lab import client
from tests.lab.manifests import targets
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES, entrance
from tests.netns.annotated import ENTRANCES, Counting, annotated, await_names, conversation, is_open, is_reset, is_turned_away

if TYPE_CHECKING:
    from tests.lab.stand import Stand
    from tests.lab.topology import Host

pytestmark = pytest.mark.netns

IDLE = 0.6
GRACE = 1.0


def test_least_connections_fill_the_endpoint_that_has_the_fewest(shared: Stand) -> None:
    lab, counting = shared.lab, Counting(shared)
    served = shared.serve("least", lab.pod2, lab.bridged2, annotations=annotated(balance="least-connections"))
    with ExitStack() as owned:
        opened = [owned.enter_context(client.tcp(lab.outside, served.vip(4), served.port)) for _ in range(8)]
        names = [client.who(each).name for each in opened]
        assert sorted(names) == ["bridged2"] * 4 + ["pod2"] * 4
        for each in [one for one, name in zip(opened, names, strict=True) if name == "pod2"]:
            each.close()
        eventually(lambda: client.ask(lab.outside, served.vip(4), served.port).name == "pod2")
        again = [owned.enter_context(client.tcp(lab.outside, served.vip(4), served.port)) for _ in range(3)]
        assert [client.who(each).name for each in again] == ["pod2"] * 3
    assert counting.added("uproxy_least_connections_choices_total") >= 12


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_to_an_endpoint_that_left_are_reset_after_the_grace_and_datagrams_move_on_at_once(shared: Stand, family: int) -> None:
    lab, counting = shared.lab, Counting(shared)
    options = annotated(drain=f"{GRACE}s")
    served = shared.serve(f"drained-{family}", lab.pod2, annotations=options)
    with (
        conversation(shared, served, family=family) as leaving,
        client.udp(lab.outside, served.vip(family), served.port) as datagrams,
        ExitStack() as owned,
    ):
        assert client.who(datagrams).name == "pod2"
        shared.retarget(served, targets([lab.bridged2]), annotations=options)
        await_names(shared, served, "bridged2")
        began = time.monotonic()
        assert client.who(datagrams).name == "bridged2"
        assert client.who(leaving).name == "pod2"
        staying = owned.enter_context(conversation(shared, served, family=family))
        assert is_reset(leaving)
        assert GRACE / 2 < time.monotonic() - began < GRACE + 1
        assert is_open(staying)
        assert client.who(datagrams).name == "bridged2"
    assert counting.added("uproxy_connections_drained_total") == 1


def test_connections_of_a_removed_service_are_drained_too_and_those_without_the_annotation_go_on(shared: Stand) -> None:
    drained = shared.serve("removed", shared.lab.pod2, annotations=annotated(drain=f"{GRACE}s"))
    patient = shared.serve("patient", shared.lab.pod2)
    with conversation(shared, drained) as first, conversation(shared, patient) as second:
        shared.services.remove(drained)
        shared.services.remove(patient)
        for served in (drained, patient):
            client.poll_refusal(shared.lab.outside, served.vip(4), served.port)
        assert is_open(first)
        assert is_reset(first)
        assert is_open(second)


def test_an_endpoint_that_is_back_in_time_and_an_annotation_that_was_taken_away_save_connections(shared: Stand) -> None:
    lab, options = shared.lab, annotated(drain=f"{GRACE}s")
    returned = shared.serve("returned", lab.pod2, annotations=options)
    released = shared.serve("released", lab.pod2, annotations=options)
    with conversation(shared, returned) as first, conversation(shared, released) as second:
        for served in (returned, released):
            shared.retarget(served, targets([lab.bridged2]), annotations=options)
            await_names(shared, served, "bridged2")
        shared.retarget(returned, targets([lab.pod2]), annotations=options)
        shared.retarget(released, targets([lab.bridged2]))
        await_names(shared, returned, "pod2")
        time.sleep(1.5 * GRACE)
        assert is_open(first)
        assert is_open(second)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("address_class", "family"), ENTRANCES)
def test_an_endpoint_is_told_the_client_and_the_address_that_it_used(shared: Stand, address_class: str, family: int, version: int) -> None:
    lab, counting = shared.lab, Counting(shared)
    port = 9000 + family
    served = shared.services.plan(f"told-{address_class.lower()}-{family}-{version}")
    with client.listen(lab.pod2, lab.pod2.address(family), port) as listener:
        shared.services.put(served, [(lab.pod2.address(family), port)], annotations=annotated(proxy_protocol=f"v{version}"))
        place = entrance(shared, served, address_class, family)
        asking = eventually(lambda: client.tcp(lab.outside, *place))
        with asking, listener.accept()[0] as accepted:
            asking.sendall(b"hello")
            asking.shutdown(socket.SHUT_WR)
            accepted.settimeout(client.PATIENCE)
            received = client.read_all(accepted)
            host, source_port = asking.getsockname()[:2]
    if version == 1:
        assert received == f"PROXY TCP{family} {host} {place[0]} {source_port} {place[1]}\r\nhello".encode()
    else:
        raw = b"".join(socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, each) for each in (host, place[0]))
        length = len(raw) + 4
        start = b"\r\n\r\n\0\r\nQUIT\n\x21" + (b"\x11" if family == 4 else b"\x21") + length.to_bytes(2, "big")
        assert received == start + raw + source_port.to_bytes(2, "big") + place[1].to_bytes(2, "big") + b"hello"
    assert counting.added("uproxy_proxy_protocol_headers_total") == 1


def test_headers_begin_and_end_with_the_annotation_on_a_service_whose_connections_stay(shared: Stand) -> None:
    lab = shared.lab
    served = shared.serve("switched", lab.pod2)
    with client.listen(lab.pod2, lab.pod2.address(4), 9010) as listener, conversation(shared, served) as old:

        def begins_with(expected: bytes) -> bool:
            with client.tcp(lab.outside, served.vip(4), served.port) as asking, listener.accept()[0] as accepted:
                accepted.settimeout(client.PATIENCE)
                asking.sendall(b"hello")
                return accepted.recv(5) == expected

        for options, expected in ((annotated(proxy_protocol="v1"), b"PROXY"), ({}, b"hello")):
            shared.retarget(served, [(lab.pod2.address(4), 9010)], annotations=options)
            eventually(partial(begins_with, expected))
        assert is_open(old)


def test_the_limit_of_connections_is_one_for_all_addresses_of_a_service_port_and_can_be_raised_live(shared: Stand) -> None:
    lab, counting = shared.lab, Counting(shared)
    served = shared.serve("limited", lab.pod2, annotations=annotated(max_connections="3"))
    eventually(lambda: shared.uproxy.metrics()["uproxy_connections_active"] == 0)
    with ExitStack() as owned:
        opened = [owned.enter_context(client.tcp(lab.outside, *entrance(shared, served, *each))) for each in ENTRANCES[::2]]
        assert all(map(is_open, opened))
        for each in ENTRANCES:
            assert is_turned_away(lab.outside, *entrance(shared, served, *each))
        assert counting.added("uproxy_connections_over_limit_total") == len(ENTRANCES)
        assert client.greeting(lab.outside, served.vip(4), served.port + 1).startswith("hello")
        shared.retarget(served, targets([lab.pod2]), annotations=annotated(max_connections="4"))
        eventually(lambda: owned.enter_context(conversation(shared, served)))
        assert all(map(is_open, opened))


def test_a_silent_connection_ends_and_one_whose_bytes_are_spliced_does_not(shared: Stand) -> None:
    lab = shared.lab
    served = shared.serve("idle", lab.pod2, annotations=annotated(idle_timeout=f"{IDLE}s"))
    counting, size = Counting(shared), 64 << 20
    with conversation(shared, served) as silent, client.tcp(lab.outside, served.vip(6), served.port) as bulk:
        bulk.sendall(f"send {size}\n".encode())
        began, received = time.monotonic(), 0
        while part := bulk.recv(1 << 18):
            received += len(part)
            if time.monotonic() - began < 3 * IDLE:
                time.sleep(IDLE / 40)
        assert received == size
        assert time.monotonic() - began > 3 * IDLE
        assert is_reset(silent)
    assert counting.added("uproxy_idle_timeouts_total") == 1
    assert counting.added("uproxy_spliced_bytes_total") > size / 2


def test_an_idle_timeout_is_for_connections_that_are_open_already_and_taking_it_away_too(shared: Stand) -> None:
    lab = shared.lab
    served = shared.serve("quieted", lab.pod2)
    with conversation(shared, served) as first:
        shared.retarget(served, targets([lab.pod2]), annotations=annotated(idle_timeout=f"{IDLE}s"))
        assert is_reset(first)
        with conversation(shared, served) as second:
            shared.retarget(served, targets([lab.pod2]))
            time.sleep(2 * IDLE)
            assert is_open(second)


def test_a_bad_value_is_named_in_the_log_and_the_service_served_and_a_good_one_counts_from_then_on(shared: Stand) -> None:
    lab = shared.lab
    served = shared.serve("mistaken", lab.pod2, annotations=annotated(idle_timeout="soon", balance="least-connections"))
    line = shared.uproxy.wait_for_log("manifest_refused", "mistaken", "metadata.annotations[uproxy.io/idle-timeout]")
    assert "not a duration: 'soon'" in line.replace('\\"', "'")
    with conversation(shared, served) as opened:
        shared.retarget(served, targets([lab.pod2]), annotations=annotated(idle_timeout=f"{IDLE}s", balance="least-connections"))
        assert is_reset(opened)


def test_the_clients_address_is_kept_or_not_as_the_annotation_says_from_the_next_connection_on(shared: Stand) -> None:
    lab = shared.lab
    served = shared.serve("addressed", lab.pod2, annotations=annotated(keep_client_address="never"))

    def seen(who: Host) -> str:
        return client.ask(who, served.vip(4), served.port).address

    assert seen(lab.outside) != lab.outside.address(4)
    with conversation(shared, served) as opened:
        shared.retarget(served, targets([lab.pod2]), annotations=annotated(keep_client_address="auto"))
        eventually(lambda: seen(lab.outside) == lab.outside.address(4))
        assert client.who(opened).address != lab.outside.address(4)
