"""Random histories of ADD, DEL, GC, CHECK, deaths, failures and reboots of a node, against a model of who is attached.

An attachment is whole, absent, or half: a request of its own died, or the node did. Only DEL and GC may follow then, as
runtimes have it, and what is left of a half one is nobody's business until they have run.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.cni.bridge.node import Refused, routes

if TYPE_CHECKING:
    from tests.cni.bridge.node import Json
    from tests.cni.faults.launched import Launched

pytestmark = pytest.mark.netns

V4, V6 = "10.61.0.0/29", "fd61::/124"
POOL: Final = 5  # a /29 less its first, its gateway and its last address
CONTAINERS: Final = ("c0", "c1", "c2", "c3", "c4", "c5")
KEYS: Final[Json] = {
    "cniVersion": "1.1.0", "isDefaultGateway": True, "podPrefix": "host", "ipMasq": True, "ipMasqBackend": "nftables", "macspoofchk": True
}  # fmt: skip
CONTAINER: Final = st.sampled_from(CONTAINERS)
NUMBER: Final = st.integers(0, 40)
"""Of a step that changes something."""


class Histories(RuleBasedStateMachine):
    """`whole` has the result of each whole attachment, `half` the names of half ones."""

    def __init__(self, node: Launched) -> None:
        super().__init__()
        self.node = node
        self.pods = dict(zip(CONTAINERS, node.pods, strict=True))
        self.config = node.config(V4, V6, **KEYS)
        self.whole: dict[str, Json] = {}
        self.half: set[str] = set()
        self.lose_everything()
        shutil.rmtree(node.store, ignore_errors=True)

    def lose_everything(self) -> None:
        """Take from kernel and pods what a reboot takes."""
        script = "ip link del cni0; for link in $(ip -o link show type veth | sed 's/.*: \\(.*\\)@.*/\\1/'); do ip link del $link; done"
        self.node.host.run("sh", "-c", f"exec 2>/dev/null; {script}; nft flush ruleset")
        self.node.host.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})

    def owners(self) -> dict[str, str]:
        """Read the store: address to container."""
        return {address: (self.node.store / "net1" / address).read_bytes().decode().partition("\r\n")[0] for address in self.node.leases()}

    @rule(container=CONTAINER)
    def add(self, container: str) -> None:
        if container in self.half:
            return
        before = self.node.traces()
        answer = self.node.run("ADD", self.config, self.pods[container], CNI_CONTAINERID=container)
        if answer.code == 0:
            assert container not in self.whole
            self.whole[container] = answer.result()
            return
        with pytest.raises(Refused) as refused:
            answer.result()
        assert refused.value.code == 101 if container not in self.whole else {103, 105}
        assert container in self.whole or len(set(self.owners().values())) >= POOL
        assert (self.node.traces().links, self.node.traces().leases) == (before.links, before.leases)

    @rule(container=CONTAINER, is_told_namespace=st.booleans(), is_told_result=st.booleans())
    def delete(self, container: str, *, is_told_namespace: bool, is_told_result: bool) -> None:
        result = {"prevResult": self.whole[container]} if is_told_result and container in self.whole else {}
        pod = self.pods[container] if is_told_namespace else None
        self.node.delete({**self.config, **result}, pod, CNI_CONTAINERID=container)
        self.whole.pop(container, None)
        self.half.discard(container)

    @rule(container=CONTAINER, verb=st.sampled_from(["ADD", "DEL"]), number=NUMBER, is_told_namespace=st.booleans())
    def die(self, container: str, verb: str, number: int, *, is_told_namespace: bool) -> None:
        if verb == "ADD" and (container in self.half or container in self.whole):
            return
        pod = self.pods[container] if is_told_namespace or verb == "ADD" else None
        answer = self.node.strike(("killed", number), verb, self.config, pod, CNI_CONTAINERID=container)
        self.whole.pop(container, None)
        self.half.discard(container)
        if answer.code < 0:
            self.half.add(container)
        elif answer.code == 0 and verb == "ADD":
            self.whole[container] = answer.result()

    @rule(container=CONTAINER, fate=st.sampled_from(["refused", "unanswered"]), number=NUMBER)
    def fail(self, container: str, fate: str, number: int) -> None:
        if container in self.half or container in self.whole:
            return
        answer = self.node.strike((fate, number), "ADD", self.config, self.pods[container], CNI_CONTAINERID=container)
        if answer.code == 0:
            self.whole[container] = answer.result()

    @rule(valid=st.sets(CONTAINER), number=st.one_of(st.just(-1), NUMBER))
    def collect(self, valid: set[str], number: int) -> None:
        """Keep what the runtime lists; it dies at a step, or not at -1."""
        listed = [{"containerID": container, "ifname": "eth0"} for container in valid]
        answer = self.node.strike(("killed", number), "GC", {**self.config, "cni.dev/valid-attachments": listed})
        stale = (self.whole.keys() | self.half) - valid
        self.whole = {container: result for container, result in self.whole.items() if container in valid}
        self.half = self.half & valid if answer.code == 0 else (self.half & valid) | stale

    @rule()
    @precondition(lambda self: self.whole)
    def reboot(self) -> None:
        self.lose_everything()
        self.half |= self.whole.keys()
        self.whole = {}

    @rule(container=CONTAINER)
    @precondition(lambda self: self.whole)
    def check(self, container: str) -> None:
        if container in self.whole:
            self.node.check(self.config, self.whole[container], self.pods[container], CNI_CONTAINERID=container)

    @invariant()
    def whole_ones_have_everything_and_absent_ones_nothing(self) -> None:
        traces, owners = self.node.traces(), self.owners()
        given = {container: {ip["address"].partition("/")[0] for ip in result["ips"]} for container, result in self.whole.items()}
        for container in CONTAINERS:
            mine = {address for address, owner in owners.items() if owner == container}
            seen = (mine, traces.rules.count(f"id: {container}"), traces.rules.count(f"macspoofchk-{container}-"))
            if container not in self.half:
                assert seen == ((given[container], 2, 1) if container in self.whole else (set(), 0, 0)), container
        veths = len([name for name in traces.links if name.startswith("veth")])
        assert len(self.whole) <= veths <= len(self.whole) + len(self.half)
        led_to = set(re.findall(r"^(\S+) dev cni0 (?=.*proto 109|metric)", "\n".join(routes(self.node.host)), re.MULTILINE))
        led_to = {address for address in led_to if "/" not in address}
        wanted = {address for addresses in given.values() for address in addresses}
        assert wanted <= led_to <= wanted | {address for address, owner in owners.items() if owner in self.half}, (
            "a route outlives its lease"
        )


def test_any_history_leaves_what_the_model_says(node: Launched) -> None:
    for _ in CONTAINERS:
        node.pod()
    phases = (Phase.reuse, Phase.generate)  # shrinking would take minutes: a step is a process
    bounds = settings(max_examples=8, stateful_step_count=15, phases=phases, suppress_health_check=list(HealthCheck))

    class OnThisNode(Histories):
        def __init__(self) -> None:
            super().__init__(node)

    run_state_machine_as_test(OnThisNode, settings=bounds)
