"""A machine with our plugins installed as on a node, and a runtime on it: one for all tests of a module and runtime."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.cni.plugins import ROOT
from tests.cni.runtimes import root_file_system
from tests.cni.runtimes.cnitool import Cnitool
from tests.cni.runtimes.containerd import Ctr
from tests.cni.runtimes.cri import Cri
from tests.cni.runtimes.machine import SECONDS, Machine
from tests.cni.runtimes.podman import Podman
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cni.runtimes.engine import Engine

EXAMPLES: Final = ROOT / "examples/cni"
ENGINES: Final[dict[str, type[Engine]]] = {"cnitool": Cnitool, "containerd-ctr": Ctr, "containerd-cri": Cri, "podman": Podman}
CLI: Final = (sys.executable, "-c", "from cni_bridge.cli import main; main()")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the plugins; give the folder that /opt/cni is to be."""
    folder = tmp_path_factory.mktemp("opt") / "cni"
    argv = [*CLI, "install", f"--bin-dir={folder}/bin", f"--lib-dir={folder}/lib/cni_bridge"]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Give the runtime of that name on a machine of its own, with its example as the only network; see `able`."""
    kind = ENGINES[request.param]
    root = root_file_system.make(tmp_path_factory.mktemp("runtime") / "root")
    namespaces = Namespaces()
    with Machine(*namespaces.make("host")) as machine:
        (machine.root / "opt/cni").symlink_to(installed)
        machine.write(f"/etc/cni/net.d/{kind.example}", (EXAMPLES / kind.example).read_text(encoding="utf-8"))
        yield able(kind, machine, root, lambda text: _say(request.config, text))
    namespaces.remove()


@pytest.fixture
def runtime(engine: Engine) -> Iterator[Engine]:
    """Give a runtime without containers; those of the test are removed."""
    yield engine
    engine.remove_all()


def able(kind: type[Engine], machine: Machine, root: Path, say: Callable[[str], None]) -> Engine:
    """Give the runtime, or cnitool with its network, and say why, when it cannot start containers even without a network."""
    engine = kind(machine, root)
    if not (why := engine.refusal()):
        return engine
    say(f"{kind.__name__} cannot start containers here, cnitool attaches namespaces in its place: {why}")
    return Cnitool(machine, root, kind)


def _say(config: pytest.Config, text: str) -> None:
    """Write to the log of the test run, also when all goes well."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text}")  # noqa: T201 - it is to be seen
