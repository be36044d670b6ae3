"""Events are folded into a state, and what may follow from them is named."""

from __future__ import annotations

import copy

from tests.core.objects import key, service, slice_of
from uproxy.core.model import Kind, Node, ObjectKey
from uproxy.core.state import Change, Delete, Event, Listed, Put, State, fold


def after(*events: Event) -> State:
    return fold(State(), events)[0]


def changed(*names: str) -> Change:
    return Change(frozenset(key(name) for name in names))


def test_a_state_is_complete_once_every_kind_is_listed() -> None:
    state = after(Listed(Kind.SERVICE), Listed(Kind.ENDPOINT_SLICE))
    assert not state.complete
    assert fold(state, [Listed(Kind.NODE)])[0].complete


def test_an_empty_batch_gives_the_very_same_state() -> None:
    state = after(Put(service()), Listed(Kind.SERVICE))
    assert fold(state, []) == (state, Change())
    assert fold(state, [])[0] is state


def test_a_new_service_is_a_change() -> None:
    state, change = fold(State(), [Put(service("web"))])
    assert change == changed("web")
    assert state.services == {key("web"): service("web")}


def test_an_equal_service_is_no_change() -> None:
    state = after(Put(service("web")))
    assert fold(state, [Put(copy.copy(service("web")))])[1] == Change()


def test_a_different_service_is_a_change() -> None:
    state = after(Put(service("web")))
    assert fold(state, [Put(service("web", "10.96.0.9"))])[1] == changed("web")


def test_a_deleted_service_is_a_change_and_deleting_it_again_is_none() -> None:
    state, change = fold(after(Put(service("web"))), [Delete(Kind.SERVICE, key("web"))])
    assert change == changed("web")
    assert not state.services
    assert fold(state, [Delete(Kind.SERVICE, key("web"))])[1] == Change()


def test_a_slice_changes_its_service_also_before_that_exists() -> None:
    state, change = fold(State(), [Put(slice_of("web-1", "10.0.0.1"))])
    assert change == changed("web")
    assert state.slices == {key("web"): {key("web-1"): slice_of("web-1", "10.0.0.1")}}


def test_an_equal_slice_is_no_change() -> None:
    state = after(Put(slice_of("web-1", "10.0.0.1")))
    assert fold(state, [Put(slice_of("web-1", "10.0.0.1"))])[1] == Change()


def test_slices_of_one_service_are_kept_apart_by_their_names() -> None:
    state = after(Put(slice_of("web-1", "10.0.0.1")), Put(slice_of("web-2", "10.0.0.2")))
    assert set(state.slices[key("web")]) == {key("web-1"), key("web-2")}


def test_a_deleted_slice_changes_its_service() -> None:
    state, change = fold(after(Put(slice_of("web-1", "10.0.0.1"))), [Delete(Kind.ENDPOINT_SLICE, key("web-1"))])
    assert change == changed("web")
    assert not state.slices
    assert fold(state, [Delete(Kind.ENDPOINT_SLICE, key("web-1"))]) == (state, Change())


def test_a_slice_that_is_relabelled_leaves_one_service_and_joins_the_other() -> None:
    before = after(Put(slice_of("s", "10.0.0.1", of="web")))
    state, change = fold(before, [Put(slice_of("s", "10.0.0.1", of="api"))])
    assert change == changed("web", "api")
    assert set(state.slices) == {key("api")}
    assert not fold(state, [Delete(Kind.ENDPOINT_SLICE, key("s"))])[0].slices


def test_a_slice_belongs_to_a_service_of_its_own_namespace() -> None:
    state = after(Put(service("web")), Put(slice_of("web-1", "10.0.0.1")))
    assert ObjectKey("other", "web") not in state.slices


def test_nodes_change_by_name_and_touch_no_service() -> None:
    state, change = fold(State(), [Put(Node("n1", ("192.168.0.1",)))])
    assert change == Change(nodes=frozenset({"n1"}))
    assert fold(state, [Put(Node("n1", ("192.168.0.1",)))])[1] == Change()
    state, change = fold(state, [Delete(Kind.NODE, ObjectKey("", "n1"))])
    assert change == Change(nodes=frozenset({"n1"}))
    assert not state.nodes
    assert fold(state, [Delete(Kind.NODE, ObjectKey("", "n1"))])[1] == Change()


def test_a_state_that_was_given_out_never_changes() -> None:
    first = after(Put(service("web")), Put(slice_of("web-1", "10.0.0.1")), Put(Node("n1")), Listed(Kind.NODE))
    kept = copy.deepcopy(first)
    fold(
        first,
        [
            Put(service("web", "10.96.0.9")),
            Put(slice_of("web-1", "10.0.0.2")),
            Put(slice_of("web-2", "10.0.0.3")),
            Delete(Kind.ENDPOINT_SLICE, key("web-1")),
            Delete(Kind.NODE, ObjectKey("", "n1")),
            Listed(Kind.SERVICE),
        ],
    )
    assert kept == first


def test_a_batch_that_deletes_and_puts_again_ends_with_the_last_word() -> None:
    state = after(Put(slice_of("web-1", "10.0.0.1")))
    state, _ = fold(state, [Delete(Kind.ENDPOINT_SLICE, key("web-1")), Put(slice_of("web-1", "10.0.0.2"))])
    assert state.slices == {key("web"): {key("web-1"): slice_of("web-1", "10.0.0.2")}}
