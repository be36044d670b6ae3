"""Every setting of uproxy: its meaning, its unit, its default and the reason for it.

Owns the frozen Config and reading it from a UproxyConfiguration document (docs/configuration.md is made
from the docstrings below). Knows nothing of argv and the environment: cli.py lays those over a Config.
A Config that exists is valid.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from uproxy.config_rules import Duration, check


def seconds(text: str) -> Any:  # noqa: ANN401 - what msgspec's field() gives has no type of its own
    """Make a field whose default is a duration written as the documentation shows it."""
    return field(default_factory=lambda: Duration.parse(text))


class _Settings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What all groups of settings share: immutable, camelCase in files, an unknown field is an error."""


class TcpSettings(_Settings, frozen=True):
    """How TCP connections are relayed."""

    connect_timeouts: tuple[Duration, ...] = (Duration(0.25), Duration(0.5), Duration(1), Duration(2))
    """How long each attempt to reach an endpoint may take; one attempt per entry. kube-proxy's own schedule."""
    half_close_timeout: Duration = seconds("1h")
    """How long a connection with one direction closed may be silent. IPVS uses 2m, HAProxy none; slow replies to a
    request that ended with a FIN are legitimate."""
    idle_timeout: Duration | None = None
    """How long a connection may be silent before it is reset, where the Service's annotation uproxy.io/idle-timeout says nothing;
    null: for ever, for who keeps a connection open without a word may have a reason, and a dead peer is found without it."""
    keepalive_idle: Duration = seconds("60s")
    """Silence after which the kernel probes a peer. Far below the 2 h of the kernel, above any chatter."""
    keepalive_interval: Duration = seconds("15s")
    """Time between two probes: Go's default, which kube-proxy used."""
    keepalive_probes: int = 4
    """Unanswered probes that end a connection: with the two above, a dead peer is gone after two minutes."""
    user_timeout: Duration = seconds("2m")
    """How long sent data may stay unacknowledged (TCP_USER_TIMEOUT). Longer than a usual link outage, so that a cable
    pulled for a minute ends nothing."""
    refused_attempts: int = 16
    """Endpoints that may refuse one connection, at once and one after the other, before it is given up; a refusal uses
    up no entry of connectTimeouts. Each costs a round trip: 16 are over before the first of those timeouts is."""
    backlog: int = 1024
    """Connections that may wait for accept per listener; the kernel caps it at net.core.somaxconn."""
    accept_batch: int = 64
    """Connections accepted from one listener per turn: enough to amortise the wake-up, few enough to be fair."""
    accept_pause: Duration = seconds("100ms")
    """How long accepting pauses when descriptors, buffers or memory ran out, unless a connection ends earlier."""
    receive_buffer: int = 65536
    """Bytes of the one receive buffer that the whole process shares; larger gained nothing next to splice."""
    turn_bytes: int = 1048576
    """Bytes that one direction may carry per turn of the loop before others get theirs: about 0.5 ms of copying."""
    splice_after: int = 2
    """Full receive buffers in a row after which a direction moves its bytes by splice(2). 0 switches splice off."""
    pipes: int = 64
    """Pipes kept for splice, two descriptors each, shared by all flows; beyond it recv and send are used. More flows than
    that are rarely in full spate at once, and the memory behind slow readers stays below 16 MiB."""
    pipe_bytes: int = 262144
    """Size of each of them: the kernel's default of 64 KiB costs a quarter more CPU per byte; 1 MiB would save
    another tenth, for four times the memory behind slow readers."""
    source_ports: tuple[int, int] = (61000, 65535)
    """First and last source port of connections that carry the client's address: outside the usual ip_local_port_range,
    so that they cannot meet a connection of the client's own."""
    source_port_attempts: int = 16
    """Source ports tried for one connection before the node's own address is used instead: 16 that are all taken mean that
    nearly all are, and each try is a system call."""
    held_connections: int = 16
    """New connections that may wait for the first endpoint of one Service with the annotation uproxy.io/hold; two descriptors
    each. Enough to wake it up and to lose no first visitor, too few to be worth a flood."""


