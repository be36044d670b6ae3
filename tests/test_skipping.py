"""What becomes of a test that cannot run: skipped with its reason on a developer's machine, a failure in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
SKIPPED_TEST: Final = "import pytest\n@pytest.mark.skip(reason='the moon is down')\ndef test_one(): ...\n"
SKIPPED_MODULE: Final = "import pytest\npytest.skip('the moon is down', allow_module_level=True)\n"
EXPECTED_FAILURE: Final = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_one(): assert False\n"


def outcome(folder: Path, text: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a test file under this project's hooks."""
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    options = ["-ra", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    argv = [sys.executable, "-m", "pytest", *options, str(folder)]
    without_ci = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(argv, cwd=ROOT, env={**without_ci, **environ}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_says_why(tmp_path: Path, text: str) -> None:
    done = outcome(tmp_path, text, {})
    assert "1 skipped" in done.stdout
    assert "the moon is down" in done.stdout


@pytest.mark.parametrize("text", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_in_ci_a_skip_is_a_failure_that_says_why(tmp_path: Path, text: str) -> None:
    done = outcome(tmp_path, text, {"CI": "true"})
    assert done.returncode not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert "nothing may be skipped in CI: " in done.stdout
    assert "the moon is down" in done.stdout


def test_in_ci_an_expected_failure_stays_one(tmp_path: Path) -> None:
    assert "1 xfailed" in outcome(tmp_path, EXPECTED_FAILURE, {"CI": "true"}).stdout
