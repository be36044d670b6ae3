"""The processes of a demo: one per endpoint, and uproxy itself. All end with the demo, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from examples.show.stage import EXAMPLES, PROJECT, Address, Backend, CannotPlay, Client
from examples.show.traffic import ask_on

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_SECONDS: Final = 10.0
END_SECONDS: Final = 5.0


class Company:
    """Starts and ends processes; use it as an asynchronous context manager."""

    def __init__(self, work: Path) -> None:
        self._log = work / "uproxy.log"
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.gather(*(_end(process) for process in self._processes.values()))

    async def start_backend(self, backend: Backend) -> None:
        """Start an endpoint and wait until it serves; raises CannotPlay."""
        command = [*backend.prefix, sys.executable, "-m", "examples.show.echo", backend.name, backend.address, str(backend.port)]
        process = await _start(command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        self._processes[backend.name] = process
        if not await _pipe(process.stdout).readline():
            words = (await _pipe(process.stderr).read()).decode().strip().splitlines()
            raise CannotPlay(f"endpoint {backend.name} at {backend.address}:{backend.port}: {words[-1] if words else 'it ended'}")

    async def kill_backend(self, backend: Backend) -> None:
        """Kill an endpoint's process (SIGKILL) and wait until it is gone."""
        process = self._processes.pop(backend.name)
        process.kill()
        await process.wait()

    async def start_uproxy(self, command: tuple[str, ...], manifests: Path, probe: tuple[Client, Address]) -> None:
        """Start uproxy on a folder and wait until a client gets an answer; raises CannotPlay with uproxy's own words."""
        flags = ["--manifests", str(manifests), "--config", str(EXAMPLES / "settings.yaml"), "--node-name", "demo"]
        with self._log.open("w") as log:
            process = await _start([*command, *flags, "--healthz-bind-address", "", "--metrics-bind-address", ""], stderr=log)
        self._processes["uproxy"] = process
        try:
            async with asyncio.timeout(START_SECONDS):
                await _until_served(process, *probe)
        except TimeoutError:
            raise CannotPlay(f"uproxy does not serve: {self._last_words()}") from None

    def _last_words(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "it says nothing"


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


async def _until_served(process: asyncio.subprocess.Process, client: Client, address: Address) -> None:
    loop = asyncio.get_running_loop()
    while True:
        if process.returncode is not None:
            raise TimeoutError
        with suppress(OSError), client.make_socket(1) as sock:
            await loop.sock_connect(sock, address)
            await ask_on(sock)
            return
        await asyncio.sleep(0.02)


async def _start(command: list[str], **streams: object) -> asyncio.subprocess.Process:
    # A session of its own: Ctrl-C is for the demo, which then ends everybody in order. Killed, it takes them along.
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return await asyncio.create_subprocess_exec(*bound, *command, cwd=PROJECT, start_new_session=True, **streams)  # type: ignore[arg-type]  # the keywords of subprocess


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
