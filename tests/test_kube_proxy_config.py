"""KubeProxyConfiguration and kube-proxy's flags: what becomes of each field, what is refused, what is said of the rest."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from uproxy import __version__
from uproxy.config import Config
from uproxy.config_documents import as_file, configz, flat
from uproxy.config_file import Flags, Loaded, load
from uproxy.errors import UsageError
from uproxy.kube_proxy_config import ALSO, DEALT_WITH, Remark, Said
from uproxy.kube_proxy_fields import BY_PATH, FIELDS, Field, Verdict

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
OWN_HEAD = "apiVersion: uproxy.io/v1alpha1\nkind: UproxyConfiguration\n"

KUBEADM = f"""{HEAD}
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {{maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null,
            udpStreamTimeout: 0s, udpTimeout: 0s}}
detectLocal: {{bridgeInterface: "", interfaceNamePrefix: ""}}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {{localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}}
ipvs: {{excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s,
       udpTimeout: 0s}}
logging: {{flushFrequency: 0, options: {{json: {{infoBufferSize: "0"}}, text: {{infoBufferSize: "0"}}}}, verbosity: 0}}
metricsBindAddress: ""
mode: ""
nftables: {{masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {{enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}}
"""
"""What kubeadm writes into the ConfigMap kube-proxy: every field, nearly all of them empty."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.conf"


def read(path: Path, text: str, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> Loaded:
    path.write_text(text, encoding="utf-8")
    return load(str(path), environ or {}, Flags(kube_proxy=flags or {}))


def by_flags(**flags: str) -> Loaded:
    return load("", {}, Flags(kube_proxy={name.replace("_", "-"): text for name, text in flags.items()}))


def changes(config: Config) -> dict[str, Any]:
    """Give the settings that do not have their defaults."""
    defaults = flat(Config())
    return {name: value for name, value in flat(config).items() if value != defaults[name]}


def test_what_kubeadm_writes_is_taken_without_a_word(path: Path) -> None:
    config, remarks = read(path, KUBEADM)
    assert remarks == []
    assert changes(config) == {
        "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf",
        "clusterCidrs": ["10.244.0.0/16"],
        "detectLocalMode": "ClusterCIDR",
    }


MEANINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "clientConnection.kubeconfig": ("{clientConnection: {kubeconfig: /k}}", {"kubeconfig": "/k"}),
    "logging.format": ("{logging: {format: json}}", {"logging.format": "json"}),
    "logging.verbosity": ("{logging: {verbosity: 2}}", {"logging.verbosity": 2}),
    "hostnameOverride": ("{hostnameOverride: ' Edge-1 '}", {"nodeName": "edge-1"}),
    "bindAddress": ("{bindAddress: 192.168.0.10}", {"bindAddress": "192.168.0.10"}),
    "healthzBindAddress": ("{healthzBindAddress: '127.0.0.1:1'}", {"healthzBindAddress": "127.0.0.1:1"}),
    "metricsBindAddress": ("{metricsBindAddress: '0.0.0.0:1'}", {"metricsBindAddress": "0.0.0.0:1"}),
    "bindAddressHardFail": ("{bindAddressHardFail: true}", {"bindAddressHardFail": True}),
    "mode": ("{mode: userspace}", {}),
    "iptables.masqueradeAll": ("{iptables: {masqueradeAll: true}}", {"keepClientAddress": "never"}),
    "iptables.localhostNodePorts": ("{iptables: {localhostNodePorts: true}}", {"nodePortAddresses": ["primary", "localhost"]}),
    "iptables.syncPeriod": ("{iptables: {syncPeriod: 1m}}", {"sync.resync": "1m"}),
    "iptables.minSyncPeriod": ("{iptables: {minSyncPeriod: 1s}}", {"sync.debounceLimit": "1s"}),
    "ipvs.scheduler": ("{ipvs: {scheduler: rr}}", {}),
    "ipvs.tcpTimeout": ("{ipvs: {tcpTimeout: 15m}}", {"tcp.idleTimeout": "15m"}),
    "ipvs.tcpFinTimeout": ("{ipvs: {tcpFinTimeout: 2m}}", {"tcp.halfCloseTimeout": "2m"}),
    "ipvs.udpTimeout": ("{ipvs: {udpTimeout: 5m}}", {"udp.answeredTimeout": "5m"}),
    "nftables.masqueradeAll": ("{nftables: {masqueradeAll: true}}", {"keepClientAddress": "never"}),
    "nftables.syncPeriod": ("{nftables: {syncPeriod: 1m}}", {"sync.resync": "1m"}),
    "nftables.minSyncPeriod": ("{nftables: {minSyncPeriod: 100ms}}", {"sync.debounceLimit": "100ms"}),
    "detectLocalMode": ("{detectLocalMode: NodeCIDR}", {"detectLocalMode": "NodeCIDR"}),
    "detectLocal.bridgeInterface": (
        "{detectLocalMode: BridgeInterface, detectLocal: {bridgeInterface: cni0}}",
        {"detectLocalMode": "BridgeInterface", "podBridgeInterface": "cni0"},
    ),
    "detectLocal.interfaceNamePrefix": (
        "{detectLocalMode: InterfaceNamePrefix, detectLocal: {interfaceNamePrefix: veth}}",
        {"detectLocalMode": "InterfaceNamePrefix", "podInterfaceNamePrefix": "veth"},
    ),
    "clusterCIDR": (
        "{clusterCIDR: '10.0.0.0/8,fd00::/8'}",
        {"clusterCidrs": ["10.0.0.0/8", "fd00::/8"], "detectLocalMode": "ClusterCIDR"},
    ),
    "nodePortAddresses": (
        "{nodePortAddresses: [primary, localhost, 10.0.0.0/8]}",
        {"nodePortAddresses": ["primary", "localhost", "10.0.0.0/8"]},
    ),
    "oomScoreAdj": ("{oomScoreAdj: -999}", {"oomScoreAdj": -999}),
    "portRange": ("{portRange: 10000+999}", {"capture.localPorts": [10000, 10999]}),
    "udpIdleTimeout": ("{udpIdleTimeout: 10s}", {"udp.answeredTimeout": "10s", "udp.unansweredTimeout": "10s"}),
}


@pytest.mark.parametrize("field", MEANINGS)
def test_a_field_that_means_something_here_becomes_a_setting(path: Path, field: str) -> None:
    settings, expected = MEANINGS[field]
    config, remarks = read(path, HEAD + yaml.safe_dump(yaml.safe_load(settings)))
    assert (changes(config), remarks) == (expected, [])


def test_every_field_that_means_something_is_among_the_examples() -> None:
    assert set(MEANINGS) == {field.path for field in BY_PATH.values() if field.verdict in {Verdict.Y, Verdict.R}}
    assert {field.name for field in FIELDS if field.verdict in {Verdict.A, Verdict.N} and field.setting} == set()
    assert {path for path in (*ALSO, *DEALT_WITH) if path not in BY_PATH} == set()


UNUSUAL: dict[str, Any] = {
    "text": "other", "switch": True, "number": 3, "decimal": 1.5, "duration": "7s", "list": ["10.0.0.0/8"], "map": {"A": True}, "any": "7s",
}  # fmt: skip
IGNORED = [field for field in FIELDS if field.verdict in {Verdict.A, Verdict.N}]


@pytest.mark.parametrize("field", [field for field in IGNORED if field.path], ids=lambda field: field.path)
def test_a_field_without_effect_is_named_with_its_reason(path: Path, field: Field) -> None:
    nested: Any = UNUSUAL[field.kind]
    for key in reversed(field.path.split(".")):
        nested = {key: nested}
    config, remarks = read(path, HEAD + yaml.safe_dump(nested))
    assert changes(config) == {}
    assert remarks == [Remark(f"{path}, document 1: {field.path}", f"has no effect: {field.meaning}")]


@pytest.mark.parametrize("field", [field for field in IGNORED if field.flag], ids=lambda field: field.flag)
def test_a_flag_without_effect_is_named_with_its_reason(field: Field) -> None:
    text = {"list": "10.0.0.0/8", "map": "A=true", "switch": "true"}.get(field.kind, str(UNUSUAL[field.kind]))
    config, remarks = load("", {}, Flags(kube_proxy={field.flag: text}))
    assert changes(config) == {}
    assert [remark.place for remark in remarks] == [f"--{field.flag}"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_kube_proxys_own_default_asks_for_nothing(path: Path, field: Field) -> None:
    nested: Any = field.default
    for key in reversed(field.path.split(".")):
        nested = {key: nested}
    if field.path:
        assert read(path, HEAD + yaml.safe_dump(nested)).remarks == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("mode: iptables", "mode: iptables is a mode of kube-proxy alone"),
        ("mode: ipvs", "mode: ipvs is a mode of kube-proxy alone"),
        ("mode: nftables", "mode: nftables is a mode of kube-proxy alone"),
        ("mode: kernelspace", "mode: kernelspace is a mode of kube-proxy alone"),
        ("mode: turbo", "mode: 'turbo' is not a mode (leave it empty, or write userspace)"),
        ("iptables: {syncPeriod: -1s}", "iptables.syncPeriod: must be greater than 0"),
        ("iptables: {syncPeriod: 5}", "iptables.syncPeriod: 5 is not a duration (write it like 250ms"),
        ("iptables: {syncPeriod: 5x}", "iptables.syncPeriod: not a duration: '5x' (write it like 250ms"),
        ("iptables: {minSyncPeriod: -1s}", "iptables.minSyncPeriod: must be greater than or equal to 0"),
        ("iptables: {minSyncPeriod: 31s}", "iptables.minSyncPeriod: 31s is longer than iptables.syncPeriod (30s)"),
        ("nftables: {minSyncPeriod: 3s, syncPeriod: 2s}", "nftables.minSyncPeriod: 3s is longer than nftables.syncPeriod (2s)"),
        ("configSyncPeriod: -1s", "configSyncPeriod: must be greater than 0"),
        ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit: must be within the range [0, 31]"),
        ("nftables: {masqueradeBit: -1}", "nftables.masqueradeBit: must be within the range [0, 31]"),
        ("oomScoreAdj: -1001", "oomScoreAdj: -1001 is not within the range [-1000, 1000]"),
        ("oomScoreAdj: low", "oomScoreAdj: 'low' is not a whole number"),
        ("bindAddress: node-1", "bindAddress: 'node-1' is not an IP address"),
        ("healthzBindAddress: 'node:80'", "healthzBindAddress: 'node:80' is not an IP address and a port"),
        ("healthzBindAddress: '0.0.0.0:0'", "healthzBindAddress: '0.0.0.0:0' is not an IP address and a port"),
        ("metricsBindAddress: '1.2.3.4:65536'", "metricsBindAddress: '1.2.3.4:65536' is not an IP address and a port"),
        ("nodePortAddresses: [10.0.0.0]", "nodePortAddresses: '10.0.0.0' is not a CIDR"),
        ("nodePortAddresses: 10.0.0.0/8", "nodePortAddresses: '10.0.0.0/8' is not a list of texts"),
        ("clusterCIDR: 10.0.0.0", "clusterCIDR: '10.0.0.0' is not a CIDR"),
        ("clusterCIDR: '10.0.0.0/8,10.1.0.0/16'", "clusterCIDR: '10.0.0.0/8,10.1.0.0/16' is more than one CIDR per family"),
        ("clusterCIDR: '10.0.0.0/8,fd00::/8,fd01::/16'", "is more than one CIDR per family (write it like 10.100.0.0/16,fde4"),
        ("detectLocalMode: BridgeInterface", "detectLocalMode: BridgeInterface needs podBridgeInterface (detectLocal.bridgeInterface"),
        ("detectLocalMode: InterfaceNamePrefix", "detectLocalMode: InterfaceNamePrefix needs podInterfaceNamePrefix"),
        ("detectLocalMode: Guess", "detectLocalMode: 'Guess' is not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"),
        ("portRange: 20000-10000", "portRange: '20000-10000' is not a range of ports"),
        ("portRange: some", "portRange: 'some' is not a range of ports"),
        ("portRange: 80-90", "portRange: 80 to 90 is not a range of ports from 1024 to 65535"),
        ("conntrack: {maxPerCore: -1}", "conntrack.maxPerCore: must be greater than or equal to 0"),
        ("conntrack: {min: -1}", "conntrack.min: must be greater than or equal to 0"),
        ("conntrack: {tcpEstablishedTimeout: -1s}", "conntrack.tcpEstablishedTimeout: must be greater than or equal to 0"),
        ("conntrack: {tcpCloseWaitTimeout: -1s}", "conntrack.tcpCloseWaitTimeout: must be greater than or equal to 0"),
        ("conntrack: {udpTimeout: -1s}", "conntrack.udpTimeout: must be greater than or equal to 0"),
        ("clientConnection: {burst: -1}", "clientConnection.burst: must be greater than or equal to 0"),
        ("ipvs: {scheduler: best}", "ipvs.scheduler: 'best' is not one of rr, wrr"),
        ("ipvs: {excludeCIDRs: [x]}", "ipvs.excludeCIDRs: 'x' is not a CIDR"),
        ("ipvs: {tcpFinTimeout: -1s}", "ipvs.tcpFinTimeout: must be greater than or equal to 0"),
        ("hostnameOverride: '  '", "hostnameOverride: is blank"),
        ("bindAddressHardFail: 'yes'", "bindAddressHardFail: 'yes' is not true or false"),
        ("udpIdleTimeout: -1s", "udpIdleTimeout: must be greater than 0"),
        ("iptables: 5", "iptables: must be a mapping, not 5"),
        ("logging: {format: xml}", "logging.format: 'xml' is not one of text, json"),
    ],
)
def test_a_wrong_field_is_refused_by_file_document_and_field(path: Path, settings: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(path, f"---\n{HEAD}{settings}\n")
    assert str(caught.value).startswith(f"{path}, document 1: {complaint.partition(':')[0]}" if ":" in complaint else str(path))
    assert complaint in str(caught.value)


ODD: tuple[str, ...] = (
    "2024-99-99", "[null]", "{1: 2}", ".inf", "1e400", "-0", f"'{'9' * 400}h'", "'fe80::1%eth0'", "'\u0661-\u0662'", '"\\0"',
    "!!int x", "{<<: 1}",
)  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_whatever_stands_in_a_field_it_is_taken_or_refused_in_one_line(path: Path, value: str) -> None:
    names = ((HEAD, name) for name in (*BY_PATH, "iptables", "future")), ((OWN_HEAD, name) for name in (*flat(Config()), "tcp"))
    for head, name in itertools.chain(*names):
        text = value
        for key in reversed(name.split(".")):
            text = f"{{{key}: {text}}}"
        found = taken_or_refused(path, f"{head}{text[1:-1]}\n")
        assert isinstance(found, Config) or "\n" not in found, name
        assert isinstance(found, str) or read(path, as_file(found)) == Loaded(found, []), name


def taken_or_refused(path: Path, text: str) -> Config | str:
    try:
        return read(path, text).config
    except UsageError as error:
        return str(error)


def test_unknown_fields_and_duplicate_keys_are_named_and_the_rest_counts(path: Path) -> None:
    iptables = "iptables: {syncPeriod: 5s, better: true, syncPeriod: 7s}"
    config, remarks = read(path, f"{HEAD}oomScoreAdj: 1\nfuture: 1\n{iptables}\noomScoreAdj: 2\n")
    assert changes(config) == {"oomScoreAdj": 2, "sync.resync": "7s"}
    place = f"{path}, document 1"
    assert [remark.place for remark in remarks] == [f"{place}: future", f"{place}: iptables.better", place, place]
    assert {remark.reason for remark in remarks} == {
        "is no field of KubeProxyConfiguration kubeproxy.config.k8s.io/v1alpha1",
        "syncPeriod (line 5) is there twice: the last one counts",
        "oomScoreAdj (line 6) is there twice: the last one counts",
    }


def test_another_version_of_the_document_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match=r"apiVersion: 'kubeproxy.config.k8s.io/v1' is not known \(write kubeproxy.config.k8s.io/v1alpha1"):
        read(path, "apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n")


def test_two_of_the_document_are_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="documents 1 and 2 are both of kind KubeProxyConfiguration"):
        read(path, f"{HEAD}---\n{HEAD}")


