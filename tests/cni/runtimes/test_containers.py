"""Containers that runtimes start on our plugins, with our examples as they are: two families, host prefixes, ports of the node."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cni.runtimes.conftest import ENGINES
from tests.cni.runtimes.engine import FAMILIES, host_part
from tests.cni.runtimes.machine import Failed
from tests.cni.runtimes.root_file_system import PORT, WHO
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cni.runtimes.engine import Engine
    from tests.cni.runtimes.machine import Machine

pytestmark = pytest.mark.netns
every_engine = pytest.mark.parametrize("engine", ENGINES, indirect=True)
but_ctr = pytest.mark.parametrize("engine", [name for name in ENGINES if name != "containerd-ctr"], indirect=True)
"""ctr hands no ports to plugins and tells nobody of addresses."""
AT_ONCE: Final = 5
PUBLISHED: Final = 8080
NOTHING: Final[dict[str, Any]] = {"links": set(), "routes": [], "leases": set(), "rules": []}
GATEWAYS: Final = {"pods": {4: "10.244.1.1", 6: "fd00:10:244:1::1"}, "containers": {4: "10.88.0.1", 6: "fd00:88::1"}}


def who(run: Callable[..., str], address: str, port: int = PORT) -> str:
    """Ask a container's server, which may be about to start, who asks it."""

    def ask() -> str:
        try:
            said = run("timeout", "2", "/bin/busybox", "wget", "-q", "-O-", f"http://{host_part(address)}:{port}{WHO}")
        except Failed as error:
            raise OSError(str(error)) from None
        return said.strip("[]\n").removeprefix("::ffff:")

    return eventually(ask)


def on_node(engine: Engine) -> Callable[..., str]:
    """Give what runs one of busybox's programs on the node."""
    return lambda *arguments: engine.machine.run("chroot", engine.root, "/bin/busybox", *arguments)


def hops(run: Callable[..., str], address: str) -> set[int]:
    """Give how many nodes forwarded the replies to pings."""
    replies = re.findall(r"ttl=(\d+)", run("ping", "-c", "3", "-i", "0.1", "-W", "2", address))
    assert len(replies) == 3
    return {64 - int(ttl) for ttl in replies}


def left(machine: Machine) -> dict[str, Any]:
    """Give all that attachments have on a node: links, routes, leases, rules for one address."""
    names = {one["ifname"] for one in json.loads(machine.run("ip", "-j", "link"))}
    routes = [line for family in ("-4", "-6") for line in machine.run("ip", family, "route").splitlines() if "proto 109" in line]
    leases = {path.name for path in (machine.root / "var/lib/cni/networks").rglob("*") if path.name[0].isdigit() or ":" in path.name}
    rules = re.findall(r".*(?:CNI-DN-|addr [\da-f][\da-f.:]* ).*", machine.run("nft", "list", "ruleset"))
    return {"links": {name for name in names if name.startswith("veth")}, "routes": routes, "leases": leases, "rules": rules}


@every_engine
def test_containers_reach_each_other_over_the_node_with_addresses_of_their_own(runtime: Engine) -> None:
    one, two = runtime.start(), runtime.start()
    assert {address.partition("/")[2] for address in [*one.addresses().values(), *two.addresses().values()]} == {"32", "128"}
    for family in FAMILIES:
        assert who(one.run, two.address(family)) == one.address(family)
        assert who(two.run, one.address(family)) == two.address(family)
        assert hops(one.run, two.address(family)) == {1}


@every_engine
def test_a_container_and_the_node_reach_each_other(runtime: Engine) -> None:
    container = runtime.start()
    for family in FAMILIES:
        gateway = GATEWAYS[runtime.network][family]
        assert who(on_node(runtime), container.address(family)) == gateway
        assert hops(container.run, gateway) == {0}


@but_ctr
def test_a_port_of_the_node_leads_to_a_container(runtime: Engine) -> None:
    container = runtime.start(publish=PUBLISHED)
    client = runtime.start()
    for family in FAMILIES:
        assert who(client.run, GATEWAYS[runtime.network][family], PUBLISHED) == client.address(family)
    assert who(on_node(runtime), "127.0.0.1", PUBLISHED) == GATEWAYS[runtime.network][4]
    runtime.remove(container)
    with pytest.raises(Failed):
        client.run("timeout", "1", "/bin/busybox", "wget", "-q", "-O-", f"http://{GATEWAYS[runtime.network][4]}:{PUBLISHED}{WHO}")


@but_ctr
def test_a_runtime_knows_the_addresses_that_a_container_has(runtime: Engine) -> None:
    container = runtime.start()
    assert container.reported() == {container.address(family) for family in FAMILIES}


@every_engine
def test_containers_started_at_once_get_addresses_of_their_own_and_leave_nothing(runtime: Engine) -> None:
    assert left(runtime.machine) == NOTHING
    with ThreadPoolExecutor(AT_ONCE) as threads:
        containers = list(threads.map(lambda _: runtime.start(), range(AT_ONCE)))
        addresses = {container.address(family) for container in containers for family in FAMILIES}
        assert len(addresses) == AT_ONCE * len(FAMILIES)
        seen = left(runtime.machine)
        assert (len(seen["links"]), len(seen["routes"]), seen["leases"]) == (AT_ONCE, len(addresses), addresses)
        list(threads.map(runtime.remove, containers))
    assert left(runtime.machine) == NOTHING
