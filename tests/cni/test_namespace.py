"""Entering namespaces: a thread moves and comes back, and what is no network namespace is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_bridge import namespace, sysctl
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns


@pytest.fixture
def path() -> Iterator[str]:
    made = Namespaces()
    (pod,) = made.make("pod")
    yield f"/run/netns/{pod.name}"
    made.remove()


def here() -> int:
    return os.stat(namespace.OWN).st_ino  # noqa: PTH116 - the number of the namespace itself


def test_inside_is_the_other_namespace_and_afterwards_the_own_one_again(path: str) -> None:
    home = here()
    descriptor = namespace.open_path(path)
    with namespace.Inside(descriptor):
        assert here() == Path(path).stat().st_ino
    assert here() == home
    os.close(descriptor)


def test_an_error_inside_leads_home_too_and_no_descriptor_stays_open(path: str) -> None:
    home, files = here(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
    descriptor = namespace.open_path(path)
    with pytest.raises(ZeroDivisionError), namespace.Inside(descriptor):
        _ = 1 // 0
    os.close(descriptor)
    assert (here(), len(os.listdir("/proc/self/fd"))) == (home, files)  # noqa: PTH208 - as above


@pytest.mark.parametrize("other", ["/proc/self/ns/mnt", "/etc/passwd", "/dev/null", "/proc/self/fd"])
def test_what_is_no_network_namespace_is_refused_and_closed(other: str) -> None:
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
    with pytest.raises(namespace.NotANamespace, match=f'"{other}" is not a network namespace'):
        namespace.open_path(other)
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208 - as above


def test_a_path_that_is_not_there_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        namespace.open_path("/run/netns/nowhere-at-all")


def test_entering_a_descriptor_that_is_no_namespace_tells_why() -> None:
    with Path("/etc/passwd").open("rb") as handle, pytest.raises(OSError, match="Invalid argument"):
        namespace.enter(handle.fileno())


def test_it_works_without_the_modules_that_cost_time(path: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {os.getcwd()!r}); from cni_bridge import namespace\n"  # noqa: PTH109 - the tree under test
        f"namespace.enter(namespace.open_path({path!r}))\n"
        "print(open('/proc/self/net/dev').read().count(':'), sorted({'ctypes', 'struct', 're', 'socket'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n"), done.stdout


def test_settings_are_those_of_the_namespace_that_one_is_in(path: str) -> None:
    before = sysctl.read("ipv4/conf/lo/arp_notify")
    descriptor = namespace.open_path(path)
    with namespace.Inside(descriptor):
        assert sysctl.read("ipv4/conf/lo/arp_notify") == "0"
        sysctl.write("ipv4/conf/lo/arp_notify", "1")
        assert sysctl.read("ipv4/conf/lo/arp_notify") == "1"
        sysctl.ensure("ipv4/ip_forward", "1")
        assert sysctl.read("ipv4/ip_forward") == "1"
        sysctl.write_if_there("ipv4/conf/lo/no_such_setting", "1")
        with pytest.raises(FileNotFoundError):
            sysctl.write("ipv4/conf/lo/no_such_setting", "1")
    assert sysctl.read("ipv4/conf/lo/arp_notify") == before
    os.close(descriptor)
