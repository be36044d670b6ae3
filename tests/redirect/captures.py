"""Captures to test with, a log that remembers, and what the kernel holds according to nft and ip."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from uproxy.config import CaptureSettings
from uproxy.core.model import Protocol, RouteKey
from uproxy.redirect.base import Capture
from uproxy.redirect.nftables import Nftables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace

VIP = "10.96.0.10"
VIP6 = "fd10:96::10"
WEB = RouteKey(VIP, Protocol.TCP, 80)
WEB6 = RouteKey(VIP6, Protocol.TCP, 80)
DNS = RouteKey(VIP, Protocol.UDP, 53)
DNS6 = RouteKey(VIP6, Protocol.UDP, 53)
USUAL = Capture(frozenset({VIP, VIP6}), {WEB: 20080, WEB6: 20080, DNS: 20053, DNS6: 20053})


class Facts:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, /, **facts: object) -> None:
        self.told.append((event, facts))

    def warning(self, event: str, /, **facts: object) -> None:
        self.told.append((event, facts))

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        self.told.append((event, {**facts, "exc_info": exc_info}))


@contextmanager
def opened(settings: CaptureSettings | None = None) -> Iterator[Nftables]:
    """Make a back end in the namespace of this thread, and close it."""
    made = Nftables(settings or CaptureSettings(), Facts())
    try:
        yield made
    finally:
        made.close()


async def applied(*captures: Capture) -> None:
    """Apply captures one after the other, as one run of uproxy."""
    with opened() as redirect:
        await redirect.start()
        for capture in captures:
            await redirect.apply(capture)


def table(host: Namespace) -> list[dict[str, Any]]:
    """Give what nft lists of our table; empty when there is none."""
    listed: list[dict[str, Any]] = json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"]
    return [entry for entry in listed if _belongs(entry)]


def _belongs(entry: dict[str, Any]) -> bool:
    return any(thing.get("table") == "uproxy" or thing.get("name") == "uproxy" for thing in entry.values())


def elements(host: Namespace) -> dict[str, set[str]]:
    """Give the elements of each set and map that has some, as nft's own text."""
    found = {}
    for entry in table(host):
        for thing in entry.values():
            if isinstance(thing, dict) and thing.get("elem"):
                found[thing["name"]] = {_element(element) for element in thing["elem"]}
    return found


def _element(element: Any) -> str:  # noqa: ANN401 - whatever JSON nft prints
    if isinstance(element, list):
        return f"{_element(element[0])} : {element[1]}"
    return " . ".join(map(str, element["concat"])) if isinstance(element, dict) else str(element)


def expected_elements(capture: Capture) -> dict[str, set[str]]:
    """Give what elements() has to be: written down from the definition, one port at a time."""
    found: dict[str, set[str]] = {}
    for vip in capture.vips:
        found.setdefault(f"vips{6 if ':' in vip else 4}", set()).add(vip)
    for key, port in capture.ports.items():
        family = 6 if ":" in key.vip else 4
        if key in capture.refusing and key.protocol is Protocol.UDP:
            continue
        protocol = key.protocol.lower()
        found.setdefault(f"ports{family}", set()).add(f"{key.vip} . {protocol} . {key.port} : {port}")
        found.setdefault(f"origins{family}", set()).add(f"{key.vip} . {protocol} . {port} : {key.port}")
        if key in capture.refusing:
            found.setdefault(f"refusing{family}", set()).add(f"{key.vip} . {protocol} . {key.port}")
    return found


def routed(host: Namespace) -> dict[str, set[str]]:
    """Give the VIPs that are routed, by table number, as ip prints them."""
    found: dict[str, set[str]] = {}
    for number in ("9701", "9703", "local"):
        for family in ("-4", "-6"):
            lines = host.run("ip", family, "route", "show", "table", "all", "proto", "97").splitlines()
            of_table = [line for line in lines if f" table {number} " in line]
            found.setdefault(number, set()).update(line.removeprefix("local ").split()[0] for line in of_table)
    return found


def rule_lines(host: Namespace) -> list[str]:
    """Give all policy rules that are ours, as ip prints them."""
    lines = [line for family in ("-4", "-6") for line in host.run("ip", family, "rule", "show").splitlines()]
    return [" ".join(line.split()) for line in lines if line.partition(":")[0] in {"970", "971", "972", "32970"}]
