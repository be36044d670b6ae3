"""The control plane's sections of a run: what they keep, and that they say so within the run's own count of steps."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench import scale
from bench.control import PARTS, Aside, estimate, sections
from bench.matrix import SECTIONS
from bench.progress import Reporter


def test_a_run_knows_the_sections_that_there_are() -> None:
    assert tuple(PARTS) == SECTIONS


def test_a_quick_run_of_each_section_takes_less_than_two_minutes_and_a_fraction_of_a_full_one() -> None:
    for name in PARTS:
        assert estimate(name, quick=True) < 120
        assert estimate(name, quick=True) * 5 < estimate(name, quick=False)


def test_a_full_run_covers_a_thousand_and_ten_thousand_services_next_to_kube_proxy() -> None:
    assert PARTS["scale"].parse([]).services == [1000, 10000]
    assert PARTS["cluster"].parse([]).services == [1000, 10000]
    assert PARTS["cluster"].parse([]).proxies == ["uproxy", "kube-proxy"]


def test_a_section_that_cannot_run_is_kept_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    part = PARTS["cluster"]._replace(reason=lambda: "needs Go")
    monkeypatch.setitem(PARTS, "cluster", part)
    with Reporter(1, Console(file=io.StringIO())) as reporter:
        kept = sections(["cluster"], True, reporter)

    assert kept == {"cluster": {"title": part.title, "markdown": "", "reason": "needs Go", "runs": []}}


def test_what_a_section_says_leaves_the_count_of_steps_to_the_run() -> None:
    heard = io.StringIO()
    with Reporter(7, Console(file=heard)) as reporter:
        aside = Aside(reporter)
        aside.done("200 Services: served", 12)
        aside.left_out("kube-proxy: left out", 30)
        aside.more(5)
        reporter.done("scale", 7)

    lines = heard.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0/7", "0/7", "7/7"]
    assert "200 Services: served" in lines[0]


@pytest.mark.netns
def test_the_section_of_manifests_has_a_table_and_the_figures_that_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    small = PARTS["scale"]._replace(parse=lambda _flags: scale.parse(["--services", "60", "--formats", "json", "--changes", "1"]))
    monkeypatch.setitem(PARTS, "scale", small)
    with Reporter(1, Console(file=io.StringIO())) as reporter:
        kept = json.loads(json.dumps(sections(["scale"], True, reporter)))["scale"]

    assert kept["reason"] == ""
    assert "| start to all served, s |" in kept["markdown"]
    run = kept["runs"][0]
    assert (run["services"], run["not_served"], len(run["endpoint_added"])) == (60, 0, 1)
    assert run["nft"]["bytes"] > 1000
    assert run["nft"]["whole"] > 0
    assert run["started"]["memory"]["resident"] > 20_000_000
