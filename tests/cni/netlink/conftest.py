"""A namespace for one test, and netlink connections into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_bridge.netlink.connection import Connection
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.remove()


@pytest.fixture
def host(namespaces: Namespaces) -> Namespace:
    return namespaces.make("host")[0]


@pytest.fixture
def connection(host: Namespace) -> Iterator[Connection]:
    with host.call(Connection) as made:
        yield made
