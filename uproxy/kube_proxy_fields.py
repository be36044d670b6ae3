"""Every field of kube-proxy's KubeProxyConfiguration and every flag of kube-proxy: what becomes of it here.

Owns the table alone: one row per field, with kube-proxy's default, the verdict, the setting of ours it becomes and
the words for the operator. Source: kube-proxy's v1alpha1 types, defaults, validation and flags up to 1.37 (cmd/kube-proxy/app,
pkg/proxy/apis/config), and 1.25 for what the userspace mode had. Must not know files nor argv: kube_proxy_config.py reads
documents with it, kube_proxy_flags.py the command line. Invariant: a row with a verdict of A or N sets nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from msgspec import Struct

from uproxy import kube_proxy_values as values


class Verdict(Enum):
    """What becomes of a field: Y the same as in kube-proxy, R something near it, A accepted without effect, N no meaning here."""

    Y = "same meaning"
    R = "reinterpreted"
    A = "accepted, no effect"
    N = "no meaning here"


class Field(Struct, frozen=True):
    """One field: its dotted path in the document ("" for a flag without one) and its flag ("" for a field without one).

    kind: text, switch, number, decimal, duration, list, map or any. default: kube-proxy's own. setting: ours, as files
    spell it. check: what is wrong with a value, "" for nothing. becomes: the setting's value; shows: the way back.
    harmless: values beside the default that ask for nothing else than what happens here.
    """

    path: str
    flag: str
    kind: str
    default: Any
    verdict: Verdict
    meaning: str
    setting: str = ""
    check: Callable[[Any], str] | None = None
    becomes: Callable[[Any], Any] | None = None
    shows: Callable[[Any], Any] | None = None
    harmless: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """Give the name that messages use."""
        return self.path or f"--{self.flag}"


OFF: Final = False
ON: Final = True
Y, R, A, N = Verdict.Y, Verdict.R, Verdict.A, Verdict.N
NO_CONNTRACK: Final = "connections have no conntrack entry that would matter, and uproxy writes no sysctl"
NO_IPVS: Final = "there is no IPVS here"
WINDOWS: Final = "uproxy runs on Linux"
LOGS: Final = "uproxy writes each fact as one line at once"
NO_MARKS: Final = "packets are not marked for masquerading: capture.deliverMark and capture.sentMark are the marks here"
EVERY_CHANGE: Final = "how often the kernel is compared with what it should be"
BURSTS: Final = "how long a change may wait for more of its burst; a lone one waits for sync.debounce"

FIELDS: Final = (
    Field("featureGates", "feature-gates", "map", {}, A, "uproxy has no feature gates"),
    Field("clientConnection.kubeconfig", "kubeconfig", "text", "", Y, "where the API server is and how to authenticate", "kubeconfig"),
    Field("", "master", "text", "", Y, "the API server's URL, instead of the kubeconfig's", "master"),
    Field("clientConnection.acceptContentTypes", "", "text", "", A, "the API server is asked for JSON", harmless=(values.JSON,)),
    Field("clientConnection.contentType", "kube-api-content-type", "text", values.PROTOBUF, A, "the API server is asked for JSON",
          harmless=(values.JSON,)),
    Field("clientConnection.qps", "kube-api-qps", "decimal", 5, A, "a watch per kind needs no limit; Events have kubernetes.eventBurst"),
    Field("clientConnection.burst", "kube-api-burst", "number", 10, A, "a watch per kind needs no limit; Events have kubernetes.eventBurst",
          check=values.not_negative),
    Field("logging.format", "logging-format", "text", "text", Y, "how facts are written: text or json", "logging.format"),
    Field("logging.verbosity", "v", "number", 0, Y, "from 4 on libraries are heard too, from 6 on with all they say", "logging.verbosity",
          check=values.not_negative),
    Field("logging.vmodule", "vmodule", "any", [], A, "uproxy's facts have no verbosity per file"),
    Field("logging.flushFrequency", "log-flush-frequency", "any", "5s", A, LOGS, check=values.flush_frequency),
    Field("logging.options", "", "any", {}, A, LOGS),
    Field("", "log-json-info-buffer-size", "text", "0", A, LOGS),
    Field("", "log-json-split-stream", "switch", OFF, A, LOGS),
    Field("", "log-text-info-buffer-size", "text", "0", A, LOGS),
    Field("", "log-text-split-stream", "switch", OFF, A, LOGS),
    Field("hostnameOverride", "hostname-override", "text", "", Y, "this node's name; blanks and capitals do not matter", "nodeName",
          check=values.not_blank, becomes=lambda text: text.strip().lower()),
    Field("bindAddress", "bind-address", "text", "0.0.0.0", R,  # noqa: S104 - kube-proxy's default, not a socket
          "the node's primary address of its family, if it is a single one; an IPv6 one makes health and metrics listen on IPv6",
          "bindAddress", check=values.address, becomes=values.single_address, shows=lambda text: text or "0.0.0.0"),  # noqa: S104 - as above
    Field("healthzBindAddress", "healthz-bind-address", "text", "0.0.0.0:10256", Y,
          "where /healthz and /livez are served. Empty: by flag nowhere, in a document the default, as in kube-proxy",
          "healthzBindAddress", becomes=lambda text: values.with_port(text, 10256)),
    Field("", "healthz-port", "number", 10256, R, "the port of it on every address; 0: nowhere", "healthzBindAddress",
          check=values.port_or_none, becomes=lambda port: f"0.0.0.0:{port}" if port else ""),
    Field("metricsBindAddress", "metrics-bind-address", "text", "127.0.0.1:10249", Y,
          "where /metrics, /proxyMode and /configz are served. Empty: by flag nowhere, in a document the default, as in kube-proxy",
          "metricsBindAddress", becomes=lambda text: values.with_port(text, 10249)),
    Field("", "metrics-port", "number", 10249, R, "the port of it on the loopback address; 0: nowhere", "metricsBindAddress",
          check=values.port_or_none, becomes=lambda port: f"127.0.0.1:{port}" if port else ""),
    Field("bindAddressHardFail", "bind-address-hard-fail", "switch", OFF, Y, "end when one of the two cannot be listened on",
          "bindAddressHardFail"),
    Field("enableProfiling", "profiling", "switch", OFF, A, "there is no /debug/pprof"),
    Field("showHiddenMetricsForVersion", "show-hidden-metrics-for-version", "text", "", A, "no metric is hidden"),
    Field("mode", "proxy-mode", "text", "", R, "empty or userspace, which is all there is; others are refused by name", check=values.mode),
    Field("iptables.masqueradeBit", "iptables-masquerade-bit", "number", 14, N, NO_MARKS, check=values.bit),
    Field("iptables.masqueradeAll", "masquerade-all", "switch", OFF, R, "endpoints never see the client's address", "keepClientAddress",
          becomes=values.client_address, shows=lambda kept: kept == "never"),
    Field("iptables.localhostNodePorts", "iptables-localhost-nodeports", "switch", ON, R,
          "true, where nodePortAddresses is not said: node ports on 127.0.0.1 and ::1 as well as on the primary addresses"),
    Field("iptables.syncPeriod", "iptables-sync-period", "duration", "30s", R, EVERY_CHANGE, "sync.resync", check=values.positive),
    Field("iptables.minSyncPeriod", "iptables-min-sync-period", "duration", "1s", R, BURSTS, "sync.debounceLimit",
          check=values.not_negative, becomes=values.unless_zero),
    Field("ipvs.syncPeriod", "ipvs-sync-period", "duration", "30s", N, NO_IPVS, check=values.not_negative),
    Field("ipvs.minSyncPeriod", "ipvs-min-sync-period", "duration", "1s", N, NO_IPVS, check=values.not_negative),
    Field("ipvs.scheduler", "ipvs-scheduler", "text", "", R, "empty or rr; the annotation uproxy.io/balance chooses for a Service",
          check=values.scheduler, harmless=("rr",)),
    Field("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", "list", [], N, NO_IPVS, check=values.cidrs),
    Field("ipvs.strictARP", "ipvs-strict-arp", "switch", OFF, N, NO_IPVS),
    Field("ipvs.tcpTimeout", "ipvs-tcp-timeout", "duration", "0s", R, "silence after which a connection is reset; 0: never",
          "tcp.idleTimeout", check=values.not_negative, becomes=values.unless_zero),
    Field("ipvs.tcpFinTimeout", "ipvs-tcpfin-timeout", "duration", "0s", R, "how long a half-closed connection may be silent",
          "tcp.halfCloseTimeout", check=values.not_negative, becomes=values.unless_zero),
    Field("ipvs.udpTimeout", "ipvs-udp-timeout", "duration", "0s", R, "silence that ends a UDP flow that was answered",
          "udp.answeredTimeout", check=values.not_negative, becomes=values.unless_zero),
    Field("nftables.masqueradeBit", "", "number", 14, N, NO_MARKS, check=values.bit),
    Field("nftables.masqueradeAll", "", "switch", OFF, R, "as iptables.masqueradeAll", "keepClientAddress",
          becomes=values.client_address),
    Field("nftables.syncPeriod", "", "duration", "30s", R, "as iptables.syncPeriod, which is stronger", "sync.resync",
          check=values.positive),
    Field("nftables.minSyncPeriod", "", "duration", "1s", R, "as iptables.minSyncPeriod, which is stronger", "sync.debounceLimit",
          check=values.not_negative, becomes=values.unless_zero),
    Field("winkernel.networkName", "network-name", "text", "", N, WINDOWS),
    Field("winkernel.sourceVip", "source-vip", "text", "", N, WINDOWS),
    Field("winkernel.enableDSR", "enable-dsr", "switch", OFF, N, WINDOWS),
    Field("winkernel.rootHnsEndpointName", "root-hnsendpoint-name", "text", "", N, WINDOWS),
    Field("winkernel.forwardHealthCheckVip", "forward-healthcheck-vip", "switch", OFF, N, WINDOWS),
    Field("detectLocalMode", "detect-local-mode", "text", "", R, "how pods are told; clusterCIDR alone means ClusterCIDR",
          "detectLocalMode"),
    Field("detectLocal.bridgeInterface", "pod-bridge-interface", "text", "", R, "with BridgeInterface: the bridge of this node's pods",
          "podBridgeInterface"),
    Field("detectLocal.interfaceNamePrefix", "pod-interface-name-prefix", "text", "", R,
          "with InterfaceNamePrefix: how the names of the pods' devices begin", "podInterfaceNamePrefix"),
    Field("clusterCIDR", "cluster-cidr", "text", "", Y, "the CIDRs of all pods, one or one of each family", "clusterCidrs",
          check=values.cluster_cidr, becomes=values.split, shows=",".join),
    Field("nodePortAddresses", "nodeport-addresses", "list", [], Y,
          "the node's addresses that serve node ports: CIDRs, primary, localhost, all. A family that is not spoken of: primary",
          "nodePortAddresses"),
    Field("oomScoreAdj", "oom-score-adj", "number", -999, Y, "written to the process's oom_score_adj at the start; unset: left alone",
          "oomScoreAdj"),
    Field("conntrack.maxPerCore", "conntrack-max-per-core", "number", 32768, A, NO_CONNTRACK, check=values.not_negative),
    Field("conntrack.min", "conntrack-min", "number", 131072, A, NO_CONNTRACK, check=values.not_negative),
    Field("conntrack.tcpEstablishedTimeout", "conntrack-tcp-timeout-established", "duration", "24h", A, NO_CONNTRACK,
          check=values.not_negative),
    Field("conntrack.tcpCloseWaitTimeout", "conntrack-tcp-timeout-close-wait", "duration", "1h", A, NO_CONNTRACK,
          check=values.not_negative),
    Field("conntrack.tcpBeLiberal", "conntrack-tcp-be-liberal", "switch", OFF, A, NO_CONNTRACK),
    Field("conntrack.udpTimeout", "conntrack-udp-timeout", "duration", "0s", A, f"{NO_CONNTRACK}; see udp.unansweredTimeout",
          check=values.not_negative),
    Field("conntrack.udpStreamTimeout", "conntrack-udp-timeout-stream", "duration", "0s", A, f"{NO_CONNTRACK}; see udp.answeredTimeout",
          check=values.not_negative),
    Field("configSyncPeriod", "config-sync-period", "duration", "15m", A, "watches bring every change; kubernetes.watchTimeout renews them",
          check=values.positive),
    Field("portRange", "proxy-port-range", "text", "", Y, "local ports of listeners: a-b or a+n, from 1024 on", "capture.localPorts",
          check=values.port_range, becomes=values.ports_of, shows=lambda ports: "-".join(map(str, ports))),
    Field("windowsRunAsService", "windows-service", "switch", OFF, N, WINDOWS),
    Field("udpIdleTimeout", "udp-timeout", "duration", "250ms", R,
          "silence that ends a UDP flow, answered or not; 250ms, kube-proxy's default until 1.25, stands for the defaults here",
          "udp.answeredTimeout", check=values.positive, becomes=values.unless_former_default),
)  # fmt: skip

BY_PATH: Final = {field.path: field for field in FIELDS if field.path}
