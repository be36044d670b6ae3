"""A node with an outside for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import Chain
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    namespaces = Namespaces()
    try:
        yield Chain(namespaces, tmp_path)
    finally:
        namespaces.remove()
