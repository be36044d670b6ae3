"""Fixtures of the data path's tests: a running data plane on each of the two event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dataplane.running import LOOPS, RunningPlane
from uproxy.config import Config
from uproxy.dataplane.upstream import NodeAddressOnly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=sorted(LOOPS))
def loop_name(request: pytest.FixtureRequest) -> str:
    """Name the event loop: a test that asks for this, or for a plane, runs on each."""
    name: str = request.param
    return name


@pytest.fixture
def start_plane(loop_name: str) -> Iterator[Callable[..., RunningPlane]]:
    """Start data planes with settings of the test's own; stop them when it ends."""
    planes: list[RunningPlane] = []

    def start(config: Config | None = None, **parts: object) -> RunningPlane:
        parts.setdefault("client_addresses", NodeAddressOnly())
        plane = RunningPlane(loop_name, config or Config(), **parts)  # type: ignore[arg-type] # the keywords are RunningPlane's
        planes.append(plane)
        return plane

    yield start
    for plane in planes:
        plane.stop()


@pytest.fixture
def plane(start_plane: Callable[..., RunningPlane]) -> RunningPlane:
    """Give a data plane with the default settings."""
    return start_plane()