class UdpSettings(_Settings, frozen=True):
    """How UDP flows are relayed."""

    unanswered_timeout: Duration = seconds("30s")
    """Silence that ends a flow whose endpoint has never answered: nf_conntrack_udp_timeout's default."""
    answered_timeout: Duration = seconds("2m")
    """Silence that ends a flow whose endpoint has answered: nf_conntrack_udp_timeout_stream's default."""
    descriptor_share: float = 0.5
    """Share of the descriptor budget, 0 to 1, that UDP flows may take together; beyond it the least recently used one ends. With
    one half a flood of datagrams leaves TCP the other."""
    batch: int = 64
    """Datagrams taken from one listener per turn: amortises the wake-up without starving the others."""
    receive_buffer: int = 1048576
    """SO_RCVBUF of a listener in bytes; the kernel caps it at net.core.rmem_max. Absorbs a burst while the loop is busy."""
    attempts: int = 4
    """Endpoints tried for one datagram when they cannot be reached at all (no route, refused): as many as TCP's attempts."""
    source_ports: tuple[int, int] = (61000, 65535)
    """First and last source port of flows that carry the client's address: outside the usual ip_local_port_range, so
    that they cannot meet a socket of the client's own."""
    source_port_attempts: int = 16
    """Source ports tried for one flow (some process may hold one on every address) before the node's own address is used
    instead: as many as for a connection."""


class EjectionSettings(_Settings, frozen=True):
    """Passive ejection: endpoints that failed to answer are passed over for a while. Never all of them."""

    failures: int = 3
    """Failures running that eject an endpoint: one may be chance, three are not. 0 switches ejection off."""
    base: Duration = seconds("10s")
    """How long the first ejection lasts; each further one twice as long. As often as a readiness probe asks by default."""
    limit: Duration = seconds("60s")
    """The longest ejection: the 40 s in which Kubernetes itself marks a dead node's endpoints, and some."""


class AffinitySettings(_Settings, frozen=True):
    """ClientIP session affinity."""

    max_entries: int = 262144
    """Clients remembered by all Services together (about 300 bytes each); beyond it the least recently used is forgotten."""


class DescriptorSettings(_Settings, frozen=True):
    """The budget of file descriptors."""

    reserve: int = 128
    """Descriptors kept for logs, watches, health and metrics, never used for traffic: twice as many as adminConnections lets
    the two servers have."""


class SyncSettings(_Settings, frozen=True):
    """When changes are applied."""

    debounce: Duration = seconds("50ms")
    """How long a change waits for more of its burst: the slices of one rollout come tens of milliseconds apart, and nobody
    notices that long."""
    debounce_limit: Duration = seconds("500ms")
    """How long a change may wait in all when the burst does not end: half of kube-proxy's minSyncPeriod, for a sync here costs
    what changed and no more."""
    share: float = 0.1
    """The share of time that syncs may take while changes do not end: a change waits for more of its burst ten times as long as
    the last sync took, between debounce and debounceLimit. So thousands of changes a minute are each served within a tenth of a
    second on a node with few Services, and never cost more than this where there are many."""
    resync: Duration = seconds("30s")
    """How often everything in the kernel is compared with what it should be: kube-proxy's syncPeriod."""
    retry_base: Duration = seconds("1s")
    """Pause before a failed sync is tried again; doubles each time. What failed by chance is served soon, what goes on failing
    costs little."""
    retry_limit: Duration = seconds("30s")
    """The longest such pause: as long as resync, which would try anyway."""
    slice: Duration = seconds("10ms")
    """How long the planner may hold the loop before traffic gets a turn: within the jitter of a network, and long enough for
    hundreds of Services."""


