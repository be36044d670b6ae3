"""Netlink sockets against the kernel: acknowledgements, errors in its words, dumps, announcements."""

from __future__ import annotations

import errno
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cni_bridge.addresses import parse
from cni_bridge.netlink import address, bridge_port, link, route
from cni_bridge.netlink.connection import Connection
from cni_bridge.netlink.message import NetlinkError
from cni_bridge.netlink.subscription import GROUP_LINK, Subscription

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns

MAC, OTHER_MAC, POD_MAC = (bytes.fromhex(f"0200000000{last:02x}") for last in (1, 2, 3))


def read(connection: Connection, name: str) -> link.Link:
    found = link.first(connection.perform(link.get(name))[0])
    assert found is not None, name
    return found


def test_a_bridge_has_the_mac_and_the_mtu_that_it_was_made_with(host: Namespace, connection: Connection) -> None:
    connection.perform(link.create_bridge("cni0", MAC, mtu=1400))
    made = read(connection, "cni0")
    assert (made.kind, made.mac, made.mtu, made.is_up) == ("bridge", "02:00:00:00:00:01", 1400, False)
    assert host.run("ip", "netns", "exec", host.name, "cat", "/sys/class/net/cni0/addr_assign_type").strip() == "3"


def test_one_request_makes_a_pair_whose_near_end_is_a_port_and_up(namespaces: Namespaces, host: Namespace, connection: Connection) -> None:
    (pod,) = namespaces.make("pod")
    connection.perform(link.create_bridge("cni0", MAC))
    bridge = read(connection, "cni0")
    with open(f"/run/netns/{pod.name}", "rb") as inside:  # noqa: PTH123 - its descriptor is what is wanted
        near = link.VethEnd("veth1", OTHER_MAC, master=bridge.index)
        connection.perform(link.create_veth(near, link.VethEnd("eth0", POD_MAC, netns=inside.fileno()), 1300))
    port = read(connection, "veth1")
    assert (port.kind, port.mac, port.mtu, port.master, port.is_up) == ("veth", "02:00:00:00:00:02", 1300, bridge.index, True)
    (eth0,) = json.loads(pod.run("ip", "-j", "link", "show", "eth0"))
    assert (eth0["address"], eth0["mtu"], "UP" in eth0["flags"]) == ("02:00:00:00:00:03", 1300, False)
    assert port.peer == eth0["ifindex"]
    assert host.run("ip", "-o", "link").count("veth1") == 1


def test_a_refusal_has_the_kernels_own_words(connection: Connection) -> None:
    connection.perform(link.create_bridge("cni0", MAC))
    with pytest.raises(NetlinkError) as refused:
        connection.perform(link.create_veth(link.VethEnd("veth1", b"\1\0\0\0\0\2"), link.VethEnd("veth2", POD_MAC)))
    assert refused.value.number == errno.EADDRNOTAVAIL
    with pytest.raises(NetlinkError, match=r"add route 10\.9\.0\.0/24: Nexthop has invalid gateway \(Network is unreachable\)"):
        connection.perform(
            link.set_up(read(connection, "cni0").index, "cni0"),
            route.add(route.Route(parse("10.9.0.0"), 24, read(connection, "cni0").index, gateway=parse("10.8.0.1"))),
        )


def test_all_of_a_batch_is_done_and_its_first_error_is_raised_last(connection: Connection) -> None:
    connection.perform(link.create_bridge("cni0", MAC))
    with pytest.raises(NetlinkError, match=r"create bridge cni0: .*File exists"):
        connection.perform(link.create_bridge("cni0", MAC), link.create_bridge("cni1", OTHER_MAC), link.create_bridge("cni1", MAC))
    assert read(connection, "cni1").mac == "02:00:00:00:00:02"


def test_a_tolerated_error_is_success(connection: Connection) -> None:
    assert connection.perform(link.get("nothing"), link.delete("nothing")) == [[], []]


def test_a_connection_stays_in_the_namespace_in_which_it_was_opened(host: Namespace, connection: Connection) -> None:
    connection.perform(link.create_bridge("cni0", MAC))
    assert "cni0" in host.run("ip", "-o", "link")
    with Connection() as elsewhere:
        assert elsewhere.perform(link.get("cni0")) == [[]]


