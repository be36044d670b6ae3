"""The file of --config changes under a uproxy that serves: what can be applied is, without touching what is open."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.lab import client
from tests.lab.process import METRICS_PORT, run_once
from tests.lab.servers import PORT
from tests.lab.stand import Stand
from tests.lab.waiting import eventually
from tests.lab.ways import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.manifests import Served

pytestmark = pytest.mark.netns

OWN: Final = "apiVersion: uproxy.io/v1alpha1\nkind: UproxyConfiguration\n"
KUBE_PROXY: Final = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
NOTICED: Final = 5.0
"""Seconds within which a change is applied: noticing takes about one."""
EVERY_LINE: Final = "logging: {repeatInterval: 1ms}"
"""Logging without counting what repeats: a test waits for the line."""
CHECK: Final = 31001
"""A healthCheckNodePort."""


class Live:
    """A stand with a running uproxy, and the file that it follows."""

    def __init__(self, stand: Stand, file: Path, *flags: str, settings: str = "") -> None:
        self.stand = stand
        self.file = file
        self.write(settings)
        self.uproxy = stand.start("--config", str(file), *flags)

    def write(self, settings: str = "", kube_proxy: str = "") -> None:
        """Replace the file in one step."""
        logging = "" if "logging" in settings else EVERY_LINE
        replace_text(self.file, f"{OWN}{logging}\n{settings}\n---\n{KUBE_PROXY}{kube_proxy}\n")

    def change(self, settings: str = "", kube_proxy: str = "", event: str = "configuration_applied") -> str:
        """Replace the file, wait until that is logged, and give the line."""
        seen = len(self.uproxy.lines)
        self.write(settings, kube_proxy)
        return self.uproxy.wait_for_log(event, within=NOTICED, after=seen)

    def configz(self) -> dict[str, Any]:
        """Give the settings in force."""
        found: dict[str, Any] = json.loads(self.uproxy.get("/configz", METRICS_PORT).body)
        return found

    def settle(self) -> None:
        """Go back to the settings that every test begins with."""
        self.write()
        eventually(lambda: is_as_at_the_start(self), within=NOTICED)


def replace_text(file: Path, text: str) -> None:
    staged = file.with_suffix(".staged")
    staged.write_text(text)
    staged.replace(file)


def is_as_at_the_start(live: Live) -> bool:
    metrics = live.uproxy.metrics()
    return live.configz()["uproxy.io"] == ORIGINAL[live.uproxy.pid] and not metrics["uproxy_config_refused"] + pending(metrics)


ORIGINAL: dict[int, dict[str, Any]] = {}
"""The settings that a uproxy started with, by its process id."""


def pending(metrics: dict[str, float]) -> float:
    return metrics.get("uproxy_config_pending_restart", 0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    with Stand(folder) as stand:
        live = Live(stand, folder / "config.yaml")
        ORIGINAL[live.uproxy.pid] = live.configz()["uproxy.io"]
        yield live


@pytest.fixture
def live(running: Live) -> Iterator[Live]:
    yield running
    running.settle()


@contextmanager
def conversation(live: Live, who: str, address: str, port: int) -> Iterator[None]:
    """Have a connection open meanwhile; both ends still see the same of each other afterwards."""
    with client.tcp(live.stand.lab[who], address, port) as open_one:
        before = client.who(open_one)
        yield
        assert client.who(open_one) == before


def serve(live: Live, name: str, **options: Any) -> Served:  # noqa: ANN401 - what a Service may have
    return live.stand.serve(name, live.stand.lab.pod2, **options)


def ask(live: Live, who: str, address: str, port: int) -> client.Answer:
    return client.ask(live.stand.lab[who], address, port, patience=client.POLLING)


@pytest.mark.parametrize("family", FAMILIES)
def test_node_ports_move_to_other_addresses_and_open_connections_stay(live: Live, family: int) -> None:
    served = serve(live, f"moving-{family}")
    node, loopback = live.stand.lab.node.address(family), "::1" if family == 6 else "127.0.0.1"
    assert client.is_refused(live.stand.lab.node, loopback, served.node_port)
    with conversation(live, "outside", node, served.node_port):
        line = live.change("nodePortAddresses: [localhost]")
        assert "nodePortAddresses" in line
        client.poll(live.stand.lab.node, loopback, served.node_port)
        client.poll_refusal(live.stand.lab.outside, node, served.node_port)
        live.change()
        client.poll(live.stand.lab.outside, node, served.node_port)
        client.poll_refusal(live.stand.lab.node, loopback, served.node_port)


def test_health_check_node_ports_follow_the_addresses(live: Live) -> None:
    live.stand.services.add(
        "checked", [(live.stand.lab.pod2.address(4), PORT)], external="Local", health_check=CHECK, ingress=[{"ip": "203.0.113.99"}]
    )
    node = live.stand.lab.node.address(4)
    eventually(partial(answers, live, "outside", node))
    live.change("nodePortAddresses: [localhost]")
    eventually(partial(answers, live, "node", "127.0.0.1"))
    eventually(lambda: not answers(live, "outside", node))


def answers(live: Live, who: str, address: str) -> bool:
    """Tell whether somebody listens on the health check's port."""
    try:
        client.tcp(live.stand.lab[who], address, CHECK, client.POLLING).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_the_clients_address_is_switched_for_new_connections(live: Live, family: int) -> None:
    served = serve(live, f"kept-{family}")
    pod, vip = live.stand.lab.pod, served.vip(family)
    assert ask(live, "pod", vip, served.port).address == pod.address(family)
    with conversation(live, "pod", vip, served.port):
        live.change(kube_proxy="iptables: {masqueradeAll: true}")
        assert ask(live, "pod", vip, served.port).address in live.stand.lab.node.every_address()
        live.change()
        assert ask(live, "pod", vip, served.port).address == pod.address(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_external_ips_are_switched_off_and_on_again(live: Live, family: int) -> None:
    served = serve(live, f"outer-{family}")
    with conversation(live, "outside", served.external(family), served.port), conversation(live, "pod", served.vip(family), served.port):
        live.change("allowExternalIps: false")
        eventually(lambda: not is_answered(live, served.external(family), served.port))
        assert ask(live, "pod", served.vip(family), served.port).name == "pod2"
        live.change("allowExternalIps: true")
        client.poll(live.stand.lab.outside, served.external(family), served.port)


def is_answered(live: Live, address: str, port: int) -> bool:
    try:
        ask(live, "outside", address, port)
    except OSError:
        return False
    return True


def test_a_shorter_resync_counts_at_once(live: Live) -> None:
    live.change("sync: {resync: 1h}")
    live.change("sync: {resync: 500ms}")
    first = rounds(live)
    eventually(lambda: rounds(live) >= first + 3)


def rounds(live: Live) -> float:
    return live.uproxy.metrics()["kubeproxy_sync_proxy_rules_duration_seconds_count"]


def test_logging_and_metrics_change_their_form(live: Live) -> None:
    serve(live, "measured")
    assert "uproxy_service_connections_accepted_total" not in live.uproxy.metrics()
    line = live.change("logging: {format: json, repeatInterval: 1ms}\nmetrics: {perService: true}")
    assert sorted(json.loads(line)["settings"]) == ["logging.format", "metrics.perService"]
    assert live.uproxy.metrics(service="measured")["uproxy_service_connections_accepted_total"] > 0
    assert live.change().startswith("{") is False


def test_what_cannot_be_applied_is_named_until_the_next_start_or_until_it_is_taken_back(live: Live) -> None:
    served = serve(live, "going-on")
    with conversation(live, "pod", served.vip(4), served.port):
        line = live.change("loop: asyncio\ntcp: {backlog: 5}\ndrainTimeout: 7s", event="configuration_pending")
        assert "loop" in line
        assert "tcp.backlog" in line
        assert "drainTimeout" not in line
        for setting in ("loop", "tcp.backlog"):
            assert pending(live.uproxy.metrics(setting=setting)) == 1
        in_force = live.configz()["uproxy.io"]
        assert (in_force["loop"], in_force["tcp"]["backlog"], in_force["drainTimeout"]) == ("uvloop", 1024, "7s")
        live.change()
        assert pending(live.uproxy.metrics()) == 0


@pytest.mark.parametrize("wrong", ["redirect: iptables", "[", "nodePortAddresses: [all]\nfoo: 1"], ids=["value", "syntax", "field"])
def test_a_file_that_is_wrong_changes_nothing(live: Live, wrong: str) -> None:
    served = serve(live, "unharmed")
    before = live.configz()
    with conversation(live, "pod", served.vip(4), served.port):
        line = live.change(wrong, event="configuration_refused")
        assert str(live.file) in line
        assert live.uproxy.metrics()["uproxy_config_refused"] == 1
        assert live.configz() == before
        assert ask(live, "pod", served.vip(4), served.port).name == "pod2"


def test_a_file_that_is_gone_changes_nothing_until_it_is_back(live: Live) -> None:
    before, seen = live.configz(), len(live.uproxy.lines)
    live.file.unlink()
    live.uproxy.wait_for_log("configuration_refused", "No such file", within=NOTICED, after=seen)
    assert live.configz() == before
    live.change("drainTimeout: 9s")
    assert live.configz()["uproxy.io"]["drainTimeout"] == "9s"
    assert live.uproxy.metrics()["uproxy_config_refused"] == 0


def test_fields_without_effect_are_named_in_one_warning_each(live: Live) -> None:
    seen = len(live.uproxy.lines)
    live.change("drainTimeout: 8s", "featureGates: {A: true}\nfuture: 1")
    live.change("drainTimeout: 9s", "featureGates: {A: true}\nfuture: 1")
    said = [line for line in live.uproxy.lines[seen:] if "configuration_passed_over" in line]
    assert len(said) == 2
    assert all(any(field in line for line in said) for field in ("featureGates", "future"))


def test_a_config_map_that_kubernetes_swaps_is_followed(stand: Stand, tmp_path: Path) -> None:
    """The kubelet makes a folder per version, and turns the link ..data over to the new one (pkg/volume/util/atomic_writer.go)."""
    folder = tmp_path / "mounted"
    swap(folder, EVERY_LINE, "first")
    (folder / "config.conf").symlink_to("..data/config.conf")
    uproxy = stand.start("--config", str(folder / "config.conf"))
    for version, seconds in (("second", 2), ("third", 3)):
        seen = len(uproxy.lines)
        swap(folder, f"drainTimeout: {seconds}s\n{EVERY_LINE}", version)
        uproxy.wait_for_log("configuration_applied", "drainTimeout", within=NOTICED, after=seen)
        assert json.loads(uproxy.get("/configz", METRICS_PORT).body)["uproxy.io"]["drainTimeout"] == f"{seconds}s"


def swap(folder: Path, settings: str, version: str) -> None:
    data, staged = folder / f"..{version}", folder / "..data_tmp"
    data.mkdir(parents=True)
    (data / "config.conf").write_text(OWN + settings)
    staged.symlink_to(data.name)
    former = (folder / "..data").resolve()
    staged.replace(folder / "..data")
    if former.name != "..data":
        (former / "config.conf").unlink()
        former.rmdir()


def test_a_folder_that_is_replaced_as_a_whole_is_followed(stand: Stand, tmp_path: Path) -> None:
    folder = tmp_path / "replaced"
    folder.mkdir()
    alone = Live(stand, folder / "config.yaml", settings="configCheck: 500ms")
    folder.rename(tmp_path / "former")
    alone.uproxy.wait_for_log("configuration_refused", within=NOTICED)
    folder.mkdir()
    alone.change("configCheck: 500ms\ndrainTimeout: 2s")
    alone.change("configCheck: 500ms\ndrainTimeout: 3s")


def test_with_exit_on_config_change_uproxy_drains_and_ends(stand: Stand, tmp_path: Path) -> None:
    alone = Live(stand, tmp_path / "config.yaml", "--exit-on-config-change")
    served = serve(alone, "drained")
    with client.tcp(stand.lab.pod, served.vip(4), served.port) as open_one:
        client.who(open_one)
        alone.change("drainTimeout: 1m", event="configuration_changed")
        alone.uproxy.wait_for_log("draining", "connections=1")
        client.who(open_one)
    assert alone.uproxy.wait() == 1
    assert "connections_cut=0" in alone.uproxy.lines[-1]


def test_with_exit_on_config_change_a_wrong_file_ends_nothing(stand: Stand, tmp_path: Path) -> None:
    alone = Live(stand, tmp_path / "config.yaml", settings="exitOnConfigChange: true")
    alone.change("redirect: iptables", event="configuration_refused")
    assert alone.uproxy.get("/healthz").status == 200
    alone.change("redirect: routes", event="configuration_changed")
    assert alone.uproxy.wait() == 1


def test_kube_proxys_flags_have_their_effect(stand: Stand) -> None:
    flags = ("--oom-score-adj=500", "--metrics-port=10349", "--nodeport-addresses=primary,localhost", "--profiling")
    uproxy = stand.start(*flags, "--ipvs-tcp-timeout=300ms")
    assert Path(f"/proc/{uproxy.pid}/oom_score_adj").read_text() == "500\n"
    settings = json.loads(uproxy.get("/configz", 10349).body)["kubeproxy.config.k8s.io"]
    assert (settings["oomScoreAdj"], settings["metricsBindAddress"]) == (500, "127.0.0.1:10349")
    assert settings["nodePortAddresses"] == ["primary", "localhost"]
    uproxy.wait_for_log("configuration_passed_over", "--profiling")
    served = stand.serve("silent", stand.lab.pod2)
    with client.tcp(stand.lab.pod, served.vip(4), served.port) as silent:
        client.who(silent)
        assert client.is_ended(silent)


def test_cleanup_is_a_flag_too(stand: Stand) -> None:
    stand.start().kill()
    assert "table inet uproxy" in stand.lab.node.namespace.run("nft", "list", "tables")
    done = run_once(stand.lab.node, "run", "--cleanup", "--config", "/does/not/exist")
    assert (done.returncode, "uproxy" in done.stdout) == (0, True)
    assert stand.lab.node.namespace.run("nft", "list", "tables") == ""
