"""Fifty pods at once, eight requests in parallel, on a node where nothing is there yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.bridge.node import Node, listed, ours, reference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.bridge.node import Answer, Json
    from tests.lab.namespaces import Namespaces

pytestmark = pytest.mark.netns

PODS: Final = 50
V4, V6 = "10.61.0.0/26", "fd61::/120"


@pytest.mark.parametrize("crowd", ["ours", "ours and theirs"])
def test_fifty_pods_at_once_get_an_address_each_and_go_without_a_trace(namespaces: Namespaces, tmp_path: Path, crowd: str) -> None:
    theirs = reference()
    if theirs is None:
        pytest.skip("needs Debian's containernetworking-plugins")
    node = Node(namespaces, ours(tmp_path / "bin"), tmp_path / "store")
    mixed = [node.plugins, node.plugins if crowd == "ours" else theirs]
    node.pods += namespaces.make(*[f"pod{number}" for number in range(PODS)])
    config = node.config(V4, V6, isDefaultGateway=True, macspoofchk=crowd == "ours")

    def run(command: str, number: int) -> Answer:
        return with_plugins(node, mixed[number % 2]).run(command, config, node.pods[number], CNI_CONTAINERID=f"cid{number}")

    with ThreadPoolExecutor(8) as threads:
        results: list[Json] = [answer.result() for answer in threads.map(lambda number: run("ADD", number), range(PODS))]
    given = [ip["address"].partition("/")[0] for result in results for ip in result["ips"]]
    assert (len(set(given)), set(given)) == (2 * PODS, node.leases())
    assert len(listed(node.host, "link", "show", "master", "cni0")) == PODS
    assert node.rules().count("macspoofchk") == (PODS if crowd == "ours" else 0)
    with ThreadPoolExecutor(8) as threads:
        assert [answer.code for answer in threads.map(lambda number: run("DEL", number), range(PODS))] == [0] * PODS
    assert (node.links(), node.leases(), node.rules().count("macspoofchk")) == (["cni0"], set(), 0)


def with_plugins(node: Node, plugins: Path) -> Node:
    """Give the same node seen through other plugins; requests run on threads, so the node itself stays as it is."""
    other = object.__new__(Node)
    other.__dict__.update(node.__dict__, plugins=plugins)
    return other
