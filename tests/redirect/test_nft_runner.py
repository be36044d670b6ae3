"""Running nft, and what is said when it does not run."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.redirect.captures import USUAL, elements, expected_elements, opened, table
from uproxy.config import CaptureSettings
from uproxy.errors import RedirectError, UsageError
from uproxy.redirect.nft_runner import Nft, NotInKernel, failure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.namespaces import Namespace

PREPARED = """
import asyncio
from tests.redirect.captures import USUAL, opened
from uproxy.errors import UproxyError
async def body():
    with opened() as redirect:
        try:
            await redirect.start()
            await redirect.apply(USUAL)
        except UproxyError as error:
            print(type(error).__name__, error)
asyncio.run(body())
"""


def test_words_of_nft_become_one_line() -> None:
    complaint = "/dev/stdin:1:1-9: Error: Could not process rule: Device or resource busy\nadd table\n^^^^^^^^^\n"
    assert str(failure(complaint, 1)) == "nft: Could not process rule: Device or resource busy"
    assert str(failure("", 7)) == "nft: it ended with code 7"


def test_a_missing_thing_is_told_from_other_failures() -> None:
    assert isinstance(failure("x: Error: Could not process rule: No such file or directory\n", 1), NotInKernel)
    assert not isinstance(failure("x: Error: Could not process rule: File exists\n", 1), NotInKernel)


@pytest.mark.netns
def test_a_transaction_with_one_bad_line_does_nothing(host: Namespace) -> None:
    def body() -> None:
        with pytest.raises(NotInKernel, match="No such file or directory"):
            Nft(5).apply("add table inet uproxy\nadd element inet uproxy nothing { 1 }\n")

    host.call(body)
    assert not table(host)


@pytest.mark.netns
def test_the_version_is_read() -> None:
    assert Nft(5).version() >= (1, 0)


@pytest.mark.netns
def test_missing_nft_at_start_is_the_operators_to_solve(host: Namespace) -> None:
    printed = host.run("env", "PATH=/nowhere", sys.executable, "-c", PREPARED)
    assert printed.startswith("UsageError nft does not run: the program nft was not found in PATH")
    assert "install the package nftables, or use --redirect routes" in printed
    assert printed.count("\n") == 1


@pytest.mark.netns
def test_missing_permission_at_start_is_the_operators_to_solve(host: Namespace) -> None:
    printed = host.run("setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", PREPARED)
    assert printed.startswith("UsageError no capability CAP_NET_ADMIN")
    assert "--redirect none" in printed
    assert printed.count("\n") == 1


@pytest.mark.netns
def test_permission_that_the_kernel_refuses_to_nft_is_named() -> None:
    printed = failure("Error: Could not process rule: Operation not permitted\n", 1)
    assert "CAP_NET_ADMIN" in str(printed)


@pytest.mark.netns
def test_nft_that_vanishes_while_uproxy_runs_is_an_error_that_passes(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        with opened() as redirect:
            await redirect.start()
            with monkeypatch.context() as patched:
                patched.setenv("PATH", "/nowhere")
                with pytest.raises(RedirectError, match="was not found in PATH; install the package nftables"):
                    await redirect.apply(USUAL)
            await redirect.apply(USUAL)

    host.call(asyncio.run, body())
    assert elements(host) == expected_elements(USUAL)


def script(folder: Path, text: str) -> Path:
    """Write a program that is found as nft."""
    program = folder / "nft"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_nft_that_hangs_is_ended_and_named_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "exec sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    started = time.monotonic()
    with pytest.raises(RedirectError, match=r"did not finish within 0.2 s .*capture.nftTimeout"):
        Nft(0.2).apply("add table inet uproxy")
    assert time.monotonic() - started < 10


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nft").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedirectError, match=r"nft could not be started: No such file or directory"):
        Nft(5).apply("")


@pytest.mark.netns
def test_nft_that_is_too_old_is_the_operators_to_solve(host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "echo 'nftables v0.9.8 (E.D.S.)'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    async def body() -> None:
        with opened(CaptureSettings()) as redirect, pytest.raises(UsageError, match=r"nft 0\.9\.8: nft 1\.0\.0 or later is needed"):
            await redirect.start()

    host.call(asyncio.run, body())
