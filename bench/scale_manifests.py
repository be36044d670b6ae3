"""Many Services with two endpoints each, as a folder of YAML or JSON files; and one change at a time to them.

Service number n has the cluster IP 10.96.0.0 + n + 1, port 80, and two addresses of 10.244.0.0/16, at all of
which the server's name service answers.
"""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

import yaml

from bench.load.server import NAME
from bench.manifests import Document, endpoint_slice, service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PORT: Final = 80
PER_FILE: Final = 100
ENDPOINTS: Final = 2
MOST: Final = 20000
"""More Services than that would need more addresses than are set aside."""
ENDPOINT_NETWORK: Final = "10.244.0.0/16"
NEW_ENDPOINTS: Final = IPv4Address("10.244.224.0")
FORMATS: Final = ("yaml", "json")

_VIPS = IPv4Address("10.96.0.0")
_ENDPOINTS = IPv4Address("10.244.0.1")
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def vip(number: int) -> str:
    """Give a Service's cluster IP."""
    return str(_VIPS + number + 1)


def endpoints(number: int) -> list[str]:
    """Give a Service's two endpoints."""
    return [str(_ENDPOINTS + number * ENDPOINTS + place) for place in range(ENDPOINTS)]


def new_endpoint(number: int) -> str:
    """Give the endpoint that is added to a Service later."""
    return str(NEW_ENDPOINTS + number % 8000)


class Manifests:
    """The folder. Every change replaces one file as a whole and gives the moment before it did, time.perf_counter()."""

    def __init__(self, work: Path, form: str) -> None:
        self.folder = work / "manifests"
        self._form = form
        self._draft = work / "draft"
        self.folder.mkdir()

    def fill(self, count: int) -> int:
        """Write that many Services and give the number of bytes."""
        for first in range(0, count, PER_FILE):
            self._write(f"{first:05}", range(first, min(first + PER_FILE, count)))
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def add_endpoint(self, number: int, count: int) -> float:
        """Add an endpoint to one Service of `count`: its file is written again, with all its others unchanged."""
        first = number - number % PER_FILE
        return self._write(f"{first:05}", range(first, min(first + PER_FILE, count)), extended=number)

    def add_service(self, number: int) -> float:
        """Add a Service in a file of its own."""
        return self._write(f"new-{number:05}", [number])

    def remove_service(self, number: int) -> float:
        """Remove the file that add_service wrote."""
        start = time.perf_counter()
        (self.folder / f"new-{number:05}.{self._form}").unlink()
        return start

    def _write(self, name: str, numbers: Sequence[int], extended: int | None = None) -> float:
        documents = [document for number in numbers for document in _documents(number, extended=number == extended)]
        self._draft.write_text(_text(documents, self._form))
        start = time.perf_counter()
        self._draft.replace(self.folder / f"{name}.{self._form}")
        return start


def _documents(number: int, *, extended: bool) -> list[Document]:
    name = f"service-{number:05}"
    addresses = endpoints(number) + [new_endpoint(number)] * extended
    return [service(name, vip(number), {"http": ("TCP", PORT)}), endpoint_slice(name, addresses, {"http": ("TCP", NAME)})]


def _text(documents: list[Document], form: str) -> str:
    if form == "json":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=1)
    return str(yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=False))
