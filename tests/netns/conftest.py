"""Stands for the tests: one per module where tests only add Services, a fresh one where they break things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.stand import Stand

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Give a stand with a running uproxy that all tests of the module use."""
    with Stand(tmp_path_factory.mktemp("shared")) as stand:
        stand.start()
        yield stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Give a stand of the test's own, without uproxy."""
    with Stand(tmp_path) as own:
        yield own
