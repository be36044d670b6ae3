"""A start without byte code: the interpreter is another one than the installation compiled for, or the byte code is gone.

Owns what is said then. A plugin that is slow is better than a node on which no pod starts after an upgrade, so the
request is served from source where that is possible.
"""

from __future__ import annotations

import sys

OLDEST = (3, 11)


def run(name: str) -> None:
    """Say on stderr what to do, serve the request, end the process. Raises ImportError where the plugins cannot run."""
    if sys.version_info < OLDEST:
        raise ImportError(f"Python {OLDEST[0]}.{OLDEST[1]} or later is needed")
    version = sys.version.partition(" ")[0]
    sys.stderr.write(f"cni_bridge: no byte code for {sys.executable} {version}, {name} starts slowly: run `cni-bridge install` again\n")
    from cni_bridge import executable  # noqa: PLC0415 - a too old interpreter could not read it

    executable.run(name)