class CaptureSettings(_Settings, frozen=True):
    """How the kernel is told to deliver service addresses."""

    deliver_mark: int = 0x1000
    """The mark bit for "deliver to uproxy"; free of the bits that the usual network plugins use."""
    sent_mark: int = 0x0800
    """The mark bit for "sent by uproxy's listeners"; free in the same way."""
    local_ports: tuple[int, int] = (20000, 29999)
    """First and last local port of listeners: below the usual ip_local_port_range and the node ports; so many that a Service with
    thousands of ports gets them all."""
    linger: Duration = seconds("60s")
    """How long a removed port stays rewritten, refusing new connections, after its last one was closed: the kernel may
    still be sending the tail of a reply (tcp_fin_timeout is 60 s too)."""
    nft_timeout: Duration = seconds("30s")
    """How long one run of nft may take: 100,000 elements take 0.6 s."""


class ManifestSettings(_Settings, frozen=True):
    """How manifests are read."""

    settle: Duration = seconds("100ms")
    """How long a file must not have been written to before it is read: editors and copies write in several steps."""
    max_file_bytes: int = 67108864
    """The largest file that is read: 20,000 objects with everything that kubectl prints take 40 MB."""
    max_nodes: int = 2000000
    """The most values (texts, numbers, lists, maps) that one YAML document may come to, with what aliases stand for counted
    each time. A List of 20,000 objects has half of it; the usual YAML bomb has 10^9."""
    max_depth: int = 64
    """The deepest nesting in a YAML document: objects of Kubernetes stay below 20."""


class KubernetesSettings(_Settings, frozen=True):
    """How the API server is listened to."""

    connect_timeout: Duration = seconds("10s")
    """How long connecting, TLS included, may take: a server on the other side of the world needs one."""
    request_timeout: Duration = seconds("30s")
    """How long a page of a list or an Event may take: 500 objects take the server 50 ms, but it may be starved."""
    page_size: int = 500
    """Objects asked for at a time: client-go's own number, about 1 MB of slices."""
    watch_timeout: Duration = seconds("5m")
    """After one to two times this the server is asked to end a watch, which is then begun anew, so that a balancer before
    several servers spreads them again: client-go's own interval."""
    stall_timeout: Duration = seconds("90s")
    """How long a watch may be silent. The server sends a bookmark about once a minute: after half as much again it is dead."""
    initial_events_timeout: Duration = seconds("10s")
    """How long a streamed list may pause before its end mark: an etcd older than 3.4.25 never gives it. Then pages are asked for."""
    initial_events_retry: Duration = seconds("1h")
    """How long lists are asked for in pages after the server gave no streamed one: it will not until it is upgraded."""
    page_bytes: int = 4194304
    """A page longer than this makes the next ones smaller: to find the objects in it takes 2 ms per MB, during which nothing
    else goes on."""
    retry_base: Duration = seconds("1s")
    """Pause before a failed request is tried again, give or take a half; doubles each time. client-go begins with 800ms."""
    retry_limit: Duration = seconds("30s")
    """The longest such pause: client-go's own."""
    retry_after_limit: Duration = seconds("5m")
    """The longest pause that the server may ask for instead (Retry-After); API servers ask for seconds, what stands before
    them may ask for anything."""
    reason_patience: Duration = seconds("5s")
    """How long a further reason for having no API server must last before it is told: one that starts says 403 until it has
    read its roles, and that is nobody's mistake."""
    node_wait: Duration = seconds("31s")
    """How long the start waits for the own Node to appear before it serves without it: as long as kube-proxy."""
    max_line_bytes: int = 16777216
    """The longest line of a watch that is read: etcd takes objects of 1.5 MB by default."""
    token_refresh: Duration = seconds("1m")
    """How often a file with a token is read again; the kubelet replaces it at 80 % of its hour."""
    exec_timeout: Duration = seconds("30s")
    """How long a kubeconfig's credential plugin may run."""
    event_queue: int = 256
    """Events for the cluster that may wait to be sent; beyond it they are dropped and counted."""
    event_burst: int = 25
    """Events that may be sent at once: client-go's number for one object. Every node of a cluster may have something to say
    about the same Service."""
    event_interval: Duration = seconds("10s")
    """After such a burst one Event is sent per this interval: from 1,000 nodes 100 a second, which etcd still takes."""
    event_similar: int = 10
    """Events that differ in nothing but their notes before further ones become one that stands for all: client-go's number."""
    event_repeat: Duration = seconds("1m")
    """How often the count of an Event that occurs again and again is written."""
    event_forget: Duration = seconds("6m")
    """After this long without occurring again an Event is over, and the next one is a new one: client-go's number."""
    event_patience: Duration = seconds("2m")
    """How long an Event is kept for an API server that does not answer: client-go tries as long."""


