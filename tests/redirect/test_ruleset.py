"""The nftables table as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.redirect.captures import DNS, USUAL, VIP, VIP6, WEB, WEB6
from uproxy.core import ruleset
from uproxy.core.model import Family, Protocol, RouteKey
from uproxy.core.ruleset import Capture, Elements, Marks

MARKS = Marks(0x1000, 0x0800)
BOTH = tuple(Family)
GOLDEN = Path(__file__).parent / "golden"

ADDRESSES = ("10.96.0.1", "10.96.0.2", "203.0.113.9", "fd00::1", "fd00::2")
KEYS = st.builds(RouteKey, st.sampled_from(ADDRESSES), st.sampled_from(list(Protocol)), st.sampled_from((53, 80, 443)))


@st.composite
def captures(draw: st.DrawFn) -> Capture:
    """Draw what a reconciler may want: some ports of some VIPs, no two with the same local port."""
    keys = sorted(draw(st.sets(KEYS, max_size=12)))
    first = draw(st.sampled_from((20000, 20003)))
    ports = {key: first + number for number, key in enumerate(keys)}
    refusing = frozenset(key for key in keys if draw(st.booleans()))
    return Capture(frozenset(key.vip for key in keys) | draw(st.frozensets(st.sampled_from(ADDRESSES))), ports, refusing)


def carried_out(script: str, content: Elements) -> Elements:
    """Do what a script of element changes says, as strictly as nft: nothing is deleted that is not there, nothing added twice."""
    found = {store: dict(held) for store, held in content.items()}
    for line in script.splitlines():
        verb, _, _, table, store, listed = line.split(" ", 5)
        assert table == "uproxy"
        for element in listed.removeprefix("{ ").removesuffix(" }").split(", "):
            key, _, value = element.partition(" : ")
            if verb == "delete":
                assert found[store].pop(key) == value
            else:
                assert key not in found[store]
                found[store][key] = value
    return found


@pytest.mark.parametrize(("families", "golden"), [(BOTH, "rules.nft"), ((Family.IPV4,), "rules-ipv4.nft")])
def test_the_static_rules_are_what_was_reviewed(families: tuple[Family, ...], golden: str) -> None:
    found = ruleset.rules(MARKS, families)
    assert found.text.replace(found.version, "VERSION") == (GOLDEN / golden).read_text()


def test_without_ipv6_no_rule_mentions_it() -> None:
    assert "6" not in ruleset.rules(Marks(0x10, 0x20), [Family.IPV4]).text.partition("\n")[2].partition("\n")[2]


def test_other_marks_are_another_version_of_the_rules() -> None:
    other = ruleset.rules(Marks(0x10, 0x20), BOTH)
    assert other.version != ruleset.rules(MARKS, BOTH).version
    assert "0x1000" not in other.text
    assert other.text.count("| 0x10 ") == 5


def test_rules_use_neither_nat_nor_conntrack() -> None:
    text = ruleset.rules(MARKS, BOTH).text
    assert not [word for word in (" nat ", " ct ", "dnat", "snat", "masquerade", "redirect") if word in text]


def test_the_same_rules_have_the_same_version_in_any_order_of_families() -> None:
    assert ruleset.rules(MARKS, BOTH) == ruleset.rules(MARKS, reversed(BOTH))


def test_elements_of_a_port_are_there_and_back() -> None:
    assert ruleset.elements(Capture(frozenset({VIP}), {WEB: 20080}), [Family.IPV4]) == {
        "vips4": {VIP: ""},
        "ports4": {f"{VIP} . tcp . 80": "20080"},
        "origins4": {f"{VIP} . tcp . 20080": "80"},
        "refusing4": {},
    }


def test_a_refusing_tcp_port_keeps_its_way_there_and_back() -> None:
    found = ruleset.elements(Capture(frozenset({VIP6}), {WEB6: 20080}, frozenset({WEB6})), BOTH)
    assert found["ports6"] == {f"{VIP6} . tcp . 80": "20080"}
    assert found["origins6"] == {f"{VIP6} . tcp . 20080": "80"}
    assert found["refusing6"] == {f"{VIP6} . tcp . 80": ""}


def test_a_refusing_udp_port_is_in_no_map() -> None:
    found = ruleset.elements(Capture(frozenset({VIP}), {DNS: 20053}, frozenset({DNS})), BOTH)
    assert found["vips4"] == {VIP: ""}
    assert not found["ports4"]
    assert not found["origins4"]
    assert not found["refusing4"]


def test_what_belongs_to_a_family_that_is_off_is_left_out() -> None:
    found = ruleset.elements(USUAL, [Family.IPV4])
    assert sorted(found) == ["origins4", "ports4", "refusing4", "vips4"]
    assert found["vips4"] == {VIP: ""}


def test_equal_contents_need_no_script() -> None:
    content = ruleset.elements(USUAL, BOTH)
    assert ruleset.changes(content, content) == ""


def test_a_change_is_a_deletion_and_an_addition_with_the_deletion_first() -> None:
    before, after = {"ports4": {"a . tcp . 1": "5", "b . tcp . 1": "6"}}, {"ports4": {"a . tcp . 1": "7", "b . tcp . 1": "6"}}
    assert ruleset.changes(before, after).splitlines() == [
        "delete element inet uproxy ports4 { a . tcp . 1 : 5 }",
        "add element inet uproxy ports4 { a . tcp . 1 : 7 }",
    ]


@given(captures(), captures())
def test_changes_lead_from_any_content_to_any_other(before: Capture, after: Capture) -> None:
    old, new = ruleset.elements(before, BOTH), ruleset.elements(after, BOTH)
    assert carried_out(ruleset.changes(old, new), old) == new


@given(captures(), captures())
def test_the_reduced_captures_need_the_same_changes_as_the_whole_ones(before: Capture, after: Capture) -> None:
    fewer, more = ruleset.differing(before, after)
    reduced = ruleset.changes(ruleset.elements(fewer, BOTH), ruleset.elements(more, BOTH))
    whole = ruleset.changes(ruleset.elements(before, BOTH), ruleset.elements(after, BOTH))
    assert _sorted(reduced) == _sorted(whole)


def _sorted(script: str) -> list[tuple[str, list[str]]]:
    lines = [line.partition(" { ") for line in script.splitlines()]
    return sorted((head, sorted(rest.removesuffix(" }").split(", "))) for head, _, rest in lines)


@given(captures())
def test_one_change_among_many_is_all_that_a_script_holds(capture: Capture) -> None:
    new = RouteKey("10.96.9.9", Protocol.TCP, 8443)
    fewer, more = ruleset.differing(capture, Capture(capture.vips, {**capture.ports, new: 28443}, capture.refusing))
    assert ruleset.changes(ruleset.elements(fewer, BOTH), ruleset.elements(more, BOTH)).splitlines() == [
        "add element inet uproxy ports4 { 10.96.9.9 . tcp . 8443 : 28443 }",
        "add element inet uproxy origins4 { 10.96.9.9 . tcp . 28443 : 8443 }",
    ]


def listing(*objects: dict[str, Any]) -> bytes:
    """Write what nft prints."""
    return json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, *objects]}).encode()


def store(kind: str, name: str, *listed: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON nft prints
    """Write one set or map as nft prints it."""
    return {kind: {"family": "inet", "table": "uproxy", "name": name, "handle": 3, "elem": list(listed)}}


def test_local_ports_are_read_from_a_listing() -> None:
    found = ruleset.parse(listing(store("map", "ports4", [{"concat": [VIP, "udp", 53]}, 20053])))
    assert ruleset.local_ports(found.elements) == {DNS: 20053}


def test_an_address_is_read_in_the_spelling_of_all_other_modules() -> None:
    found = ruleset.parse(listing(store("set", "vips6", "::0.10.0.11", "fd00::1")))
    assert found.elements["vips6"] == {"::a:b": "", "fd00::1": ""}


def test_an_element_that_is_never_written_makes_the_rules_count_as_foreign() -> None:
    version = store("set", "rules_0123456789ab")
    commented = {"elem": {"val": VIP, "comment": "by hand"}}
    assert ruleset.parse(listing(version, store("set", "vips4", VIP))).version == "rules_0123456789ab"
    assert ruleset.parse(listing(version, store("set", "vips4", commented))).version == ""


@pytest.mark.parametrize("printed", [b"", b"[]", b"{}", b'{"nftables": 1}', b'{"nftables": [{"chain": 1}]}', b"Error: syntax"])
def test_what_is_no_listing_is_refused(printed: bytes) -> None:
    with pytest.raises(ValueError, match="nft printed something else"):
        ruleset.parse(printed)
