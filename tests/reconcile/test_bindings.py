"""Where listeners are bound: local ports that stay, addresses of the node bound directly, connections that drain."""

from __future__ import annotations

import pytest

from tests.reconcile.rewriting import Rewriting
from uproxy.core.model import Protocol, RouteKey
from uproxy.core.ruleset import Capture
from uproxy.errors import ListenError
from uproxy.reconcile.bindings import Bindings
from uproxy.redirect.none import NoRedirect

VIP = "10.96.0.1"
WEB = RouteKey(VIP, Protocol.TCP, 80)
NOBODY: frozenset[str] = frozenset()


def rewriting(*claimed: RouteKey, first: int = 20000, last: int = 29999, inherited: dict[RouteKey, int] | None = None) -> Bindings:
    return Bindings(Rewriting(), set(claimed), (first, last), inherited or {})


def test_a_vip_is_bound_to_a_local_port_that_reminds_of_the_service_port() -> None:
    binding = rewriting().bind(WEB, NOBODY)
    assert (binding.port, binding.transparent, binding.mark) == (20080, True, 0x800)


def test_an_address_of_the_node_is_bound_directly() -> None:
    binding = rewriting().bind(WEB, frozenset({VIP}))
    assert (binding.port, binding.transparent, binding.mark) == (80, False, 0)


def test_without_rewriting_the_service_port_itself_is_bound() -> None:
    bindings = Bindings(NoRedirect(), set(), (20000, 29999), {})
    assert bindings.bind(WEB, NOBODY).port == 80
    assert not bindings.capture([VIP], NOBODY).ports


def test_two_ports_with_the_same_last_digits_get_different_local_ports() -> None:
    bindings = rewriting()
    assert bindings.bind(WEB, NOBODY).port == 20080
    assert bindings.bind(WEB._replace(port=10080), NOBODY).port == 20081
    assert bindings.bind(WEB._replace(protocol=Protocol.UDP), NOBODY).port == 20080


def test_a_service_port_of_the_same_vip_is_no_local_port() -> None:
    assert rewriting(WEB._replace(port=20080)).bind(WEB, NOBODY).port == 20081
    assert rewriting(RouteKey("10.96.0.2", Protocol.TCP, 20080)).bind(WEB, NOBODY).port == 20080


def test_a_port_that_the_kernel_remembers_is_used_again_and_kept_from_others() -> None:
    other = WEB._replace(port=10080)
    bindings = rewriting(inherited={WEB: 20080, other: 24711})
    assert bindings.bind(WEB._replace(port=4711), NOBODY).port == 24712
    assert bindings.bind(other, NOBODY).port == 24711
    assert bindings.bind(WEB, NOBODY).port == 20080


def test_remembered_ports_that_nobody_asked_for_are_free_once_forgotten() -> None:
    bindings = rewriting(inherited={WEB: 24711})
    bindings.forget_inherited()
    assert bindings.bind(WEB._replace(port=4711), NOBODY).port == 24711


def test_a_draining_key_is_refused_keeps_its_port_and_its_vip_until_it_is_released() -> None:
    bindings = rewriting()
    bindings.bind(WEB, NOBODY)
    bindings.drain(WEB)
    draining = bindings.capture([], NOBODY)
    assert draining == Capture(frozenset({VIP}), {WEB: 20080}, frozenset({WEB}))
    bindings.release(WEB)
    assert bindings.capture([], NOBODY).vips == NOBODY


def test_a_service_that_returns_while_its_connections_drain_gets_its_port_back() -> None:
    bindings = rewriting()
    first = bindings.bind(WEB, NOBODY)
    bindings.drain(WEB)
    assert bindings.bind(WEB, NOBODY) == first
    assert not bindings.capture([VIP], NOBODY).refusing


def test_a_vip_without_listeners_is_captured_so_that_it_is_refused() -> None:
    assert rewriting().capture([VIP], NOBODY).vips == frozenset({VIP})
    assert rewriting().capture([VIP], frozenset({VIP})).vips == NOBODY


def test_a_vip_without_free_local_ports_says_which_setting_has_more() -> None:
    bindings = rewriting(first=20080, last=20080)
    bindings.bind(WEB, NOBODY)
    with pytest.raises(ListenError, match=r"capture\.localPorts"):
        bindings.bind(WEB._replace(port=81), NOBODY)


def test_a_binding_fits_no_more_when_the_vip_becomes_an_address_of_the_node() -> None:
    bindings = rewriting()
    bindings.bind(WEB, NOBODY)
    assert bindings.fits(WEB, NOBODY)
    assert not bindings.fits(WEB, frozenset({VIP}))
