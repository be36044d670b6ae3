"""kubernetes_asyncio without its models: what it costs, and that a next version is noticed here first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
MEGABYTE: Final = 1024
PRELUDE: Final = """
import asyncio, json, sys
import aiohttp, msgspec, yaml

def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))

before = resident()
from uproxy.sources.kubernetes import library
after = resident()
said = {"kilobytes": after - before, "is_light": library.is_light}
said["left"] = sorted(name for name in sys.modules if name.partition(".")[0] == "kubernetes_asyncio")
"""


def run(code: str, *paths: Path) -> dict[str, Any]:
    """Run code in a Python of its own, after the prelude; give what it said. paths: where modules are looked for first."""
    script = f"import sys; sys.path[:0] = {[str(path) for path in (*paths, ROOT)]!r}\n{PRELUDE}\n{code}\nprint(json.dumps(said))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_this_version_of_the_library_works_without_its_models() -> None:
    said = run("said['models'] = sorted(name for name in sys.modules if 'v1_' in name or 'kubernetes_asyncio.client.api' in name)")
    assert said["is_light"], "kubernetes_asyncio has changed: library.py says what it relies on"
    assert said["models"] == []
    assert said["kilobytes"] < 3 * MEGABYTE


def test_nothing_of_it_is_in_the_way_of_who_imports_it_whole() -> None:
    said = run(
        """
from kubernetes_asyncio import client, config
said["found"] = [client.CoreV1Api.__name__, client.V1Service.__name__, config.load_kube_config.__name__]
said["api_client"] = client.ApiClient.__module__
""",
    )
    assert said["left"] == []
    assert said["found"] == ["CoreV1Api", "V1Service", "load_kube_config"]
    assert said["api_client"] == "kubernetes_asyncio.client.api_client"


def test_who_has_imported_it_whole_before_us_shares_it() -> None:
    code = "import kubernetes_asyncio.config as whole; said['same'] = library.ConfigException is whole.ConfigException"
    whole = "import kubernetes_asyncio"
    script = f"{whole}\n{PRELUDE}\n{code}\nprint(json.dumps(said))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    said = json.loads(done.stdout)
    assert (said["is_light"], said["same"]) == (False, True)


@pytest.mark.parametrize(
    "wish",
    ["from kubernetes_asyncio.client import CoreV1Api", "import kubernetes_asyncio.client as c; c.V1Service", "from .. import dynamic"],
)
def test_a_version_that_wants_more_is_imported_whole_and_works(tmp_path: Path, wish: str) -> None:
    package = make_next_version(tmp_path, wish)
    said = run(
        """
node = {
    "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/"}}], "users": [{"name": "u", "user": {"token": "t"}}],
}
configuration = library.Configuration()
asyncio.run(library.KubeConfigLoader(node).load_and_set(configuration))
said["read"] = [configuration.host, configuration.api_key]
said["from"] = sys.modules[library.KubeConfigLoader.__module__].__file__
""",
        tmp_path,
    )
    assert said["is_light"] is False
    assert said["read"] == ["http://127.0.0.1:1", {"BearerToken": "Bearer t"}]
    assert said["from"] == str(package / "config" / "kube_config.py")


def make_next_version(folder: Path, wish: str) -> Path:
    """Copy the library's readers into a package whose other parts are small, and let them want one thing more."""
    spec = find_spec("kubernetes_asyncio")
    assert spec is not None
    assert spec.origin is not None
    package = folder / "kubernetes_asyncio"
    shutil.copytree(Path(spec.origin).parent / "config", package / "config")
    reader = package / "config" / "kube_config.py"
    reader.write_text(f"{wish}\n{reader.read_text(encoding='utf-8')}", encoding="utf-8")
    (package / "client").mkdir()
    names = ("Configuration", "ApiClient", "CoreV1Api", "V1Service")
    (package / "client" / "__init__.py").write_text("".join(f"class {name}: ...\n" for name in names))
    (package / "dynamic").mkdir()
    (package / "dynamic" / "__init__.py").write_text("from kubernetes_asyncio.client import CoreV1Api\n")
    (package / "__init__.py").write_text("from kubernetes_asyncio import client, config, dynamic\n")
    return package


def test_a_library_that_is_not_there_is_told_as_any_other() -> None:
    script = "import sys; sys.modules['kubernetes_asyncio'] = None\nimport uproxy.sources.kubernetes.library"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "ModuleNotFoundError" in done.stderr


def test_the_whole_client_costs_a_few_megabytes_beside_its_http_library() -> None:
    said = run(
        """
from uproxy.config import Config
from uproxy.api_stats import ApiStats
before = resident()
from uproxy.sources.kubernetes import access, client
said["kilobytes"] = resident() - before + said["kilobytes"]
""",
    )
    assert said["kilobytes"] < 4 * MEGABYTE
