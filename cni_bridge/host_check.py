"""What this host lacks for the plugins, and how to get it.

Owns the questions and the advice; changes nothing. What the kernel can do is tried, in a network namespace of a thread
that ends: loading modules by their names would say less. Every finding is one line.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cni_bridge import bundle, home, interpreter, sysctl
from cni_bridge import install as installation
from cni_bridge.bridge import masquerade
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import link, nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_bridge.install import Place

_CLONE_NEWNET: Final = 0x40000000
_MAC: Final = b"\x02\0\0\0\0\1"
_MODULES: Final = "Debian's kernels have it; Ubuntu's small ones: apt-get install linux-modules-extra-$(uname -r)"
_IPV6: Final = Path("/proc/sys/net/ipv6")


Ability = tuple["Grade", str, "Callable[[], object]", str]
"""What its lack means, what it is, how it is tried, and the kernel's options for it."""


class Grade(Enum):
    """What a finding means."""

    FINE = "ok"
    NOTE = "note"
    MISSING = "missing"


class Finding(NamedTuple):
    """One line: what was looked at, and what to do about it unless it is fine."""

    grade: Grade
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.grade.value:8}{self.what}" + (f": {self.advice}" if self.advice else "")


def findings(place: Place, python: str = "") -> Iterator[Finding]:
    """Look at the interpreter, the installation, the kernel, the programs and the settings, in this order."""
    yield _of_interpreter(python)
    yield from _of_installation(place)
    with ThreadPoolExecutor(1) as thread:
        yield from thread.submit(_of_kernel).result()
    yield from _of_programs()
    yield from _of_settings()


def _of_interpreter(path: str) -> Finding:
    try:
        found = interpreter.find(path)
    except interpreter.Unusable as reason:
        return Finding(Grade.MISSING, "interpreter", f"{reason} (Debian: apt-get install python3)")
    what = f"interpreter {found.path}, Python {'.'.join(map(str, found.version))}"
    if found.missing:
        slower = f"it has no {', '.join(found.missing)}; every start is slower without (Debian: apt-get install libpython3-stdlib)"
        return Finding(Grade.NOTE, what, slower)
    return Finding(Grade.FINE, what)


def _of_installation(place: Place) -> Iterator[Finding]:
    there = installation.installed(place)
    for name in installation.plugins():
        what = f"plugin {place.bin_dir}/{name}"
        if name not in there:
            other = "it is another program" if (place.bin / name).exists() else "it is not there"
            yield Finding(Grade.MISSING, what, f"{other}; run `cni-bridge install --bin-dir {place.bin_dir}`")
            continue
        wrong = _wrong_with(there[name])
        yield Finding(Grade.MISSING, what, f"{wrong}; run `cni-bridge install` again") if wrong else Finding(Grade.FINE, what)


def _wrong_with(said: dict[str, str]) -> str:
    """Compare an executable with what it needs; empty when all is there."""
    try:
        found = interpreter.find(said["python"])
    except interpreter.Unusable as reason:
        return str(reason)
    if found.magic != said["magic"]:
        return f"{said['python']} is not the Python {said['version']} that it was installed for"
    folder = Path(said["folder"])
    if not (folder / f"{said['name']}.bundle").is_file() or not (folder / bundle.PACKAGE).is_dir() or not (folder / home.LINK).is_symlink():
        return f"{said['folder']} is not whole"
    if not folder.name.startswith(installation.digest()):
        return "another version of cni_bridge installed it"
    return ""


