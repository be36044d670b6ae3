"""`python -m bench`: all measurements, or one of them with its own flags: run, scale, cluster, cni, load."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from bench import cluster, cni, run, scale
from bench.load import __main__ as load

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {
    "run": run.main,
    "scale": scale.main,
    "cluster": cluster.main,
    "cni": cni.main,
    "load": load.main,
}
ALL: Final = ("run", "scale", "cluster", "cni")


def main(argv: list[str]) -> int:
    """Run the command that is named first; without one all that measure, with the flag that all of them know."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    if [flag for flag in argv if flag != "--quick"]:
        print(f"usage: python -m bench [--quick] | {' | '.join(f'{name} [--help]' for name in COMMANDS)}", file=sys.stderr)
        return 2
    return next((code for code in (COMMANDS[name](argv) for name in ALL) if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