def test_a_dump_gives_the_addresses_of_the_one_interface(host: Namespace, connection: Connection) -> None:
    host.ip("link add cni0 type bridge", "link add cni1 type bridge", "addr add 10.2.0.1/16 dev cni1")
    host.ip("link set cni0 up", "addr add 10.1.0.1/16 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
    index = read(connection, "cni0").index
    found = address.of_interface(connection.dump(address.dump(index)), index)
    assert {(one.address, one.prefix) for one in found if one.scope == 0} == {(parse("10.1.0.1"), 16), (parse("fd00::1"), 64)}


def test_a_dump_longer_than_one_datagram_comes_whole(host: Namespace, connection: Connection) -> None:
    host.ip("link add cni0 type bridge", *[f"addr add 10.{high}.{low}.1/24 dev cni0" for high in range(8) for low in range(250)])
    index = read(connection, "cni0").index
    assert len(address.of_interface(connection.dump(address.dump(index, address.IPV4)), index)) == 2000


def test_a_port_shows_hairpin_and_isolation(host: Namespace, connection: Connection) -> None:
    host.ip("link add cni0 type bridge", "link add veth1 type veth peer name veth2", "link set veth1 master cni0")
    port = read(connection, "veth1")
    assert (port.is_hairpin, port.is_isolated) == (False, False)
    connection.perform(bridge_port.set_port(port.index, hairpin=True, isolated=True))
    port = read(connection, "veth1")
    assert (port.is_hairpin, port.is_isolated) == (True, True)


def test_an_alias_and_removal_go_by_name(host: Namespace, connection: Connection) -> None:
    host.ip("link add veth1 type veth peer name veth2")
    connection.perform(link.set_alias("veth1", "a pod's"))
    assert read(connection, "veth1").alias == "a pod's"
    connection.perform(link.delete("veth1"))
    assert connection.perform(link.get("veth1"), link.get("veth2")) == [[], []]


def test_a_route_is_read_back_as_it_was_added(host: Namespace, connection: Connection) -> None:
    host.ip("link add cni0 type bridge", "link set cni0 up", "addr add 10.1.0.1/16 dev cni0", "addr add fd00::1/64 dev cni0 nodad")
    index = read(connection, "cni0").index
    for dst, prefix, gateway in (("10.9.0.0", 24, "10.1.0.2"), ("fd09::", 64, "fd00::2"), ("0.0.0.0", 0, "10.1.0.2")):
        added = route.Route(parse(dst), prefix, index, gateway=parse(gateway))
        added.mtu, added.advmss, added.priority, added.table = 1400, 1360, 7, 1000
        connection.perform(route.add(added))
        found = [route.parse(payload) for payload in connection.dump(route.dump(address.family_of(added.dst), index))]
        (same,) = [one for one in found if (one.dst, one.prefix, one.table) == (added.dst, prefix, 1000)]
        for name in ("gateway", "index", "mtu", "advmss", "priority", "scope", "protocol"):
            assert getattr(same, name) == getattr(added, name), name
        connection.perform(route.delete(added), route.delete(added))
    assert host.run("ip", "route", "show", "table", "1000") == ""


def test_a_look_up_tells_the_route_that_packets_take(host: Namespace, connection: Connection) -> None:
    host.ip("link add cni0 type bridge", "link set cni0 up", "addr add 10.1.0.1/16 dev cni0", "route add 10.1.0.5/32 dev cni0")
    (answer,) = connection.perform(route.match(parse("10.1.0.5")))
    assert str(route.parse(answer[0])) == "10.1.0.5/32"
    (answer,) = connection.perform(route.match(parse("10.1.0.6")))
    assert str(route.parse(answer[0])) == "10.1.0.0/16"
    assert connection.perform(route.match(parse("10.2.0.6"))) == [[]]
    host.ip("addr add fd00::1/64 dev cni0 nodad", "route add fd00::5/128 dev cni0")
    assert connection.dump(route.dump(address.IPV6))  # which turns strict checks on
    (answer,) = connection.perform(route.match(parse("fd00::5")))
    assert str(route.parse(answer[0])) == "fd00::5/128"
    assert connection.perform(route.match(parse("fd09::5"))) == [[]]


def test_waiting_ends_with_the_announcement_and_not_before(host: Namespace, connection: Connection) -> None:
    host.ip("link add veth1 type veth peer name veth2", "link add veth3 type veth peer name veth4")
    index = read(connection, "veth1").index
    with host.call(Subscription, GROUP_LINK) as news:
        host.ip("link set veth3 up")
        begun = time.monotonic()
        later = threading.Timer(0.3, host.ip, ["link set veth1 up"])
        later.start()
        assert news.wait(index, begun + 10)
        assert 0.3 <= time.monotonic() - begun < 5
        later.join()


def test_waiting_ends_at_the_deadline_even_while_other_interfaces_make_news(host: Namespace, connection: Connection) -> None:
    host.ip("link add veth1 type veth peer name veth2", "link add veth3 type veth peer name veth4")
    with host.call(Subscription, GROUP_LINK) as news:
        host.ip(*["link set veth3 up", "link set veth3 down"] * 5)
        begun = time.monotonic()
        assert not news.wait(read(connection, "veth1").index, begun + 0.2)
        assert 0.2 <= time.monotonic() - begun < 2


def test_lost_announcements_count_as_news(host: Namespace, connection: Connection) -> None:
    host.ip("link add veth1 type veth peer name veth2", "link add veth3 type veth peer name veth4")
    with host.call(Subscription, GROUP_LINK) as news:
        host.ip(*["link set veth3 up", "link set veth3 down"] * 400)
        begun = time.monotonic()
        assert news.wait(read(connection, "veth1").index, begun + 10)
        assert time.monotonic() - begun < 5


def test_vlans_of_a_port_that_cannot_filter_are_refused_in_words(host: Namespace, connection: Connection) -> None:
    host.ip("link add veth1 type veth peer name veth2")
    with pytest.raises(NetlinkError, match=r"add port .* to VLANs 10, 20-30"):
        connection.perform(bridge_port.add_vlans(read(connection, "veth1").index, [(10, 10, 0), (20, 30, 0)]))
    assert bridge_port.vlans_of(connection.dump(bridge_port.dump_vlans()), 1) == []
