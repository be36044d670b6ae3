"""The folder of manifests that a demo's uproxy watches: a copy of the examples, edited while it is served."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable


class Manifests:
    """A copy of a folder. An edit replaces a file as a whole, as every careful writer does."""

    def __init__(self, original: Path, work: Path) -> None:
        self.folder = work / "manifests"
        self._draft = work / "draft"
        shutil.copytree(original, self.folder)

    def take_out(self, address: str) -> None:
        """Take an endpoint out of every EndpointSlice."""
        self._edit(lambda endpoints: [endpoint for endpoint in endpoints if endpoint["addresses"] != [address]])

    def add(self, address: str) -> None:
        """Add an endpoint to every EndpointSlice."""
        self._edit(lambda endpoints: [*endpoints, {"addresses": [address], "conditions": {"ready": True}}])

    def _edit(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        for path in sorted(self.folder.iterdir()):
            documents = list(yaml.safe_load_all(path.read_text()))
            for document in documents:
                if document["kind"] == "EndpointSlice":
                    document["endpoints"] = change(document["endpoints"])
            self._draft.write_text(yaml.safe_dump_all(documents, sort_keys=False))
            self._draft.replace(path)
