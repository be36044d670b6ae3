"""The image: what it says of itself, what is in it, and that it serves on a node with the privileges it asks for."""

from __future__ import annotations

import signal
import stat
import subprocess
from os import kill
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.fixtures import require_binaries
from tests.cluster.nodes import SERVED, Cluster
from tests.deploy import image
from tests.deploy.image import Container, podman
from tests.lab import client, kernel
from tests.lab.manifests import targets
from tests.lab.process import START_SECONDS
from tests.lab.stand import Stand
from tests.lab.ways import ask, ways
from uproxy import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(image.BUILD_SECONDS + 300)]

LARGEST_MB: Final = 100
"""It has 90. Half of kubernetes_asyncio, debugging symbols and Debian's own base would each go beyond."""
NEEDED_CAPABILITIES: Final = 1 << 10 | 1 << 12
"""CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, as in linux/capability.h."""
MANIFESTS: Final = "/etc/uproxy/manifests"
STATE: Final = "/var/lib/uproxy"
KUBECONFIG: Final = "/etc/uproxy/kubeconfig"
LIVEZ: Final = "/opt/uproxy/libexec/livez.py"
UNWANTED: Final = {
    "apt", "apt-get", "ar", "as", "bash", "busybox", "cc", "curl", "dash", "dpkg", "gcc", "ld", "ld.bfd", "make", "perl",
    "pip", "pip.conf", "pip3", "setuptools", "sh", "strip", "su", "wget", "wheel",
}  # fmt: skip
UNCHECKED_HASH: Final = 0b01
"""The flags of a .pyc file that belongs to its source for good: PEP 552."""


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the image once for all tests here."""
    image.build()


@pytest.fixture(scope="module")
def root(built: None) -> Iterator[Path]:  # noqa: ARG001 - it must exist before it is mounted
    """Give the folder in which all of the image's files are."""
    yield Path(podman("image", "mount", image.TAG).strip())
    podman("image", "unmount", image.TAG)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Give a node with pods, without uproxy."""
    with Stand(tmp_path_factory.mktemp("stand")) as made:
        yield made


@pytest.fixture
def container(stand: Stand) -> Iterator[Container]:
    """Give a container that serves the stand's manifests, started by the image's own command line."""
    environment = {"NODE_NAME": stand.lab.node.name, "UPROXY_MANIFESTS": MANIFESTS}
    with Container(stand.lab.node, mounts={MANIFESTS: stand.services.folder}, environment=environment) as running:
        running.wait_healthy()
        yield running


def test_it_says_what_it_is_and_how_to_ask_after_its_health() -> None:
    description = image.inspect()
    config = description["Config"]
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in config["Labels"].items() if name.startswith(prefix)}
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=image.ROOT, capture_output=True, text=True, check=True).stdout
    assert (labels["title"], labels["licenses"], labels["version"]) == ("uproxy", "Apache-2.0", __version__)
    assert labels["revision"] == revision.strip()
    assert (config["Entrypoint"], config["Cmd"]) == (["uproxy"], ["run"])
    assert description["Healthcheck"]["Test"] == ["CMD", "/opt/uproxy/bin/python", "-I", "-S", LIVEZ]


def test_it_is_small() -> None:
    megabytes = image.inspect()["Size"] / 1e6
    print(f"the image has {megabytes:.1f} MB")  # noqa: T201 - worth knowing, seen with -s or on failure
    assert megabytes < LARGEST_MB


def test_nothing_in_it_builds_installs_or_gives_more_rights(root: Path) -> None:
    found = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(found) > 1000
    assert [path for path in found if path.name in UNWANTED] == []
    assert [path for path in found if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []


def test_all_python_is_compiled_for_good(root: Path) -> None:
    sources = [path for folder in ("opt/uproxy/lib", "usr/lib") for path in (root / folder).rglob("*.py")]
    compiled = {path: next((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"), None) for path in sources}
    assert len(compiled) > 1000
    assert [path for path, code in compiled.items() if code is None] == []
    assert {code.read_bytes()[4] for code in compiled.values() if code} == {UNCHECKED_HASH}


def test_scanners_find_the_version_and_the_licence_of_every_debian_package(root: Path) -> None:
    described = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"base-files", "libc6", "nftables", "python3-minimal"} <= described
    licensed = {path.name for path in (root / "usr/share/doc").iterdir()}
    assert described - licensed == set()


def test_it_serves_with_two_capabilities_and_a_root_that_nobody_can_write_to(stand: Stand, container: Container) -> None:
    served = stand.services.add("web", targets([stand.lab.pod2]))
    for family in (4, 6):
        client.poll(stand.lab.pod, served.vip(family), served.port)
    for way in ways():
        assert ask(stand, served, way).name == "pod2", f"{way}\n{container.log()}"
    status = container.status_of_process()
    assert {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == dict.fromkeys(
        ("CapPrm", "CapEff", "CapBnd"), NEEDED_CAPABILITIES
    )
    assert (status["Uid"].split()[0], status["NoNewPrivs"], status["Seccomp"]) == ("0", "1", "2")
    for place in ("", "/run", "/opt/uproxy", STATE):
        assert "Read-only file system" in container.python(f"open('{place}/x', 'w')").stderr
    assert "Traceback" not in container.log()


def test_it_ends_when_asked_and_cleanup_in_another_container_takes_all_away(stand: Stand) -> None:
    image.run_once(stand.lab.node, "cleanup")
    before = kernel.rules(stand.lab.node)
    environment = {"NODE_NAME": stand.lab.node.name, "UPROXY_MANIFESTS": MANIFESTS}
    with Container(stand.lab.node, mounts={MANIFESTS: stand.services.folder}, environment=environment) as running:
        running.wait_healthy()
        assert running.stop() == 0, running.log()
    assert kernel.rules(stand.lab.node) != before
    cleaned = image.run_once(stand.lab.node, "cleanup")
    assert cleaned.returncode == 0, cleaned.stderr
    assert kernel.rules(stand.lab.node) == before


def test_it_serves_what_an_api_server_says_and_what_it_said_last(tmp_path: Path) -> None:
    require_binaries()
    state = tmp_path / "state"
    state.mkdir()
    with Cluster(tmp_path / "cluster") as cluster, cluster.tenant() as tenant:
        node, pod = cluster.lab.node, cluster.lab.pod
        # The client's certificate and key are inside the kubeconfig, and there is no place to write them to.
        mounts = {KUBECONFIG: cluster.plane.kubeconfig(), STATE: state}
        arguments = ("run", "--kubeconfig", KUBECONFIG, "--node-name", node.name)
        with Container(node, *arguments, mounts=mounts, writable=(STATE,)) as running:
            running.wait_healthy()
            made = tenant.serve("web", cluster.lab.pod2)
            assert client.poll(cluster.lab.outside, made.vip, SERVED).name == "pod2"
            assert running.stop() == 0, running.log()
            assert "Traceback" not in running.log()
        with cluster.without_api_server(), Container(node, *arguments, mounts=mounts, writable=(STATE,)) as running:
            assert client.poll(pod, made.vip, SERVED, within=START_SECONDS).name == "pod2"
            assert "state_read" in running.log()


def test_it_trusts_the_usual_authorities_and_has_the_rules_for_a_place_beside_kube_proxy(stand: Stand) -> None:
    trusted = image.run_once(stand.lab.node, "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))", program="python3")
    assert int(trusted.stdout) > 100
    loaded = image.run_once(stand.lab.node, "-f", "/usr/share/uproxy/beside-kube-proxy.nft", program="nft")
    assert loaded.returncode == 0, loaded.stderr
    stand.lab.node.namespace.run("nft", "delete", "table", "inet", "uproxy-beside-kube-proxy")


def test_its_health_check_fails_when_uproxy_hangs_and_only_then(container: Container) -> None:
    assert container.healthcheck()
    kill(container.state()["Pid"], signal.SIGSTOP)
    assert not container.healthcheck()
    kill(container.state()["Pid"], signal.SIGCONT)
    assert container.healthcheck()


def test_its_health_check_asks_the_address_that_the_environment_names(container: Container) -> None:
    asked = image.try_podman("exec", "--env=UPROXY_HEALTHZ_BIND_ADDRESS=[::1]:9", container.name, "python3", "-I", "-S", LIVEZ)
    assert (asked.returncode, asked.stdout.strip()) == (1, "[Errno 111] Connection refused")


def test_what_a_plain_build_says_is_its_version_is_the_version() -> None:
    assert f"\nARG VERSION={__version__}\n" in (image.ROOT / "Dockerfile").read_text(encoding="utf-8")
