"""Random conversations: through the proxy both sides see what they would see without it."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.running import WAIT, connect, reset
from uproxy.core.model import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.dataplane.running import RunningPlane

EXAMPLES = 200
Side = Literal[0, 1]


class Step(NamedTuple):
    """One thing that one side does: send this many bytes, read up to this many, or close its direction."""

    side: Side
    action: Literal["send", "read", "shutdown"]
    size: int = 0


class Seen(NamedTuple):
    """What a script showed: the bytes that each side read, and how the stream ended for the side that stayed."""

    read: tuple[bytes, bytes]
    end: str


sides: st.SearchStrategy[Side] = st.sampled_from((0, 1))
sizes = st.one_of(st.integers(1, 100), st.integers(1, 20_000))
steps = st.one_of(
    st.builds(Step, sides, st.just("send"), sizes),
    st.builds(Step, sides, st.just("read"), sizes),
    st.builds(Step, sides, st.just("shutdown"), st.just(0)),
)


def until_waiting(sock: socket.socket, size: int) -> None:
    """Wait until this many bytes are in the receive queue (tcp(7), SIOCINQ): the next step then meets a settled state."""
    end = time.monotonic() + WAIT
    while (waiting := struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))[0]) < size:
        assert time.monotonic() < end, (waiting, size)
        time.sleep(0)


def play(pair: tuple[socket.socket, socket.socket], script: Sequence[Step], leaver: Side, leave: Callable[[socket.socket], None]) -> Seen:
    """Play the script, let one side leave, and read what is left on the other."""
    read = (bytearray(), bytearray())
    waiting = [0, 0]
    closed = [False, False]
    for number, step in enumerate(script):
        side, peer = step.side, 1 - step.side
        if step.action == "send" and not closed[side]:
            pair[side].sendall(bytes([number % 256]) * step.size)
            waiting[peer] += step.size
            until_waiting(pair[peer], waiting[peer])
        elif step.action == "shutdown" and not closed[side]:
            closed[side] = True
            pair[side].shutdown(socket.SHUT_WR)
            until_ended(pair[peer])
        elif step.action == "read" and waiting[side]:
            data = pair[side].recv(min(step.size, waiting[side]))
            waiting[side] -= len(data)
            read[side].extend(data)
    leave(pair[leaver])
    end = finish(pair[1 - leaver], read[1 - leaver])
    return Seen((bytes(read[0]), bytes(read[1])), end)


def until_ended(sock: socket.socket) -> None:
    """Wait until the peer's FIN has arrived, whatever waits to be read in front of it."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    assert poll.poll(WAIT * 1000)


def finish(sock: socket.socket, read: bytearray) -> str:
    """Read to the end and tell which end it was."""
    try:
        while data := sock.recv(1 << 16):
            read.extend(data)
    except ConnectionResetError:
        return "reset"
    return "end of stream"


def test_random_conversations_look_the_same_with_and_without_the_proxy(plane: RunningPlane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(*listener.getsockname())
        key = plane.serve(endpoint)

        def converse(script: Sequence[Step], leaver: Side, leave: Callable[[socket.socket], None], *, proxied: bool) -> Seen:
            client = connect(key) if proxied else socket.create_connection(endpoint, timeout=WAIT)
            server, _ = listener.accept()
            server.settimeout(WAIT)
            with client, server:
                return play((client, server), script, leaver, leave)

        @settings(max_examples=EXAMPLES, database=None)
        @given(script=st.lists(steps, max_size=12), leaver=sides, leave=st.sampled_from((socket.socket.close, reset)))
        def check(script: list[Step], leaver: Side, leave: Callable[[socket.socket], None]) -> None:
            assert converse(script, leaver, leave, proxied=True) == converse(script, leaver, leave, proxied=False)

        check()
        plane.until(lambda: plane.plane.open_connections == 0)
