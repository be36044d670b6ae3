"""`python -m bench`: what there is to measure, each a command with its own flags, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final, NamedTuple


class Command(NamedTuple):
    """The module whose main(argv) it is, and what it does in one line."""

    module: str
    about: str


COMMANDS: Final = {
    "run": Command("bench.run", "uproxy next to its peers: traffic, system calls and the control plane; raw runs and a report (root)"),
    "report": Command("bench.report_command", "an earlier run's report again, as Markdown, as a page with plots, or into a document"),
    "compare": Command("bench.compare", "two runs next to each other: python -m bench compare A.json B.json"),
    "load": Command("bench.live.command", "load on an address of yours, with a rate and limits: python -m bench load tcp|udp|http ADDRESS"),
    "scale": Command("bench.scale", "thousands of Services from manifests: start, changes, memory, longest pause (root)"),
    "cluster": Command("bench.cluster", "the same from a real API server, next to kube-proxy (root)"),
    "cni": Command("bench.cni", "the CNI plugins next to the reference ones (root)"),
}
USAGE_ERROR: Final = 2


def main(argv: list[str]) -> int:
    """Run the command that is named first and give its exit code; without one say what there is."""
    if argv and argv[0] in COMMANDS:
        code: int = import_module(COMMANDS[argv[0]].module).main(argv[1:])
        return code
    if argv and argv[0] not in {"-h", "--help"}:
        print(f"python -m bench: {argv[0]} is none of {', '.join(COMMANDS)}", file=sys.stderr)
        return USAGE_ERROR
    print("usage: python -m bench COMMAND [--help]\n")
    for name, command in COMMANDS.items():
        print(f"  {name:8} {command.about}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
