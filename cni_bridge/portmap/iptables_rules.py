"""The rules of the iptables back end, under the reference plugin's names, so that either plugin removes the other's.

Pure: chains in, lines for iptables-restore out. Shared chains of the nat table lead what is for a local address
(CNI-HOSTPORT-DNAT, from PREROUTING and OUTPUT) to a chain per container (CNI-DN-<hash>), which marks what must be
masqueraded (CNI-HOSTPORT-SETMARK, read by CNI-HOSTPORT-MASQ) and rewrites the destination.
"""

from __future__ import annotations

from cni_bridge import addresses
from cni_bridge.iptables import quoted
from cni_bridge.ownership import sha512
from cni_bridge.portmap.plan import address_and_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_bridge.iptables import Chains
    from cni_bridge.portmap.config import Mapping, Settings
    from cni_bridge.portmap.plan import Forwarding

TABLE = "nat"
HOOKS = ("PREROUTING", "OUTPUT")
DNAT, SET_MARK, MASQUERADE = "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"
_OLD_SNAT = "CNI-HOSTPORT-SNAT"  # of releases before 0.7.2
_CHAIN_CHARACTERS = 28  # XT_EXTENSION_MAXNAMELEN less the final zero
_COMMENT_CHARACTERS = 255  # XT_MAX_COMMENT_LEN less the final zero
_MULTIPORT = 15  # XT_MULTI_PORTS
_ANYWHERE = {4: "0.0.0.0/0", 16: "::/0"}
_LOCAL = f"-m addrtype --dst-type LOCAL -j {DNAT}"
_MASQUERADING = f'-m comment --comment "CNI portfwd requiring masquerade" -j {MASQUERADE}'


def chain_name(network: str, container_id: str, prefix: str = "CNI-DN-") -> str:
    """Give the name of a container's chain; two interfaces of one container in one network share it."""
    return f"{prefix}{sha512(network + container_id)}"[:_CHAIN_CHARACTERS]


def comment_of(network: str, container_id: str) -> str:
    """Give the comment of the rules that lead to a container's chain."""
    words = _comment_start(network) + f'{container_id}"'
    return words if len(words) <= _COMMENT_CHARACTERS else f"{words[: _COMMENT_CHARACTERS - 3]}..."


def _comment_start(network: str) -> str:
    return f'dnat name: "{network}" id: "'


def shared_rules(settings: Settings) -> list[tuple[str, str]]:
    """Give what all containers share, as (chain, rule), in the order in which it is added."""
    marking = [
        (SET_MARK, f'-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark {settings.mark}'),
        (MASQUERADE, f"-m mark --mark {settings.mark} -j MASQUERADE"),
        ("POSTROUTING", _MASQUERADING),
    ]
    return [*(marking if settings.snat and not settings.set_mark_chain else []), *[(hook, _LOCAL) for hook in HOOKS]]


def entry_rules(forwarding: Forwarding) -> list[str]:
    """Give the rules that lead to the container's chain: for each protocol its ports, 15 to a rule."""
    attachment = forwarding.attachment
    comment = quoted(comment_of(attachment.network, attachment.container_id))
    conditions = "".join(f" {quoted(word)}" for word in forwarding.conditions)
    ports: dict[str, list[str]] = {}
    for mapping in forwarding.mappings:
        ports.setdefault(mapping.protocol, []).append(str(mapping.host_port))
    chain = chain_name(attachment.network, attachment.container_id)
    return [
        f"-m comment --comment {comment} -m multiport -p {protocol} --destination-ports {','.join(some)}{conditions} -j {chain}"
        for protocol in sorted(ports)
        for some in _parts(ports[protocol])
    ]


def _parts(ports: list[str]) -> list[list[str]]:
    return [ports[place : place + _MULTIPORT] for place in range(0, len(ports), _MULTIPORT)]


def chain_rules(forwarding: Forwarding) -> list[str]:
    """Give the rules of the container's chain: for each port what marks, then what rewrites."""
    return [rule for mapping in forwarding.mappings for rule in _mapping_rules(forwarding, mapping)]


