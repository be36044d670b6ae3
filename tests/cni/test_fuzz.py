"""The fuzzer itself: it runs, confined, and it would notice."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cni import fuzz
from tests.cni.plugins import ROOT


@pytest.mark.netns
def test_a_few_seconds_of_broken_input_find_no_bug_and_leave_nothing() -> None:
    before = set(Path(tempfile.gettempdir()).glob("cni-fuzz-*"))
    done = subprocess.run([sys.executable, "-m", "tests.cni.fuzz", "1"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "bridge, firewall, host_local, loopback, portmap: 1,000 inputs, no bug\n"
    assert set(Path(tempfile.gettempdir()).glob("cni-fuzz-*")) <= before


def test_a_bug_would_be_found() -> None:
    class Buggy:
        ABOUT = "a plugin with a bug"

        def __getattr__(self, name: str) -> object:
            raise KeyError(name)

    with pytest.raises(AssertionError, match="KeyError"):
        fuzz.target({"buggy": Buggy()})()
