"""No proxy either: the kernel's destination NAT, with connection tracking. What no process in user space can reach."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Final

from bench.programs import find
from bench.subjects.base import VIP, CannotRun, Running, last_words, serving, told_by
from bench.topology import FAMILIES, SERVER, Topology

RULES: Final = Path(__file__).with_name("dnat.nft")


class DestinationNAT:
    """Two rules on the node; the client is on the Service's addresses."""

    title = "kernel DNAT"
    role = "kernel"
    udp = True

    def version(self) -> str:
        """Give nft's version and the kernel's; raises CannotRun."""
        return f"nftables {told_by(_nft(), '--version').split()[1]}, Linux {platform.release()}"

    def start(self, topology: Topology, folder: Path) -> Running:  # noqa: ARG002 - the Protocol's signature; no file is needed
        """Load the rules; raises CannotRun with nft's words."""
        defined = [f"define vip{family} = {VIP[family]}\ndefine server{family} = {SERVER[family]}\n" for family in FAMILIES]
        command = [*topology.node.prefix, _nft(), "-f", "-"]
        done = subprocess.run(command, input="".join(defined) + RULES.read_text(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRun(f"nft refuses the rules: {last_words(done.stderr)}")
        return serving(topology, Running(VIP))


def _nft() -> str:
    program = find("nft")
    if program is None:
        raise CannotRun("nft is not installed")
    return program
