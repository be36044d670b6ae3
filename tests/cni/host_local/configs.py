"""Configurations for host-local, requests in process, and what a store holds."""

from __future__ import annotations

import json
from pathlib import Path

from cni_bridge.protocol.environment import Environment
from cni_bridge.protocol.skeleton import Request
from tests.cni.plugins import Config, variables

NAME = "net"


def config(folder: Path, *subnets: str, version: str = "1.1.0", **ipam: object) -> Config:
    """Give a configuration with a range set for each subnet."""
    ranges = {"ranges": [[{"subnet": subnet}] for subnet in subnets]} if subnets else {}
    return {"cniVersion": version, "name": NAME, "type": "x", "ipam": {"type": "host-local", "dataDir": str(folder), **ranges, **ipam}}


def request(command: str, said: Config, container: str = "c1", ifname: str = "eth0", args: str = "") -> Request:
    """Give the request that the process would make of it."""
    given = {name.encode(): value.encode() for name, value in variables(command, container, ifname, args).items()}
    return Request(Environment(given), json.loads(json.dumps(said)), json.dumps(said).encode())


def files(folder: Path) -> dict[str, bytes]:
    """Give every file of the network's store but the lock."""
    found = (folder / NAME).iterdir() if (folder / NAME).is_dir() else ()
    return {path.name: path.read_bytes() for path in found if path.is_file() and path.name != "lock"}


def leases(folder: Path) -> dict[str, str]:
    """Give address to owner, "<container> <interface>"."""
    return {name: content.decode().replace("\r\n", " ") for name, content in files(folder).items() if name[0].isdigit() or ":" in name}
