"""Each subject carries what it says it carries, in both families, and one that cannot run says why."""

from __future__ import annotations

import resource
import shutil
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bench.load.server import ANSWER, DISCARD, ECHO, NAME, STREAM
from bench.measurement import load_server
from bench.subjects import DEFAULT, SUBJECTS
from bench.subjects.base import CannotRun, Running, Subject, last_words, serving, told_by
from bench.subjects.go_copy import SOURCE, GoCopy, build
from bench.topology import CLIENT, FAMILIES, NODE, NODE_TOWARDS_SERVER, SERVER, Topology, end, python, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.namespaces import Namespace

NAMES = [name for name in SUBJECTS if not name.startswith("kube-proxy")]
"""kube-proxy has an API server, and tests of its own."""
UDP_NAMES = [name for name in NAMES if SUBJECTS[name].udp]
PROXIES = [name for name in NAMES if SUBJECTS[name].role != "kernel"]
HALF_CLOSING = [name for name in NAMES if name not in {"haproxy", "nginx"}]
"""nginx ends the connection by default, and HAProxy 2.6 now and then before it has read everything."""
ADDRESS_KEPT = ("dnat", "none", "uproxy-kept")
MESSAGE = bytes(range(256)) * 16384
"""4 MiB: more than the buffers on the way hold."""

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, which builds this subject")
by_family = pytest.mark.parametrize("family", FAMILIES)


def those(names: list[str]) -> pytest.MarkDecorator:
    """Run a test with some of the subjects instead of all."""
    return pytest.mark.parametrize("stand", names, indirect=True)


class Stand(NamedTuple):
    """A subject at work."""

    name: str
    subject: Subject
    topology: Topology
    running: Running

    def connect(self, family: int, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        sock = socket_inside(self.topology.client, family, kind)
        sock.connect((self.running.addresses[family], port))
        return sock


def socket_inside(namespace: Namespace, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    with namespace.entered():
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    sock.settimeout(10)
    return sock


@pytest.fixture(scope="module", params=NAMES)
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    name: str = request.param
    with Topology() as topology, load_server(topology):
        try:
            running = SUBJECTS[name].start(topology, tmp_path_factory.mktemp("subject"))
        except CannotRun as reason:
            pytest.skip(f"{name}: {reason}")
        try:
            yield Stand(name, SUBJECTS[name], topology, running)
        finally:
            running.stop()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def received(sock: socket.socket, size: int) -> bytes:
    """Receive until the end, or that many bytes."""
    data = bytearray()
    while len(data) < size and (part := sock.recv(1 << 20)):
        data += part
    return bytes(data)


@pytest.mark.netns
@by_family
def test_every_tcp_port_leads_to_the_server(stand: Stand, family: int) -> None:
    with stand.connect(family, ECHO) as echo, stand.connect(family, ANSWER) as answer:
        echo.sendall(b"one")
        answer.sendall(b"another")
        assert received(echo, 3) == b"one"
        assert received(answer, 100) == b"another"
    with stand.connect(family, DISCARD) as discard, stand.connect(family, STREAM) as stream:
        discard.sendall(MESSAGE)
        assert len(received(stream, 1_000_000)) >= 1_000_000


@pytest.mark.netns
@by_family
def test_the_server_sees_the_client_where_its_address_is_kept_and_the_node_elsewhere(stand: Stand, family: int) -> None:
    with stand.connect(family, NAME) as sock:
        server, seen = received(sock, 200).decode().split()

    assert server == SERVER[family]
    assert seen == (CLIENT if stand.name in ADDRESS_KEPT else NODE_TOWARDS_SERVER)[family]


@pytest.mark.netns
@those(HALF_CLOSING)
@by_family
def test_all_bytes_come_back_after_the_client_has_said_that_it_is_done(stand: Stand, family: int) -> None:
    with stand.connect(family, ECHO) as sock:

        def say() -> None:
            sock.sendall(MESSAGE)
            sock.shutdown(socket.SHUT_WR)

        speaker = threading.Thread(target=say)
        speaker.start()
        answer = received(sock, 2 * len(MESSAGE))
        speaker.join()

    assert answer == MESSAGE


@pytest.mark.netns
@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_connections_are_served_at_a_time(stand: Stand) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(stand.connect(family, ECHO)) for family in FAMILIES for _ in range(500)]
        for number, sock in enumerate(opened):
            sock.sendall(number.to_bytes(4, "big"))
        answers = [int.from_bytes(received(sock, 4), "big") for sock in opened]

    assert answers == list(range(1000))


@pytest.mark.netns
@by_family
@pytest.mark.parametrize("size", [1, 1400, 8000])
def test_datagrams_come_back_whole_or_are_refused(stand: Stand, family: int, size: int) -> None:
    datagram = MESSAGE[:size]
    with stand.connect(family, ECHO, socket.SOCK_DGRAM) as sock:
        sock.send(datagram)
        if stand.subject.udp:
            assert sock.recv(65536) == datagram
        else:
            with pytest.raises(ConnectionRefusedError):
                sock.recv(65536)


@pytest.mark.netns
@those(UDP_NAMES)
@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_flows_are_served_at_a_time(stand: Stand) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(stand.connect(family, ECHO, socket.SOCK_DGRAM)) for family in FAMILIES for _ in range(500)]
        numbered = [(sock, number.to_bytes(4, "big")) for number, sock in enumerate(opened)]
        # Few under way at a time: of a burst, the kernel drops what exceeds net.core.netdev_max_backlog, 1000 packets.
        for first in [*range(0, 1000, 50)] * 2:
            for sock, number in numbered[first : first + 50]:
                sock.send(number)
            for sock, number in numbered[first : first + 50]:
                assert sock.recv(100) == number


