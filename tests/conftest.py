"""What all tests share: who may run the ones with network namespaces, and no skips in CI.

A test marked `netns` is skipped, with the reason, where it cannot run. With CI set in the environment a skip is
a failure that shows the reason: there everything runs. Removing namespaces is their owner's business (tests/lab).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ("tests.cluster.fixtures",)
# An example may take as long as the machine makes it: 200 ms, hypothesis' own limit, pass on a busy one without a reason.
settings.register_profile("untimed", parent=settings.default, deadline=None)
settings.load_profile("untimed")
NETNS_TOOLS: Final = ("ip", "nft")


def no_netns_because() -> str:
    """Say why tests with network namespaces cannot run here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces are made"
    missing = [tool for tool in NETNS_TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (Debian: apt-get install iproute2 nftables)"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"network namespaces are not allowed here: {probe.stderr.strip()}" if probe.returncode else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked netns where it cannot run; begin with the files of slow tests, for no other worker helps with a file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    marked = [item for item in items if item.get_closest_marker("netns")]
    reason = no_netns_because() if marked else ""
    for item in marked if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that shows the reason, when CI is set."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped in CI."""
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no module be skipped in CI."""
    report = yield
    forbid_skip(report)
    return report
