"""A program that starts another one as the unit would: `python -m tests.deploy.confinement UID STATE-DIR PROGRAM...`.

As root, in a mount namespace that is about to be its own (`ip netns exec` and `unshare --mount` make one): files cannot
be written but below STATE-DIR, homes are empty, sysctls are read-only. setpriv makes it UID with the unit's capabilities and no
more. Then, as UID, the unit's system call filters are loaded: allow list, address families, no memory both writable
and executable, no namespaces. Not done here: what systemd does with devices, IPC, /tmp and cgroups.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Final

from tests.deploy import unit

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
KEPT_FLAGS: Final = {"nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x400, "relatime": 0x200000}
KERNELS: Final = ("/proc", "/sys", "/dev")
"""What ProtectSystem=strict leaves writable."""
ALLOW, ERRNO, EQUALS, MASKED = 0x7FFF0000, 0x00050000, 4, 7
SHM_EXEC: Final = 0o100000
CLONE_NEW: Final = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""The flags of clone(2) that make namespaces."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Comparison(ctypes.Structure):
    """What libseccomp calls scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def main(uid: str, state_dir: str, *argv: str) -> None:
    """Confine this process, then become the program."""
    _mount("none", "/", MS_REC | MS_PRIVATE)
    _open_ways(Path(sys.prefix), Path(sys.base_prefix), unit.PROJECT)
    _mount(state_dir, state_dir, MS_BIND)
    _make_read_only(state_dir)
    os.chdir(unit.PROJECT)
    # Raising the hard limit is systemd's right; root in a container has it not always.
    limit = min(int(unit.setting("LimitNOFILE")[0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    capabilities = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in unit.setting("AmbientCapabilities"))])
    bounding = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in unit.setting("CapabilityBoundingSet"))])
    os.umask(int(unit.setting("UMask")[0], 8))
    became = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
    became += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", f"--bounding-set={bounding}"]
    os.execvp(became[0], [*became, sys.executable, "-m", "tests.deploy.confinement", "--filtered", *argv])  # noqa: S606 - it is to become this


def filtered(*argv: str) -> None:
    """Load the filters, then become the program."""
    allowed = unit.allowed_system_calls()
    families = {getattr(socket, name) for name in unit.setting("RestrictAddressFamilies")}
    writable, executable = mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_EXEC
    _load(ALLOW, ERRNO | errno.EAFNOSUPPORT, [("socket", 0, EQUALS, number, 0) for number in range(64) if number not in families])
    assert unit.setting("MemoryDenyWriteExecute") == unit.setting("RestrictNamespaces") == ["yes"]
    _load(ALLOW, ERRNO | errno.EPERM, [(name, 0, MASKED, flag, flag) for name in ("clone", "unshare") for flag in CLONE_NEW])
    denied = [("mmap", 2, MASKED, writable, writable), ("shmat", 2, MASKED, SHM_EXEC, SHM_EXEC)]
    denied += [(name, 2, MASKED, executable, executable) for name in ("mprotect", "pkey_mprotect")]
    _load(ALLOW, ERRNO | errno.EPERM, denied)
    _load(ERRNO | errno.EPERM, ALLOW, [(name, 0, 0, 0, 0) for name in sorted(allowed)])
    os.execvp(argv[0], argv)  # noqa: S606 - as above


def _mount(source: str, target: str | Path, flags: int, kind: str = "", options: str = "") -> None:
    given = (source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None)
    if _LIBC.mount(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _open_ways(*wanted: Path) -> None:
    """Make paths reachable for everybody, where a folder above them is closed: an empty one takes its place with just them in it."""
    closed: dict[Path, list[Path]] = {Path("/home"): [], Path("/root"): []}
    for path in wanted:
        above = [folder for folder in reversed(path.resolve().parents) if folder in closed or not folder.stat().st_mode & 0o001]
        if above:
            closed.setdefault(above[0], []).append(path.resolve())
    handles = {path: os.open(path, os.O_PATH) for paths in closed.values() for path in paths}
    for folder, paths in closed.items():
        _mount("tmpfs", folder, 0, "tmpfs", "mode=755")
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{handles[path]}", path, MS_BIND | MS_REC)


def _make_read_only(state_dir: str) -> None:
    _mount("/proc/sys", "/proc/sys", MS_BIND)
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        _, _, _, _, place, options, *_ = line.split()
        is_kernels = any(place == kernels or place.startswith(f"{kernels}/") for kernels in KERNELS)
        if place == "/proc/sys" or not (is_kernels or place == state_dir):
            kept = sum(KEPT_FLAGS.get(option, 0) for option in options.split(","))
            _mount("none", place.encode().decode("unicode_escape"), MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def _load(default: int, action: int, rules: list[tuple[str, int, int, int, int]]) -> None:
    """Load one filter: action for calls that match a rule, (name, number of the argument, operator, two operands); default for others."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for name, *comparison in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others exist on other machines only
            conditions = (_Comparison * 1)(_Comparison(*comparison))
            failed = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, int(comparison[1] != 0), conditions)
            assert not failed, f"{name}: {os.strerror(-failed)}"
    failed = library.seccomp_load(context)
    assert not failed, os.strerror(-failed)


if __name__ == "__main__":
    (filtered if sys.argv[1] == "--filtered" else main)(*sys.argv[1 + (sys.argv[1] == "--filtered") :])
