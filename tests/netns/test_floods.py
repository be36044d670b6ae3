"""Floods from outside: what is open goes on, memory stays bounded, and it is over when they are."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab import client
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.stand import Stand

pytestmark = pytest.mark.netns

SYNS = 20_000
SOURCES = 50_000
MEBIBYTE = 1 << 20
SMALL_TABLE = """
apiVersion: uproxy.io/v1alpha1
kind: UproxyConfiguration
udp:
  descriptorShare: 0.05
"""


def internet_checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def sources() -> Iterator[tuple[str, int]]:
    """Give addresses and ports behind the lab's router that nobody has."""
    addresses = (f"10.0.9.{number}" for number in range(10, 250))
    return ((address, port) for address, port in itertools.product(addresses, range(20_000, 20_250)))


def send_syns(target: str, port: int, number: int) -> None:
    """Send the first packet of so many handshakes that will never end; runs inside the sender's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for source, source_port in itertools.islice(sources(), number):
            ends = socket.inet_aton(source) + socket.inet_aton(target)
            bare = struct.pack("!HHIIBBHHH", source_port, port, source_port, 0, 5 << 4, 2, 65535, 0, 0)
            checksum = internet_checksum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(bare)) + bare)
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(bare), 0, 0, 64, socket.IPPROTO_TCP, 0) + ends
            raw.sendto(header + bare[:16] + struct.pack("!H", checksum) + bare[18:], (target, 0))


def send_datagrams(target: str, port: int, number: int) -> None:
    """Send one datagram from each of so many sources; runs inside the sender's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for source, source_port in itertools.islice(sources(), number):
            datagram = struct.pack("!HHHH", source_port, port, 12, 0) + b"who?"
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0)
            raw.sendto(header + socket.inet_aton(source) + socket.inet_aton(target) + datagram, (target, 0))


def answers_per_second(conversation: socket.socket, while_running: threading.Thread | None) -> float:
    """Ask over an open connection, for a second or for as long as a thread runs."""
    started, answers = time.monotonic(), 0
    while while_running.is_alive() if while_running else time.monotonic() - started < 1:
        client.who(conversation)
        answers += 1
    return answers / (time.monotonic() - started)


def test_a_flood_of_handshakes_that_never_end_stops_neither_open_connections_nor_new_ones(stand: Stand) -> None:
    uproxy = stand.start()
    served = stand.serve("web", stand.lab.pod2)
    memory = psutil.Process(uproxy.pid)
    with client.tcp(stand.lab.pod, served.vip(4), served.port) as conversation:
        client.who(conversation)
        before = memory.memory_info().rss
        flood = threading.Thread(target=stand.lab.outside.namespace.call, args=(send_syns, served.vip(4), served.port, SYNS))
        flood.start()
        during = answers_per_second(conversation, flood)
        assert during > 100
        assert client.ask(stand.lab.bridged, served.vip(4), served.port).name == "pod2"
        flood.join()
    assert memory.memory_info().rss - before < 4 * MEBIBYTE
    eventually(lambda: uproxy.metrics()["uproxy_connections_active"] == 0)


def test_datagrams_of_fifty_thousand_sources_take_no_more_than_their_share(stand: Stand, tmp_path: Path) -> None:
    configuration = tmp_path / "uproxy.yaml"
    configuration.write_text(SMALL_TABLE)
    uproxy = stand.start("--config", str(configuration))
    served = stand.serve("dns", stand.lab.pod2)
    metrics = uproxy.metrics()
    share = 0.05 * metrics["uproxy_descriptors_budget"]
    stand.lab.outside.namespace.call(send_datagrams, served.vip(4), served.port, SOURCES)
    with client.tcp(stand.lab.pod, served.vip(4), served.port) as conversation:
        assert client.who(conversation).name == "pod2"
    assert client.poll(stand.lab.pod, served.vip(4), served.port, "UDP").name == "pod2"
    metrics = uproxy.metrics()
    assert metrics["uproxy_flows_total"] > share, "the flood has reached the limit"
    assert metrics["uproxy_flows_active"] <= share
    assert metrics["uproxy_flow_evictions_total"] > 0
    assert metrics.get("uproxy_accept_pauses_total", 0) == 0, "descriptors have not run out"
