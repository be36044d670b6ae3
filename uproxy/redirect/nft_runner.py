"""Running the program nft, once per transaction, and telling its failures apart.

Owns the child process, its timeout and the translation of its stderr. Must not know which rules are wanted.
Blocking: called on the back end's own thread. Everything raised is a RedirectError of one line.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from uproxy.errors import RedirectError
from uproxy.redirect.netlink import NEEDS_NET_ADMIN

INSTALL: Final = "install the package nftables, or use --redirect routes, which needs no nft"


class NotInKernel(RedirectError):
    """What a transaction was to change is not there: somebody else removed it."""


class Nft:
    """The program nft. timeout_seconds: how long one run may take."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self.on_start: Callable[[int], None] = lambda _: None
        """Called with each run's netlink port before it can do anything: its only socket has its process id as port."""

    def apply(self, script: str) -> None:
        """Carry out a script as one transaction; raises RedirectError, NotInKernel among them."""
        self._run("-f", "-", text=script)

    def list_json(self, *what: str) -> bytes:
        """Give what `nft -j list ...` prints; raises NotInKernel when there is no such thing."""
        return self._run("-j", "list", *what)

    def version(self) -> tuple[int, ...]:
        """Give the version, (1, 0, 6) for example; raises RedirectError when nft is missing or does not say."""
        words = self._run("--version").decode("utf-8", "replace").split()
        numbers = [word.lstrip("v") for word in words if word.startswith("v")]
        try:
            return tuple(int(part) for part in numbers[0].split("."))
        except (IndexError, ValueError) as error:
            raise RedirectError(f"nft did not give its version: {' '.join(words)}") from error

    def _run(self, *arguments: str, text: str = "") -> bytes:
        program = shutil.which("nft")
        if program is None:
            raise RedirectError(f"the program nft was not found in PATH; {INSTALL}")
        try:
            # Without close_fds the child is spawned without visiting each of perhaps 60,000 descriptors; all of ours are close-on-exec.
            child = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=False,
            )
        except OSError as error:
            raise RedirectError(f"{program} could not be started: {error.strerror}") from error
        with child:
            self.on_start(child.pid)
            return self._output_of(child, text)

    def _output_of(self, child: subprocess.Popen[bytes], text: str) -> bytes:
        try:
            output, complaint = child.communicate(text.encode(), timeout=self._timeout)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise RedirectError(f"nft did not finish within {self._timeout:g} s (the setting capture.nftTimeout)") from error
        if child.returncode != 0:
            raise failure(complaint.decode("utf-8", "replace"), child.returncode)
        return output


def failure(complaint: str, code: int) -> RedirectError:
    """Turn what nft wrote to stderr into one error; nft's words are never localised."""
    lines = [line.partition("Error: ")[2] for line in complaint.splitlines() if "Error: " in line]
    first = lines[0] if lines else next(iter(complaint.splitlines()), f"it ended with code {code}")
    if "No such file or directory" in complaint:
        return NotInKernel(f"nft: {first}")
    if "Operation not permitted" in complaint:
        return RedirectError(f"nft: {first}; {NEEDS_NET_ADMIN}")
    return RedirectError(f"nft: {first}")
