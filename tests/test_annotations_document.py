"""docs/annotations.md says what the code does: every annotation, its metrics, its events, and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from uproxy.config import Config
from uproxy.core.annotations import NAMES

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = (ROOT / "docs" / "annotations.md").read_text(encoding="utf-8")
ROWS: Final = {found[1]: line.split(" | ") for line in PAGE.splitlines() if (found := re.match(r"\| `(uproxy\.io/[a-z-]+)` \|", line))}
TEST_LINK: Final = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
METRICS: Final = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
METRIC_COLUMN: Final = 4


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_annotation_has_a_row_and_there_are_no_others() -> None:
    assert list(ROWS) == list(NAMES)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_links_tests_that_exist_and_names_metrics_that_exist(name: str) -> None:
    cells = ROWS[name]
    links = TEST_LINK.findall(cells[-1])
    assert links
    assert [f"{path}: {test}" for test, path in links if test not in functions_of(path)] == []
    metrics = re.findall(r"`(uproxy_\w+)`", cells[METRIC_COLUMN])
    assert metrics
    assert [metric for metric in metrics if f"| `{metric}` |" not in METRICS] == []


def test_every_test_that_the_page_links_exists() -> None:
    assert [f"{path}: {test}" for test, path in TEST_LINK.findall(PAGE) if test not in functions_of(path)] == []


def test_events_and_settings_that_the_page_names_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "uproxy").rglob("*.py"))
    for reason in ("NeedPods", "AnnotationRefused"):
        assert f"`{reason}`" in PAGE
        assert f'"{reason}"' in sources
    settings = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for setting in ("tcp.heldConnections", "kubernetes.eventForget", "kubernetes.eventRepeat"):
        assert f"`{setting}`" in PAGE
        assert f"| `{setting}` |" in settings
    assert f"`tcp.heldConnections` ({Config().tcp.held_connections})" in PAGE


def test_every_outcome_of_waiting_is_explained() -> None:
    holding = (ROOT / "uproxy" / "dataplane" / "holding.py").read_text(encoding="utf-8")
    counted = set(re.findall(r'"(served|timeout|client_left|too_many|withdrawn)"', holding))
    assert {found for found in re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) if "/" not in found} == counted
