"""The configurations of the matrix, and for each what differs on purpose, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

V4, V6 = "10.61.0.0/16", "fd61::/64"
DUAL: Final = (V4, V6)
OLD, NEW = "1.1.1", "1.9.1"
"""Debian's release, and the one that knows portIsolation, ipMasqBackend and version 1.1.0."""


class Case(NamedTuple):
    """A configuration: subnets, keys, variables. host: ip commands that come first. releases: to compare with.

    differs: parts that must differ, with the reason; with a release in front ("1.1.1 rules") only from that one.
    """

    subnets: tuple[str, ...] = (V4,)
    keys: Mapping[str, Any] = {}
    variables: Mapping[str, str] = {}
    host: tuple[str, ...] = ()
    releases: tuple[str, ...] = (OLD,)
    refused: bool = False
    differs: Mapping[str, str] = {}


SETTINGS: Final = "a pod whose IPv6 addresses are given accepts no router advertisement, and keeps them when its link goes down"
IPV6_POD: Final = {"container settings": SETTINGS}
LEFTOVERS: Final = "a failed ADD of theirs leaves the pair and what it came to"
MAC_CHECK: Final = "the rule sits at the veth's own ingress, not in a list that every frame of every pod goes through"
MTU: Final = "the newest version has a place for the MTU of each interface, and theirs does not fill it"
NO_IPTABLES: Final = "to look for rules of the other back end theirs runs iptables, which makes its tables"
PER_NETWORK: Final = "one nftables rule per network, none per pod: nothing to leak and no iptables to run"

