"""The cluster that this package's tests with nodes share: one lab, one control plane, each test in an API namespace of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.fixtures import require_binaries
from tests.cluster.nodes import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.nodes import Tenant
    from tests.lab.process import Uproxy


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give the lab with its control plane, without uproxy. Who breaks the API server mends it."""
    require_binaries()
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module")
def uproxy(cluster: Cluster) -> Iterator[Uproxy]:
    """Give a uproxy that runs on the node for all tests of a module."""
    with cluster.running() as started:
        yield started


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[Tenant]:
    """Give an API namespace of the test's own."""
    with cluster.tenant() as made:
        yield made
