"""An ApiServer of ours before a real one: made from a kubeconfig or an environment, closed with its block."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import psutil
import pytest
from msgspec.structs import replace

from tests.dataplane.running import RecordingLog
from uproxy.api_stats import ApiStats
from uproxy.config import Config, KubernetesSettings
from uproxy.config_rules import Duration
from uproxy.sources.kubernetes.access import SERVICE_ACCOUNT, find
from uproxy.sources.kubernetes.api_errors import ApiError
from uproxy.sources.kubernetes.client import ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

SERVICES: Final = "/api/v1/services"
PATIENCE: Final = 20.0
"""Seconds that a request may take when nothing else is said: the machine may be busy."""


class Asking:
    """One ApiServer with what it logs and counts."""

    def __init__(self, config: Config, environ: Mapping[str, str], service_account: Path) -> None:
        self.log = RecordingLog()
        self.stats = ApiStats()
        self.api = ApiServer(find(config, environ, service_account), config, self.log, self.stats)

    async def services(self, **query: str) -> bytes:
        """List Services."""
        return await self.api.get(SERVICES, query, PATIENCE)

    async def refusal(self, path: str = SERVICES, **query: str) -> ApiError:
        """Give the error that a request ends with: one line, whatever it is."""
        with pytest.raises(ApiError) as caught:
            await self.api.get(path, query, PATIENCE)
        assert "\n" not in str(caught.value)
        return caught.value

    @property
    def codes(self) -> list[str]:
        """The codes of the answers so far."""
        return [code for (_, _, code), times in self.stats.requests.items() for _ in range(times)]


@asynccontextmanager
async def asking(
    kubeconfig: Path | None = None,
    *,
    master: str = "",
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
    **settings: float,
) -> AsyncIterator[Asking]:
    """Ask the API server that these name; settings: seconds of KubernetesSettings."""
    kubernetes = replace(KubernetesSettings(), **{name: Duration(value) for name, value in settings.items()})
    config = replace(Config(), kubeconfig=str(kubeconfig or ""), master=master, kubernetes=kubernetes)
    made = Asking(config, environ or {}, service_account)
    try:
        yield made
    finally:
        await made.api.aclose()


class Plugin:
    """A credential plugin: a program that prints a file's content and notes that it ran."""

    def __init__(self, folder: Path) -> None:
        self._answer = folder / "answer.json"
        self._runs = folder / "runs"
        self._script = folder / "plugin.py"
        self._script.write_text(_SCRIPT, encoding="utf-8")
        self.command = (sys.executable, "-S", str(self._script), str(self._answer), str(self._runs))

    def answer(self, content: str) -> None:
        """Say what it prints from now on."""
        self._answer.write_text(content, encoding="utf-8")

    @property
    def runs(self) -> list[str]:
        """What it was told in KUBERNETES_EXEC_INFO, each time it ran."""
        return self._runs.read_text(encoding="utf-8").splitlines() if self._runs.exists() else []


def has_ended(process_id: int) -> bool:
    """Tell whether a process is no more; whoever has to bury it may not have done so."""
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_SCRIPT: Final = """
import os, sys
with open(sys.argv[2], "a") as runs:
    runs.write(os.environ["KUBERNETES_EXEC_INFO"] + "\\n")
sys.stdout.write(open(sys.argv[1]).read())
"""
