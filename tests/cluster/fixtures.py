"""Control planes for tests: one that all share, whose objects are in namespaces of the tests' own, and one to break.

Skipped, with the reason, where the binaries were not built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.binaries import missing
from tests.cluster.control_plane import ControlPlane

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give the control plane that all tests share: they stay in namespaces of their own and break nothing."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as shared:
        yield shared


@pytest.fixture
def own_control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Give a control plane that the test may break: 4 s."""
    require_binaries()
    with ControlPlane(tmp_path_factory.mktemp("own-control-plane")) as own:
        yield own


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Give a Kubernetes namespace of the test's own in the shared control plane."""
    with control_plane.admin.namespace() as name:
        yield name


def require_binaries(*names: str) -> None:
    """Skip the test where these binaries, or those of every control plane, were not built."""
    reason = missing(*names)
    if reason:
        pytest.skip(reason)