@pytest.mark.netns
def test_nobody_but_the_kernels_nat_tracks_connections(stand: Stand) -> None:
    with stand.connect(4, ECHO) as sock:
        sock.sendall(b"x")
        received(sock, 1)
        tracked = [connections_tracked(namespace) for namespace in (stand.topology.client, stand.topology.node, stand.topology.server)]

    assert [bool(count) for count in tracked] == [False, stand.name == "dnat", False]


@pytest.mark.netns
@those(PROXIES)
def test_every_proxy_has_all_descriptors_that_the_machine_gives(stand: Stand) -> None:
    assert stand.running.process
    soft, hard = resource.prlimit(stand.running.process.pid, resource.RLIMIT_NOFILE)

    assert soft == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def connections_tracked(namespace: Namespace) -> int:
    counter = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    with namespace.entered():
        return int(counter.read_text()) if counter.exists() else 0


def test_every_subject_has_a_title_of_its_own_and_the_default_ones_are_among_them() -> None:
    assert len({subject.title for subject in SUBJECTS.values()}) == len(SUBJECTS)
    assert set(DEFAULT) <= set(SUBJECTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_subject_tells_its_version_in_one_line_or_what_is_missing(name: str) -> None:
    try:
        told = SUBJECTS[name].version()
    except CannotRun as reason:
        told = str(reason)

    assert told == " ".join(told.split()) != ""


@pytest.mark.netns
@pytest.mark.parametrize("name", ["haproxy", "nginx", "streams", pytest.param("go-copy", marks=needs_go)])
def test_a_proxy_that_ends_at_its_start_is_quoted(name: str, tmp_path: Path) -> None:
    with Topology() as topology, socket_inside(topology.node, 4) as taken:
        taken.bind((NODE[4], ECHO))
        taken.listen()
        with pytest.raises(CannotRun, match=r"^it ended with 1: .*[Aa]ddress already in use") as raised:
            SUBJECTS[name].start(topology, tmp_path)

    assert "\n" not in str(raised.value)


@pytest.mark.netns
def test_a_subject_that_serves_one_family_alone_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.subjects.base.START_SECONDS", 1.0)
    with Topology() as topology:
        process = start(topology.server, None, python("bench.load.server", SERVER[4]))
        try:
            assert process.stdout
            process.stdout.readline()
            with pytest.raises(CannotRun, match=f"^{SERVER[6]} is not served after 1 s"):
                SUBJECTS["none"].start(topology, tmp_path)
            assert serving(topology, Running({4: SERVER[4]})).addresses == {4: SERVER[4]}
        finally:
            end(process)


def test_without_go_its_proxy_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CannotRun, match="go is not installed"):
        GoCopy().version()
    with pytest.raises(CannotRun, match="go is not installed"):
        build(SOURCE, tmp_path)


@needs_go
def test_the_go_proxy_is_built_once_for_each_source(tmp_path: Path) -> None:
    source, programs = tmp_path / "source", tmp_path / "programs"
    shutil.copytree(SOURCE, source)
    first = build(source, programs)
    built = first.stat().st_mtime_ns
    assert build(source, programs).stat().st_mtime_ns == built

    (source / "main.go").write_text((source / "main.go").read_text() + "\n// changed\n")
    second = build(source, programs)

    assert {*programs.iterdir()} == {first, second}
    assert first != second


@needs_go
def test_source_that_go_refuses_is_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE, source)
    (source / "more.go").write_text("package main\n\nvar unknown = missing\n")

    with pytest.raises(CannotRun, match=r"^go cannot build it: .*undefined: missing"):
        build(source, tmp_path / "programs")
    assert not list((tmp_path / "programs").iterdir())


def test_a_program_that_fails_to_tell_its_version_is_quoted() -> None:
    with pytest.raises(CannotRun, match=r"^ls fails: .*No such file"):
        told_by("ls", "/nonexistent")
    with pytest.raises(CannotRun, match="cannot be run"):
        told_by("/nonexistent")


def test_last_words_are_the_last_lines_as_one() -> None:
    assert last_words("one\ntwo \n\nthree\n") == "two / three"
    assert last_words("\n") == "it says nothing"
