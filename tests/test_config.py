"""Settings: durations, files, environment, and the words for what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from uproxy.config import Config
from uproxy.config_file import load
from uproxy.config_rules import Duration, host_and_port
from uproxy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: uproxy.io/v1alpha1\nkind: UproxyConfiguration\n"


def write(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("1.5s", 1.5), ("2m30s", 150), ("1h", 3600), ("0", 0), ("100us", 1e-4), ("100µs", 1e-4), (".5s", 0.5)],
)
def test_durations_are_read_as_go_writes_them(text: str, expected: float) -> None:
    assert Duration.parse(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["1ns", "1.5us", "250ms", "1500ms", "1h0.5s", "30s", "90m", "2562047h"])
def test_a_duration_that_is_written_out_is_read_as_the_same(text: str) -> None:
    duration = Duration.parse(text)
    assert Duration.parse(duration.text()) == pytest.approx(duration, abs=1e-10)


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-1s", "1d", "1s2", "one", "3000000h", f"{'9' * 400}s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 250ms"):
        Duration.parse(text)


def test_the_defaults_are_valid() -> None:
    assert list(map(float, Config().tcp.connect_timeouts)) == [0.25, 0.5, 1, 2]


def test_a_file_lies_over_the_environment_and_other_kinds_are_named(tmp_path: Path) -> None:
    other = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    path = write(tmp_path, f"{HEAD}redirect: none\ntcp: {{connectTimeouts: [1s]}}\n---\n{other}")
    config, remarks = load(path, {"UPROXY_REDIRECT": "routes", "NODE_NAME": " Edge-1 "})
    assert (config.redirect, config.node_name, list(map(float, config.tcp.connect_timeouts))) == ("none", "edge-1", [1.0])
    ((place, reason),) = remarks
    assert place == f"{path}, document 2"
    assert reason.startswith("kubelet.config.k8s.io/v1beta1 KubeletConfiguration is not read")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("tcp: {backlog: many}", "document 1: tcp.backlog: Expected `int`, got `str`"),
        ("tcp: {backlog: 0}", "tcp.backlog: 0 is less than 1"),
        ("tcp: {connectTimeouts: [1s, 2]}", "tcp.connectTimeouts[1]: 2 is not a duration (write it like 250ms, 30s or 1h30m)"),
        ("tcp: {connectTimeouts: []}", "tcp.connectTimeouts: 0 is less than 1"),
        ("drainTimeout: 0s", "drainTimeout: is not longer than 0"),
        ("tcp: {sourcePorts: [65535, 61000]}", "tcp.sourcePorts: 65535 to 61000 is not a range"),
        ("foo: 1", "document 1: foo: is not a setting"),
        ("tcp: {foo: 1}", "document 1: tcp.foo: is not a setting"),
        ("redirect: iptables", "redirect: 'iptables' is not one of nftables, routes, none"),
        ("capture: {deliverMark: 3}", "capture.deliverMark: 0x3 is not one bit of 32"),
        ("capture: {deliverMark: 2048}", "capture.sentMark: is the same bit as capture.deliverMark"),
        ("healthzBindAddress: '::1:80'", "healthzBindAddress: '::1:80' is not an IP address and a port"),
        ("nodePortAddresses: [10.0.0.0/33]", "nodePortAddresses: '10.0.0.0/33' is not a CIDR"),
        ("nodePortAddresses: [10.0.0.1]", "nodePortAddresses: '10.0.0.1' is not a CIDR"),
        ("nodePortAddresses: [first]", "nor one of primary, localhost, all"),
        ("detectLocalMode: Cluster", "detectLocalMode: 'Cluster' is not one of ClusterCIDR, NodeCIDR"),
        ("detectLocalMode: BridgeInterface", "detectLocalMode: BridgeInterface needs podBridgeInterface (detectLocal.bridgeInterface"),
        ("detectLocalMode: InterfaceNamePrefix", "detectLocalMode: InterfaceNamePrefix needs podInterfaceNamePrefix"),
        ("clusterCidrs: [10.0.0.0/8, 10.1.0.0/16]", "clusterCidrs: is more than one CIDR per family"),
        ("oomScoreAdj: 1001", "oomScoreAdj: 1001 is not within the range [-1000, 1000]"),
        ("bindAddress: node", "bindAddress: 'node' is not an IP address"),
        ("sync: {debounceLimit: 40s}", "sync.debounceLimit: 40s is longer than sync.resync"),
        ("logging: {verbosity: -1}", "logging.verbosity: -1 is less than 0"),
        ("tcp: 5", "document 1: tcp: Expected `object`, got `int`"),
        ("nodeName: Edge", "nodeName: 'Edge' is not lower case"),
        ("udp: {descriptorShare: 1.5}", "udp.descriptorShare: 1.5 is not between 0 and 1"),
    ],
)
def test_a_wrong_setting_is_refused_by_file_document_and_field(tmp_path: Path, settings: str, complaint: str) -> None:
    path = write(tmp_path, HEAD + settings + "\n")
    with pytest.raises(UsageError) as caught:
        load(path, {})
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(path)


BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "line 2: while parsing a flow node, did not find expected node content"),
        ("- 1\n", "document 1: is not a mapping"),
        (HEAD + "drainTimeout: 2024-99-99\n", "drainTimeout: not a duration: '2024-99-99'"),
        (HEAD + "drainTimeout: !!timestamp soon\n", "line 3: the tag 'tag:yaml.org,2002:timestamp' is not known here"),
        (HEAD + f"a: {'[' * 100_000}{']' * 100_000}\n", "line 3: nested deeper than 64 levels"),
        (HEAD + BOMB, "comes to more than 100000 values (aliases counted each time)"),
        ("", "holds no document of kind UproxyConfiguration or KubeProxyConfiguration"),
        ("# nothing\n---\n", "holds no document of kind"),
        ("apiVersion: v1\nkind: ConfigMap\n", "holds no document of kind"),
        ("drainTimeout: 5s\n", "document 1: says no kind (write kind: UproxyConfiguration"),
        (HEAD + "redirect: none\nredirect: routes\n", "document 1: redirect (line 4) is there twice"),
        (HEAD + "---\n" + HEAD, "documents 1 and 2 are both of kind UproxyConfiguration"),
        ("apiVersion: uproxy.io/v2\nkind: UproxyConfiguration\n", "apiVersion: 'uproxy.io/v2' is not known (write uproxy.io/v1alpha1)"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path, {})
    assert complaint in str(caught.value)
    assert path in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(str(tmp_path / "missing.yaml"), {})
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        load(str(tmp_path / "latin.yaml"), {})


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(UsageError, match=r"^UPROXY_REDIRECT: 'x' is not one of"):
        load("", {"UPROXY_REDIRECT": "x"})


@pytest.mark.parametrize("text", ["1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", "[1.2.3.4]:80", "::1:80", "host:80", "[::1]"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address and a port"):
        host_and_port("x", text)


@pytest.mark.parametrize(("text", "expected"), [("0.0.0.0:10256", ("0.0.0.0", 10256)), ("[::]:1", ("::", 1))])
def test_addresses_and_ports_are_split(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port("x", text) == expected
