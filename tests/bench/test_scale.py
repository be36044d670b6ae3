"""The measurement with many Services: its manifests, and a small run from start to table."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bench.scale_manifests import Manifests, endpoints, new_endpoint, vip

if TYPE_CHECKING:
    from pathlib import Path


def documents(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        return list(json.loads(path.read_text())["items"])
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_every_service_has_an_address_and_endpoints_of_its_own(tmp_path: Path, form: str) -> None:
    manifests = Manifests(tmp_path, form)
    size = manifests.fill(250)

    files = sorted(manifests.folder.iterdir())
    services = [document for path in files for document in documents(path) if document["kind"] == "Service"]

    assert len(files) == 3
    assert size == sum(path.stat().st_size for path in files)
    assert len({service["spec"]["clusterIP"] for service in services}) == 250
    assert len({address for number in range(20000) for address in endpoints(number)}) == 40000


def test_adding_an_endpoint_changes_one_document_of_one_file(tmp_path: Path) -> None:
    manifests = Manifests(tmp_path, "yaml")
    manifests.fill(250)
    before = {path: documents(path) for path in manifests.folder.iterdir()}

    manifests.add_endpoint(120, 250)

    changed = [
        (old, new) for path, olds in before.items() for old, new in zip(olds, documents(path), strict=True) if old != new
    ]
    assert len(changed) == 1
    assert [one["addresses"] for one in changed[0][1]["endpoints"]] == [*([address] for address in endpoints(120)), [new_endpoint(120)]]


def test_addresses_that_are_added_later_belong_to_nobody_yet() -> None:
    taken = {address for number in range(10000) for address in endpoints(number)}

    assert not taken & {new_endpoint(number) for number in range(10000)}
    assert vip(19999) == "10.96.78.32"


@pytest.mark.netns
def test_a_small_run_serves_everything_and_prints_every_figure() -> None:
    command = [sys.executable, "-m", "bench.scale", "--services", "120", "--formats", "json", "--changes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 14
    assert "| Services that do not answer then | 0 |" in lines
