"""What a file declares when some of its objects are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sources.stepping import finish
from tests.sources.test_documents import BOUNDS, yaml_service
from uproxy.core.model import Kind, ObjectKey, Service
from uproxy.sources.declarations import Claim, Declarations, Declared, declare
from uproxy.sources.documents import parse

if TYPE_CHECKING:
    from collections.abc import Mapping


def declared(*documents: str, before: Mapping[Claim, Declared] | None = None) -> Declarations:
    content = finish(parse("---\n".join(documents).encode(), json=False, bounds=BOUNDS, known={}))
    return finish(declare(content.documents, before or {}))


def addresses(found: Declarations) -> dict[str, str]:
    """Give the served Services' addresses by name."""
    services = (each.obj for each in found.objects.values())
    return {service.key.name: service.cluster_ips[0] for service in services if isinstance(service, Service)}


def reasons(found: Declarations) -> list[tuple[str, bool, int]]:
    return [(each.refusal.subject, each.part, each.document) for each in found.refused]


BROKEN = yaml_service("b", "10.96.0.999")
NAMELESS = yaml_service("Not_A_Name").replace("metadata: {name: Not_A_Name}\n", "")


def test_a_broken_object_keeps_its_previous_version_and_others_go_on() -> None:
    first = declared(yaml_service("a"), yaml_service("b", "10.96.0.2"), yaml_service("c"))
    second = declared(yaml_service("a", "10.96.0.7"), BROKEN, before=first.objects)
    assert addresses(second) == {"a": "10.96.0.7", "b": "10.96.0.2"}
    assert reasons(second) == [("Service default/b", False, 2)]


def test_a_broken_object_that_was_never_good_is_just_refused() -> None:
    found = declared(yaml_service("a"), BROKEN)
    assert addresses(found) == {"a": "10.96.0.1"}
    assert reasons(found) == [("Service default/b", False, 2)]


@pytest.mark.parametrize("document", [NAMELESS, "just text\n", "kind: Service\n", yaml_service("Not_A_Name").replace("Not_A_Name", "[]")])
def test_while_an_object_has_no_name_nothing_that_the_file_said_is_dropped(document: str) -> None:
    first = declared(yaml_service("a"), yaml_service("b", "10.96.0.2"))
    second = declared(yaml_service("a", "10.96.0.7"), document, before=first.objects)
    assert addresses(second) == {"a": "10.96.0.7", "b": "10.96.0.2"}
    third = declared(yaml_service("a", "10.96.0.7"), before=second.objects)
    assert addresses(third) == {"a": "10.96.0.7"}


def test_a_part_that_is_refused_does_not_keep_the_previous_version() -> None:
    with_sctp = yaml_service("a", "10.96.0.7").replace("[{port: 80}]", "[{port: 80, name: x}, {port: 81, name: y, protocol: SCTP}]")
    found = declared(with_sctp, before=declared(yaml_service("a")).objects)
    assert addresses(found) == {"a": "10.96.0.7"}
    assert reasons(found) == [("Service default/a", True, 1)]
    assert found.refused[0].refusal.field.startswith("spec.ports[1]")


def test_an_object_that_became_headless_is_declared_but_not_served() -> None:
    found = declared(yaml_service("a", "None"), before=declared(yaml_service("a")).objects)
    assert addresses(found) == {}
    assert found.objects[Claim(Kind.SERVICE, ObjectKey("default", "a"))].obj is None
    assert [(skipped.key.name, document) for skipped, document in found.skipped] == [("a", 1)]


def test_of_an_object_that_stands_twice_in_a_file_the_first_is_served() -> None:
    found = declared(yaml_service("a"), yaml_service("a", "10.96.0.7"))
    assert addresses(found) == {"a": "10.96.0.1"}
    (refused,) = found.refused
    assert refused.document == 2
    assert refused.refusal.reason == "is already in document 1 of this file, which is served"


def test_a_refusal_carries_the_line_where_its_document_begins() -> None:
    (refused,) = declared(yaml_service("a"), BROKEN).refused
    assert refused.line == 5


def test_kinds_that_are_not_read_claim_nothing() -> None:
    found = declared("kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {name: a}\n")
    assert found.objects == {}
    assert [skipped.kind for skipped, _ in found.skipped] == ["Ingress.networking.k8s.io"]
