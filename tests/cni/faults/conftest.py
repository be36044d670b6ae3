"""Nodes whose plugins can be made to die and to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import ours
from tests.cni.faults.launched import Launched
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.remove()


@pytest.fixture
def node(namespaces: Namespaces, tmp_path: Path) -> Iterator[Launched]:
    with Launched(namespaces, ours(tmp_path / "bin"), tmp_path / "store") as made:
        yield made
