"""Random histories of ADD, DEL, GC, crash and reboot, in process, against a model that is two dicts."""

from __future__ import annotations

import ipaddress
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cni_bridge.host_local import reboot, store, verbs
from cni_bridge.protocol.errors import ADDRESS_REFUSED, ALREADY_ALLOCATED, NO_FREE_ADDRESS, CniError
from cni_bridge.protocol.skeleton import Request
from tests.cni.host_local.configs import NAME, config, files, leases, request
from tests.cni.host_local.dying import Death, DyingSystem, exchanged, raise_death

SETS = (("10.0.0.0/29", "10.0.1.0/30"), ("fd00::/125",))
CONTAINERS = st.sampled_from(["a", "b", "c", "d", "e", "10.0.0.3"])
INTERFACES = st.sampled_from(["eth0", "net1"])


def pool(subnets: tuple[str, ...]) -> list[str]:
    """Write down what can be handed out: neither the network, the gateway after it nor IPv4's broadcast address."""
    networks = [ipaddress.ip_network(subnet) for subnet in subnets]
    return [str(host) for network in networks for host in list(network)[2 : len(list(network)) - (network.version == 4)]]


POOLS = [pool(subnets) for subnets in SETS]


class Histories(RuleBasedStateMachine):
    """`held` is address to owner, `last` the address that was handed out last from each set."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.held: dict[str, str] = {}
        self.last: list[str | None] = [None, None]
        self.boot = reboot.Boot("first", 0.0, float(2**40))
        self.patches = ExitStack()
        self.patches.enter_context(exchanged(reboot, "this_boot", lambda: self.boot))

    def teardown(self) -> None:
        self.patches.close()
        shutil.rmtree(self.folder)

    @initialize(resets=st.booleans())
    def begin(self, *, resets: bool) -> None:
        self.resets = resets
        ranges = [[{"subnet": subnet} for subnet in subnets] for subnets in SETS]
        self.config = config(self.folder, ranges=ranges, resetAtBoot=resets)

    def expected(self, index: int, owner: str) -> str | int:
        """Give the address that the model would hand out, or the code with which it refuses."""
        if any(self.held.get(address) == owner for address in POOLS[index]):
            return ALREADY_ALLOCATED
        last = self.last[index]
        begin = POOLS[index].index(last) + 1 if last else 0
        order = POOLS[index][begin:] + POOLS[index][:begin]
        return next((address for address in order if address not in self.held), NO_FREE_ADDRESS)

    @rule(container=CONTAINERS, ifname=INTERFACES)
    def add(self, container: str, ifname: str) -> None:
        """Both sets give the next free address, or nothing changes."""
        if self.resets:
            self.forget_earlier_boots()
        owner = f"{container} {ifname}"
        self.compare(owner, [self.expected(index, owner) for index in range(len(SETS))], request("ADD", self.config, container, ifname))

    @rule(container=CONTAINERS, ifname=INTERFACES, address=st.sampled_from(POOLS[0] + POOLS[1]))
    def add_with_a_wish(self, container: str, ifname: str, address: str) -> None:
        """Let the set that has the address give it or refuse; the other set does as always."""
        if self.resets:
            self.forget_earlier_boots()
        owner = f"{container} {ifname}"
        expected: list[str | int] = []
        for index, addresses in enumerate(POOLS):
            is_free = self.held.get(address, owner) == owner
            expected.append((address if is_free else ADDRESS_REFUSED) if address in addresses else self.expected(index, owner))
        self.compare(owner, expected, request("ADD", self.config, container, ifname, args=f"IP={address}"))

    def compare(self, owner: str, expected: list[str | int], asked: Request) -> None:
        """Ask, and want the expected addresses, or the code of the first set that refuses and no change."""
        refusals = [one for one in expected if isinstance(one, int)]
        if refusals:
            with pytest.raises(CniError) as refused:
                verbs.add(asked)
            assert refused.value.code == refusals[0]
            return
        given = [one["address"].partition("/")[0] for one in verbs.add(asked)["ips"]]
        assert given == expected
        self.held.update(dict.fromkeys(given, owner))
        self.last = list(given)

    @rule(container=CONTAINERS, ifname=INTERFACES)
    def delete(self, container: str, ifname: str) -> None:
        """All of the attachment's addresses are free again, also after a crash, also the second time."""
        verbs.del_(request("DEL", self.config, container, ifname))
        self.held = {address: owner for address, owner in self.held.items() if owner != f"{container} {ifname}"}
        assert f"{container} {ifname}" not in leases(self.folder).values()

    @rule(container=CONTAINERS, ifname=INTERFACES)
    def check(self, container: str, ifname: str) -> None:
        """CHECK succeeds exactly when something is held."""
        try:
            verbs.check(request("CHECK", self.config, container, ifname))
        except CniError:
            assert f"{container} {ifname}" not in self.held.values()
        else:
            assert f"{container} {ifname}" in self.held.values()

    @rule(valid=st.sets(st.tuples(CONTAINERS, INTERFACES)))
    def collect(self, valid: set[tuple[str, str]]) -> None:
        """Free what the runtime does not list."""
        listed = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
        verbs.gc(request("GC", {**self.config, "cni.dev/valid-attachments": listed}))
        keep = {f"{container} {ifname}" for container, ifname in valid}
        self.held = {address: owner for address, owner in self.held.items() if owner in keep}

    @rule(verb=st.sampled_from([verbs.add, verbs.del_]), container=CONTAINERS, ifname=INTERFACES, changes=st.integers(0, 12))
    def crash(self, verb: object, container: str, ifname: str, changes: int) -> None:
        """Die at one of the changes: other attachments keep what they had, and no lease is half written."""
        assert callable(verb)
        before, owner = leases(self.folder), f"{container} {ifname}"
        with exchanged(store, "posix", DyingSystem(changes, raise_death)), suppress(Death, CniError):
            verb(request("ADD", self.config, container, ifname))
        after = leases(self.folder)
        others = {address: name for address, name in after.items() if name != owner}
        kept = {address: name for address, name in before.items() if name != owner}
        assert others == kept or (self.resets and others.items() <= kept.items())
        self.held = after
        self.last = [self.last_in_store(0), self.last_in_store(1)]

    def last_in_store(self, index: int) -> str | None:
        return files(self.folder).get(f"last_reserved_ip.{index}", b"").decode() or None

    @rule()
    @precondition(lambda self: self.resets)
    def restart_the_machine(self) -> None:
        """Wait for the file system's clock to tick, so that what is written from now on is newer than all there is."""
        probe = self.folder / "probe"
        probe.touch()
        before = probe.stat().st_ctime
        while probe.stat().st_ctime <= before:
            probe.unlink()
            probe.touch()
        self.boot = reboot.Boot(f"{self.boot.id}+", probe.stat().st_ctime, self.boot.now)
        probe.unlink()

    def forget_earlier_boots(self) -> None:
        """Release in the model what is older than the present boot, if the store knows of another one."""
        known = files(self.folder).get("boot_id", b"").decode().strip()
        if known and known != self.boot.id:
            path = self.folder / NAME
            self.held = {address: owner for address, owner in self.held.items() if (path / address).stat().st_ctime >= self.boot.started}

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        assert leases(self.folder) == self.held
        assert [self.last_in_store(index) for index in range(len(SETS))] == self.last


Histories.TestCase.settings = settings(max_examples=300, stateful_step_count=30)
test_any_history_ends_in_what_the_model_says = Histories.TestCase
