"""The loopback plugin, beside Debian's Go one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cni.plugins import Answer, ours, reference
from tests.lab.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespaces import Namespace

pytestmark = pytest.mark.netns

CONFIG: dict[str, Any] = {"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}


@pytest.fixture
def pod() -> Iterator[Namespace]:
    made = Namespaces()
    yield made.make("pod")[0]
    made.remove()


def run(command: str, pod: Namespace, *, plugin: tuple[str, ...] = ours("loopback"), **config: object) -> Answer:
    names = {"CNI_COMMAND": command, "CNI_CONTAINERID": "cid1", "CNI_IFNAME": "lo", "CNI_NETNS": f"/run/netns/{pod.name}"}
    environment = {**names, "CNI_PATH": "/nowhere", "PATH": os.environ["PATH"]}
    stdin = json.dumps({**CONFIG, **config}).encode()
    done = subprocess.run([*plugin], input=stdin, env=environment, capture_output=True, check=False, timeout=60)
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def flags(pod: Namespace) -> list[str]:
    (found,) = json.loads(pod.run("ip", "-j", "link", "show", "lo"))
    return list(found["flags"])


def test_lo_comes_up_and_is_reported_as_the_reference_plugin_does(pod: Namespace) -> None:
    mine = run("ADD", pod)
    assert (mine.code, "UP" in flags(pod)) == (0, True)
    theirs = run("ADD", pod, plugin=reference("loopback"))
    assert {key: value for key, value in theirs.said.items() if key != "dns"} == mine.said


def test_lo_goes_down_with_del_and_a_second_del_is_no_error(pod: Namespace) -> None:
    run("ADD", pod)
    assert run("DEL", pod).code == 0
    assert "UP" not in flags(pod)
    assert run("DEL", pod).code == 0


def test_del_after_the_namespace_is_gone_is_no_error(pod: Namespace) -> None:
    subprocess.run(["ip", "netns", "del", pod.name], check=True)
    assert run("DEL", pod).code == 0
    Path("/run/netns", pod.name).touch()  # for the end of the test, which removes it


def test_check_wants_lo_up(pod: Namespace) -> None:
    result = run("ADD", pod).said
    assert run("CHECK", pod, prevResult=result).code == 0
    pod.ip("link set lo down")
    refused = run("CHECK", pod, prevResult=result)
    assert (refused.code, refused.said["code"]) == (1, 104)
    assert run("CHECK", pod).said["code"] == 7


def test_a_previous_result_is_passed_on(pod: Namespace) -> None:
    before = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/somewhere"}]}
    assert run("ADD", pod, prevResult=before).said == before


def test_a_foreign_address_on_lo_is_refused(pod: Namespace) -> None:
    pod.ip("addr add 10.9.9.9/32 dev lo")
    assert run("ADD", pod).said["code"] == 7


def test_status_and_gc_are_content(pod: Namespace) -> None:
    assert run("STATUS", pod, cniVersion="1.1.0").code == 0
    valid: dict[str, Any] = {"cni.dev/valid-attachments": []}
    assert run("GC", pod, cniVersion="1.1.0", **valid).code == 0
