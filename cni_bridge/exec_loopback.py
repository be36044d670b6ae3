"""The executable loopback: `python3 -IS .../cni_bridge/exec_loopback.py`, or `run()` from an installed stub.

A stub puts the folder that holds the package `cni_bridge` on sys.path and calls `run`: this module is then loaded as
byte code, which a file that is run itself never is. Run itself it finds that folder from its own place, which -I leaves
out of sys.path.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

if __name__ == "__main__":
    sys.path.insert(0, f"{__file__.rpartition('/')[0] or '.'}/..")

from cni_bridge.protocol.version_request import answer_version  # noqa: E402 - needs the path above


def run() -> NoReturn:
    """Serve one request and end the process."""
    answer_version()
    from cni_bridge import loopback as verbs  # noqa: PLC0415 - VERSION does without them
    from cni_bridge.protocol.skeleton import main  # noqa: PLC0415 - as above

    main(verbs)


if __name__ == "__main__":
    run()
