"""The image: what it says of itself, what is in it, and that it serves on a node with the privileges it asks for."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy import image
from tests.deploy.image import Container, podman
from tests.lab import client, kernel
from tests.lab.manifests import targets
from tests.lab.stand import Stand
from tests.lab.waiting import eventually
from uproxy import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(image.BUILD_SECONDS + 300)]

LARGEST_MB: Final = 100
"""90 in November 2026; HAProxy's official image on Debian has 105, kube-proxy 1.36's about 100."""
NEEDED_CAPABILITIES: Final = 1 << 10 | 1 << 12
"""CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, as in linux/capability.h."""
MANIFESTS: Final = "/etc/uproxy/manifests"
UNWANTED: Final = r".*/\(sh\|bash\|dash\|apt.*\|dpkg\|perl.*\|pip[0-9.]*\|setuptools\|gcc.*\|cc\|ld\|as\|make\)"
CHECKED_ELSEWHERE: Final = """
import importlib.util, pathlib, sys
sources = [path for root in ("/opt/uproxy/lib", "/usr/lib") for path in pathlib.Path(root).rglob("*.py")]
missing = [str(path) for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).exists()]
flags = {pathlib.Path(importlib.util.cache_from_source(path)).read_bytes()[4] for path in sources if str(path) not in missing}
print(len(sources), missing, flags)
"""


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the image once for all tests here."""
    image.build()


@pytest.fixture(scope="module")
def root(built: None) -> Iterator[Path]:
    """Give the folder in which all of the image's files are."""
    from pathlib import Path

    yield Path(podman("image", "mount", image.TAG).strip())
    podman("image", "unmount", image.TAG)
