"""The nftables back end: what `nft_rules` decides, written by nft; the rest over nfnetlink.

Owns the order: an attachment's older rules go before its new ones come. nft is executed because a network's conditions are
words of its language.
"""

from __future__ import annotations

from cni_bridge import program
from cni_bridge.netlink import connection as sockets
from cni_bridge.netlink import nftables
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.portmap import nft_rules, nft_state
from cni_bridge.protocol.errors import NOT_AS_REPORTED, UNAVAILABLE, UNAVAILABLE_AND_IMPAIRED, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_bridge.ownership import Attachment
    from cni_bridge.portmap.plan import Forwarding


class NftError(Exception):
    """nft is missing, or it refused: the message holds its own words."""


def is_usable() -> bool:
    """Tell whether nft is there and the kernel knows nftables."""
    try:
        with Connection(sockets.NETFILTER) as connection:
            nftables.generation(connection)
    except (NetlinkError, OSError):
        return False
    return bool(program.find("nft"))


def add(forwarding: Forwarding) -> None:
    """Add a container's rules, in place of those that it had. Raises NftError, NetlinkError."""
    size = len(forwarding.address)
    nft_state.remove(size, nft_state.rules_of(forwarding.attachment, (forwarding.address,), size))
    try:
        done = program.run("nft", "-f", "-", stdin=nft_rules.addition(forwarding))
    except OSError as error:
        raise NftError(f"nft: {error.strerror}") from None
    if done.code:
        raise NftError(f"nft: {done.stderr or f'exit code {done.code}'}")


def remove(attachment: Attachment, reported: Collection[bytes]) -> set[bytes]:
    """Remove an attachment's rules; give the addresses to which they led. Raises NetlinkError."""
    gone: set[bytes] = set()
    for size in nft_state.TABLES:
        gone |= nft_state.remove(size, nft_state.rules_of(attachment, reported, size))
    return gone


def collect(network: str, valid: Collection[Attachment]) -> set[bytes]:
    """Remove the rules of a network's attachments but for the valid ones; as `remove`."""
    gone: set[bytes] = set()
    for size in nft_state.TABLES:
        gone |= nft_state.remove(size, nft_state.stale_rules(network, valid, size))
    return gone


def check(forwarding: Forwarding) -> None:
    """Raise CniError (104) with what is missing. Raises NetlinkError."""
    size, address = len(forwarding.address), forwarding.address
    comment = nft_rules.comment_of(forwarding.attachment.container_id)
    with Connection(sockets.NETFILTER) as connection:
        _check_shared(connection, size)
        there = nftables.rules(connection, nft_state.TABLES[size], nft_rules.HOSTPORTS)
        masquerading = nftables.rules(connection, nft_state.TABLES[size], nft_rules.MASQUERADING)
    mine = [rule for rule in there if rule.comment == comment]
    for mapping in forwarding.mappings:
        if not any(nft_state.forwards(rule, mapping, address) for rule in mine):
            raise _missing(f"{mapping.protocol} port {mapping.host_port} of the host leads nowhere")
    hidden = [rule for rule in masquerading if rule.comment == comment and nft_state.address_of(rule, size) == address]
    if len(hidden) < nft_rules.own_rule_count(forwarding):
        raise _missing("connections of the host and of the container itself to its ports are not masqueraded")


def _check_shared(connection: Connection, size: int) -> None:
    for chain, target in (*[(hook, nft_rules.ALL) for hook in nft_rules.HOOKS], (nft_rules.ALL, nft_rules.HOSTPORTS)):
        if not nft_state.leads(connection, size, chain, target):
            raise _missing(f"no rule leads from {chain} to {target} in nftables table {nft_rules.TABLE}")


def _missing(what: str) -> CniError:
    return CniError(NOT_AS_REPORTED, "a rule of the port mappings is missing", what)


def status() -> None:
    """Raise CniError: 50 when nftables does not work, 51 when nothing leads to the ports that there are."""
    if not is_usable():
        raise CniError(UNAVAILABLE, "port mappings need nftables: there is no nft in PATH, or the kernel has no nf_tables")
    with Connection(sockets.NETFILTER) as connection:
        for size, table in nft_state.TABLES.items():
            if nftables.rules(connection, table, nft_rules.HOSTPORTS):
                _check_reachable(connection, size)


def _check_reachable(connection: Connection, size: int) -> None:
    try:
        _check_shared(connection, size)
    except CniError as error:
        raise CniError(UNAVAILABLE_AND_IMPAIRED, "the ports of containers are unreachable", error.details) from None