class StateSettings(_Settings, frozen=True):
    """The last known state on disk."""

    save_interval: Duration = seconds("10s")
    """How long a change may wait until it is written: seldom enough for a flash disk, and what changes meanwhile is listed again anyway."""
    last_save_timeout: Duration = seconds("5s")
    """How long the end of the process waits for its last save, which takes less than a second: a disk that hangs must not keep it."""
    kept_aside: int = 3
    """Damaged files, and as many of another version's format, that are kept beside it for whoever wants to know; the newest ones.
    Three tell whether it happens again, and are no load for a disk."""


class MetricsSettings(_Settings, frozen=True):
    """What is exposed."""

    per_service: bool = False
    """Whether each Service gets its own series: not unless asked for, as they multiply with the nodes."""
    loop_probe: Duration = seconds("100ms")
    """How often the event loop's lag is measured; 5ms finds every pause that matters, at 0.3 % of a CPU."""
    per_service_limit: int = 500
    """ServicePorts that get their own series at most: beyond it they are left out and counted. 500 take 20 ms to write."""


class LoggingSettings(_Settings, frozen=True):
    """How facts are logged."""

    format: str = "text"
    """text (event key=value) or json (one object per line). Text is kube-proxy's default too."""
    verbosity: int = 0
    """kube-proxy's -v. uproxy's own facts are always written; from 4 on, Kubernetes' level for debugging, what libraries
    say at INFO is written too, from 6 on all that they say."""
    repeat_interval: Duration = seconds("10s")
    """A fact that repeats is logged once per this interval, with the number of times: soon enough to be seen while it happens,
    seldom enough not to fill a disk."""


