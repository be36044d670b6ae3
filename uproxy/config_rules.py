"""What a setting's value must be like: durations, addresses, ranges.

Owns the checks and their words; config.py owns the settings themselves. Every error names the setting as a
file spells it and says what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from uproxy.config import Config

PORTS: Final = 65535
OOM_SCORE_ADJ: Final = 1000
NODE_PORT_WORDS: Final = ("primary", "localhost", "all")
LOCAL_MODES: Final = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")


class Duration(float):
    """Seconds, written as Go writes durations: 250ms, 1.5s, 2m30s, 1h."""

    _UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    _LONGEST: Final = (2**63 - 1) / 1e9
    _PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a Go duration (https://pkg.go.dev/time#ParseDuration); raises ValueError saying what would be right."""
        parts = cls._PART.findall(text)
        if text == "0":
            return cls(0)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"not a duration: {text!r} (write it like 250ms, 30s or 1h30m)")
        seconds = sum(float(number) * cls._UNITS[unit] for number, unit in parts)
        if seconds > cls._LONGEST:
            raise ValueError(f"longer than any duration: {text[:40]!r} (write it like 250ms, 30s or 1h30m)")
        return cls(seconds)

    def text(self) -> str:
        """Write it as Go would, in the largest unit that gives a whole number; what is read again is the same, to the nanosecond."""
        for unit in ("h", "m", "s"):
            if self % self._UNITS[unit] == 0:
                return f"{int(self // self._UNITS[unit])}{unit}" if self else "0s"
        return f"{self * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


class SettingError(ValueError):
    """A value that a setting cannot have: its field and what would be right."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


def check(config: Config) -> None:
    """Refuse what no uproxy could run with; raises SettingError."""
    _one_of("redirect", config.redirect, ("nftables", "routes", "none"))
    _one_of("keepClientAddress", config.keep_client_address, ("auto", "never"))
    _one_of("loop", config.loop, ("uvloop", "asyncio"))
    _one_of("logging.format", config.logging.format, ("text", "json"))
    for wanted in config.node_port_addresses:
        if wanted not in NODE_PORT_WORDS:
            _cidr("nodePortAddresses", wanted, f", nor one of {', '.join(NODE_PORT_WORDS)}")
    _check_detection(config)
    _check_process(config)
    for setting, address in (("healthzBindAddress", config.healthz_bind_address), ("metricsBindAddress", config.metrics_bind_address)):
        if address:
            host_and_port(setting, address)
    if config.node_name != config.node_name.strip().lower():
        raise SettingError("nodeName", f"{config.node_name!r} is not lower case without blanks around it")
    _check_least(config)
    _check_ranges(config)
    _check_marks(config)
    _check_durations(config)


def host_and_port(setting: str, text: str) -> tuple[str, int]:
    """Split "10.0.0.1:80" or "[fd00::1]:80"; raises SettingError naming the setting."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        if colon and port.isdecimal() and 1 <= int(port) <= PORTS and (address.version == 6) == (bare != host):  # noqa: PLR2004 - IPv6 goes in brackets
            return bare, int(port)
    except ValueError:
        pass
    raise SettingError(setting, f"{text!r} is not an IP address and a port (write it like 0.0.0.0:10256 or [::]:10256)")


