"""Which file wins an object, and the events that follow, against a model that looks at everything each time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.sources.stepping import finish
from uproxy.core.model import Kind, Node, ObjectKey
from uproxy.core.state import Delete, Event, Put
from uproxy.sources.claims import Claims
from uproxy.sources.declarations import Claim, Declared


def claim(name: str) -> Claim:
    return Claim(Kind.NODE, ObjectKey("", name))


def node(name: str, version: int) -> Node:
    return Node(name, (f"192.0.2.{version}",))


def settle(claims: Claims) -> list[Event]:
    return finish(claims.settle())


def put(claims: Claims, file: str, *versions: int) -> None:
    """Let a file declare the node n in a version, or nothing."""
    finish(claims.replace(file, {claim("n"): Declared(node("n", version), 1) for version in versions}))


def test_the_first_file_by_name_wins_whichever_came_first() -> None:
    claims = Claims()
    put(claims, "b.yaml", 2)
    assert settle(claims) == [Put(node("n", 2))]
    put(claims, "a.yaml", 1)
    assert settle(claims) == [Put(node("n", 1))]
    put(claims, "c.yaml", 3)
    assert settle(claims) == []


def test_the_loser_is_refused_with_both_files_named_until_it_wins() -> None:
    claims = Claims()
    put(claims, "a.yaml", 1)
    put(claims, "b.yaml", 2)
    ((file, ((refusal, document),)),) = claims.losers().items()
    assert (file, document, refusal.subject) == ("b.yaml", 1, "Node n")
    assert refusal.reason == "is also in a.yaml (document 1), which comes first by name and is served"
    settle(claims)
    put(claims, "a.yaml")
    assert claims.losers() == {}
    assert settle(claims) == [Put(node("n", 2))]


def test_an_object_that_moves_to_another_file_within_a_batch_never_vanishes() -> None:
    claims = Claims()
    put(claims, "a.yaml", 1)
    settle(claims)
    put(claims, "a.yaml")
    put(claims, "b.yaml", 1)
    assert settle(claims) == []


def test_what_is_not_to_be_served_is_deleted_once() -> None:
    claims = Claims()
    put(claims, "a.yaml", 1)
    settle(claims)
    finish(claims.replace("a.yaml", {claim("n"): Declared(None, 1)}))
    assert settle(claims) == [Delete(Kind.NODE, ObjectKey("", "n"))]
    put(claims, "a.yaml")
    assert settle(claims) == []
    assert len(claims) == 0


NAMES = st.sampled_from("xyz")
FILES = st.sampled_from(["a", "b", "c"])


class Histories(RuleBasedStateMachine):
    """Files change at random; after each batch the events must lead from what was served to what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims()
        self.files: dict[str, dict[Claim, Declared]] = {}
        self.told: dict[ObjectKey, Node] = {}

    @rule(file=FILES, versions=st.dictionaries(NAMES, st.none() | st.integers(1, 3)))
    def replace(self, file: str, versions: dict[str, int | None]) -> None:
        """Let a file declare something else."""
        objects = {claim(name): Declared(node(name, version) if version else None, 1) for name, version in versions.items()}
        finish(self.claims.replace(file, objects))
        self.files[file] = objects

    @rule()
    def settle(self) -> None:
        """End a batch: each object gets at most one event, and none that says nothing new."""
        events = settle(self.claims)
        touched = [event.obj.key if isinstance(event, Put) else event.key for event in events if isinstance(event, Put | Delete)]
        assert len(touched) == len(set(touched)) == len(events)
        for event in events:
            if isinstance(event, Put) and isinstance(event.obj, Node):
                assert self.told.get(event.obj.key) != event.obj
                self.told[event.obj.key] = event.obj
            elif isinstance(event, Delete):
                del self.told[event.key]
        assert self.told == self.served()

    def served(self) -> dict[ObjectKey, Node]:
        """Say what must be served: of each object the version in the first file that has one."""
        found: dict[ObjectKey, Node] = {}
        for file in sorted(self.files, reverse=True):
            for each, declared in self.files[file].items():
                found.pop(each.key, None)
                if isinstance(declared.obj, Node):
                    found[each.key] = declared.obj
        return found

    @invariant()
    def losers_are_all_but_the_first(self) -> None:
        """Each file but the first that declares an object is told so."""
        lost = {(file, refusal.subject) for file, refused in self.claims.losers().items() for refusal, _ in refused}
        holders: dict[Claim, list[str]] = {}
        for file in sorted(self.files):
            for each in self.files[file]:
                holders.setdefault(each, []).append(file)
        assert lost == {(file, str(each)) for each, files in holders.items() for file in files[1:]}


TestHistories = Histories.TestCase
