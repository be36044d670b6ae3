"""A chained plugin that is killed in place of one of its steps: `python -m tests.cni.dying PLUGIN NUMBER`.

A step is one program started, one datagram to netlink, one setting written. It tells on stderr how many there were when
NUMBER is none of them.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any, Final

from cni_bridge import fast, program, sysctl
from cni_bridge.netlink import connection
from cni_bridge.protocol import skeleton

_TAKEN: Final = [0]


def step(number: int) -> None:
    """Count, and die when it is time to."""
    if _TAKEN[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    _TAKEN[0] += 1


def main(plugin: str, number: int) -> None:
    """Serve the request that environment and stdin hold."""
    run, write = program.run, sysctl.write

    def counted_run(*arguments: str, **keywords: str) -> program.Done:
        step(number)
        return run(*arguments, **keywords)

    def counted_write(key: str, value: str) -> None:
        step(number)
        write(key, value)

    class Socket(fast.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ANN401 - a buffer
            step(number)
            return int(super().send(data, flags))

    for module, name, value in ((program, "run", counted_run), (sysctl, "write", counted_write), (connection, "socket", Socket)):
        setattr(module, name, value)
    verbs = import_module(f"cni_bridge.{plugin}.verbs")
    code, stdout, stderr = skeleton.answer(verbs, os.environb, sys.stdin.buffer.read)
    sys.stdout.write(stdout.decode())
    sys.stderr.write(stderr.decode() or f"{_TAKEN[0]}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