class Config(_Settings, frozen=True):
    """All settings of one uproxy."""

    manifests: str = ""
    """The folder with Service, EndpointSlice and Node manifests; empty: an API server is listened to."""
    kubeconfig: str = ""
    """The file that says where the API server is and how to authenticate. Without it and without manifests: KUBECONFIG,
    then what a pod is given."""
    master: str = ""
    """The API server's URL, instead of what the kubeconfig says; empty: that."""
    service_proxy_name: str = ""
    """The name this proxy goes by: it serves the Services whose label service.kubernetes.io/service-proxy-name has it,
    and no others. Empty: those without the label."""
    state_dir: str = "/var/lib/uproxy"
    """The folder where the last known state is kept, from which a start without an API server serves; empty: nowhere."""
    poll_interval: Duration = seconds("500ms")
    """How often the folder is looked at beside the kernel's notices, which network file systems do not give: so that
    changes are served within a second there too. Looking takes 5 % of a CPU at most, the pause grows for large folders."""
    node_name: str = ""
    """This node's name, lower-cased; empty: the host name."""
    redirect: str = "nftables"
    """How service addresses are captured: nftables, routes or none. nftables can do everything, docs/redirect-back-ends.md says
    what the others cannot."""
    node_port_addresses: tuple[str, ...] = ()
    """The node's addresses that serve node ports: CIDRs, and the words primary (one address of each family), localhost
    (127.0.0.1 and ::1) and all (each address but those of the loopback device). A family that nothing is said of: primary."""
    bind_address: str = ""
    """The node's primary address of its family; empty: what the Node says, else what the kernel's default route suggests."""
    allow_external_ips: bool = True
    """Whether spec.externalIPs is served, as kube-proxy does. false where not everybody who may write Services is trusted: they
    can claim any address with it (CVE-2020-8554)."""
    detect_local_mode: str = ""
    """How pods of this node are told from other clients: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix, as
    kube-proxy has them; empty: the Node's podCIDRs, and where it has none the kernel's routes to single addresses."""
    cluster_cidrs: tuple[str, ...] = ()
    """With ClusterCIDR: the CIDRs of all pods, at most one per family; a family without one is told as if the mode were
    empty. Pods of other nodes are clients inside the cluster then, but only of pods of this node is the address kept."""
    pod_bridge_interface: str = ""
    """With BridgeInterface: the bridge that this node's pods are on. Empty by default: the network plugin chooses the name."""
    pod_interface_name_prefix: str = ""
    """With InterfaceNamePrefix: how the names of the devices begin behind which this node's pods are. Empty by default, for the
    same reason."""
    keep_client_address: str = "auto"
    """auto: endpoints see the client's address where that is possible, as Kubernetes promises it; never: always the node's."""
    healthz_bind_address: str = "0.0.0.0:10256"
    """Where /healthz and /livez are served; empty: nowhere. kube-proxy's port."""
    metrics_bind_address: str = "127.0.0.1:10249"
    """Where /metrics, /proxyMode and /configz are served; empty: nowhere. kube-proxy's port."""
    bind_address_hard_fail: bool = False
    """Whether uproxy ends when one of the two cannot be listened on; else it is tried again and everything else goes on, as in
    kube-proxy: traffic matters more than numbers."""
    bind_retry: Duration = seconds("5s")
    """How often a health or metrics address that is taken is tried again: kube-proxy's interval."""
    admin_connections: int = 32
    """Connections that health and metrics may each have open; for a further one the oldest is closed. They come out of
    the reserve of descriptors; probes and scrapers are a handful."""
    loop: str = "uvloop"
    """The event loop: uvloop or asyncio. uvloop's timers and callbacks cost less; the data path is the same on both."""
    drain_timeout: Duration = seconds("30s")
    """How long open connections may go on after SIGTERM; a pod's usual grace period."""
    drain_handshake: Duration = seconds("250ms")
    """How long listeners stay after SIGTERM for clients whose handshake has begun, while none begins any more: a round trip to
    far away. Who comes meanwhile asks again after one second, by which the next process should listen."""
    oom_score_adj: int | None = None
    """What is written to the process's oom_score_adj at the start, from -1000 (the kernel never kills it for want of memory)
    to 1000; null: it is left alone, for less than before needs CAP_SYS_RESOURCE, and the kubelet and systemd set it too.
    kube-proxy takes -999."""
    exit_on_config_change: bool = False
    """Whether uproxy drains and ends with code 1 when a setting changes in the file of --config, to be started again:
    kube-proxy does that. Here every connection would end with it, so by default what can be applied is applied at once, and
    the rest waits for the next start."""
    config_check: Duration = seconds("5s")
    """How often the file of --config is looked at beside the kernel's notices, which network file systems do not give. Reading
    one small file costs nothing, and no setting is needed faster than that."""
    tcp: TcpSettings = TcpSettings()
    udp: UdpSettings = UdpSettings()
    ejection: EjectionSettings = EjectionSettings()
    affinity: AffinitySettings = AffinitySettings()
    descriptors: DescriptorSettings = DescriptorSettings()
    sync: SyncSettings = SyncSettings()
    capture: CaptureSettings = CaptureSettings()
    manifest: ManifestSettings = ManifestSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    state: StateSettings = StateSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()

    def __post_init__(self) -> None:
        """Refuse what no uproxy could run with; raises SettingError."""
        check(self)
