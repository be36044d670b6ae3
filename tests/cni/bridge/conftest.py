"""Nodes for one test: with our plugins, with the reference ones, with both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge import node as nodes
from tests.cni.bridge.node import Node
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
def node(namespaces: Namespaces, tmp_path: Path) -> Node:
    return Node(namespaces, nodes.ours(tmp_path / "bin"), tmp_path / "store")


@pytest.fixture
def reference_node(namespaces: Namespaces, tmp_path: Path) -> Node:
    plugins = nodes.reference()
    if plugins is None:
        pytest.skip("needs Debian's containernetworking-plugins below /usr/lib/cni or .cache/debian")
    return Node(namespaces, plugins, tmp_path / "reference-store")
