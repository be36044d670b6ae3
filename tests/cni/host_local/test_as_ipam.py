"""Called by plugins of the reference implementation, as their IPAM: one executable among theirs in CNI_PATH."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.host_local.configs import config, leases
from tests.cni.plugins import ROOT, call, reference, variables
from tests.lab.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns


@pytest.fixture
def namespaces() -> Iterator[list[Namespace]]:
    made = Namespaces()
    yield made.make("host", "pod")
    made.remove()


def installed(folder: Path) -> str:
    """Write the executable host-local into a folder that comes first in CNI_PATH."""
    stub = folder / "host-local"
    stub.write_text(f"#!/bin/sh\nexec {sys.executable} -IS {ROOT}/cni_bridge/executable.py host-local\n", encoding="utf-8")
    stub.chmod(0o755)
    return f"{folder}:{Path(reference('host-local')[0]).parent}"


@pytest.mark.parametrize(("plugin", "keys"), [("ptp", {}), ("bridge", {"bridge": "br0", "isGateway": True})])
def test_another_plugin_adds_checks_and_removes_with_our_addresses(
    tmp_path: Path, namespaces: list[Namespace], plugin: str, keys: dict[str, Any]
) -> None:
    host, pod = namespaces
    routes = [{"dst": "0.0.0.0/0"}]
    said = {**config(tmp_path / "store", "10.1.0.0/24", "fd00::/64", version="1.0.0", routes=routes), "type": plugin, **keys}
    environment = {
        **variables("ADD"),
        "CNI_NETNS": f"/run/netns/{pod.name}",
        "CNI_PATH": installed(tmp_path),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }

    added = host.call(call, reference(plugin), environment, said)
    assert added.code == 0, added
    configured = {
        one["local"] for one in json.loads(pod.run("ip", "-j", "address", "show", "eth0"))[0]["addr_info"] if one["scope"] == "global"
    }
    assert configured == {"10.1.0.2", "fd00::2"}
    assert leases(tmp_path / "store") == {"10.1.0.2": "c1 eth0", "fd00::2": "c1 eth0"}

    later = {**said, "prevResult": added.said}
    assert host.call(call, reference(plugin), {**environment, "CNI_COMMAND": "CHECK"}, later).code == 0
    assert host.call(call, reference(plugin), {**environment, "CNI_COMMAND": "DEL"}, later).code == 0
    assert leases(tmp_path / "store") == {}


def test_our_refusal_reaches_the_runtime_through_the_other_plugin(tmp_path: Path, namespaces: list[Namespace]) -> None:
    host, pod = namespaces
    said = {**config(tmp_path / "store", "10.1.0.1/24", version="1.0.0"), "type": "ptp"}
    environment = {**variables("ADD"), "CNI_NETNS": f"/run/netns/{pod.name}", "CNI_PATH": installed(tmp_path)}
    refused = host.call(call, reference("ptp"), environment, said).said
    assert refused["code"] == 7
    assert refused["msg"].endswith('"ipam.ranges[0][0].subnet" is "10.1.0.1/24": it has host bits set, the network\'s address is 10.1.0.0')