def _mapping_rules(forwarding: Forwarding, mapping: Mapping) -> list[str]:
    match = f"-p {mapping.protocol} --dport {mapping.host_port}"
    if mapping.host_ip:
        match += f" -d {addresses.text(mapping.host_ip)}"
    mark = forwarding.settings.set_mark_chain or SET_MARK
    marking = [f"{match} -s {source} -j {mark}" for source in _masqueraded(forwarding)]
    return [*marking, f"{match} -j DNAT --to-destination {address_and_port(forwarding.address, mapping.container_port)}"]


def _masqueraded(forwarding: Forwarding) -> list[str]:
    """Give the sources whose connections must seem to come from the host, or the answers would not pass it.

    That are the container's network, which reaches its own port through the host, and in IPv4 the host's loopback
    address, which no other machine can answer to. IPv6 never forwards its loopback address.
    """
    settings, address = forwarding.settings, forwarding.address
    if not settings.snat:
        return []
    if settings.masq_all:
        return [_ANYWHERE[len(address)]]
    own = addresses.cidr_text(addresses.first_of(address, forwarding.prefix), forwarding.prefix)
    return [own, "127.0.0.1"] if len(address) == 4 else [own]  # noqa: PLR2004 - the bytes of an IPv4 address


def addition(forwarding: Forwarding, there: Chains) -> list[str]:
    """Give the lines that add what is missing and replace what the container had."""
    settings, attachment = forwarding.settings, forwarding.attachment
    chain = chain_name(attachment.network, attachment.container_id)
    shared = shared_rules(settings)
    wanted = {name: None for name, _ in shared if name.startswith("CNI-")} | {DNAT: None}
    lines = [f"-N {name}" for name in wanted if name not in there]
    for name, rule in shared:
        if rule not in there.get(name, ()):
            lines.append(f"-I {name} 1 {rule}" if name == "POSTROUTING" else f"-A {name} {rule}")
    lines += [f"-D {DNAT} {rule}" for rule in _jumps(there, DNAT, chain)]
    lines.append(f":{chain} - [0:0]")
    lines += [f"-A {chain} {rule}" for rule in chain_rules(forwarding)]
    return [*lines, *[f"-A {DNAT} {rule}" for rule in entry_rules(forwarding)]]


def removal(network: str, container_id: str, there: Chains) -> list[str]:
    """Give the lines that remove what a container has; none when that is nothing."""
    chain, old = chain_name(network, container_id), chain_name(network, container_id, "CNI-SN-")
    return [*_without(there, DNAT, chain), *_without(there, _OLD_SNAT, old)]


def _without(there: Chains, parent: str, chain: str) -> list[str]:
    lines = [f"-D {parent} {rule}" for rule in _jumps(there, parent, chain)]
    return [*lines, f"-F {chain}", f"-X {chain}"] if chain in there else lines


def _jumps(there: Chains, parent: str, chain: str) -> list[str]:
    return [rule for rule in there.get(parent, ()) if rule.endswith(f" -j {chain}")]


def stale_removal(network: str, valid: Collection[str], there: Chains) -> list[str]:
    """Give the lines that remove the chains of a network's containers but for the valid ones, given by ID."""
    keep = {chain_name(network, container_id) for container_id in valid}
    start = quoted(_comment_start(network))[:-1]
    mine = {rule.rpartition(" -j ")[2]: None for rule in there.get(DNAT, ()) if start in rule}
    return [line for chain in mine if chain not in keep for line in _without(there, DNAT, chain)]


def destinations(chain: str, there: Chains) -> set[bytes]:
    """Give the addresses to which a chain's rules lead."""
    found = set()
    for rule in there.get(chain, ()):
        _, _, target = rule.partition(" --to-destination ")
        if target:
            found.add(addresses.parse(target.split(" ")[0].rpartition(":")[0].strip("[]")))
    return found


def checks(forwarding: Forwarding) -> list[str]:
    """Give a line for each rule that must be there."""
    chain = chain_name(forwarding.attachment.network, forwarding.attachment.container_id)
    shared = [f"-C {name} {rule}" for name, rule in shared_rules(forwarding.settings)]
    own = [f"-C {chain} {rule}" for rule in chain_rules(forwarding)]
    return [*shared, *[f"-C {DNAT} {rule}" for rule in entry_rules(forwarding)], *own]


def is_cut_off(there: Chains) -> bool:
    """Tell whether there are containers' ports to which nothing leads any more."""
    return bool(there.get(DNAT)) and any(_LOCAL not in there.get(hook, ()) for hook in HOOKS)
