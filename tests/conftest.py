"""What all tests share: who may run the ones with network namespaces, no skips in CI, nothing left behind.

A test marked `netns` gets skipped, with the reason, where it cannot run. With CI set in the environment a skip
is a failure: there everything runs. Namespaces whose names begin with `netns_prefix` are removed at the end,
together with the processes in them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# Six characters: with an interface's 15 there is room for a name that says something.
NETNS_PREFIX: Final = f"u{secrets.token_hex(2)}-"
NETNS_TOOLS: Final = ("ip", "nft")


@pytest.fixture(scope="session")
def netns_prefix() -> str:
    """Give what this session's network namespaces (and interfaces in the host's one) are to be named with."""
    return NETNS_PREFIX


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
    """Skip what is marked netns where it cannot run."""
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


def pytest_sessionfinish() -> None:
    """Remove the namespaces that tests of this session left, and what still runs in them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return
    for line in _ip("netns", "list").splitlines():
        name = line.split(maxsplit=1)[0]
        if name.startswith(NETNS_PREFIX):
            _end_processes(name)
            _ip("netns", "delete", name)


def _end_processes(namespace: str) -> None:
    for pid in _ip("netns", "pids", namespace).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False).stdout
