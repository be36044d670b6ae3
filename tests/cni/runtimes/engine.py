"""What every runtime can do, seen alike: start a container on a network, run a program in it, remove it.

Owns the two interfaces and what a container's kernel says of its addresses. A container serves PORT: see root_file_system.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from tests.cni.runtimes.machine import Failed, Machine

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES: Final = (4, 6)


class Container(ABC):
    """One container that runs."""

    @abstractmethod
    def run(self, applet: str, *arguments: str) -> str:
        """Run one of busybox's programs inside and give its stdout; raises an error with its stderr if it fails."""

    @abstractmethod
    def reported(self) -> set[str]:
        """Give the addresses that the runtime itself tells, from the plugins' result."""

    @abstractmethod
    def remove(self) -> None:
        """Have the runtime end and remove it, with its attachment."""

    def addresses(self) -> dict[int, str]:
        """Give eth0's addresses with their prefix length, by family, as the container's kernel has them."""
        said = self.run("ip", "-o", "addr", "show", "dev", "eth0")
        found = re.findall(r"inet6? (\S+).* scope global", said)
        return {6 if ":" in each else 4: each for each in found}

    def address(self, family: int) -> str:
        """Give one of them without the length."""
        return self.addresses()[family].partition("/")[0]


class Engine(ABC):
    """A runtime on a machine. network: the name in its example; example: that file's name."""

    network: str
    example: str

    def __init__(self, machine: Machine, root: Path) -> None:
        self.machine = machine
        self.root = root
        self._containers: list[Container] = []
        self._numbers = itertools.count(1)

    def start(self, publish: int = 0) -> Container:
        """Start a container; publish: the node's port that is to lead to its PORT. Raises an error with the runtime's words."""
        container = self._start(f"c{next(self._numbers)}", publish)
        self._containers.append(container)
        return container

    def refusal(self) -> str:
        """Say why the runtime cannot start a container here, with no plugin involved; empty when it can."""
        try:
            self.probe()
        except Failed as error:
            return str(error)
        return ""

    @abstractmethod
    def probe(self) -> None:
        """Run a container without a network to its end; raises Failed."""

    def remove(self, container: Container) -> None:
        """Remove a container."""
        self._containers.remove(container)
        container.remove()

    def remove_all(self) -> None:
        """Remove the containers that there are."""
        while self._containers:
            self._containers.pop().remove()

    @abstractmethod
    def _start(self, name: str, publish: int) -> Container: ...


def host_part(address: str) -> str:
    """Write an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