@pytest.mark.parametrize("own_first", [True, False])
def test_a_document_of_uproxys_own_beside_it_wins(path: Path, own_first: bool) -> None:  # noqa: FBT001 - a parameter of the test
    documents = [f"{OWN_HEAD}sync: {{resync: 5s}}\nmetricsBindAddress: ''\n", f"{HEAD}iptables: {{syncPeriod: 1m}}\noomScoreAdj: 5\n"]
    config, remarks = read(path, "---\n".join(documents if own_first else reversed(documents)))
    assert changes(config) == {"sync.resync": "5s", "metricsBindAddress": "", "oomScoreAdj": 5}
    assert remarks == []


def test_flags_win_over_both_documents_and_these_over_the_environment(path: Path) -> None:
    document = f"{HEAD}hostnameOverride: file\nhealthzBindAddress: 127.0.0.1:1\niptables: {{syncPeriod: 1m}}\n"
    text = f"{document}---\n{OWN_HEAD}sync: {{resync: 2m}}\n"
    environ = {"NODE_NAME": "environment", "UPROXY_HEALTHZ_BIND_ADDRESS": "127.0.0.1:3"}
    config = read(path, text, environ=environ).config
    assert changes(config) == {"nodeName": "file", "healthzBindAddress": "127.0.0.1:1", "sync.resync": "2m"}
    config = read(path, text, {"hostname-override": "Flag", "iptables-sync-period": "3m", "healthz-bind-address": ""}, environ).config
    assert changes(config) == {"nodeName": "flag", "healthzBindAddress": "", "sync.resync": "3m"}


