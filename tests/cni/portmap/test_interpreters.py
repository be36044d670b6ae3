"""The chained plugins under every interpreter there is, and what they load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cni.chained import named, ports
from tests.cni.plugins import ROOT, ours
from tests.cni.test_interpreters import CHEAP, INTERPRETERS

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

WEB = ports((8080, 80, "tcp"), (5353, 53, "udp"))
CONFIGS: dict[str, Json] = {
    "portmap with iptables": named("portmap", backend="iptables", runtimeConfig=WEB),
    "portmap with nftables": named("portmap", backend="nftables", runtimeConfig=WEB),
    "firewall": named("firewall"),
}
LOADED = """
import sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
import posix
exit = posix._exit
def end(code):
    sys.stderr.write(" ".join(name for name in sys.modules if name not in before and not name.startswith("cni_bridge")))
    sys.stderr.flush()
    exit(code)
posix._exit = end
from cni_bridge import executable
executable.run({plugin!r})
"""
HASHES = {"_sha512", "_sha2"}
"""One of which the interpreter has."""


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
@pytest.mark.parametrize("case", CONFIGS)
def test_a_plugin_does_its_work_under_each_interpreter(chain: Chain, case: str, python: str) -> None:
    config, pod = CONFIGS[case], chain.pod()
    argv = ours(config["type"], python)
    stale = {**config, "cni.dev/valid-attachments": []}
    for command in ("ADD", "CHECK", "DEL", "ADD", "STATUS"):
        chain.execute(argv, chain.environment(command, pod), {**config, "prevResult": pod.result}).result()
    assert "10.66.0.2" in str(chain.rules("nat") + chain.rules("filter") + chain.nft_rules())
    chain.execute(argv, chain.environment("GC", None), stale).result()
    assert "10.66.0.2" not in str(chain.rules("nat") + chain.rules("filter") + chain.nft_rules())


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("case", CONFIGS)
def test_a_plugin_loads_no_module_that_costs(chain: Chain, case: str, command: str, python: str) -> None:
    config, pod = CONFIGS[case], chain.pod()
    argv = (python, "-IS", "-c", LOADED.format(root=str(ROOT), plugin=config["type"]))
    answer = chain.execute(argv, chain.environment(command, pod), {**config, "prevResult": pod.result})
    assert answer.code == 0
    assert set(answer.stderr.split()) - CHEAP - HASHES == set()
