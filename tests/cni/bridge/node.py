"""A node of namespaces: one plays the host, others the pods, and plugins run in the host's as a runtime runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace, Namespaces

ROOT: Final = Path(__file__).resolve().parents[3]
DEBIAN: Final = (Path("/usr/lib/cni"), ROOT / ".cache/debian/usr/lib/cni")
PLUGINS: Final = ("bridge", "host-local", "loopback")
STUB: Final = "#!{python} -IS\nimport sys\nsys.path.insert(0, {root!r})\nfrom cni_bridge.executable import run\nrun({name!r})\n"
SECONDS: Final = 60

Json = dict[str, Any]


class Refused(Exception):
    """A plugin ended with an error object."""

    def __init__(self, said: Json) -> None:
        self.code = int(said["code"])
        self.said = f"{said['msg']}; {said.get('details', '')}"
        super().__init__(self.said)


class Answer(NamedTuple):
    """What a plugin's process left."""

    code: int
    stdout: str
    stderr: str

    def result(self) -> Json:
        assert self.stderr == ""
        found = json.loads(self.stdout) if self.stdout else {}
        if self.code:
            raise Refused(found)
        return dict(found)


def ours(folder: Path) -> Path:
    """Make executables of our plugins, as an installation has them, in a folder."""
    folder.mkdir()
    for name in PLUGINS:
        stub = folder / name
        text = STUB.format(python=os.path.realpath(sys.executable), root=str(ROOT), name=name)
        stub.write_text(text, encoding="utf-8")
        stub.chmod(0o755)
    return folder


def reference() -> Path | None:
    """Find Debian's plugins, installed or unpacked."""
    return next((folder for folder in DEBIAN if (folder / "bridge").is_file()), None)


class Node:
    """One host namespace, as many pods as are asked for, and the plugins of one folder."""

    def __init__(self, namespaces: Namespaces, plugins: Path, store: Path) -> None:
        self._namespaces = namespaces
        self.plugins = plugins
        self.store = store
        self._tag = {"bin": "", "cni": "deb"}.get(plugins.name, "go")
        (self.host,) = namespaces.make(f"{self._tag}host")
        self.pods: list[Namespace] = []

    def pod(self) -> Namespace:
        (made,) = self._namespaces.make(f"{self._tag}pod{len(self.pods)}")
        self.pods.append(made)
        return made

    def config(self, *subnets: str, **keys: object) -> Json:
        """Give a configuration with an address from each subnet; without subnets it is layer 2 alone."""
        config: Json = {"cniVersion": "1.0.0", "name": "net1", "type": "bridge", "bridge": "cni0", **keys}
        if subnets:
            ipam = {"type": "host-local", "dataDir": str(self.store), "ranges": [[{"subnet": subnet}] for subnet in subnets]}
            config["ipam"] = {**ipam, **config.pop("ipam", {})}
        return config

    def run(self, command: str, config: Json, pod: Namespace | None = None, **variables: str) -> Answer:
        """Run the plugin that the configuration names."""
        netns = {"CNI_NETNS": f"/run/netns/{pod.name}"} if pod else {}
        names = {"CNI_COMMAND": command, "CNI_CONTAINERID": "cid1", "CNI_IFNAME": "eth0", "CNI_PATH": str(self.plugins)}
        environment = {**names, **netns, **variables}
        done = self.host.call(
            subprocess.run,
            [str(self.plugins / config["type"])],
            env={"PATH": os.environ["PATH"], **environment},
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return Answer(done.returncode, str(done.stdout), str(done.stderr))

    def add(self, config: Json, pod: Namespace, **variables: str) -> Json:
        return self.run("ADD", config, pod, **variables).result()

    def delete(self, config: Json, pod: Namespace | None = None, **variables: str) -> None:
        self.run("DEL", config, pod, **variables).result()

    def check(self, config: Json, result: Json, pod: Namespace, **variables: str) -> None:
        self.run("CHECK", {**config, "prevResult": result}, pod, **variables).result()

    def leases(self) -> set[str]:
        """List the leased addresses."""
        folder = self.store / "net1"
        return {path.name for path in folder.iterdir() if path.name[0].isdigit() or ":" in path.name} if folder.is_dir() else set()

    def links(self) -> list[str]:
        """List the host's interfaces but for lo and those that a kernel makes by itself."""
        return sorted(one["ifname"] for one in listed(self.host, "link") if one["ifname"] != "lo" and one.get("link_type") == "ether")

    def rules(self) -> str:
        return self.host.run("nft", "list", "ruleset")


def listed(namespace: Namespace, *what: str) -> list[Json]:
    """Give what ip lists, decoded."""
    return [dict(one) for one in json.loads(namespace.run("ip", "-j", "-d", *what) or "[]")]


def interface(namespace: Namespace, name: str) -> Json:
    (found,) = listed(namespace, "addr", "show", "dev", name)
    return found


def addresses(namespace: Namespace, name: str) -> set[tuple[str, int, str]]:
    """Give an interface's addresses of its own: (address, prefix length, broadcast)."""
    found = interface(namespace, name)["addr_info"]
    return {(one["local"], one["prefixlen"], one.get("broadcast", "")) for one in found if one["scope"] == "global"}


def routes(namespace: Namespace) -> set[str]:
    """Give the routes of the main table as text, but for link-local ones."""
    lines = [line for family in ("-4", "-6") for line in namespace.run("ip", family, "route").splitlines()]
    return {" ".join(line.replace(" pref medium", "").replace(" linkdown", "").split()) for line in lines if not line.startswith("fe80::")}