CASES: Final[dict[str, Case]] = {
    "v4": Case(),
    "v4 gateway": Case(keys={"isGateway": True}),
    "v4 default gateway": Case(keys={"isDefaultGateway": True}, releases=(OLD, NEW)),
    "v6 default gateway": Case((V6,), {"isDefaultGateway": True}, differs=IPV6_POD),
    "dual": Case(DUAL, {"isDefaultGateway": True}, releases=(OLD, NEW), differs=IPV6_POD),
    "dual without gateway": Case(DUAL, differs=IPV6_POD),
    "hairpin": Case(DUAL, {"isGateway": True, "hairpinMode": True}, releases=(OLD, NEW), differs=IPV6_POD),
    "promiscuous": Case(keys={"promiscMode": True}),
    "mtu": Case(keys={"isGateway": True, "mtu": 1400}),
    "another bridge": Case(keys={"isGateway": True, "mtu": 1400}, host=("link add cni0 type bridge",), releases=(OLD, NEW)),
    "mac of CNI_ARGS": Case(variables={"CNI_ARGS": "IgnoreUnknown=true;MAC=02:11:22:33:44:33"}),
    "mac of args over that of CNI_ARGS": Case(
        keys={"args": {"cni": {"mac": "02:11:22:33:44:55"}}}, variables={"CNI_ARGS": "IgnoreUnknown=1;MAC=02:11:22:33:44:33;IP=10.61.0.9"}
    ),
    "mac of the runtime over that of args": Case(
        keys={"args": {"cni": {"mac": "02:11:22:33:44:55"}}, "runtimeConfig": {"mac": "02:11:22:33:44:66"}}
    ),
    "addresses of args and the runtime": Case(
        DUAL, {"isGateway": True, "args": {"cni": {"ips": ["10.61.7.7"]}}, "runtimeConfig": {"ips": ["fd61::77/64"]}}, differs=IPV6_POD
    ),
    "ranges of the runtime": Case(DUAL[1:], {"isGateway": True, "runtimeConfig": {"ipRanges": [[{"subnet": V4}]]}}, differs=IPV6_POD),
    "two ranges of one family without gateway": Case((V4, "10.62.0.0/24")),
    "routes": Case(
        keys={"isGateway": True, "ipam": {"routes": [{"dst": "10.99.0.0/16"}, {"dst": "10.98.0.0/16", "gw": "10.61.0.9"}]}},
        releases=(OLD, NEW),
    ),
    "a default route of ipam's": Case(keys={"isDefaultGateway": True, "ipam": {"routes": [{"dst": "0.0.0.0/0", "gw": "10.61.0.9"}]}}),
    "dns": Case(keys={"dns": {"nameservers": ["10.61.0.1"], "search": ["a.example"], "options": ["ndots:5"]}}),
    "layer 2": Case((), releases=(OLD, NEW)),
    "a small subnet": Case(("10.61.0.0/30",), {"isGateway": True}),
    "a gateway elsewhere": Case(keys={"isGateway": True, "ipam": {"ranges": [[{"subnet": V4, "gateway": "10.61.0.200"}]]}}),
    "0.1.0": Case(keys={"isDefaultGateway": True, "cniVersion": "0.1.0"}),
    "0.2.0": Case(DUAL, {"isDefaultGateway": True, "cniVersion": "0.2.0"}, differs=IPV6_POD),
    "0.3.0": Case(DUAL, {"isDefaultGateway": True, "cniVersion": "0.3.0"}, differs=IPV6_POD),
    "0.3.1": Case(DUAL, {"isDefaultGateway": True, "cniVersion": "0.3.1"}, differs=IPV6_POD),
    "0.4.0": Case(DUAL, {"isDefaultGateway": True, "cniVersion": "0.4.0"}, differs=IPV6_POD),
    "1.1.0": Case(DUAL, {"isDefaultGateway": True, "cniVersion": "1.1.0"}, releases=(NEW,), differs={**IPV6_POD, "result": MTU}),
    "an address that must give way": Case(
        keys={"isGateway": True, "forceAddress": True}, host=("link add cni0 type bridge", "addr add 10.50.0.1/24 dev cni0")
    ),
    "enabledad": Case((V6,), {"isGateway": True, "enabledad": True}, differs=IPV6_POD),
    "masquerade by iptables": Case(
        DUAL, {"isGateway": True, "ipMasq": True, "ipMasqBackend": "iptables"}, releases=(OLD, NEW), differs=IPV6_POD
    ),
    "masquerade by nftables": Case(
        DUAL,
        {"isGateway": True, "ipMasq": True, "ipMasqBackend": "nftables"},
        releases=(NEW,),
        differs={**IPV6_POD, "rules after DEL": NO_IPTABLES},
    ),
    "masquerade": Case(keys={"isGateway": True, "ipMasq": True}, differs={"rules": PER_NETWORK, "rules after DEL": PER_NETWORK}),
    "mac check": Case(
        keys={"isGateway": True, "macspoofchk": True}, releases=(OLD, NEW), differs={"rules": MAC_CHECK, "rules after DEL": MAC_CHECK}
    ),
    "isolation": Case(keys={"isGateway": True, "portIsolation": True}, releases=(NEW,)),
    "interface left down": Case((), {"disableContainerInterface": True}, releases=(NEW,)),
    "vlan": Case((), {"vlan": 100}, releases=(NEW,)),
    "trunk": Case((), {"vlanTrunk": [{"minID": 200, "maxID": 203}, {"id": 220}]}, releases=(NEW,)),
    "an address in the way": Case(
        keys={"isGateway": True},
        host=("link add cni0 type bridge", "addr add 10.50.0.1/24 dev cni0"),
        refused=True,
        differs={"left": LEFTOVERS},
    ),
    "no bridge": Case(refused=True, host=("link add cni0 type veth peer name other",)),
    "hairpin and promiscuous": Case(keys={"hairpinMode": True, "promiscMode": True}, refused=True),
    "a wrong mac": Case(keys={"args": {"cni": {"mac": "02:11"}}}, refused=True, differs={"left": LEFTOVERS}),
    "an unknown argument": Case(variables={"CNI_ARGS": "FOO=BAR"}, refused=True),
    "a gateway as address": Case(keys={"args": {"cni": {"ips": ["10.61.0.1"]}}}, refused=True, differs={"left": LEFTOVERS}),
}
