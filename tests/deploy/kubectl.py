"""kubectl of the tests' own Kubernetes version, as an operator runs it: a process, its output, no state outside its folder."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.binaries import binary

if TYPE_CHECKING:
    from pathlib import Path

Document = dict[str, Any]


class Kubectl:
    """kubectl with a folder for its caches and, for what asks an API server, a kubeconfig."""

    def __init__(self, folder: Path, kubeconfig: Path | None = None) -> None:
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(kubeconfig or "")}
        self._program = str(binary("kubectl"))

    def try_run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end, given something on stdin, whatever comes of it."""
        argv = [self._program, *arguments]
        return subprocess.run(argv, input=given, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    def run(self, *arguments: str, given: str = "") -> str:
        """Run it and give its output; it must succeed."""
        done = self.try_run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def render(self, kustomization: Path) -> list[Document]:
        """Give the objects that a kustomization stands for."""
        return list(yaml.safe_load_all(self.run("kustomize", str(kustomization))))
