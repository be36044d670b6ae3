"""The lab itself, without uproxy: what the other tests take for granted about the network they run in."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import client, kernel
from tests.lab.namespaces import FOLDER
from tests.lab.servers import PORT, PROJECT, Servers
from tests.lab.topology import Lab
from tests.lab.wiring import ADDRESSES, NARROW_MTU

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

HOSTS = ("node", "node2", "outside", "far", "pod", "pod2", "bridged", "bridged2", "neighbour", "neighbour2", "remote")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as built, Servers([built[name] for name in ADDRESSES]):
        yield built


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", [4, 6])
def test_every_host_reaches_every_other_with_an_address_of_its_own(lab: Lab, family: int, protocol: client.Protocol) -> None:
    for one, other in itertools.product(HOSTS, HOSTS):
        answer = client.ask(lab[one], lab[other].address(family), PORT, protocol)
        assert answer.name == other
        assert answer.address in lab[one].every_address()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ["far", "remote"])
def test_bulk_data_crosses_the_lab_in_both_directions(lab: Lab, name: str, family: int) -> None:
    address, data = lab[name].address(family), client.pattern(2_000_000)
    assert client.download(lab.pod, address, PORT, len(data)) == data
    assert client.upload(lab.pod, address, PORT, data) == f"{len(data)} {hashlib.sha256(data).hexdigest()}"
    assert client.half_closed_reply(lab.pod, address, PORT, 300_000) == client.pattern(300_000)


@pytest.mark.parametrize("family", [4, 6])
def test_the_way_to_the_far_host_is_narrow(lab: Lab, family: int) -> None:
    client.upload(lab.outside, lab.far.address(family), PORT, client.pattern(100_000))
    learned = lab.outside.namespace.run("ip", "route", "get", lab.far.address(family))
    assert f"mtu {NARROW_MTU}" in learned


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 9000, 65_000])
@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_cross_the_lab_whole(lab: Lab, family: int, size: int) -> None:
    payload = client.pattern(size)
    assert client.round_trip(lab.outside, lab.bridged.address(family), PORT, payload) == payload


def test_servers_greet_reset_and_end_as_told(lab: Lab) -> None:
    assert client.greeting(lab.pod, lab.pod2.address(4), PORT + 1) == "hello from pod2\n"
    with client.tcp(lab.pod, lab.pod2.address(4), PORT) as conversation:
        conversation.sendall(b"reset\n")
        with pytest.raises(ConnectionResetError):
            conversation.recv(1)
    with client.tcp(lab.pod, lab.pod2.address(4), PORT) as conversation:
        conversation.sendall(b"echo\nabc")
        assert conversation.recv(16) == b"abc"


def test_the_node_filters_bridged_packets_and_checks_sources(lab: Lab) -> None:
    assert lab.node.namespace.read_sysctl("net.bridge.bridge-nf-call-iptables") == "1"
    assert lab.node.namespace.read_sysctl("net.ipv4.conf.eth0.rp_filter") == "1"
    assert lab.pod.namespace.read_sysctl("net.ipv4.conf.eth0.accept_redirects") == "0"


def test_without_its_default_route_the_node_still_reaches_the_lab(lab: Lab) -> None:
    before = kernel.rules(lab.node)
    with lab.without_default_route(lab.node):
        assert "default" not in lab.node.namespace.run("ip", "route", "show")
        for family in (4, 6):
            assert client.ask(lab.outside, lab.pod.address(family), PORT).name == "pod"
    assert kernel.rules(lab.node) == before


def test_a_killed_test_run_leaves_nothing_behind_once_another_has_run() -> None:
    script = "import os, signal; from tests.lab.topology import Lab; Lab(); os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT)
    killed.wait()
    left = f"uplab{killed.pid}-"
    assert any(path.name.startswith(left) for path in FOLDER.iterdir())
    Lab().close()
    assert not any(path.name.startswith(left) for path in Path(FOLDER).iterdir())
