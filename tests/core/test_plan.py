"""All Services together: who holds what, which endpoints would loop, and what is different after a change."""

from __future__ import annotations

from tests.core.objects import key, route, routes
from uproxy.core.model import AddressClass, Refusal
from uproxy.core.plan import Desired, Plan, Settled, diff
from uproxy.core.policy import ServiceRoutes

WEB = route("10.96.0.1", "10.0.0.1:8080", of="web")
API = route("10.96.0.1", "10.0.0.2:8080", of="api")
NOTHING = Settled({}, {})


def desired(*found: tuple[str, ServiceRoutes]) -> Desired:
    """Make one in which these Services have been put and settled one after the other."""
    made = Desired()
    for name, one in found:
        made.put(key(name), one)
        made.settle()
    return made


def test_a_new_service_changes_its_keys() -> None:
    made = Desired()
    made.put(key("web"), routes(WEB))
    assert made.settle() == Settled({WEB.key: WEB}, {})
    assert made.settle() == NOTHING


def test_putting_the_same_again_changes_nothing() -> None:
    made = desired(("web", routes(WEB)))
    made.put(key("web"), routes(route("10.96.0.1", "10.0.0.1:8080", of="web")))
    assert made.settle() == NOTHING


def test_a_change_of_one_service_names_only_its_keys() -> None:
    made = desired(("web", routes(WEB)), ("other", routes(route("10.96.0.9", "10.0.0.9:1", of="other"))))
    changed = route("10.96.0.1", "10.0.0.5:8080", of="web")
    made.put(key("web"), routes(changed))
    assert made.settle() == Settled({WEB.key: changed}, {})


def test_a_dropped_service_leaves_its_keys() -> None:
    made = desired(("web", routes(WEB)))
    made.drop(key("web"))
    assert made.settle() == Settled({WEB.key: None}, {})
    made.drop(key("web"))
    assert made.settle() == NOTHING


def test_put_and_drop_between_two_settles_are_nothing() -> None:
    made = Desired()
    made.put(key("web"), routes(WEB))
    made.drop(key("web"))
    assert made.settle() == NOTHING


def test_a_key_that_a_service_gives_up_is_gone() -> None:
    made = desired(("web", routes(WEB)))
    moved = route("10.96.0.2", "10.0.0.1:8080", of="web")
    made.put(key("web"), routes(moved))
    assert made.settle() == Settled({WEB.key: None, moved.key: moved}, {})


def test_who_holds_a_key_keeps_it_and_the_other_is_told_the_holder() -> None:
    made = desired(("web", routes(WEB)))
    made.put(key("api"), routes(API))
    settled = made.settle()
    assert not settled.changed
    ((service, (refusal,)),) = settled.refusals.items()
    assert service == key("api")
    assert refusal.subject == "Service default/api"
    assert "10.96.0.1:80/TCP" in refusal.reason
    assert "default/web" in refusal.reason


def test_the_holder_keeps_its_key_while_it_changes() -> None:
    made = desired(("web", routes(WEB)), ("api", routes(API)))
    changed = route("10.96.0.1", "10.0.0.7:8080", of="web")
    made.put(key("web"), routes(changed))
    assert made.settle() == Settled({WEB.key: changed}, {})


def test_the_holder_keeps_its_key_even_if_it_went_and_came_between_two_settles() -> None:
    made = desired(("web", routes(WEB)), ("api", routes(API)))
    made.drop(key("web"))
    made.put(key("web"), routes(WEB))
    assert made.settle() == NOTHING


def test_among_new_claims_the_smallest_service_gets_the_key_whatever_the_order() -> None:
    made = Desired()
    made.put(key("web"), routes(WEB))
    made.put(key("api"), routes(API))
    settled = made.settle()
    assert settled.changed == {API.key: API}
    assert set(settled.refusals) == {key("web")}


def test_when_the_holder_leaves_the_smallest_of_the_others_gets_the_key() -> None:
    mid = route("10.96.0.1", "10.0.0.3:8080", of="mid")
    made = desired(("web", routes(WEB)), ("mid", routes(mid)), ("api", routes(API)))
    made.put(key("web"), routes())
    settled = made.settle()
    assert settled.changed == {API.key: API}
    assert settled.refusals[key("api")] == ()
    ((refusal,),) = (refused for service, refused in settled.refusals.items() if service == key("mid"))
    assert "default/api" in refusal.reason


def test_when_the_other_leaves_the_holder_notices_nothing() -> None:
    made = desired(("web", routes(WEB)), ("api", routes(API)))
    made.drop(key("api"))
    assert made.settle() == Settled({}, {key("api"): ()})


def test_a_refused_service_changes_while_it_waits() -> None:
    made = desired(("web", routes(WEB)), ("api", routes(API)))
    newer = route("10.96.0.1", "10.0.0.8:8080", of="api")
    made.put(key("api"), routes(newer))
    assert made.settle() == NOTHING
    made.drop(key("web"))
    assert made.settle().changed == {API.key: newer}


