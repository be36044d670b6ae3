"""The netlink codec, against the kernel."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uproxy.core.model import Family
from uproxy.redirect import rtnetlink
from uproxy.redirect.netlink import (
    CREATE,
    EXCLUSIVE,
    NETLINK_ROUTE,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
)
from uproxy.redirect.rtnetlink import LOCAL, LOOPBACK, UNICAST, KernelRoute, Rule

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

TABLE = 4711


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=64)), st.binary(max_size=3))
def test_attributes_are_read_as_they_were_written(given_attributes: dict[int, bytes], rest: bytes) -> None:
    encoded = b"head" + b"".join(attribute(kind, value) for kind, value in given_attributes.items()) + rest
    assert attributes(encoded, 4) == given_attributes


@given(st.binary(max_size=200))
def test_bytes_that_make_no_sense_are_read_without_an_error(data: bytes) -> None:
    attributes(data, 0)
    list(messages(data))


def in_batches_of_300(kernel: NetlinkSocket, kind: int, flags: int, routes: list[KernelRoute]) -> None:
    for start in range(0, len(routes), 300):
        kernel.batch((kind, flags, rtnetlink.encode_route(route)) for route in routes[start : start + 300])


@pytest.mark.netns
@pytest.mark.parametrize(("family", "prefix"), [(Family.IPV4, "10.5.{}.{}"), (Family.IPV6, "fd05::{}:{}")])
def test_thousands_of_routes_are_listed_as_they_were_installed(host: Namespace, family: Family, prefix: str) -> None:
    bits = rtnetlink.host_prefix(family)
    wanted = [
        KernelRoute(family, prefix.format(number // 100 + 1, number % 100 + 1), bits, TABLE, kind, 99, LOOPBACK)
        for number in range(1000)
        for kind in (LOCAL if number % 2 else UNICAST,)
    ]

    def body() -> tuple[list[KernelRoute], list[KernelRoute], list[KernelRoute]]:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            in_batches_of_300(kernel, rtnetlink.NEWROUTE, CREATE | EXCLUSIVE, wanted)
            there = rtnetlink.routes(kernel, family, TABLE, 99)
            of_others = rtnetlink.routes(kernel, family, TABLE, 98)
            in_batches_of_300(kernel, rtnetlink.DELROUTE, 0, wanted)
            return there, of_others, rtnetlink.routes(kernel, family, TABLE)

    there, of_others, left = host.call(body)
    assert {route._replace(metric=0) for route in there} == set(wanted)
    assert not of_others
    assert not left


@pytest.mark.netns
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize(
    "fields",
    [
        {"table": TABLE, "mark": 0x10, "mask": 0x30, "input_device": "lo"},
        {"goto": 32766, "mark": 1, "mask": 1},
        {"table": 5},
    ],
)
def test_a_rule_is_listed_as_it_was_installed(host: Namespace, family: Family, fields: dict[str, int]) -> None:
    wanted = Rule(family, 77, protocol=99, **fields)  # type: ignore[arg-type]  # the one text among the numbers has its own key

    def body() -> tuple[list[Rule], list[Rule]]:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            kernel.batch([(rtnetlink.NEWRULE, CREATE | EXCLUSIVE, rtnetlink.encode_rule(wanted))])
            there = rtnetlink.rules(kernel, family)
            kernel.batch([(rtnetlink.DELRULE, 0, rtnetlink.encode_rule(wanted))])
            return there, rtnetlink.rules(kernel, family)

    there, left = host.call(body)
    assert wanted in there
    assert left == [rule for rule in there if rule != wanted]


@pytest.mark.netns
def test_a_refused_message_is_named_with_the_kernels_own_words_and_its_place(host: Namespace) -> None:
    good = KernelRoute(Family.IPV4, "10.5.0.1", 32, TABLE, UNICAST, 99, LOOPBACK)

    def body() -> NetlinkError:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            parts = [(rtnetlink.NEWROUTE, CREATE, rtnetlink.encode_route(route)) for route in (good, good._replace(device=999), good)]
            with pytest.raises(NetlinkError) as caught:
                kernel.batch(parts, frozenset({errno.EEXIST}))
            # The socket is still in step: later answers are not taken for those of earlier questions.
            assert [link.name for link in rtnetlink.links(kernel)] == ["lo"]
            assert len(rtnetlink.routes(kernel, Family.IPV4, TABLE)) == 1
            return caught.value

    refused = host.call(body)
    assert refused.number == errno.ENODEV
    assert refused.index == 1
    assert "No such device" in str(refused)


@pytest.mark.netns
def test_an_error_that_is_tolerated_does_not_hide_another_one(host: Namespace) -> None:
    good = KernelRoute(Family.IPV4, "10.5.0.1", 32, TABLE, UNICAST, 99, LOOPBACK)

    def body() -> int:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            routes = (good, good, good._replace(device=999))
            parts = [(rtnetlink.NEWROUTE, CREATE | EXCLUSIVE, rtnetlink.encode_route(route)) for route in routes]
            with pytest.raises(NetlinkError) as caught:
                kernel.batch(parts, frozenset({errno.EEXIST}))
            return caught.value.number

    assert host.call(body) == errno.ENODEV


@pytest.mark.netns
def test_the_words_of_the_kernel_come_with_its_error(host: Namespace) -> None:
    def body() -> str:
        impossible = KernelRoute(Family.IPV4, "10.0.0.1", 33, TABLE, UNICAST, 99, LOOPBACK)
        with NetlinkSocket(NETLINK_ROUTE) as kernel, pytest.raises(NetlinkError) as caught:
            kernel.batch([(rtnetlink.NEWROUTE, CREATE, rtnetlink.encode_route(impossible))])
        return str(caught.value)

    assert "(Invalid prefix length)" in host.call(body)


@pytest.mark.netns
def test_a_table_that_is_not_there_has_no_routes(host: Namespace) -> None:
    def body() -> list[KernelRoute]:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            return [route for family in Family for route in rtnetlink.routes(kernel, family, TABLE)]

    assert host.call(body) == []


@pytest.mark.netns
def test_a_multipath_route_names_its_devices_and_is_not_on_link(host: Namespace) -> None:
    host.ip("link add up-a type bridge", "link add up-b type bridge", "addr add 10.6.0.1/24 dev up-a", "addr add 10.7.0.1/24 dev up-b")
    host.ip("link set up-a up", "link set up-b up", "route add default nexthop via 10.6.0.2 nexthop via 10.7.0.2")

    def body() -> tuple[KernelRoute | None, dict[str, int]]:
        with NetlinkSocket(NETLINK_ROUTE) as kernel:
            devices = {link.name: link.number for link in rtnetlink.links(kernel)}
            (default,) = [route for route in rtnetlink.routes(kernel, Family.IPV4, rtnetlink.TABLE_MAIN) if not route.prefix]
            return default, devices

    default, devices = host.call(body)
    assert default is not None
    assert set(default.hops) == {devices["up-a"], devices["up-b"]}
    assert not default.on_link


@pytest.mark.netns
def test_without_the_capability_the_error_names_it(host: Namespace) -> None:
    script = (
        "from uproxy.redirect import rtnetlink as r; from uproxy.redirect.netlink import *\n"
        "from uproxy.core.model import Family\n"
        "with NetlinkSocket(NETLINK_ROUTE) as k:\n"
        "    try: k.batch([(r.NEWRULE, CREATE, r.encode_rule(r.Rule(Family.IPV4, 5, table=9)))])\n"
        "    except NetlinkError as error: print(error)\n"
    )
    printed = host.run("setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", script)
    assert "CAP_NET_ADMIN" in printed
