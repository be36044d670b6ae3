"""The page about the plugins and the example configurations: the page says what the code reads, the examples work."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from cni_bridge import install, interpreter, stub
from cni_bridge.protocol import errors
from tests.cni.plugins import ROOT, Answer, Config, call, variables
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace

PAGE: Final = (ROOT / "docs/cni.md").read_text(encoding="utf-8")
EXAMPLES: Final = sorted((ROOT / "examples/cni").glob("*.conflist"))
SOURCES: Final = {
    "bridge": "bridge/*.py",
    "host-local": "host_local/*.py",
    "loopback": "loopback.py",
    "portmap": "portmap/*.py",
    "firewall": "firewall/*.py",
}
READERS: Final = {"field", "text", "flag", "integer", "section", "sequence", "objects", "texts"}
SHARED: Final = {"args", "cni", "runtimeConfig", "prevResult", "type", "cniVersion", "name"}
"""Keys of the table for all plugins."""
ELSEWHERE: Final = {
    "bridge": {"minID", "maxID", "id", "nameservers", "domain", "search", "options"},
    "host-local": {"dst", "gw", "mtu", "advmss", "priority", "table", "scope"},
}
"""Keys within the value of another key, or read for several plugins by protocol.results: named in the middle column."""


def section(title: str) -> str:
    return PAGE.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]


def documented(title: str) -> set[str]:
    """Give the keys of a section's table."""
    cells = re.findall(r"^\| (`[^|]+`) \|", section(title), re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def read_by(path: Path) -> set[str]:
    """Give the keys that a module reads: as second argument of `fields.text` and the like, of a function of its own, or out of a tuple."""
    source = path.read_text(encoding="utf-8")
    if "config as fields" not in source:
        return set()
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            found.add(str(node.args[1].value) if ast.unparse(node.func) in own | {f"fields.{name}" for name in READERS} else "")
        if isinstance(node, ast.comprehension) and isinstance(node.iter, ast.Tuple):
            found |= {str(one.value) for one in node.iter.elts if isinstance(one, ast.Constant)}
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_KEYS" and isinstance(node.value, ast.Dict):
            found |= {str(one.value) for one in node.value.values if isinstance(one, ast.Constant)}
    return {key for key in found if re.fullmatch(r"[a-z]\w*", key)} - SHARED


@pytest.mark.parametrize("plugin", SOURCES)
def test_the_page_has_every_key_that_a_plugin_reads(plugin: str) -> None:
    read = {key for path in (ROOT / "cni_bridge").glob(SOURCES[plugin]) for key in read_by(path)}
    named = set(re.findall(r"`\"?(\w+)\"?`|\"(\w+)\":", section(plugin)))
    assert read <= {key for pair in named for key in pair}
    assert read or plugin == "loopback"


@pytest.mark.parametrize("plugin", [name for name in SOURCES if name != "loopback"])
def test_a_plugin_reads_every_key_that_the_page_has(plugin: str) -> None:
    read = {key for path in (ROOT / "cni_bridge").glob(SOURCES[plugin]) for key in read_by(path)}
    assert documented(plugin) - ELSEWHERE.get(plugin, set()) - {"ipam", "dns", "routes"} <= read


def test_the_page_has_every_error_code() -> None:
    codes = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    table = PAGE.split("## Errors", 1)[1]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {*codes, stub.UNUSABLE}


def test_every_plugin_has_a_section() -> None:
    assert set(SOURCES) == set(install.plugins())


@pytest.fixture
def namespaces() -> Iterator[list[Namespace]]:
    made = Namespaces()
    yield made.make("host", "one", "two")
    made.remove()


class Chain:
    """An example's plugins as a runtime runs them: one after the other, each with the result of those before it."""

    def __init__(self, said: Config, folder: Path, host: Namespace) -> None:
        self.said = said
        self.folder = folder
        self.host = host
        self.results: dict[str, Config] = {}

    def request(self, plugin: Config, command: str, pod: Namespace, previous: Config | None, version: str) -> Answer:
        stdin = {"cniVersion": version, "name": self.said["name"], **plugin, **({"prevResult": previous} if previous else {})}
        if "portMappings" in plugin.get("capabilities", {}):
            stdin["runtimeConfig"] = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
        environment = {**variables(command, pod.name), "CNI_NETNS": f"/run/netns/{pod.name}", "CNI_PATH": str(self.folder)}
        answer = self.host.call(call, (str(self.folder / plugin["type"]),), {**environment, "PATH": os.environ["PATH"]}, stdin)
        assert (answer.code, answer.stderr) == (0, ""), (plugin["type"], command, answer)
        return answer

    def add(self, pod: Namespace, version: str) -> Config:
        previous: Config | None = None
        for plugin in self.said["plugins"]:
            previous = self.request(plugin, "ADD", pod, previous, version).said
        assert previous
        self.results[pod.name] = previous
        return previous

    def each(self, command: str, pod: Namespace, version: str) -> None:
        plugins = self.said["plugins"]
        for plugin in reversed(plugins) if command == "DEL" else plugins:
            self.request(plugin, command, pod, self.results[pod.name], version)


def chain_of(example: Path, tmp_path: Path, host: Namespace) -> Chain:
    """Read an example; leases go into the test's folder."""
    place = install.Place(str(tmp_path / "bin"), str(tmp_path / "lib"))
    install.install(place, interpreter.find())
    said = json.loads(example.read_text(encoding="utf-8"))
    for plugin in said["plugins"]:
        if "ipam" in plugin:
            plugin["ipam"]["dataDir"] = str(tmp_path / "store")
    return Chain(said, place.bin, host)


@pytest.mark.netns
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_attaches_checks_and_detaches_in_every_version_it_names(
    tmp_path: Path, namespaces: list[Namespace], example: Path
) -> None:
    host, pod, _ = namespaces
    chain = chain_of(example, tmp_path, host)
    for version in chain.said["cniVersions"]:
        chain.add(pod, version)
        chain.each("CHECK", pod, version)
        chain.each("DEL", pod, version)
        chain.each("DEL", pod, version)
        assert [line for line in pod.run("ip", "-o", "link", "show", "up").splitlines() if ": lo:" not in line] == []
    leases = [path.name for path in (tmp_path / "store").rglob("*") if path.name[0].isdigit() or ":" in path.name]
    assert leases == []


@pytest.mark.netns
@pytest.mark.parametrize("example", [path for path in EXAMPLES if "loopback" not in path.name], ids=lambda path: path.name)
def test_with_an_example_pods_reach_each_other_over_the_node(tmp_path: Path, namespaces: list[Namespace], example: Path) -> None:
    host, one, two = namespaces
    chain = chain_of(example, tmp_path, host)
    version = chain.said["cniVersions"][-1]
    chain.add(one, version)
    addresses = [ip["address"].partition("/") for ip in chain.add(two, version)["ips"]]
    assert [length for _, _, length in addresses] == ["32", "128"]
    for address, _, _ in addresses:
        replies = one.run("ping", "-c", "3", "-i", "0.2", "-W", "2", address)
        assert set(re.findall(r"ttl=(\d+)", replies)) == {"63"}  # one hop: the node
