"""What is asked of nf_tables without the program nft: the ruleset's generation, whether a table exists, its removal.

Owns the few messages of include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h that this takes. Rules and elements
go through nft, whose text is the documented interface; a removal must work where nft is gone.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from uproxy.redirect.netlink import NETLINK_NETFILTER, NetlinkError, NetlinkSocket, attribute, attributes

NF_TABLES: Final = 10
DELETIONS: Final = (2, 5, 8, 11, 14, 26, 27, 28, 29, 30)
"""NFT_MSG_DEL{TABLE,CHAIN,RULE,SET,SETELEM} and the NFT_MSG_DESTROY* of the same."""

_GET_TABLE: Final = NF_TABLES << 8 | 1
_DELETE_TABLE: Final = NF_TABLES << 8 | 2
_GET_GENERATION: Final = NF_TABLES << 8 | 16
_BATCH_BEGIN: Final = 16
_BATCH_END: Final = 17
_INET: Final = 1
_NAME: Final = 1
_GENERATION: Final = 1
# A kernel without nf_tables answers so; it has no table either.
_NO_TABLES: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT})


def _fixed(family: int = 0, resource: int = 0) -> bytes:
    """Encode struct nfgenmsg; only its last field is in network order."""
    return struct.pack("=BB", family, 0) + struct.pack(">H", resource)


def generation(kernel: NetlinkSocket) -> int:
    """Give the number that every transaction of anybody in this network namespace counts up. Raises NetlinkError."""
    answer = kernel.request(_GET_GENERATION, _fixed())
    if answer is None:
        raise NetlinkError(errno.EPROTO, "nf_tables did not give its generation")
    return int.from_bytes(attributes(answer.payload, 4)[_GENERATION], "big")


def table_exists(name: str) -> bool:
    """Say whether there is an inet table of this name. Raises NetlinkError."""
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as kernel:
            kernel.request(_GET_TABLE, _fixed(_INET) + attribute(_NAME, name.encode() + b"\0"))
    except NetlinkError as error:
        if error.number in _NO_TABLES:
            return False
        raise
    return True


def delete_table(name: str) -> bool:
    """Remove the inet table of this name with all that is in it. False: there was none. Raises NetlinkError."""
    if not table_exists(name):
        return False
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        body = _fixed(_INET) + attribute(_NAME, name.encode() + b"\0")
        border = _fixed(resource=NF_TABLES)
        kernel.transaction((_BATCH_BEGIN, border), [(_DELETE_TABLE, 0, body)], (_BATCH_END, border))
    return True
