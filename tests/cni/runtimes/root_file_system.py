"""A root file system for containers: one static program, and a web server's folder that tells who asks.

Owns the folder and, of the same files, an image archive that containerd imports: https://github.com/moby/docker-image-spec.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from typing import TYPE_CHECKING, Final

from tests.cni.runtimes.machine import program

if TYPE_CHECKING:
    from pathlib import Path

IMAGE: Final = "localhost/small:1"
PORT: Final = 80
WHO: Final = "/cgi-bin/who"
SERVE: Final = ("/bin/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/www")
"""What a container runs: busybox's web server, on both families."""
_SCRIPT: Final = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho $REMOTE_ADDR\n"
_FOLDERS: Final = ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "www/cgi-bin")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def make(folder: Path) -> Path:
    """Make the root file system in a folder that is not there yet."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    shutil.copy(program("busybox"), folder / "bin/busybox")
    (folder / "bin/sh").symlink_to("busybox")
    script = folder / "www" / WHO.lstrip("/")
    script.write_text(_SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    return folder


def archive(root: Path, path: Path) -> Path:
    """Write the root file system as an image, named IMAGE, which sleeps by itself."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(root, arcname=".")
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sleep", "3600"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    members = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode(), "layer.tar": layer.getvalue()}
    with tarfile.open(path, mode="w") as image:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            image.addfile(member, io.BytesIO(content))
    return path
