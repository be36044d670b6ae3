"""Requests while other Services change: through a folder of manifests and through an API server, and what is told when it fails."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from bench.load.server import NAME
from bench.measurement import Failed, load_server
from bench.subjects import SUBJECTS
from bench.subjects.base import name_of_endpoint
from bench.subjects.feed import PER_FILE, ManifestFeed
from bench.topology import SERVER, Topology
from bench.workloads import WORKLOADS
from bench.workloads.base import CannotCarry, Site
from bench.workloads.changes import Changes, Others, WhileChanging, routed
from tests.cluster.fixtures import require_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW: Final = 25


@contextmanager
def site(name: str, family: int) -> Iterator[Site]:
    """Give a subject at work."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Topology() as topology, load_server(topology):
        running = SUBJECTS[name].start(topology, Path(folder))
        try:
            yield Site(topology, running, family, 0.5, 0.1)
        finally:
            running.stop()


def objects(folder: Path) -> dict[str, dict[str, Any]]:
    """Read all objects of a folder, by name."""
    found = [each for path in folder.iterdir() for each in json.loads(path.read_text())["items"]]
    return {each["metadata"]["name"]: each for each in found}


def declared(name: str, address: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name}, "address": address}


def test_a_change_replaces_one_slice_of_one_file(tmp_path: Path) -> None:
    feed = ManifestFeed(tmp_path / "manifests")
    (tmp_path / "manifests").mkdir()
    feed.fill([declared("service")], [declared(f"slice-{number}") for number in range(FEW)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "manifests").iterdir()}

    feed.change(12, declared("slice-12", "10.0.0.1"))

    after = {path.name: path.read_bytes() for path in (tmp_path / "manifests").iterdir()}
    assert len(before) == 1 + -(-FEW // PER_FILE)
    assert [name for name in after if before[name] != after[name]] == ["others-00010.json"]
    assert objects(tmp_path / "manifests")["slice-12"]["address"] == "10.0.0.1"
    assert len(objects(tmp_path / "manifests")) == FEW + 1


def test_what_was_declared_is_taken_back_and_nothing_else(tmp_path: Path) -> None:
    feed = ManifestFeed(tmp_path / "manifests")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "bench.yaml").write_text("")
    feed.fill([declared("service")], [declared("slice")])

    feed.clear()

    assert [path.name for path in (tmp_path / "manifests").iterdir()] == ["bench.yaml"]


@pytest.mark.netns
@pytest.mark.parametrize("subject", ["uproxy", "kube-proxy"])
def test_services_change_and_are_served_while_requests_pass(subject: str) -> None:
    if subject == "kube-proxy":
        require_binaries()
        require_binaries("kube-proxy")
    with site(subject, 4) as here:
        sample = WhileChanging(20, services=FEW).measure(here)
        assert name_of_endpoint(here.topology, (here.address, NAME)) == SERVER[4]

    assert sample.units > 100
    assert sample.failed == 0
    assert sample.p50 > 0
    assert sample.extra["changes"] > 1
    assert 0 < sample.extra["served"] < 30_000
    assert sample.extra["feeding"] > 0


@pytest.mark.netns
def test_services_that_do_not_change_are_there_in_ipv6_and_gone_afterwards() -> None:
    with site("uproxy", 6) as here:
        sample = WhileChanging(0, services=FEW).measure(here)
        assert here.running.feed is not None
        others = Others(here, here.running.feed, FEW)
        others.gone(1.0)

    assert sample.units > 100
    assert sample.extra["changes"] == 0


@pytest.mark.netns
def test_a_change_that_is_never_served_is_a_failure(tmp_path: Path) -> None:
    with site("uproxy", 4) as here:
        (tmp_path / "manifests").mkdir()
        unread = ManifestFeed(tmp_path / "manifests")
        unread.fill([], [declared(f"slice-{number}") for number in range(FEW)])
        others = Others(here, unread, FEW)
        routed(here)
        others.change(3)
        with pytest.raises(RuntimeError, match=r"Service 3 is not served within 0\.3 s: nobody answers"):
            others.served(0.3)


@pytest.mark.netns
def test_a_folder_that_cannot_be_written_is_a_failed_measurement_and_no_traceback() -> None:
    with site("uproxy", 4) as here:
        here.running.feed = ManifestFeed(Path("/proc/nowhere"))
        with pytest.raises(Failed, match=r"changes: .*No such file"):
            WhileChanging(10, services=FEW).measure(here)


@pytest.mark.netns
def test_a_subject_without_services_has_an_empty_cell() -> None:
    with site("none", 4) as here, pytest.raises(CannotCarry, match="has no Services"):
        WORKLOADS["changes-100"].measure(here)


@pytest.mark.netns
def test_a_subject_of_one_family_has_empty_cells_for_the_other() -> None:
    with site("uproxy", 6) as here:
        here.running.addresses = {4: here.running.addresses[4]}
        for workload in ("changes-0", "requests"):
            with pytest.raises(CannotCarry, match="carries no IPv6"):
                WORKLOADS[workload].measure(here)


def test_changes_are_made_at_their_rate_and_what_goes_wrong_is_raised() -> None:
    class Slow(Others):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def change(self, number: int) -> None:
            time.sleep(0.03)
            if number == 30:
                raise OSError("no space left")
            self.seen.append(number)

    slow = Slow()
    with Changes(slow, 100) as changes:
        time.sleep(0.2)
        made = changes.stop()
    assert sorted(slow.seen) == list(range(made))
    assert 5 <= made <= 28

    with Changes(slow, 1000) as changes:
        time.sleep(0.5)
        with pytest.raises(OSError, match="no space left"):
            changes.stop()


def test_what_is_measured_while_services_change_has_rows_of_its_own() -> None:
    keys = [figure.key for figure in WORKLOADS["changes-100"].figures]

    assert {"rate", "p50", "p99", "changes", "served", "feeding"} <= set(keys)
    assert "changes" not in [figure.key for figure in WORKLOADS["changes-0"].figures]
    assert WORKLOADS["changes-100"].title == "requests beside 1,000 Services, 100 changes/s"
