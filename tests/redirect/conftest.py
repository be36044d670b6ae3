"""A network namespace of the test's own, with its loopback device up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.namespaces import Namespace, Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def host() -> Iterator[Namespace]:
    """Give an empty host."""
    namespaces = Namespaces()
    (made,) = namespaces.make("host")
    made.ip("link set lo up")
    yield made
    namespaces.remove()
