"""What becomes of objects: only differences are events, refused ones keep their previous version."""

from __future__ import annotations

from tests.core.objects import key, service
from uproxy.core.decode import Skipped
from uproxy.core.model import Kind, Refusal
from uproxy.core.state import Delete, Put
from uproxy.sources.kubernetes.store import Store

A, B = service("a", "10.96.0.1"), service("b", "10.96.0.2")
OTHER_A = service("a", "10.96.0.9")
REFUSED = Refusal("Service default/a", "spec.type", "is wrong")
HEADLESS = Skipped("Service", key("a"), "it is headless")


def store(*seed: object) -> Store:
    return Store(Kind.SERVICE, seed)  # type: ignore[arg-type]  # Services


def test_an_object_that_is_new_or_different_is_put() -> None:
    known = store()
    assert known.put(key("a"), A, triggered=5.0) == [Put(A, 5.0)]
    assert known.put(key("a"), OTHER_A) == [Put(OTHER_A)]
    assert dict(known.objects) == {key("a"): OTHER_A}


def test_an_object_that_is_the_same_in_all_that_matters_is_no_event() -> None:
    assert store(A).put(key("a"), service("a", "10.96.0.1"), triggered=5.0) == []


def test_a_deletion_is_told_once() -> None:
    known = store(A)
    assert known.delete(key("a")) == [Delete(Kind.SERVICE, key("a"))]
    assert known.delete(key("a")) == []


def test_a_refused_object_keeps_its_previous_version() -> None:
    known = store(A)
    assert known.put(key("a"), REFUSED) == []
    assert dict(known.objects) == {key("a"): A}
    assert known.put(key("b"), REFUSED) == []


def test_an_object_that_is_not_to_be_served_any_more_is_deleted() -> None:
    known = store(A)
    assert known.put(key("a"), HEADLESS) == [Delete(Kind.SERVICE, key("a"))]
    assert known.put(key("a"), HEADLESS) == []


def test_a_list_tells_what_is_different_from_what_was_restored() -> None:
    known = store(A, B)
    relist = known.relist()
    relist.put(key("a"), OTHER_A)
    relist.put(key("c"), service("c", "10.96.0.3"))
    assert dict(known.objects) == {key("a"): A, key("b"): B}
    assert relist.finish() == [Delete(Kind.SERVICE, key("b")), Put(OTHER_A), Put(service("c", "10.96.0.3"))]
    assert dict(known.objects) == {key("a"): OTHER_A, key("c"): service("c", "10.96.0.3")}


def test_a_list_of_what_is_known_is_no_event() -> None:
    relist = store(A, B).relist()
    relist.put(key("b"), B)
    relist.put(key("a"), A)
    assert relist.finish() == []


def test_a_list_with_a_refused_object_leaves_its_previous_version() -> None:
    relist = store(A).relist()
    relist.put(key("a"), REFUSED)
    relist.put(key("b"), REFUSED)
    assert relist.finish() == []
    assert relist.present == {key("a"), key("b")}


def test_a_list_with_an_object_that_is_not_to_be_served_deletes_it() -> None:
    relist = store(A).relist()
    relist.put(key("a"), HEADLESS)
    assert relist.finish() == [Delete(Kind.SERVICE, key("a"))]


def test_the_last_word_about_an_object_counts_while_a_list_is_streamed() -> None:
    relist = store(A, B).relist()
    relist.put(key("a"), OTHER_A)
    relist.put(key("a"), A)
    relist.put(key("b"), B)
    relist.delete(key("b"))
    relist.put(key("c"), service("c"))
    relist.delete(key("c"))
    assert relist.finish() == [Delete(Kind.SERVICE, key("b"))]


def test_a_list_that_was_given_up_changed_nothing() -> None:
    known = store(A)
    known.relist().put(key("b"), B)
    assert dict(known.objects) == {key("a"): A}
    assert known.relist().finish() == [Delete(Kind.SERVICE, key("a"))]
