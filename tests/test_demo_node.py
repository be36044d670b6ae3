"""The demo with network namespaces: the same story on virtual addresses, and who the endpoints saw."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.netns


def test_the_demo_with_a_node_and_pods_keeps_its_promises_and_removes_its_network() -> None:
    command = [sys.executable, "-m", "examples.demo_node", "--plain", "--seconds", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, output + errors
    summary = re.search(r"^\d+ requests in \d+ s, 0 failed; (\d+) of (\d+) promises kept\.$", output, re.MULTILINE)
    assert summary, output
    assert summary[1] == summary[2]
    assert "ok: endpoints see the clients' own addresses" in output
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"ubench{process.pid}-" not in left