def test_uproxys_own_flags_win_over_the_documents(path: Path) -> None:
    path.write_text(f"{HEAD}iptables: {{masqueradeAll: true}}\n", encoding="utf-8")
    flags = Flags(own={"keepClientAddress": Said("auto", "--keep-client-address")})
    assert changes(load(str(path), {}, flags).config) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0", "0.0.0.0:10256"), ("127.0.0.1", "127.0.0.1:10256"), ("::", "[::]:10256"), ("::1", "[::1]:10256"), ("[::1]:7", "[::1]:7")],
)
def test_a_bare_address_gets_the_default_port(path: Path, text: str, expected: str) -> None:
    assert read(path, f"{HEAD}healthzBindAddress: '{text}'\n").config.healthz_bind_address == expected
    assert by_flags(healthz_bind_address=text).config.healthz_bind_address == expected
    assert by_flags(metrics_bind_address=text).config.metrics_bind_address == expected.replace("10256", "10249")


def test_an_ipv6_bind_address_moves_health_and_metrics_unless_they_are_said(path: Path) -> None:
    moved = {"healthzBindAddress": "[::]:10256", "metricsBindAddress": "[::1]:10249"}
    assert changes(read(path, f"{HEAD}bindAddress: '::'\n").config) == moved
    config = read(path, f"{HEAD}healthzBindAddress: 127.0.0.1:1\n", {"bind-address": "fd00::1"}).config
    assert changes(config) == {"bindAddress": "fd00::1", "healthzBindAddress": "127.0.0.1:1", "metricsBindAddress": "[::1]:10249"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"healthz_port": "0"}, {"healthzBindAddress": ""}),
        ({"healthz_port": "8080"}, {"healthzBindAddress": "0.0.0.0:8080"}),
        ({"metrics_port": "0"}, {"metricsBindAddress": ""}),
        ({"metrics_bind_address": ""}, {"metricsBindAddress": ""}),
        ({"master": "https://m"}, {"master": "https://m"}),
        ({"masquerade_all": "T"}, {"keepClientAddress": "never"}),
        ({"masquerade_all": "0"}, {}),
        ({"nodeport_addresses": "primary, 10.0.0.0/8"}, {"nodePortAddresses": ["primary", "10.0.0.0/8"]}),
        ({"iptables_localhost_nodeports": "true", "nodeport_addresses": "all"}, {"nodePortAddresses": ["all"]}),
        ({"oom_score_adj": "0"}, {"oomScoreAdj": 0}),
        ({"proxy_port_range": "30000-30100"}, {"capture.localPorts": [30000, 30100]}),
        ({"udp_timeout": "250ms"}, {}),
        ({"udp_timeout": "1m"}, {"udp.answeredTimeout": "1m", "udp.unansweredTimeout": "1m"}),
        ({"iptables_min_sync_period": "0s"}, {}),
        ({"v": "2"}, {"logging.verbosity": 2}),
        ({"feature_gates": ""}, {}),
        ({"proxy_mode": "userspace"}, {}),
        ({"cluster_cidr": "10.0.0.0/8", "detect_local_mode": "NodeCIDR"}, {"clusterCidrs": ["10.0.0.0/8"], "detectLocalMode": "NodeCIDR"}),
    ],
    ids=str,
)
def test_flags_mean_what_they_mean_to_kube_proxy(flags: dict[str, str], expected: dict[str, Any]) -> None:
    config, remarks = by_flags(**flags)
    assert (changes(config), remarks) == (expected, [])


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"iptables_sync_period": "0s"}, "--iptables-sync-period: must be greater than 0"),
        ({"proxy_mode": "ipvs"}, "--proxy-mode: ipvs is a mode of kube-proxy alone"),
        ({"masquerade_all": "maybe"}, "--masquerade-all: 'maybe' is not true or false"),
        ({"oom_score_adj": "much"}, "--oom-score-adj: 'much' is not a whole number"),
        ({"oom_score_adj": "2000"}, "--oom-score-adj: 2000 is not within the range"),
        ({"detect_local_mode": "BridgeInterface"}, "--detect-local-mode: BridgeInterface needs podBridgeInterface"),
        ({"healthz_port": "70000"}, "--healthz-port: 70000 is not a port"),
        ({"v": "much"}, "-v: 'much' is not a whole number"),
        ({"feature_gates": "A=maybe"}, "--feature-gates: 'A=maybe' is not a mapping"),
    ],
    ids=str,
)
def test_a_wrong_flag_is_refused_by_its_name(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        by_flags(**flags)
    assert str(caught.value).startswith(complaint)


def test_the_companion_of_a_mode_may_come_from_elsewhere(path: Path) -> None:
    config = read(path, f"{HEAD}detectLocalMode: BridgeInterface\n", {"pod-bridge-interface": "cni0"}).config
    assert (config.detect_local_mode, config.pod_bridge_interface) == ("BridgeInterface", "cni0")


def test_cluster_cidr_as_a_mode_without_a_cidr_is_remarked_and_not_used(path: Path) -> None:
    config, remarks = read(path, f"{HEAD}detectLocalMode: ClusterCIDR\n")
    assert changes(config) == {}
    assert [remark.place for remark in remarks] == [f"{path}, document 1: detectLocalMode"]
    assert read(path, f"{HEAD}detectLocalMode: ClusterCIDR\n", {"cluster-cidr": "10.0.0.0/8"}).remarks == []


def test_of_two_fields_for_one_setting_the_stronger_one_counts_and_the_other_is_named(path: Path) -> None:
    config, remarks = read(path, f"{HEAD}nftables: {{syncPeriod: 1m}}\niptables: {{syncPeriod: 2m}}\n")
    assert changes(config) == {"sync.resync": "2m"}
    assert remarks == [
        Remark(
            f"{path}, document 1: nftables.syncPeriod",
            f"has no effect: {path}, document 1: iptables.syncPeriod says otherwise and is stronger",
        )
    ]


def test_another_scheduler_is_remarked_with_what_to_use_instead(path: Path) -> None:
    ((place, reason),) = read(path, f"{HEAD}ipvs: {{scheduler: lc}}\n").remarks
    assert place.endswith("ipvs.scheduler")
    assert "uproxy.io/balance" in reason


SOME: str = f"{OWN_HEAD}healthzBindAddress: ''\noomScoreAdj: 3\ntcp: {{halfCloseTimeout: 1500ms, idleTimeout: 1h}}\n"


@pytest.mark.parametrize("text", [OWN_HEAD, KUBEADM, SOME])
def test_what_is_written_out_gives_the_same_settings_again_without_a_remark(path: Path, text: str) -> None:
    config = read(path, text).config
    assert read(path, as_file(config)) == Loaded(config, [])
    assert [document["kind"] for document in yaml.safe_load_all(as_file(config))] == ["KubeProxyConfiguration", "UproxyConfiguration"]


def test_every_kube_proxy_document_alone_says_what_it_can(path: Path) -> None:
    settings = {"nodePortAddresses": ["localhost"], "keepClientAddress": "never", "oomScoreAdj": -5, "tcp": {"idleTimeout": "1h"}}
    settings["capture"] = {"localPorts": [10000, 10100]}
    config = read(path, OWN_HEAD + yaml.safe_dump(settings)).config
    assert read(path, yaml.safe_dump(configz(config)["kubeproxy.config.k8s.io"])) == Loaded(config, [])
    assert json.loads(json.dumps(configz(config)))["uproxy.io"]["capture"]["localPorts"] == [10000, 10100]


def uproxy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uproxy", "run", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip


def test_the_effective_settings_are_written_to_a_file(path: Path, tmp_path: Path) -> None:
    path.write_text(KUBEADM, encoding="utf-8")
    written = tmp_path / "written.yaml"
    done = uproxy("--config", str(path), "--hostname-override=Node", "-v=2", "--masquerade-all", "--write-config-to", str(written))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert load(str(written), {}) == load(str(path), {}, Flags({}, {"hostname-override": "node", "v": "2", "masquerade-all": "true"}))


@pytest.mark.parametrize("verbosity", [("-v", "3"), ("-v=3",), ("--v=3",), ("-v3",)])
def test_verbosity_is_written_as_programs_of_kubernetes_take_it(tmp_path: Path, verbosity: tuple[str, ...]) -> None:
    written = tmp_path / "written.yaml"
    assert uproxy(*verbosity, "--write-config-to", str(written)).returncode == 0
    assert load(str(written), {}).config.logging.verbosity == 3


def test_lists_may_be_given_in_several_flags(tmp_path: Path) -> None:
    written = tmp_path / "written.yaml"
    done = uproxy("--nodeport-addresses=primary", "--nodeport-addresses", "10.0.0.0/8,localhost", "--write-config-to", str(written))
    assert done.returncode == 0
    assert load(str(written), {}).config.node_port_addresses == ("primary", "10.0.0.0/8", "localhost")


def test_a_file_that_cannot_be_written_is_named() -> None:
    done = uproxy("--write-config-to", "/does/not/exist")
    assert (done.returncode, done.stderr) == (2, "error: --write-config-to /does/not/exist: No such file or directory\n")


@pytest.mark.parametrize("flag", ["--version", "--version=true", "--version=raw"])
def test_the_version_is_a_flag_too(flag: str) -> None:
    done = uproxy(flag)
    assert (done.returncode, done.stdout) == (0, f"uproxy {__version__}\n")


def test_init_only_has_nothing_to_do_but_to_check_the_settings(path: Path) -> None:
    assert uproxy("--init-only").returncode == 0
    path.write_text(f"{HEAD}mode: ipvs\n", encoding="utf-8")
    done = uproxy("--init-only", f"--config={path}")
    assert done.returncode == 2
    assert "mode: ipvs is a mode of kube-proxy alone" in done.stderr


@pytest.mark.parametrize("exits", ["--init-only", "--write-config-to=/dev/null"])
def test_what_is_passed_over_is_said_where_nothing_is_served(path: Path, exits: str) -> None:
    path.write_text(f"{HEAD}enableProfiling: true\n", encoding="utf-8")
    done = uproxy(exits, f"--config={path}", "--windows-service")
    assert (done.returncode, done.stderr.splitlines()) == (0, [
        f"warning: {path}, document 1: enableProfiling: has no effect: there is no /debug/pprof",
        "warning: --windows-service: has no effect: uproxy runs on Linux",
    ])  # fmt: skip


def test_every_flag_of_kube_proxy_is_taken(tmp_path: Path) -> None:
    flags = [f"--{field.flag}={_text(field)}" for field in FIELDS if field.flag and field.flag not in {"bind-address", "v"}]
    done = uproxy(*flags, "--write-config-to", str(tmp_path / "written.yaml"))
    assert (done.returncode, done.stderr) == (0, "")


def _text(field: Field) -> str:
    if field.kind == "switch":
        return str(field.default).lower()
    return "" if field.default in ([], {}) else str(field.default)
