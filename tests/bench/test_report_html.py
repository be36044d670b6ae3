"""The page: well-formed, complete, of one piece, and its plots in the page's own colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from bench import report_command
from bench.document import write
from bench.plot_style import COLOURS
from bench.report_html import page
from tests.bench.example_run import run, whole_run

if TYPE_CHECKING:
    from pathlib import Path

EXTERNAL = re.compile(r"https?:|//[a-z]|\bsrc=|@import|<script|<link|<iframe", re.IGNORECASE)


@pytest.fixture(scope="module")
def text() -> str:
    return page(whole_run())


@pytest.fixture(scope="module")
def root(text: str) -> ET.Element:
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - our own page


def words(found: ET.Element) -> str:
    return " ".join(found.itertext())


def test_the_page_needs_nothing_from_elsewhere(text: str) -> None:
    assert EXTERNAL.findall(text) == []


def test_the_page_is_well_formed_and_names_no_two_things_alike(root: ET.Element, text: str) -> None:
    ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', text)) <= set(ids)


def test_every_subject_workload_and_figure_is_in_the_tables(root: ET.Element) -> None:
    found = whole_run()
    heads = {words(cell) for cell in root.iter("th")}
    cells = {words(cell) for cell in root.iter("td")}
    assert {subject.title for subject in found.subjects.values()} <= heads | cells
    rows = {f"{workload.title}: {figure.title}" for workload in found.workloads.values() for figure in workload.figures}
    assert rows <= cells


def test_every_group_has_plots_that_say_what_is_better_and_name_every_subject(root: ET.Element) -> None:
    plots = {svg.attrib["aria-label"]: words(svg) for svg in root.iter("svg")}
    rate = plots["new connections, 50 at a time, IPv4, connections: higher is better"]
    assert all(title in rate for title in ("uproxy", "HAProxy", "nginx stream", "no proxy", "k/s", "1.00x"))
    cpu = plots["new connections, 50 at a time, IPv4, CPU per connection: lower is better"]
    assert "no proxy" not in cpu
    assert "140 / 410 / 1.20k" in plots["UDP <round trips> & answers, IPv6, latency in us, p50 (●) / p99 (◆) / p99.9 (|): lower is better"]
    assert "Cold start from manifests, start to all served: lower is better" in plots
    assert any("right and down is better" in label for label in plots)


def test_plots_take_their_colours_from_the_page(root: ET.Element) -> None:
    drawn = "".join(ET.tostring(svg, encoding="unicode") for svg in root.iter("svg"))
    assert {name for name in COLOURS if f"var(--{name})" in drawn} >= {"ours", "peer", "kernel", "ink", "grid"}
    assert re.findall(r"#(?:[0-9a-f]{6})\b", drawn) == []
    assert "font-family" not in drawn


def test_every_round_has_a_dot(root: ET.Element) -> None:
    labels = {svg.attrib["aria-label"]: svg for svg in root.iter("svg")}
    rate = labels["new connections, 50 at a time, IPv4, connections: higher is better"]
    assert len(list(rate.iter("use"))) == 3 * 4


def test_what_the_operator_is_to_know_stands_out(text: str) -> None:
    found = whole_run()
    found.complete = False
    assert '<p class="warning">This run was interrupted' in page(found)
    assert '<p class="warning">' not in text


def test_a_run_without_any_figure_is_a_page_all_the_same() -> None:
    text = page(run(uproxy=[]))

    ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - our own page
    assert "<svg" not in text


def test_the_same_run_gives_the_same_page(text: str) -> None:
    assert page(whole_run()) == text


def test_the_command_writes_the_page(tmp_path: Path, text: str) -> None:
    write(whole_run(), tmp_path / "run.json")

    assert report_command.main([str(tmp_path / "run.json"), "--html", str(tmp_path / "run.html")]) == 0

    assert (tmp_path / "run.html").read_text(encoding="utf-8") == text
