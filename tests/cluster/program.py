"""A server program of the control plane: one process, its log file, and everything that may happen to it.

It never outlives the tests, not even killed ones: the kernel ends it together with the thread that started it
(prctl(2), PR_SET_PDEATHSIG), which is one that lives as long as this interpreter. It has a process group of its
own, so that a Ctrl-C at the terminal reaches the tests alone, which then end it in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.lab.namespaces import Namespace

ENDS_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""What stands before a program: it is killed when we end, and does not start if we ended before that was arranged."""
LOG_TAIL: Final = 4000
"""As many characters of a log are told when its program did not do what was expected."""
_STARTER: Final = ThreadPoolExecutor(1, thread_name_prefix="starts programs")


class Program:
    """One program, started as often as one likes, always the same way. Its working folder is where its log goes."""

    def __init__(
        self, argv: Sequence[str], folder: Path, *, namespace: Namespace | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = os.path.basename(argv[0])  # noqa: PTH119 - a command line, not a path to work with
        inside = ["ip", "netns", "exec", namespace.name] if namespace else []
        self._argv = [*inside, *ENDS_WITH_US, str(os.getpid()), *argv]
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it; its log goes on where it ended."""
        assert not self.is_running(), f"{self.name} runs already"
        self._process = _STARTER.submit(self._open).result()

    def _open(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process id: what stands before it in the command becomes it."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Give the end of what it logged."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:] if self.log_path.exists() else ""

    def pause(self) -> None:
        """Stop it as a hanging machine would: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        self._signal(signal.SIGCONT)

    def stop(self, within: float = 30.0) -> None:
        """Ask it to end and wait for that, seconds; then kill it. One that does not run is left alone."""
        if self._process is None or not self.is_running():
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None and self.is_running():
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was never started"
        self._process.send_signal(number)
