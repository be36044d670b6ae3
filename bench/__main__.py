"""`python -m bench`: both measurements, or one of them with its own flags: compare, scale, load."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from bench import compare, scale
from bench.load import __main__ as load

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {"compare": compare.main, "scale": scale.main, "load": load.main}


def main(argv: list[str]) -> int:
    """Run the command that is named first; without one compare and scale, with the flags that both know."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    if [flag for flag in argv if flag != "--quick"]:
        print(f"usage: python -m bench [--quick] | {' | '.join(f'{name} [--help]' for name in COMMANDS)}", file=sys.stderr)
        return 2
    return compare.main(argv) or scale.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
