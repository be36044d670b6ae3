"""The reference plugin's iptables rules for masquerading, written by iptables-restore in one run per family.

Owns the wording of those rules. Ordinary imports: whoever asks for this back end pays for processes anyway.
"""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

from cni_bridge import addresses

if TYPE_CHECKING:
    from cni_bridge.bridge.names import Attachment
    from cni_bridge.bridge.plan import Network

_PROGRAMS = {4: ("iptables-restore", "224.0.0.0/4"), 16: ("ip6tables-restore", "ff00::/8")}
_LOCK_SECONDS = "10"


def masquerade(attachment: Attachment, chain: str, networks: list[Network]) -> None:
    """Fill the chain and lead each address's packets to it. Raises OSError with what the program said."""
    for size, (program, multicast) in _PROGRAMS.items():
        mine = [one for one in networks if len(one[0]) == size]
        if mine:
            _run(program, script(attachment, chain, mine, multicast))


def script(attachment: Attachment, chain: str, networks: list[Network], multicast: str) -> str:
    """Give the text for iptables-restore; a chain that is there is emptied first."""
    comment = f'-m comment --comment "name: \\"{attachment.network}\\" id: \\"{attachment.container_id}\\""'
    rules = []
    for address, prefix in networks:
        subnet = addresses.cidr_text(addresses.first_of(address, prefix), prefix)
        rules.append(f"-A {chain} -d {subnet} {comment} -j ACCEPT")
        rules.append(f"-A {chain} ! -d {multicast} {comment} -j MASQUERADE")
        rules.append(f"-A POSTROUTING -s {addresses.cidr_text(address, len(address) * 8)} {comment} -j {chain}")
    return "\n".join(["*nat", f":{chain} - [0:0]", *rules, "COMMIT", ""])


def _run(program: str, text: str) -> None:
    try:
        done = subprocess.run([program, "--noflush", "--wait", _LOCK_SECONDS], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f'"ipMasqBackend" is "iptables", but there is no {program} in PATH') from None
    if done.returncode:
        raise OSError(errno.EIO, f"{program}: {done.stderr.strip()}")
