"""Where the binaries of a control plane are: scripts/kubernetes-binaries.sh builds them, this finds them.

KUBEBUILDER_ASSETS, the folder that the field's own tools use, comes first, then .cache/kubernetes/VERSION.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
GO_MODULE: Final = Path(__file__).resolve().parent / "go" / "go.mod"
NEEDED: Final = ("etcd", "etcdctl", "etcdutl", "kube-apiserver", "kube-controller-manager")
OLD_ETCD: Final = ROOT / ".cache" / "debian" / "usr" / "bin" / "etcd"
"""Debian's, 3.4: an API server in front of it cannot end a streaming list (it sends no progress marks)."""


def version() -> str:
    """Give the Kubernetes version that go.mod requires, as v1.36.3."""
    found = re.search(r"^(?:require |\t)k8s\.io/kubernetes (v\S+)$", GO_MODULE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{GO_MODULE} requires no k8s.io/kubernetes"
    return found[1]


def folders() -> list[Path]:
    """List where binaries are looked for, first come first served."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    return [*([Path(named)] if named else []), ROOT / ".cache" / "kubernetes" / version()]


def path_of(name: str) -> Path | None:
    """Find a binary; None when it was not built."""
    candidates = (folder / name for folder in folders())
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def binary(name: str) -> Path:
    """Find a binary; raises FileNotFoundError that says how to build it."""
    found = path_of(name)
    if found is None:
        raise FileNotFoundError(f"no {name} in {' or '.join(map(str, folders()))}: scripts/kubernetes-binaries.sh {name}")
    return found


def missing(*names: str) -> str:
    """Say why a control plane cannot run here; empty when it can. Without names: what every control plane needs."""
    lacking = [name for name in names or NEEDED if path_of(name) is None]
    return f"needs Go to build {', '.join(lacking)} ({version()}): scripts/kubernetes-binaries.sh" if lacking else ""
