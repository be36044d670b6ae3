"""All verbs by libcni itself: it writes their input, reads their answers, and keeps the results in between."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.plugins import ROOT
from tests.cni.runtimes.cnitool import Cnitool, cnitool
from tests.cni.runtimes.conftest import able
from tests.cni.runtimes.engine import FAMILIES
from tests.cni.runtimes.machine import Failed
from tests.cni.runtimes.podman import Podman

if TYPE_CHECKING:
    from tests.cni.runtimes.cnitool import Attached
    from tests.cni.runtimes.engine import Engine

pytestmark = [pytest.mark.netns, pytest.mark.parametrize("engine", ["cnitool"], indirect=True)]
EXAMPLES: Final = ROOT / "examples/cni"
SMALL: Final = {
    "cniVersion": "1.1.0",
    "name": "small",
    "plugins": [{"type": "bridge", "bridge": "small0", "ipam": {"type": "host-local", "subnet": "10.9.9.0/30"}}],
}
"""A network with one address to give."""


@pytest.fixture
def pods(runtime: Engine) -> Cnitool:
    """Give cnitool with all examples and the small network."""
    assert isinstance(runtime, Cnitool)
    for example in EXAMPLES.glob("*.conflist"):
        runtime.machine.write(f"/etc/cni/net.d/{example.name}", example.read_text(encoding="utf-8"))
    runtime.machine.write("/etc/cni/net.d/20-small.conflist", json.dumps(SMALL))
    return runtime


def attach_first(pods: Cnitool, network: str) -> Attached:
    pods.network = network
    return pods.start()


def leases(pods: Cnitool, network: str) -> set[str]:
    folder = pods.machine.root / "var/lib/cni/networks" / network
    return {path.name for path in folder.iterdir() if path.name[0].isdigit() or ":" in path.name}


def forget(pods: Cnitool, attached: Attached) -> None:
    """Remove what libcni knows of an attachment, as happens to runtimes whose files are lost."""
    (cached,) = (pods.machine.root / "var/lib/cni/results").glob(f"*{attached.container_id}*")
    cached.unlink()


def name_valid(pods: Cnitool, attached: Attached) -> None:
    """Write the network's configuration with the only attachment that its plugins are to keep."""
    folder = pods.machine.root / "etc/cni/net.d"
    place, said = next((path, said) for path in folder.iterdir() if (said := json.loads(path.read_text()))["name"] == pods.network)
    for plugin in said["plugins"]:
        plugin["cni.dev/valid-attachments"] = [{"containerID": attached.container_id, "ifname": "eth0"}]
    place.write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.parametrize("network", ["pods", "containers"])
def test_what_an_example_has_made_passes_its_checks_until_something_is_missing(pods: Cnitool, network: str) -> None:
    attached = attach_first(pods, network)
    cnitool(pods.machine, "status", network, attached.name)
    attached.check()
    address = attached.addresses()[6]
    pods.machine.run("ip", "-n", attached.name, "addr", "del", address, "dev", "eth0")
    with pytest.raises(Failed, match=address.partition("/")[0]):
        attached.check()


def test_status_fails_while_no_address_is_left(pods: Cnitool) -> None:
    attached = attach_first(pods, "small")
    with pytest.raises(Failed, match=r"no IP addresses available .*1 of 1 taken"):
        cnitool(pods.machine, "status", "small", attached.name)
    pods.remove_all()
    cnitool(pods.machine, "status", "small", attached.name)


@pytest.mark.parametrize("network", ["pods", "containers"])
def test_gc_removes_what_libcni_knows_and_what_it_has_forgotten_but_not_what_is_valid(pods: Cnitool, network: str) -> None:
    """Libcni detaches all it knows of; cnitool names no attachments to keep, so the plugins refuse until the configuration does."""
    known, forgotten, valid = (attach_first(pods, network) for _ in range(3))
    kept = {valid.address(family) for family in FAMILIES}
    for attached in (forgotten, valid):
        forget(pods, attached)
    with pytest.raises(Failed, match="without it nothing is removed"):
        cnitool(pods.machine, "gc", network, known.name)
    assert leases(pods, network) == {*kept, *(forgotten.address(family) for family in FAMILIES)}
    name_valid(pods, valid)
    cnitool(pods.machine, "gc", network, known.name)
    assert leases(pods, network) == kept
    assert pods.machine.run("ip", "link", "show").count(" master ") == 1


def test_the_loopback_example_brings_lo_up_and_down(pods: Cnitool) -> None:
    pods.machine.run("ip", "netns", "add", "bare")
    cnitool(pods.machine, "add", "loopback", "bare")
    assert ",UP" in pods.machine.run("ip", "-n", "bare", "link", "show", "lo")
    cnitool(pods.machine, "check", "loopback", "bare")
    cnitool(pods.machine, "del", "loopback", "bare")
    assert ",UP" not in pods.machine.run("ip", "-n", "bare", "link", "show", "lo")


def test_where_a_runtime_cannot_start_containers_that_is_said_and_cnitool_attaches_to_its_network(pods: Cnitool) -> None:
    class Broken(Podman):
        def _flags(self) -> tuple[str, ...]:
            return "--cgroups=disabled", "--ulimit=host"  # the first of which runc refuses

    said: list[str] = []
    other = able(Broken, pods.machine, pods.root, said.append)
    assert "Broken cannot start containers here" in said[0]
    assert "runc is not compatible with NoCgroups" in said[0]
    assert other.start().addresses()[4].startswith("10.88.")
    other.remove_all()
