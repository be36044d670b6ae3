"""CHECK, GC, STATUS, and DEL that knows little: what is missing is found, what is stale goes, what is others' stays."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cni.bridge.node import Refused
from tests.cni.chained import NEW, Pod, named, ports, reference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cni.bridge.node import Json
    from tests.cni.chained import Chain

pytestmark = pytest.mark.netns

BACKENDS = ("iptables", "nftables")
WEB = (8080, 80, "tcp")
IPTABLES_OFFENCES = {
    "the way in": ("iptables -t nat -D PREROUTING 1", "-A PREROUTING -m addrtype"),
    "the way in from the host": ("ip6tables -t nat -D OUTPUT 1", "-A OUTPUT -m addrtype"),
    "masquerading": ("iptables -t nat -F CNI-HOSTPORT-MASQ", "-A CNI-HOSTPORT-MASQ -m mark"),
    "the mark": ("ip6tables -t nat -F CNI-HOSTPORT-SETMARK", "-A CNI-HOSTPORT-SETMARK"),
    "the way to the container": ("iptables -t nat -F CNI-HOSTPORT-DNAT", "-A CNI-HOSTPORT-DNAT"),
    "the container's chain": ("iptables -t nat -S | sed -n 's/^-N \\(CNI-DN-.*\\)/\\1/p' | xargs iptables -t nat -F", "--dport 8080"),
}
NFTABLES_OFFENCES = {
    "the way in": ("nft flush chain ip cni_hostport prerouting", "no rule leads from prerouting"),
    "the way in from the host": ("nft flush chain ip6 cni_hostport output", "no rule leads from output"),
    "the way on": ("nft flush chain ip cni_hostport hostports_all", "no rule leads from hostports_all"),
    "the port": ("nft flush chain ip cni_hostport hostports", "tcp port 8080 of the host leads nowhere"),
    "masquerading": ("nft flush chain ip6 cni_hostport masquerading", "are not masqueraded"),
}

FORGOTTEN: tuple[Json, ...] = ({"prevResult": None}, {"prevResult": None, "runtimeConfig": {}}, {"runtimeConfig": {}, "backend": ""})


def config_of(backend: str, *mappings: tuple[object, ...], **keys: object) -> Json:
    return named("portmap", backend=backend, runtimeConfig=ports(*(mappings or (WEB,))), **keys)


@pytest.mark.parametrize(
    ("backend", "offence"), [*[("iptables", name) for name in IPTABLES_OFFENCES], *[("nftables", name) for name in NFTABLES_OFFENCES]]
)
def test_check_finds_what_is_missing(chain: Chain, backend: str, offence: str) -> None:
    pod, config = chain.pod(), config_of(backend)
    chain.add(config, pod)
    chain.run("CHECK", config, pod).result()
    command, words = (IPTABLES_OFFENCES if backend == "iptables" else NFTABLES_OFFENCES)[offence]
    chain.host.run("sh", "-c", command)
    with pytest.raises(Refused) as refused:
        chain.run("CHECK", config, pod).result()
    assert refused.value.code == 104
    assert words in refused.value.said


@pytest.mark.parametrize("backend", BACKENDS)
def test_check_finds_another_port_than_the_configured_one(chain: Chain, backend: str) -> None:
    pod = chain.pod()
    chain.add(config_of(backend), pod)
    with pytest.raises(Refused, match="8080"):
        chain.run("CHECK", config_of(backend, (8080, 81, "tcp")), pod).result()


def test_check_without_ports_needs_nothing_but_a_previous_result(chain: Chain) -> None:
    pod = chain.pod()
    chain.run("CHECK", named("portmap"), pod).result()
    with pytest.raises(Refused, match="prevResult"):
        chain.run("CHECK", named("portmap", prevResult=None), pod).result()


@pytest.mark.parametrize(
    "forgotten", [{"prevResult": None}, {"prevResult": None, "runtimeConfig": {}}, {"runtimeConfig": {}, "backend": ""}]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_del_needs_neither_namespace_nor_result_nor_ports(chain: Chain, backend: str, forgotten: Json) -> None:
    pod, other = chain.pod(), chain.pod("cid2")
    chain.add(config_of(backend), pod)
    chain.add(config_of(backend, (8081, 80, "tcp")), other)
    chain.delete({**config_of(backend), **forgotten}, pod, CNI_NETNS="")
    left = str(chain.rules("nat")) + str(chain.nft_rules())
    assert "8080" not in left
    assert "8081" in left
    assert "cid1" not in left


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_container_in_two_networks_keeps_the_ports_of_the_other_one(chain: Chain, backend: str) -> None:
    pod = chain.pod()
    second = pod._replace(result={**pod.result, "ips": [{"address": "10.77.0.9/24"}]})
    chain.add(config_of(backend), pod)
    chain.add(config_of(backend, (8081, 80, "tcp"), name="net2"), second)
    chain.delete(config_of(backend, name="net2"), second)
    left = str(chain.rules("nat")) + str(chain.nft_rules())
    assert "8080" in left
    assert "8081" not in left


@pytest.mark.parametrize("backend", BACKENDS)
def test_gc_removes_what_is_stale_of_its_own_network_alone(chain: Chain, backend: str) -> None:
    pods = [chain.pod(f"cid{place}") for place in (1, 2, 3)]
    for place, (pod, network) in enumerate(zip(pods, ("net1", "net1", "net2"), strict=True)):
        chain.add(config_of(backend, (8001 + place, 80, "tcp"), name=network), pod)
    valid = [{"containerID": "cid2", "ifname": "eth0"}]
    chain.run("GC", {**config_of(backend), "cni.dev/valid-attachments": valid}).result()
    left = str(chain.rules("nat")) + str(chain.nft_rules())
    assert [port for port in ("8001", "8002", "8003") if port in left] == ["8002", "8003"]
    with pytest.raises(Refused, match="valid-attachments"):
        chain.run("GC", config_of(backend)).result()
    chain.run("GC", {**config_of(backend), "cni.dev/valid-attachments": None}).result()
    left = str(chain.rules("nat")) + str(chain.nft_rules())
    assert [port for port in ("8001", "8002", "8003") if port in left] == ["8003"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_status_tells_when_the_ports_that_there_are_have_become_unreachable(chain: Chain, backend: str) -> None:
    config, pod = config_of(backend), chain.pod()
    chain.run("STATUS", config).result()
    chain.add(config, pod)
    chain.run("STATUS", config).result()
    chain.host.run("sh", "-c", "iptables -t nat -F PREROUTING; nft flush chain ip cni_hostport prerouting 2>/dev/null; true")
    with pytest.raises(Refused) as refused:
        chain.run("STATUS", config).result()
    assert refused.value.code == 51


@pytest.mark.parametrize("backend", ["", *BACKENDS])
def test_status_and_add_tell_which_program_is_missing(chain: Chain, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "nowhere"
    wrapper.mkdir()
    monkeypatch.setattr(chain, "plugins", without_system_folders(chain, tmp_path))
    config = config_of(backend)
    with pytest.raises(Refused) as refused:
        chain.run("STATUS", config, PATH=str(wrapper)).result()
    assert refused.value.code == 50
    with pytest.raises(Refused, match=r"nft: there is no|iptables-save: there is no"):
        chain.run("ADD", config, chain.pod(), PATH=str(wrapper)).result()


def without_system_folders(chain: Chain, folder: Path) -> Path:
    """Give our plugin as it is on a machine where PATH is all that there is."""
    plugins = folder / "alone"
    plugins.mkdir()
    text = (chain.plugins / "portmap").read_text(encoding="utf-8")
    (plugins / "portmap").write_text(text.replace("from cni", "from cni_bridge import program\nprogram._SYSTEM_FOLDERS = ()\nfrom cni", 1))
    shutil.copymode(chain.plugins / "portmap", plugins / "portmap")
    return plugins


def test_nftables_is_used_where_iptables_is_not_there(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tmp_path / "nft-alone"
    alone.mkdir()
    found = shutil.which("nft")
    assert found
    (alone / "nft").symlink_to(found)
    monkeypatch.setattr(chain, "plugins", without_system_folders(chain, tmp_path))
    pod, config = chain.pod(), named("portmap", runtimeConfig=ports(WEB))
    chain.add(config, pod, PATH=str(alone))
    assert "tcp dport 8080 dnat to 10.66.0.2:80" in str(chain.nft_rules())
    chain.delete(config, pod, PATH=str(alone))
    assert "8080" not in str(chain.nft_rules())


def test_iptables_legacy_is_served_as_well(chain: Chain, tmp_path: Path) -> None:
    legacy = tmp_path / "legacy"
    legacy.mkdir()
    found = shutil.which("xtables-legacy-multi")
    if not found:
        pytest.skip("needs xtables-legacy-multi, which Debian's iptables has")
    for name in ("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"):
        (legacy / name).symlink_to(found)
    pod, config = chain.pod(), config_of("iptables", WEB, (5353, 53, "udp"))
    chain.add(config, pod, PATH=str(legacy))
    saved = chain.host.run(str(legacy / "iptables-save"), "-t", "nat")
    assert "--dport 8080 -j DNAT --to-destination 10.66.0.2:80" in saved
    chain.add(config, pod, PATH=str(legacy))
    assert chain.host.run(str(legacy / "iptables-save"), "-t", "nat").count(" -j ") == saved.count(" -j ")
    chain.run("CHECK", config, pod, PATH=str(legacy)).result()
    chain.delete(config, pod, PATH=str(legacy))
    assert "CNI-DN-" not in chain.host.run(str(legacy / "iptables-save"), "-t", "nat")


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_at_once_make_the_shared_rules_once_and_lose_none_of_their_own(chain: Chain, backend: str) -> None:
    pod = chain.pod()
    pods = [Pod(pod.namespace, f"cid{place}", {**pod.result, "ips": [{"address": f"10.66.0.{place}/24"}]}) for place in range(10, 26)]
    configs = [config_of(backend, (8000 + place, 80, "tcp")) for place in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(chain.add, configs, pods))
    rules = chain.rules("nat") if backend == "iptables" else chain.nft_rules()
    way_in = "-A PREROUTING" if backend == "iptables" else "fib daddr type local"
    assert len([rule for rule in rules if way_in in rule]) == (1 if backend == "iptables" else 2)
    assert len([rule for rule in rules if "--to-destination" in rule or "dnat to" in rule]) == 16
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(chain.delete, configs, pods))
    left = chain.rules("nat") + chain.nft_rules()
    assert [rule for rule in left if "--to-destination" in rule or "dnat to" in rule or "cid" in rule] == []


def test_without_ports_no_process_is_started(chain: Chain) -> None:
    pod, config = chain.pod(), named("portmap")
    for command in ("ADD", "DEL", "CHECK"):
        chain.run(command, config, pod, PATH="/nowhere").result()
    started = time.perf_counter()
    chain.delete(config, pod)
    assert time.perf_counter() - started < 0.5


def test_masquerading_of_the_reference_plugins_structure_is_found_and_completed(chain: Chain) -> None:
    theirs, pod, other = reference(NEW), chain.pod(), chain.pod("cid2")
    chain.add(config_of("nftables"), pod, theirs)
    chain.add(config_of("nftables", (8081, 80, "tcp")), other)
    chain.run("CHECK", config_of("nftables"), pod).result()
    chain.delete({**config_of("nftables"), "prevResult": None}, pod)
    left = str(chain.nft_rules())
    assert "8080" not in left
    assert "8081" in left
