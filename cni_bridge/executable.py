"""What every executable runs: `python3 -IS .../cni_bridge/executable.py NAME`, or `run(NAME)` from an installed stub.

Owns which module has the verbs of each plugin. A stub puts the folder that holds the package `cni_bridge` on sys.path and
calls `run`: this module is then loaded as byte code, which a file that is run itself never is. Run itself it finds that
folder from its own place, which -I leaves out of sys.path.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

if __name__ == "__main__":
    sys.path.insert(0, f"{__file__.rpartition('/')[0] or '.'}/..")

from cni_bridge.protocol.version_request import answer_version  # noqa: E402 - needs the path above

VERBS = {
    "bridge": "cni_bridge.bridge.verbs",
    "firewall": "cni_bridge.firewall.verbs",
    "host-local": "cni_bridge.host_local.verbs",
    "loopback": "cni_bridge.loopback",
    "portmap": "cni_bridge.portmap.verbs",
}
"""By the plugin's name. Named and not imported: a request is for one plugin, and VERSION does without any."""


def run(name: str) -> NoReturn:
    """Serve one request to a plugin and end the process."""
    answer_version()
    verbs = __import__(VERBS[name], None, None, ["ABOUT"])
    from cni_bridge.protocol.skeleton import main  # noqa: PLC0415 - VERSION does without it

    main(verbs)


if __name__ == "__main__":
    run(sys.argv[1])
