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


class Duration(float):
    """Seconds, written as Go writes durations: 250ms, 1.5s, 2m30s, 1h."""

    _UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    _PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a Go duration (https://pkg.go.dev/time#ParseDuration); raises ValueError saying what would be right."""
        parts = cls._PART.findall(text)
        if text == "0":
            return cls(0)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"not a duration: {text!r} (write it like 250ms, 30s or 1h30m)")
        return cls(sum(float(number) * cls._UNITS[unit] for number, unit in parts))


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
    for cidr in config.node_port_addresses:
        _cidr("nodePortAddresses", cidr)
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


def _cidr(setting: str, text: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SettingError(setting, f"{text!r} is not a CIDR (write it like 192.168.0.0/16)") from None


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
    ):
        if value < least:
            raise SettingError(setting, f"{value} is less than {least}")


def _check_ranges(config: Config) -> None:
    if not 0 < config.udp.descriptor_share < 1:
        raise SettingError("udp.descriptorShare", f"{config.udp.descriptor_share} is not between 0 and 1")
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
