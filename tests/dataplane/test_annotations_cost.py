"""Connections of Services without annotations pay nothing for those that others have."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uproxy.dataplane
from tests.dataplane.annotated import Annotated
from tests.dataplane.running import Server, connect, echo
from uproxy.core.model import NO_OPTIONS, ServiceOptions

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from tests.dataplane.running import RunningPlane
    from uproxy.core.model import RouteKey

DATA_PATH: Final = Path(uproxy.dataplane.__file__).parent
OF_ANNOTATIONS: Final = {"annotated", "draining", "holding", "proxy_protocol", "silence"}
EVERYTHING: Final = ServiceOptions(least_connections=True, drain=60, hold=60, max_connections=1000, idle_timeout=60)
"""But the header, which the endpoint here would send back."""
CONNECTIONS: Final = 20
SYSTEM_CALLS: Final = {
    "_accept", "bind", "close", "connect_ex", "getpeername", "getsockopt", "ioctl", "modify", "register", "setsockopt",
    "shutdown", "unregister",
}  # fmt: skip
"""All that a connection makes but polls, reads and sends, of which there are as many as packets happen to come together,
and the two calls that make its sockets: those are classes, which a profiler does not see."""


class Recorded:
    """What the loop's thread does in the data path's own modules: which of them run, and which functions in C they call."""

    def __init__(self) -> None:
        self.modules: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code: CodeType = frame.f_code
        path = Path(code.co_filename)
        if path.parent != DATA_PATH:
            return
        if event == "call":
            self.modules[path.stem] += 1
        elif event == "c_call":
            self.calls[getattr(argument, "__name__", "")] += 1


def record(plane: RunningPlane, key: RouteKey) -> Recorded:
    """Record some connections from their beginning to their end, one after the other."""
    recorded = Recorded()
    plane.call(lambda: sys.setprofile(recorded))
    try:
        for _ in range(CONNECTIONS):
            with connect(key) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            plane.until(lambda: plane.plane.open_connections == 0)
    finally:
        plane.call(lambda: sys.setprofile(None))
    return recorded


def test_none_of_the_code_for_annotations_runs_for_a_service_without_any(plane: RunningPlane) -> None:
    with Server(echo) as server:
        plain = Annotated(plane, NO_OPTIONS, server.endpoint)
        other = Annotated(plane, EVERYTHING, server.endpoint, name="other")
        with connect(other.key) as busy:
            busy.sendall(b"x")
            assert busy.recv(1) == b"x"
            busy.close()
            plane.until(lambda: plane.plane.open_connections == 0)
            ours, theirs = record(plane, plain.key), record(plane, other.key)
        assert OF_ANNOTATIONS.isdisjoint(ours.modules)
        assert "annotated" in theirs.modules
        assert "silence" in theirs.modules


def test_the_system_calls_of_such_a_connection_are_these(plane: RunningPlane) -> None:
    with Server(echo) as server:
        recorded = record(plane, Annotated(plane, NO_OPTIONS, server.endpoint).key)
    found = {name: number / CONNECTIONS for name, number in recorded.calls.items() if name in SYSTEM_CALLS}
    # Two of the upstream socket, and one more where the client's first byte came later than the upstream connection.
    assert 2 <= found.pop("setsockopt") <= 3
    # The second accept says that nobody else waits.
    assert found == {"_accept": 2, "connect_ex": 1, "register": 2, "shutdown": 1, "close": 2}
