"""The image under test: built from a base made of Debian's packages, looked at, and run on a node.

Owns calling the project's own scripts, and podman, which keeps everything below .cache/podman. A container gets
what a careful operator gives it and nothing more: a root that nobody can write to, two capabilities, no new privileges.
"""

from __future__ import annotations

import fcntl
import functools
import http.client
import json
import os
import re
import resource
import secrets
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.lab.client import open_socket
from tests.lab.process import HEALTH_PORT, START_SECONDS, Reply
from tests.lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.lab.topology import Host

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = ROOT / ".cache" / "image" / "base.tar"
TAG: Final = "localhost/uproxy:test"
PODMAN: Final = str(ROOT / "scripts" / "podman.sh")
CAPABILITIES: Final = ("NET_ADMIN", "NET_BIND_SERVICE")
BUILD_SECONDS: Final = 900
"""From nothing 100 s on two cores, most of it waiting for packages; 15 s when only the code has changed."""
LAYERS_KEPT: Final = "24h"
"""How long the layers of earlier builds are used again: a day, so that Debian's packages are never older than that."""
STOP_SECONDS: Final = 10
"""How long a container may take to end. There are no connections left to drain."""


def podman(*arguments: str, within: float = 60) -> str:
    """Run podman to its end and give its stdout; raises AssertionError with its stderr if it fails."""
    done = try_podman(*arguments, within=within)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def try_podman(*arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
    """Run podman to its end, whatever becomes of it."""
    return subprocess.run([PODMAN, *arguments], capture_output=True, text=True, timeout=within, check=False)


@functools.cache
def build() -> None:
    """Build the image as somebody without an image registry does: once per process; the base is made once for all.

    One build at a time: another process of the same test run waits, and finds every layer made.
    """
    BASE.parent.mkdir(parents=True, exist_ok=True)
    with BASE.with_name("building").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not BASE.exists():
            _run("scripts/base-image.sh", str(BASE))
        _run("scripts/build-image.sh", TAG, str(BASE))
        podman("image", "prune", "--force", "--filter", f"until={LAYERS_KEPT}")


def _run(*argv: str) -> None:
    environment = {**os.environ, "BUILDER": PODMAN}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=BUILD_SECONDS, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def inspect() -> dict[str, Any]:
    """Give what the image says of itself."""
    (found,) = json.loads(podman("image", "inspect", TAG))
    return dict(found)


def _privileges(host: Host) -> list[str]:
    """Give podman's flags for a container on a node."""
    # podman asks for more than this machine may give if it is not told; a Kubernetes runtime passes its own limits on.
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [
        f"--network=ns:/run/netns/{host.namespace.name}",
        "--cap-drop=all",
        *(f"--cap-add={capability}" for capability in CAPABILITIES),
        "--security-opt=no-new-privileges",
        "--read-only",
        # Without the folders in memory that podman would mount over /tmp, /run and /var/tmp: Kubernetes has none either.
        "--read-only-tmpfs=false",
        f"--ulimit=nofile={descriptors}:{descriptors}",
        "--ulimit=nproc=4096:4096",
    ]


def run_once(host: Host, *arguments: str, program: str = "uproxy") -> subprocess.CompletedProcess[str]:
    """Run a program of the image on a node to its end."""
    return try_podman("run", "--rm", *_privileges(host), "--entrypoint", program, TAG, *arguments)


class Container:
    """A running container of the image. A context manager: it is removed in the end.

    arguments: for uproxy, after the image's own entry point. mounts: container path -> path here, read-only but for
    state folders, which are named in writable.
    """

    def __init__(
        self,
        host: Host,
        *arguments: str,
        mounts: Mapping[str, Path],
        environment: Mapping[str, str] | None = None,
        writable: tuple[str, ...] = (),
    ) -> None:
        self._host = host
        self.name: Final = f"uproxy-{secrets.token_hex(4)}"
        volumes = [f"--volume={here}:{path}:{'rw' if path in writable else 'ro'}" for path, here in mounts.items()]
        variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        podman("run", "--detach", f"--name={self.name}", *_privileges(host), *volumes, *variables, TAG, *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        podman("rm", "--force", "--time=1", self.name)

    def state(self) -> dict[str, Any]:
        """Give podman's view of the process: Pid, Running, ExitCode, Healthcheck ..."""
        (found,) = json.loads(podman("container", "inspect", self.name))
        return dict(found["State"])

    def log(self) -> str:
        """Give everything written so far."""
        done = try_podman("logs", self.name)
        return done.stdout + done.stderr

    def get(self, path: str) -> Reply:
        """Ask over HTTP from inside the node; raises OSError when nobody listens."""
        with open_socket(self._host, "127.0.0.1", socket.SOCK_STREAM) as raw:
            raw.connect(("127.0.0.1", HEALTH_PORT))
            connection = http.client.HTTPConnection("127.0.0.1", HEALTH_PORT)
            connection.sock = raw
            connection.request("GET", path)
            with connection.getresponse() as response:
                return Reply(response.status, response.read().decode())

    def wait_healthy(self) -> None:
        """Wait until /healthz says 200; fails at once if the process has ended."""

        def healthy() -> bool:
            try:
                return self.get("/healthz").status == http.HTTPStatus.OK
            except OSError:
                if not self.state()["Running"]:
                    raise RuntimeError(f"the container ended:\n{self.log()}") from None
                raise

        eventually(healthy, within=START_SECONDS)

    def status_of_process(self) -> dict[str, str]:
        """Read /proc/PID/status of uproxy."""
        text = Path("/proc", str(self.state()["Pid"]), "status").read_text(encoding="ascii")
        return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program inside, with the privileges of the container."""
        return try_podman("exec", self.name, "python3", "-c", program)

    def healthcheck(self) -> bool:
        """Run the image's HEALTHCHECK once, as a runtime does every few seconds."""
        return try_podman("healthcheck", "run", self.name).returncode == 0

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        podman("stop", f"--time={STOP_SECONDS}", self.name)
        return int(self.state()["ExitCode"])
