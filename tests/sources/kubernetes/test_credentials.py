"""Credentials that change while we run, before the real API server: files that are replaced, plugins that run again."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.cluster import kubeconfigs
from tests.cluster.certificates import NODE_PROXIER, Authority, Certificate, User, write_whole
from tests.cluster.control_plane import STATIC_TOKENS
from tests.lab.waiting import eventually
from tests.sources.kubernetes.asking import SERVICES, Plugin, asking, has_ended
from uproxy.sources.kubernetes.api_errors import CertificateRejected, CredentialsRejected, Forbidden, NoCredentials
from uproxy.sources.kubernetes.credentials import _in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane

TOKEN = STATIC_TOKENS[NODE_PROXIER]
NOBODY = User("nobody")


def credential(token: str = "", *, expires_in: float | None = None, certificate: Certificate | None = None) -> str:
    """Write an ExecCredential; expires_in: seconds."""
    status: dict[str, str] = {"token": token} if token else {}
    if certificate is not None:
        status |= {"clientCertificateData": certificate.chain.decode(), "clientKeyData": certificate.key.decode()}
    if expires_in is not None:
        status["expirationTimestamp"] = (datetime.now(UTC) + timedelta(seconds=expires_in)).isoformat()
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


def with_plugin(control_plane: ControlPlane, plugin: Plugin) -> Path:
    return control_plane.kubeconfig(kubeconfigs.with_exec(plugin.command))


# Files


@pytest.mark.parametrize("turns", range(8))
async def test_told_to_end_at_any_moment_while_files_are_read_it_ends(turns: int) -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        reading = asyncio.create_task(_in_thread(lambda: release.wait(20), 20))
        await asyncio.sleep(0)
        release.set()
        executor.submit(int).result()  # comes after the other one, whose result has been handed over then
        for _ in range(turns):
            await asyncio.sleep(0)
        is_told = reading.cancel()
        await asyncio.wait([reading])
    assert reading.cancelled() or not is_told


async def test_a_token_file_is_read_again_when_it_was_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    write_whole(token, b"yesterday's\n")
    async with asking(control_plane.kubeconfig(kubeconfigs.with_token_file(token))) as ours:
        assert type(await ours.refusal()) is CredentialsRejected
        write_whole(token, f"{TOKEN}\n".encode())
        await ours.services()


async def test_a_token_behind_a_link_that_is_turned_is_read_again(control_plane: ControlPlane, tmp_path: Path) -> None:
    # As the kubelet does it: the file is a link into a folder that is a link, which is what is replaced.
    for folder, content in (("old", "yesterday's"), ("new", TOKEN)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(content, encoding="utf-8")
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "token").symlink_to("..data/token")
    async with asking(control_plane.kubeconfig(kubeconfigs.with_token_file(tmp_path / "token"))) as ours:
        assert type(await ours.refusal()) is CredentialsRejected
        (tmp_path / "..new").symlink_to("new")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await ours.services()


async def test_the_service_accounts_token_rotates(control_plane: ControlPlane, tmp_path: Path, namespace: str) -> None:
    account = control_plane.service_account(namespace)
    host, _, port = control_plane.url.removeprefix("https://").partition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.pem)
    write_whole(tmp_path / "token", account.token_for(2).encode())
    async with asking(environ=environ, service_account=tmp_path) as ours:
        await ours.services()
        # The server remembers a good token for ten seconds: another one that has expired before it was seen.
        write_whole(tmp_path / "token", account.token_for(-60).encode())
        assert type(await ours.refusal()) is CredentialsRejected
        write_whole(tmp_path / "token", account.token().encode())
        await ours.services()
        assert {request.user for request in control_plane.requests(account.user)} == {account.user}


async def test_a_token_file_that_is_gone_for_a_while_costs_a_warning(control_plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    write_whole(token, TOKEN.encode())
    async with asking(control_plane.kubeconfig(kubeconfigs.with_token_file(token))) as ours:
        token.unlink()
        await ours.services()
        assert "No such file" in str(ours.log.named("credentials_not_read"))
        write_whole(token, TOKEN.encode())
        await ours.services()
        assert len(ours.log.named("credentials_not_read")) == 1


async def test_a_client_certificate_is_read_again_when_it_was_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    paths = control_plane.authority.client(NOBODY).write(tmp_path, "client")
    async with asking(control_plane.kubeconfig(kubeconfigs.with_certificate_files(paths))) as ours:
        refused = await ours.refusal()
        assert type(refused) is Forbidden
        assert 'User "nobody"' in str(refused)
        control_plane.authority.client(NODE_PROXIER).write(tmp_path, "client")
        await ours.services()


async def test_a_key_that_does_not_fit_its_certificate_yet_is_told_and_read_again(control_plane: ControlPlane, tmp_path: Path) -> None:
    certificate, key = control_plane.authority.client(NODE_PROXIER).write(tmp_path, "client")
    async with asking(control_plane.kubeconfig(kubeconfigs.with_certificate_files((certificate, key)))) as ours:
        await ours.services()
        renewed = control_plane.authority.client(NODE_PROXIER)
        write_whole(certificate, renewed.chain)
        error = await ours.refusal()
        assert type(error) is NoCredentials
        assert "are no certificate with its key" in str(error)
        write_whole(key, renewed.key)
        await ours.services()


async def test_an_authority_is_read_again_when_it_was_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    authority = Authority().write(tmp_path / "ca.crt")
    kubeconfig = control_plane.kubeconfig()
    document = json.loads(kubeconfig.read_bytes())
    document["clusters"][0]["cluster"] = {"server": control_plane.url, "certificate-authority": str(authority)}
    kubeconfig.write_text(json.dumps(document), encoding="utf-8")
    async with asking(kubeconfig) as ours:
        assert type(await ours.refusal()) is CertificateRejected
        control_plane.authority.write(authority)
        await ours.services()


async def test_a_kubeconfig_is_read_again_when_it_was_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = control_plane.kubeconfig(kubeconfigs.with_token("yesterday's"), path=tmp_path / "kubeconfig")
    async with asking(kubeconfig) as ours:
        assert type(await ours.refusal()) is CredentialsRejected
        control_plane.kubeconfig(kubeconfigs.with_token(TOKEN), path=kubeconfig)
        await ours.services()


async def test_a_kubeconfig_half_written_changes_nothing(control_plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = control_plane.kubeconfig(path=tmp_path / "kubeconfig")
    async with asking(kubeconfig) as ours:
        kubeconfig.write_bytes(kubeconfig.read_bytes()[:200])
        await ours.services()
        assert "is not YAML" in str(ours.log.named("credentials_not_read"))


async def test_who_switches_the_context_of_a_shared_kubeconfig_does_not_move_us(control_plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = control_plane.kubeconfig(path=tmp_path / "kubeconfig")
    async with asking(kubeconfig) as ours:
        document = json.loads(kubeconfig.read_bytes())
        document["contexts"].append({"name": "elsewhere", "context": {"cluster": "elsewhere"}})
        document["clusters"].append({"name": "elsewhere", "cluster": {"server": "https://127.0.0.1:1"}})
        kubeconfig.write_text(json.dumps({**document, "current-context": "elsewhere"}), encoding="utf-8")
        await ours.services()


async def test_files_are_read_again_after_a_while_even_if_they_look_the_same(control_plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    wrong = "w" * len(TOKEN)
    token.write_text(wrong, encoding="utf-8")
    async with asking(control_plane.kubeconfig(kubeconfigs.with_token_file(token)), token_refresh=0.05) as ours:
        assert type(await ours.refusal()) is CredentialsRejected
        with token.open("r+", encoding="utf-8") as file:
            file.write(TOKEN)
        await asyncio.sleep(0.05)
        await ours.services()


# Plugins


async def test_a_plugins_token_is_used_until_it_expires(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(TOKEN, expires_in=3600))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.services()
        await ours.services()
        assert len(plugin.runs) == 1
        assert json.loads(plugin.runs[0])["spec"] == {"interactive": False}


async def test_a_plugins_token_is_renewed_before_it_expires(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(TOKEN, expires_in=2))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.services()
        plugin.answer(credential(TOKEN, expires_in=3600))
        async with asyncio.timeout(1.95):  # a fifth of its life before its end is early enough
            while len(plugin.runs) < 2:
                await ours.services()
                await asyncio.sleep(0.02)
        await ours.services()
        assert len(plugin.runs) == 2


async def test_a_plugin_that_fails_early_is_forgiven_until_its_token_expires(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(TOKEN, expires_in=2))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.services()
        plugin.answer("the identity provider is down")
        async with asyncio.timeout(20):
            while len(plugin.runs) < 2:
                await ours.services()
                await asyncio.sleep(0.02)
        assert "did not print an ExecCredential" in str(ours.log.named("credentials_not_renewed"))
        await asyncio.sleep(2)
        assert type(await ours.refusal()) is NoCredentials
        plugin.answer(credential(TOKEN))
        await ours.services()


async def test_after_a_401_the_plugin_is_asked_once_more_within_the_same_request(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential("revoked", expires_in=3600))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        assert type(await ours.refusal()) is CredentialsRejected
        assert len(plugin.runs) == 2
        plugin.answer(credential(TOKEN, expires_in=3600))
        await ours.services()
        assert len(plugin.runs) == 3
        assert sorted(ours.codes) == ["200", "401", "401"]


async def test_those_who_ask_at_the_same_time_share_one_run(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(TOKEN, expires_in=3600))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await asyncio.gather(*(ours.services() for _ in range(5)))
        assert len(plugin.runs) == 1


async def test_those_who_are_rejected_at_the_same_time_share_one_run(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential("revoked"))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.refusal()
        plugin.answer(credential(TOKEN))
        before = len(plugin.runs)
        await asyncio.gather(*(ours.services() for _ in range(5)))
        assert len(plugin.runs) == before + 1


async def test_who_waits_for_somebody_who_leaves_asks_the_plugin_itself(control_plane: ControlPlane, tmp_path: Path) -> None:
    # It blocks until there is something to read, once for each run.
    os.mkfifo(tmp_path / "answer")
    script = f'echo >> "{tmp_path}/runs"; exec cat "{tmp_path}/answer"'
    kubeconfig = control_plane.kubeconfig(kubeconfigs.with_exec(("/bin/sh", "-c", script)))
    async with asking(kubeconfig) as ours:
        first, second = (asyncio.create_task(ours.services()) for _ in range(2))
        await asyncio.to_thread(eventually, (tmp_path / "runs").exists)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.to_thread((tmp_path / "answer").write_text, credential(TOKEN), encoding="utf-8")
        await second


async def test_a_plugin_may_give_a_certificate(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(certificate=control_plane.authority.client(NODE_PROXIER)))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.services()


async def test_a_plugin_that_gives_a_broken_certificate_is_named(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential(certificate=Certificate(b"chain", b"key")))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        error = await ours.refusal()
        assert type(error) is NoCredentials
        assert f"the certificate of the credential plugin {plugin.command[0]}" in str(error)


async def test_a_plugin_that_hangs_is_ended_with_all_that_it_started(control_plane: ControlPlane, tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f'sleep 600 & echo $! > "{started}"; wait'
    kubeconfig = control_plane.kubeconfig(kubeconfigs.with_exec(("/bin/sh", "-c", script)))
    async with asking(kubeconfig, exec_timeout=1.0) as ours:
        error = await ours.refusal()
        assert (type(error), error.reason) == (NoCredentials, "exec_plugin")
        assert "did not end within 1 s" in str(error)
    await asyncio.to_thread(eventually, lambda: has_ended(int(started.read_text(encoding="utf-8"))))


async def test_a_plugin_does_not_hold_the_loop(control_plane: ControlPlane) -> None:
    kubeconfig = control_plane.kubeconfig(kubeconfigs.with_exec(("/bin/sh", "-c", "sleep 1; echo late >&2; exit 3")))
    async with asking(kubeconfig) as ours:
        task = asyncio.create_task(ours.refusal())
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 50
        assert "ended with code 3 (late)" in str(await task)


async def test_a_stream_is_asked_for_with_what_was_renewed(control_plane: ControlPlane, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.answer(credential("revoked"))
    async with asking(with_plugin(control_plane, plugin)) as ours:
        await ours.refusal()
        plugin.answer(credential(TOKEN))
        async with ours.api.stream(SERVICES, {"watch": "1", "timeoutSeconds": "1"}, stall=20) as chunks:
            assert await anext(chunks)
