"""Broken input for every plugin, for so many seconds: `python -m tests.cni.fuzz 60`, or `make fuzz`.

Whatever environment and stdin hold, a plugin ends with a result or an error object of its own codes, never with a bug (999)
and never without a word. Where atheris is installed it chooses the input by the branches that earlier input took, else
hypothesis chooses alone. It runs in a network namespace and below a root folder of its own: no input can reach the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback  # noqa: F401 - loaded now: below the new root there is no library
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hypothesis.internal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

try:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # there or not, and without types
except ImportError:
    atheris = None

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWNS: Final = 0x00020000
_KEYS: Final = (
    "cniVersion", "name", "type", "prevResult", "cni.dev/valid-attachments", "containerID", "ifname", "args", "cni", "runtimeConfig",
    "mac", "ips", "ipRanges", "portMappings", "hostPort", "containerPort", "protocol", "hostIP", "bridge", "isGateway",
    "isDefaultGateway", "forceAddress", "ipMasq", "ipMasqBackend", "mtu", "hairpinMode", "promiscMode", "vlan", "vlanTrunk", "minID",
    "maxID", "id", "preserveDefaultVlan", "macspoofchk", "enabledad", "disableContainerInterface", "portIsolation", "podPrefix", "ipam",
    "dns", "nameservers", "ranges", "subnet", "rangeStart", "rangeEnd", "gateway", "routes", "dst", "gw", "resolvConf", "dataDir",
    "resetAtBoot", "stickyAddresses", "lockTimeoutSeconds", "interfaces", "sandbox", "address", "interface", "backend", "snat", "masqAll",
    "markMasqBit", "externalSetMarkChain", "conditionsV4", "conditionsV6", "iptablesAdminChainName", "ingressPolicy",
)  # fmt: skip
_WORDS: Final = (
    "", "1.1.0", "0.2.0", "9", "net", "eth0", "c1", "host", "host-local", "static", "10.0.0.0/24", "10.0.0.5/32", "10.0.0.1", "fd00::/64",
    "fd00::1", "::ffff:1.2.3.4", "0.0.0.0/0", "02:00:00:00:00:01", "tcp", "nftables", "iptables", "isolated", "/", "../..", "\0",
    "\ud800", "é", "x" * 300,
)  # fmt: skip
_TEXTS: Final = st.one_of(st.sampled_from(_WORDS), st.text(max_size=8))
_SCALARS: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([0, 1, 80, 4094, 1 << 31, 1 << 64]), st.floats(), _TEXTS
)
_VALUES: Final = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner, max_size=6),
    max_leaves=24,
)
_CONFIGS: Final = st.builds(
    lambda common, more: json.dumps({**common, **more}).encode("utf-8", "surrogatepass"),
    st.just({"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": []}),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8),
)
_RANGES: Final = [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/64"}]]
_NEARLY_RIGHT: Final = st.builds(
    lambda ipam, more: json.dumps(
        {"cniVersion": "1.1.0", "name": "net", "ipam": {"type": "host-local", "ranges": _RANGES, **ipam}, **more}
    ).encode(),
    st.dictionaries(st.sampled_from(_KEYS), _SCALARS, max_size=2),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=2),
)
_STDIN: Final = st.one_of(_NEARLY_RIGHT, _CONFIGS, st.builds(lambda value: json.dumps(value).encode(), _VALUES), st.binary(max_size=64))
_BYTES: Final = st.one_of(_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass").replace(b"\0", b"")), st.binary(max_size=8))
_COMMANDS: Final = st.sampled_from([b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION", b"", b"add"])
_ARGS: Final = st.sampled_from(
    [b"", b"IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", b"IP=10.0.0.3", b"MAC=02:00:00:00:00:09", b";=", b"\xff=\xff"]
)
_USUAL: Final = {b"CNI_CONTAINERID": b"c1", b"CNI_NETNS": b"/ns", b"CNI_IFNAME": b"eth0", b"CNI_PATH": b"/bin"}
_ENVIRONMENTS: Final = st.builds(
    lambda command, args, odd: {**_USUAL, b"CNI_COMMAND": command, b"CNI_ARGS": args, **odd},
    _COMMANDS,
    _ARGS,
    st.dictionaries(st.sampled_from([*_USUAL, b"CNI_COMMAND", b"CNI_ARGS"]), _BYTES, max_size=2),
)


def load() -> dict[str, Any]:
    """Load the package whole, and whatever else is loaded when it is needed first; give the plugins by name."""
    instrumented = atheris.instrument_imports(include=["cni_bridge"]) if atheris else contextlib.nullcontext()
    with instrumented:
        package = importlib.import_module("cni_bridge")
        names = [one.name for one in pkgutil.walk_packages(package.__path__, "cni_bridge.")]
        modules = {name: importlib.import_module(name) for name in names if name != "cni_bridge.bundled"}
    for one in pkgutil.walk_packages(hypothesis.internal.__path__, "hypothesis.internal."):
        importlib.import_module(one.name)
    plugins = [name for name, module in modules.items() if hasattr(module, "ABOUT")]
    return {name.removeprefix("cni_bridge.").partition(".")[0]: modules[name] for name in plugins}


def confine(folder: Path) -> None:
    """Move below a root folder and into a network namespace of our own, with another one at /ns. Raises OSError.

    Of the host there is /proc to read, and its part that shows the network namespace to write.
    """
    _unshare(_CLONE_NEWNET | _CLONE_NEWNS)
    proc, namespace = folder / "proc", folder / "ns"
    proc.mkdir()
    namespace.touch()
    _mount("--make-rprivate", "/")
    _mount("--bind", "/proc", str(proc))
    _mount("-o", "remount,bind,ro", str(proc))
    _mount("--bind", "/proc/sys/net", str(proc / "sys/net"))
    with ThreadPoolExecutor(1) as thread:
        pod = thread.submit(_other_namespace).result()
        _mount("--bind", pod, str(namespace))
    os.chroot(folder)
    os.chdir("/")


def _other_namespace() -> str:
    _unshare(_CLONE_NEWNET)
    return f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"


def _unshare(kinds: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(kinds):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: a namespace of our own, for no input may reach the host")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def target(plugins: dict[str, Any]) -> Callable[[], None]:
    """Give the property that no input may violate."""
    skeleton = importlib.import_module("cni_bridge.protocol.skeleton")

    @settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(plugin=st.sampled_from(sorted(plugins)), environment=_ENVIRONMENTS, stdin=_STDIN)
    def no_input_is_a_bug(plugin: str, environment: dict[bytes, bytes], stdin: bytes) -> None:
        code, stdout, stderr = skeleton.answer(plugins[plugin], environment, lambda: stdin)
        said = json.loads(stdout) if stdout else {}
        if code != (1 if "code" in said else 0) or said.get("code") == 999 or ("code" in said and not said["msg"]):
            raise AssertionError(f"{plugin} {environment} {stdin!r}: {code} {stdout!r}\n{stderr.decode(errors='replace')}")

    return no_input_is_a_bug


def main(seconds: int) -> int:
    """Try for so many seconds, in a process of its own; give its exit code."""
    with tempfile.TemporaryDirectory(prefix="cni-fuzz-") as folder:
        child = os.fork()
        if not child:
            _try(Path(folder), seconds)
            sys.exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _try(folder: Path, seconds: int) -> None:
    """Try until the time is over; an input that finds a bug is shown by the exception that ends this."""
    plugins = load()
    test = target(plugins)
    if atheris:
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], test.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]  # hypothesis puts it there
        importlib.import_module("atheris.core_with_libfuzzer")
        confine(folder)
        atheris.Fuzz()  # ends the process
    confine(folder)
    deadline, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        test()
        rounds += 1
    sys.stdout.write(f"{', '.join(sorted(plugins))}: {rounds},000 inputs, no bug\n")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root: the plugins run below a root folder and in a network namespace of their own")
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