def _one_of(setting: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(setting, f"{value!r} is not one of {', '.join(choices)}")


def _cidr(setting: str, text: str, more: str = "") -> int:
    """Give the family of a CIDR, 4 or 6."""
    try:
        if "/" in text:
            return ipaddress.ip_network(text, strict=False).version
    except ValueError:
        pass
    raise SettingError(setting, f"{text!r} is not a CIDR (write it like 192.168.0.0/16){more}")


def _check_detection(config: Config) -> None:
    """Check how pods are told, by kube-proxy's rules."""
    mode = config.detect_local_mode
    if mode:
        _one_of("detectLocalMode", mode, LOCAL_MODES)
    families = [_cidr("clusterCidrs", cidr) for cidr in config.cluster_cidrs]
    if len(set(families)) < len(families):
        raise SettingError("clusterCidrs", "is more than one CIDR per family (write it like [10.100.0.0/16, 'fde4:8dba:82e1::/48'])")
    for needing, setting, value, flag in (
        ("BridgeInterface", "podBridgeInterface", config.pod_bridge_interface, "--pod-bridge-interface"),
        ("InterfaceNamePrefix", "podInterfaceNamePrefix", config.pod_interface_name_prefix, "--pod-interface-name-prefix"),
    ):
        if mode == needing and not value:
            kube_proxy = "detectLocal." + setting[3].lower() + setting[4:]
            raise SettingError("detectLocalMode", f"{mode} needs {setting} ({kube_proxy} of a KubeProxyConfiguration, flag {flag})")


def _check_process(config: Config) -> None:
    adjustment = config.oom_score_adj
    if adjustment is not None and not -OOM_SCORE_ADJ <= adjustment <= OOM_SCORE_ADJ:
        raise SettingError("oomScoreAdj", f"{adjustment} is not within the range [-{OOM_SCORE_ADJ}, {OOM_SCORE_ADJ}]")
    try:
        ipaddress.ip_address(config.bind_address or "::")
    except ValueError:
        raise SettingError("bindAddress", f"{config.bind_address!r} is not an IP address (write it like 192.168.0.10)") from None
    if config.sync.debounce_limit > config.sync.resync:
        raise SettingError("sync.debounceLimit", f"{config.sync.debounce_limit.text()} is longer than sync.resync")


def _check_least(config: Config) -> None:
    tcp, udp = config.tcp, config.udp
    for setting, value, least in (
        ("tcp.backlog", tcp.backlog, 1),
        ("tcp.acceptBatch", tcp.accept_batch, 1),
        ("tcp.receiveBuffer", tcp.receive_buffer, 65536),
        ("tcp.turnBytes", tcp.turn_bytes, 4096),
        ("tcp.spliceAfter", tcp.splice_after, 0),
        ("tcp.pipes", tcp.pipes, 0),
        ("tcp.keepaliveProbes", tcp.keepalive_probes, 1),
        ("tcp.sourcePortAttempts", tcp.source_port_attempts, 1),
        ("tcp.heldConnections", tcp.held_connections, 0),
        ("tcp.connectTimeouts", len(tcp.connect_timeouts), 1),
        ("udp.batch", udp.batch, 1),
        ("udp.attempts", udp.attempts, 1),
        ("udp.sourcePortAttempts", udp.source_port_attempts, 1),
        ("ejection.failures", config.ejection.failures, 0),
        ("affinity.maxEntries", config.affinity.max_entries, 1),
        ("descriptors.reserve", config.descriptors.reserve, 16),
        ("metrics.perServiceLimit", config.metrics.per_service_limit, 0),
        ("manifest.maxFileBytes", config.manifest.max_file_bytes, 1024),
        ("manifest.maxNodes", config.manifest.max_nodes, 1000),
        ("manifest.maxDepth", config.manifest.max_depth, 16),
        ("kubernetes.pageSize", config.kubernetes.page_size, 1),
        ("kubernetes.pageBytes", config.kubernetes.page_bytes, 65536),
        ("kubernetes.maxLineBytes", config.kubernetes.max_line_bytes, 65536),
        ("kubernetes.eventQueue", config.kubernetes.event_queue, 1),
        ("kubernetes.eventBurst", config.kubernetes.event_burst, 1),
        ("kubernetes.eventSimilar", config.kubernetes.event_similar, 1),
        ("state.keptAside", config.state.kept_aside, 0),
        ("adminConnections", config.admin_connections, 1),
        ("logging.verbosity", config.logging.verbosity, 0),
    ):
        if value < least:
            raise SettingError(setting, f"{value} is less than {least}")


def _check_ranges(config: Config) -> None:
    for setting, share in (("udp.descriptorShare", config.udp.descriptor_share), ("sync.share", config.sync.share)):
        if not 0 < share < 1:
            raise SettingError(setting, f"{share} is not between 0 and 1")
    for setting, (first, last) in (
        ("tcp.sourcePorts", config.tcp.source_ports),
        ("udp.sourcePorts", config.udp.source_ports),
        ("capture.localPorts", config.capture.local_ports),
    ):
        if not 1024 <= first < last <= PORTS:  # noqa: PLR2004 - ports below belong to the system (RFC 6335)
            raise SettingError(setting, f"{first} to {last} is not a range of ports from 1024 to 65535")


def _check_marks(config: Config) -> None:
    deliver, sent = config.capture.deliver_mark, config.capture.sent_mark
    for setting, mark in (("capture.deliverMark", deliver), ("capture.sentMark", sent)):
        if mark.bit_count() != 1 or mark >= 1 << 32:
            raise SettingError(setting, f"{mark:#x} is not one bit of 32")
    if deliver == sent:
        raise SettingError("capture.sentMark", "is the same bit as capture.deliverMark")


def _check_durations(settings: Struct, path: str = "") -> None:
    names = zip(settings.__struct_encode_fields__, settings.__struct_fields__, strict=True)
    for name, value in ((path + name, getattr(settings, attribute)) for name, attribute in names):
        if isinstance(value, Struct):
            _check_durations(value, f"{name}.")
        elif any(each <= 0 for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Duration)):
            raise SettingError(name, "is not longer than 0")