def _of_kernel() -> list[Finding]:
    """Try what the plugins do, in a namespace that goes with this thread."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        reason = os.strerror(ctypes.get_errno())
        return [Finding(Grade.NOTE, "kernel", f"nothing could be tried ({reason}): run this as root")]
    with Connection() as routing, Connection(sockets.NETFILTER) as filtering:
        return [_try(*one) for one in _abilities(routing, filtering)]


def _abilities(routing: Connection, filtering: Connection) -> list[Ability]:
    """List what is tried, in an order in which later attempts find what earlier ones made."""
    return [
        (Grade.MISSING, "bridges", lambda: _make_bridge(routing, "bridge"), "CONFIG_BRIDGE"),
        (Grade.MISSING, "veth pairs", lambda: _make_pair(routing), "CONFIG_VETH"),
        (
            Grade.NOTE,
            'bridges that filter VLANs, for "vlan" and "vlanTrunk"',
            lambda: _make_bridge(routing, "vlans", vlan_filtering=True),
            "CONFIG_BRIDGE_VLAN_FILTERING",
        ),
        (
            Grade.NOTE,
            'masquerading by nftables, for "ipMasq"',
            lambda: masquerade.ensure("check", [(b"\xc0\0\2\0", 24)]),
            "CONFIG_NF_TABLES_INET, CONFIG_NFT_MASQ, CONFIG_NFT_NAT",
        ),
        (
            Grade.NOTE,
            'nftables at an interface\'s ingress, for "macspoofchk"',
            lambda: _guard(filtering),
            "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS",
        ),
    ]


def _try(without: Grade, what: str, attempt: Callable[[], object], options: str) -> Finding:
    try:
        attempt()
    except (NetlinkError, OSError) as reason:
        return Finding(without, what, f"{reason}; the kernel needs {options}; {_MODULES}")
    return Finding(Grade.FINE, what)


def _make_bridge(connection: Connection, name: str, *, vlan_filtering: bool = False) -> None:
    connection.perform(link.create_bridge(name, _MAC, vlan_filtering=vlan_filtering))


def _make_pair(connection: Connection) -> None:
    connection.perform(link.create_veth(link.VethEnd("near", b"\x02\0\0\0\0\2"), link.VethEnd("far", b"\x02\0\0\0\0\3")))


def _guard(connection: Connection) -> None:
    table = nftables.Table(nftables.NETDEV, "check")
    chain = table.declare_chain("near", nftables.Hook("filter", nftables.INGRESS_HOOK, 0, "near"))
    nftables.commit(connection, [table.declare(), chain])


def _of_programs() -> Iterator[Finding]:
    """Look for what configurations may ask for; the defaults of bridge, host-local and loopback start no program."""
    for program in ("iptables", "ip6tables"):
        what = f'{program}, for the plugins firewall and portmap and "ipMasqBackend": "iptables"'
        if shutil.which(program):
            yield Finding(Grade.FINE, what)
        else:
            yield Finding(Grade.NOTE, what, "not in PATH (Debian: apt-get install iptables)")
    if (iptables := shutil.which("iptables")) is not None:
        listed = subprocess.run([iptables, "--wait", "2", "-S", "FORWARD"], capture_output=True, text=True, check=False)
        if listed.stdout.startswith("-P FORWARD DROP"):
            yield Finding(Grade.NOTE, "iptables' FORWARD drops by default", "put the plugin firewall behind bridge in the list of plugins")


def _of_settings() -> Iterator[Finding]:
    """Read the settings on which pods depend and that the plugins do not make themselves, or cannot."""
    yield _setting("ipv4/ip_forward", '"isGateway" turns it on at the first ADD')
    if _IPV6.is_dir():
        yield _setting("ipv6/conf/all/forwarding", '"isGateway" turns it on at the first ADD with an IPv6 address')
    else:
        yield Finding(Grade.NOTE, "net.ipv6", "this kernel has no IPv6: configure IPv4 addresses only")
    for family in ("iptables", "ip6tables"):
        key = f"bridge/bridge-nf-call-{family}"
        needed = "kube-proxy needs it for Services among pods of one node, uproxy does not"
        yield _setting(key, f"{needed}: modprobe br_netfilter, sysctl -w net.{key.replace('/', '.')}=1")


def _setting(key: str, advice: str) -> Finding:
    what = f"net.{key.replace('/', '.')}"
    try:
        value = sysctl.read(key)
    except OSError:
        return Finding(Grade.NOTE, f"{what} is not there", advice)
    return Finding(Grade.FINE, f"{what} = {value}") if value == "1" else Finding(Grade.NOTE, f"{what} = {value}", advice)
