"""A kubeconfig's credential plugin: a program that prints a token or a certificate.

Owns its start, its end and the reading of what it prints; what it is called and given is the library's business. Must
not know what credentials are used for. Invariant: no plugin outlives its time or the task that waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import IO, Any, Final

import msgspec
from msgspec import Struct

from uproxy.sources.kubernetes.api_errors import NoCredentials, excerpt
from uproxy.sources.kubernetes.library import ConfigNode, ExecProvider
from uproxy.sources.kubernetes.tls import Pem

INFO: Final = "KUBERNETES_EXEC_INFO"
PRINTED_BYTES: Final = 1048576
"""How much of what a plugin prints is read: a token or a certificate is a hundredth of it."""
LAST_MOMENTS: Final = 1.0
"""Seconds that a killed plugin may take to be gone: it cannot refuse, the kernel may be busy."""


class ExecCredential(Struct, frozen=True):
    """What a plugin gave: a token, a certificate with its key, or both. expires: Unix seconds; None: it does not say."""

    token: str = ""
    certificate: Pem | None = None
    key: Pem | None = None
    expires: float | None = None


class _Status(Struct, rename="camel"):
    token: str | None = ""
    client_certificate_data: str | None = ""
    client_key_data: str | None = ""
    expiration_timestamp: datetime | None = None


class _Printed(Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status


def exec_plugin(settings: Mapping[str, Any], cluster: Mapping[str, Any]) -> ExecPlugin:
    """Make a plugin of the mapping `exec` of a kubeconfig, checked; cluster: what it is told of the cluster if it asks for it."""
    provider = ExecProvider(ConfigNode("exec", dict(settings)))
    spec = {"interactive": False, **({"cluster": dict(cluster)} if settings.get("provideClusterInfo") else {})}
    info = {"apiVersion": provider.api_version, "kind": "ExecCredential", "spec": spec}
    hint = " ".join(str(settings.get("installHint") or "").split())
    return ExecPlugin(tuple(provider.args), {**provider.env, INFO: json.dumps(info)}, provider.api_version, hint)


class ExecPlugin(Struct, frozen=True):
    """The program of a user's `exec` in a kubeconfig.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    api_version: str
    install_hint: str = ""

    @property
    def name(self) -> str:
        """How it is told."""
        return self.argv[0]

    async def run(self, timeout: float) -> ExecCredential:  # noqa: ASYNC109 - the process has to be killed, not just left
        """Run it and give what it printed; raises NoCredentials. timeout: seconds after which it is killed."""
        # What it prints goes into memory of its own: nobody has to keep reading, and nothing that it leaves running holds us up.
        with _memory() as printed, _memory() as complaint:
            code = await self._run(printed, complaint, timeout)
            if code:
                said = excerpt(_content(complaint)) or "it said nothing"
                raise self._failed(f"ended with code {code} ({said})", "run it by hand")
            return self._read(_content(printed))

    async def _run(self, printed: IO[bytes], complaint: IO[bytes], timeout: float) -> int:  # noqa: ASYNC109 - as above
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self.argv,
                env=self.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=printed,
                stderr=complaint,
                start_new_session=True,  # so that it can be killed with all that it started
            ),
        )
        try:
            process = await asyncio.shield(starting)
        except OSError as error:
            remedy = self.install_hint or "install it or correct exec.command"
            raise self._failed(f"cannot be started ({error.strerror})", remedy) from error
        except asyncio.CancelledError:
            with suppress(OSError):
                await _kill(await starting)
            raise
        try:
            async with asyncio.timeout(timeout):
                return await process.wait()
        except TimeoutError as error:
            raise self._failed(f"did not end within {timeout:g} s (kubernetes.execTimeout)", "it must not ask anybody") from error
        finally:
            if process.returncode is None:
                await _kill(process)

    def _read(self, printed: bytes) -> ExecCredential:
        try:
            answer = msgspec.json.decode(printed, type=_Printed)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._failed(f"did not print an ExecCredential ({error})", "run it by hand") from error
        if answer.api_version != self.api_version:
            raise self._failed(f"speaks {answer.api_version}", f"exec.apiVersion is {self.api_version}")
        status = answer.status
        if status.client_certificate_data and not status.client_key_data:
            raise self._failed("gave a certificate without its key", "run it by hand")
        if not status.token and not status.client_certificate_data:
            raise self._failed("gave neither a token nor a certificate", "run it by hand")
        token = (status.token or "").strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise self._failed("gave a token that is not one line of printable characters", "run it by hand")
        return ExecCredential(
            token=token,
            certificate=self._pem("certificate", status.client_certificate_data),
            key=self._pem("key", status.client_key_data),
            expires=status.expiration_timestamp.timestamp() if status.expiration_timestamp else None,
        )

    def _pem(self, what: str, text: str | None) -> Pem | None:
        return Pem(f"the {what} of the credential plugin {self.name}", text.encode()) if text else None

    def _failed(self, what: str, remedy: str) -> NoCredentials:
        return NoCredentials(f"the credential plugin {self.name} {what}", remedy=remedy, reason="exec_plugin")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a plugin and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_MOMENTS):
            await process.wait()


def _memory() -> IO[bytes]:
    return open(os.memfd_create("exec-plugin", os.MFD_CLOEXEC), "w+b")  # noqa: PTH123 - a descriptor, not a path


def _content(memory: IO[bytes]) -> bytes:
    memory.seek(0)
    return memory.read(PRINTED_BYTES)