def test_an_endpoint_that_is_a_service_address_is_left_out_with_a_reason() -> None:
    made = desired(("api", routes(route("10.96.0.2", "10.0.0.2:8080", of="api"))))
    made.put(key("web"), routes(route("10.96.0.1", "10.96.0.2:80", "10.0.0.1:8080", of="web")))
    settled = made.settle()
    assert settled.changed == {WEB.key: WEB}
    ((refusal,),) = settled.refusals.values()
    assert "10.96.0.2:80" in refusal.reason
    assert "default/api" in refusal.reason


def test_an_endpoint_becomes_a_loop_when_its_address_is_claimed_and_ends_to_be_one_when_the_claim_ends() -> None:
    looping = route("10.96.0.1", "10.96.0.2:80", of="web")
    made = desired(("web", routes(looping)))
    claim = route("10.96.0.2", of="api")
    made.put(key("api"), routes(claim))
    settled = made.settle()
    assert settled.changed == {claim.key: claim, looping.key: route("10.96.0.1", of="web")}
    assert len(settled.refusals[key("web")]) == 1
    made.drop(key("api"))
    assert made.settle() == Settled({claim.key: None, looping.key: looping}, {key("web"): ()})


def test_an_endpoint_that_is_a_node_port_is_a_loop() -> None:
    node_port = route("192.168.0.1", "10.0.0.2:8080", of="api", port=30080, address_class=AddressClass.NODE_PORT)
    made = desired(("api", routes(node_port)))
    made.put(key("web"), routes(route("10.96.0.1", "192.168.0.1:30080", of="web")))
    settled = made.settle()
    assert settled.changed == {WEB.key: route("10.96.0.1", of="web")}
    assert "NodePort of Service default/api" in settled.refusals[key("web")][0].reason


def test_a_service_that_leads_to_itself_is_a_loop() -> None:
    made = Desired()
    made.put(key("web"), routes(route("10.96.0.1", "10.96.0.1:80", "10.0.0.1:8080", of="web")))
    settled = made.settle()
    assert settled.changed == {WEB.key: WEB}
    assert len(settled.refusals[key("web")]) == 1


def test_another_port_or_protocol_of_a_service_address_is_no_loop() -> None:
    udp = route("10.96.0.2", of="api")
    made = desired(("api", routes(udp)))
    near = route("10.96.0.1", "10.96.0.2:81", of="web")
    made.put(key("web"), routes(near))
    assert made.settle() == Settled({near.key: near}, {})


def test_the_reason_of_a_loop_follows_the_holder() -> None:
    made = desired(
        ("web", routes(route("10.96.0.5", "10.96.0.1:80", of="web"))), ("api", routes(API)), ("b", routes(route("10.96.0.1", of="b")))
    )
    made.drop(key("api"))
    (refusal,) = made.settle().refusals[key("web")]
    assert "default/b" in refusal.reason


def test_the_reason_of_a_loop_follows_the_class_of_the_address() -> None:
    made = desired(("web", routes(route("10.96.0.5", "10.96.0.1:80", of="web"))), ("api", routes(API)))
    made.put(key("api"), routes(route("10.96.0.1", of="api", address_class=AddressClass.EXTERNAL_IP)))
    (refusal,) = made.settle().refusals[key("web")]
    assert "externalIP of Service default/api" in refusal.reason


def test_refusals_of_policy_are_handed_on_and_cleared() -> None:
    refusal = Refusal("Service default/web", "spec.externalIPs", "is bad")
    made = Desired()
    made.put(key("web"), ServiceRoutes((WEB,), (refusal,)))
    assert made.settle() == Settled({WEB.key: WEB}, {key("web"): (refusal,)})
    made.put(key("web"), routes(WEB))
    assert made.settle() == Settled({}, {key("web"): ()})


def test_refusals_of_a_dropped_service_are_cleared() -> None:
    made = desired(("web", ServiceRoutes((), (Refusal("Service default/web", "", "is bad"),))))
    made.drop(key("web"))
    assert made.settle() == Settled({}, {key("web"): ()})


def test_a_key_that_does_not_run_is_opened() -> None:
    assert diff({}, {WEB.key: WEB}) == Plan(open=(WEB,))


def test_a_route_without_endpoints_is_not_opened() -> None:
    assert diff({}, {WEB.key: route("10.96.0.1", of="web")}) == Plan()


def test_a_running_key_is_updated_in_place() -> None:
    changed = route("10.96.0.1", "10.0.0.5:8080", of="web")
    assert diff({WEB.key: WEB}, {WEB.key: changed}) == Plan(update=(changed,))


def test_a_running_key_that_is_as_it_should_be_is_left_alone() -> None:
    assert diff({WEB.key: WEB}, {WEB.key: WEB}) == Plan()


def test_a_running_key_that_lost_its_endpoints_is_closed() -> None:
    assert diff({WEB.key: WEB}, {WEB.key: route("10.96.0.1", of="web")}) == Plan(close=(WEB.key,))


def test_a_running_key_that_is_gone_is_closed_and_an_unknown_one_is_not() -> None:
    assert diff({WEB.key: WEB}, {WEB.key: None}) == Plan(close=(WEB.key,))
    assert diff({}, {WEB.key: None}) == Plan()


def test_a_key_that_changes_hands_is_updated() -> None:
    assert diff({WEB.key: WEB}, {WEB.key: API}) == Plan(update=(API,))
