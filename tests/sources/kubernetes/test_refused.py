"""Refusals of the API server's objects: counted, logged once, and told to the users of the Service where it is theirs to know."""

from __future__ import annotations

from tests.core.objects import key, service, slice_of
from tests.dataplane.running import RecordingLog
from tests.sources.kubernetes.reflecting import KeptEvents
from uproxy.core.annotations import annotation_field
from uproxy.core.model import Kind, Refusal
from uproxy.event_recorder import ClusterEvent
from uproxy.sources.kubernetes.refused import RefusedObjects

PART = Refusal("Service default/a", "spec.externalIPs[0]", "is wrong")
WHOLE = Refusal("Service default/a", "spec.type", "is wrong")
FOREIGN = Refusal("EndpointSlice default/web-1", "endpoints[0].addresses[0]", "fd00::1 is no IPv4 address", wrong_family=True)


class Refusing:
    """A RefusedObjects and what it says."""

    def __init__(self) -> None:
        self.log = RecordingLog()
        self.events = KeptEvents()
        self.refused = RefusedObjects(self.log, self.events)

    def note(self, *found: object) -> list[dict[str, object]]:
        """Take in what came of decoding; give all that was logged so far."""
        self.refused.note(Kind.SERVICE, key("a"), found)  # type: ignore[arg-type]  # decoded things
        self.refused.report()
        return self.log.named("object_refused")


def test_a_part_and_a_whole_object_are_told_apart() -> None:
    found = Refusing()
    assert found.note(service("a"), PART) == [{"subject": PART.subject, "field": PART.field, "reason": PART.reason}]
    assert "kept" in found.note(WHOLE)[1]
    assert found.refused.total == {"object": 1, "field": 1}


def test_a_refusal_is_logged_and_counted_once_until_it_changes() -> None:
    found = Refusing()
    for _ in range(3):
        found.note(service("a"), PART)
    assert len(found.note(service("a"), PART)) == 1
    assert found.refused.refused == 1
    found.note(service("a"))
    assert found.refused.refused == 0
    assert len(found.note(service("a"), PART)) == 2
    assert found.refused.total["field"] == 2


def test_kinds_are_told_apart() -> None:
    found = Refusing()
    found.note(WHOLE)
    found.refused.note(Kind.NODE, key("a"), (Refusal("Node a", "", "is wrong"),))
    found.refused.retain(Kind.NODE, ())
    assert found.refused.refused == 1
    found.refused.forget(Kind.SERVICE, key("a"))
    assert found.refused.refused == 0


def test_an_endpoint_of_the_wrong_family_is_an_event_of_its_service() -> None:
    found = Refusing()
    found.note(slice_of(), FOREIGN)
    found.note(slice_of(), FOREIGN)
    note = "EndpointSlice default/web-1: endpoints[0].addresses[0]: fd00::1 is no IPv4 address; it gets no traffic"
    assert found.events.kept == [ClusterEvent("Warning", "KubeProxyIncorrectIPVersion", "GatherEndpoints", "Service", key("web"), note)]


def test_other_refusals_are_no_events() -> None:
    found = Refusing()
    found.note(service("a"), PART)
    found.note(WHOLE)
    assert found.events.kept == []


def test_a_refused_annotation_is_an_event_of_its_service_once_until_it_changes() -> None:
    found = Refusing()
    first = Refusal("Service default/a", annotation_field("uproxy.io/drain"), "not a duration: 'x'")
    for _ in range(3):
        found.note(service("a"), first)
    event = ClusterEvent(
        "Warning",
        "AnnotationRefused",
        "ReadAnnotation",
        "Service",
        key("a"),
        "metadata.annotations[uproxy.io/drain]: not a duration: 'x'",
    )
    assert found.events.kept == [event]
    second = Refusal("Service default/a", first.field, "not a duration: 'y'")
    found.note(service("a"), second)
    found.note(service("a"))
    found.note(service("a"), first)
    assert [each.note for each in found.events.kept] == [f"{each.field}: {each.reason}" for each in (first, second, first)]
