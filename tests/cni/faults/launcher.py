"""The program that runs our plugins in a namespace over and over: `python -m tests.cni.faults.launcher [FOLDER OPTIONS]`.

Every request is a process of its own, forked from one that has imported everything: a hundredth of a second instead of a
tenth, so that hundreds of deaths fit into a test. Of a request it is told where the plugin's steps end. With a folder it has a
mount namespace of its own, in which a tmpfs with those mount options lies there. One JSON object per line in and out.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, Final, NoReturn

from cni_bridge import executable, fast
from cni_bridge.bridge import attach, check, collect, detach, host_routes, mac_spoof, masquerade, masquerade_compat, status
from cni_bridge.host_local import verbs
from cni_bridge.netlink import bridge_port
from tests.cni.faults import steps

PRELOADED: Final = (attach, bridge_port, check, collect, detach, host_routes, mac_spoof, masquerade, masquerade_compat, status, verbs)


def serve(plugin: str, variables: dict[str, str], files: tuple[int, int, int], counting: steps.Steps) -> NoReturn:
    """Become the plugin."""
    for place, descriptor in enumerate(files):
        os.dup2(descriptor, place)
    os.environ.clear()
    os.environ.update(variables)
    fast.posix.environ.clear()
    fast.posix.environ.update({name.encode(): value.encode() for name, value in variables.items()})
    steps.count(counting)
    executable.run(plugin)


def run(asked: dict[str, Any], taken: memoryview) -> dict[str, Any]:
    """Run one request to its end. Negative codes are the signals that ended it."""
    taken[0] = 0
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(asked["stdin"].encode())
        stdin.seek(0)
        process = os.fork()
        if process == 0:
            files = (stdin.fileno(), stdout.fileno(), stderr.fileno())
            serve(
                asked["plugin"],
                asked["variables"],
                files,
                steps.Steps(taken, asked["fate"], asked["number"], counts_reads=asked["counts_reads"]),
            )
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts = {}
        for name, file in (("stdout", stdout), ("stderr", stderr)):
            file.seek(0)
            texts[name] = file.read().decode()
    return {"code": code, "steps": taken[0], **texts}


def say(what: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def main(folder: str = "", options: str = "") -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    with mmap.mmap(-1, mmap.PAGESIZE) as page, memoryview(page) as view, view.cast("l") as taken:
        say({"ready": True})
        for line in sys.stdin:
            say(run(json.loads(line), taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
