"""Credential plugins as real processes: what they print, and how they fail. With an API server: test_credentials.py."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.waiting import eventually
from tests.sources.kubernetes.asking import Plugin, has_ended
from uproxy.dataplane.descriptors import descriptors_in_use
from uproxy.sources.kubernetes.api_errors import NoCredentials
from uproxy.sources.kubernetes.exec_plugin import ExecPlugin, exec_plugin

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "client.authentication.k8s.io/v1"


def plugin_of(*command: str, **more: str) -> ExecPlugin:
    return exec_plugin({"command": command[0], "args": list(command[1:]), "apiVersion": VERSION, **more}, {})


def answer(status: object, version: str = VERSION) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def number_in(path: Path) -> int:
    """Read a process id that somebody writes; AssertionError while it is not whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return int(text)


async def failure(plugin: ExecPlugin, timeout: float = 20) -> str:  # noqa: ASYNC109 - the plugin's own
    with pytest.raises(NoCredentials) as caught:
        await plugin.run(timeout)
    assert "\n" not in str(caught.value)
    assert caught.value.reason == "exec_plugin"
    return str(caught.value)


async def test_what_it_prints_is_taken(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(
        answer({"token": "t\n", "clientCertificateData": "C", "clientKeyData": "K", "expirationTimestamp": "2033-05-18T03:33:20Z"}),
    )
    given = await plugin_of(*plugin.command).run(20)
    assert (given.token, given.expires) == ("t", 2_000_000_000)
    assert given.certificate is not None
    assert given.key is not None
    assert (given.certificate.content, given.key.content) == (b"C", b"K")


async def test_what_it_leaves_away_is_not_there(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(answer({"token": "t", "clientCertificateData": None, "expirationTimestamp": None}))
    given = await plugin_of(*plugin.command).run(20)
    assert (given.token, given.certificate, given.key, given.expires) == ("t", None, None, None)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("", "did not print an ExecCredential"),
        ("Please log in at https://login.example", "did not print an ExecCredential"),
        ('{"apiVersion": "v1"}', "did not print an ExecCredential"),
        (answer({"token": 5}), "did not print an ExecCredential"),
        (answer({"token": "t", "expirationTimestamp": "tomorrow"}), "did not print an ExecCredential"),
        (answer({"token": "t"}, "client.authentication.k8s.io/v1beta1"), f"exec.apiVersion is {VERSION}"),
        (answer({}), "gave neither a token nor a certificate"),
        (answer({"token": ""}), "gave neither a token nor a certificate"),
        (answer({"token": "two\nlines"}), "gave a token that is not one line of printable characters"),
        (answer({"clientCertificateData": "C"}), "gave a certificate without its key"),
    ],
)
async def test_what_it_should_not_print_is_told(tmp_path: Path, printed: str, told: str) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(printed)
    assert told in await failure(plugin_of(*plugin.command))


async def test_one_that_is_not_installed_is_told_with_its_own_hint(tmp_path: Path) -> None:
    assert await failure(plugin_of(f"{tmp_path}/gone")) == (
        f"the credential plugin {tmp_path}/gone cannot be started (No such file or directory); install it or correct exec.command"
    )
    assert (await failure(plugin_of(f"{tmp_path}/gone", installHint="apt-get install\n gone"))).endswith("; apt-get install gone")


async def test_one_that_may_not_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a program", encoding="utf-8")
    assert "cannot be started (Permission denied)" in await failure(plugin_of(f"{tmp_path}/data"))


async def test_one_that_fails_is_told_with_its_own_words() -> None:
    complaining = plugin_of("/bin/sh", "-c", "echo 'no session,\nlog in again' >&2; exit 7")
    assert "ended with code 7 (no session, log in again)" in await failure(complaining)
    assert "ended with code 1 (it said nothing)" in await failure(plugin_of("/bin/false"))


async def test_one_that_complains_at_length_does_not_block() -> None:
    # More than a pipe holds, before anything is printed.
    code = f"import sys; sys.stderr.write('x' * 1000000); print({answer({'token': 't'})!r})"
    assert (await plugin_of(sys.executable, "-c", code).run(20)).token == "t"  # noqa: S105 - the plugin's answer


async def test_one_that_asks_somebody_gets_no_answer() -> None:
    code = f"import sys; sys.exit('nobody') if sys.stdin.read() == '' and not sys.stdin.isatty() else print({answer({'token': 't'})!r})"
    assert "ended with code 1 (nobody)" in await failure(plugin_of(sys.executable, "-c", code))


async def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > '{tmp_path}/left'; echo '{answer({'token': 't'})}'"
    assert (await plugin_of("/bin/sh", "-c", script).run(20)).token == "t"  # noqa: S105 - the plugin's answer
    left = number_in(tmp_path / "left")
    assert not has_ended(left)
    os.kill(left, signal.SIGKILL)


async def test_it_costs_no_descriptor() -> None:
    before = descriptors_in_use()
    for _ in range(3):
        await failure(plugin_of("/bin/false"))
        await failure(plugin_of("/bin/sleep", "600"), timeout=0.05)
    assert descriptors_in_use() <= before + 2, "what the loop opens once"


async def test_who_does_not_wait_any_longer_ends_it(tmp_path: Path) -> None:
    plugin = plugin_of("/bin/sh", "-c", f'echo $$ > "{tmp_path}/started"; exec sleep 600')
    task = asyncio.create_task(plugin.run(600))
    process_id = await asyncio.to_thread(eventually, lambda: number_in(tmp_path / "started"))
    assert not has_ended(process_id)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    await asyncio.to_thread(eventually, lambda: has_ended(process_id))
