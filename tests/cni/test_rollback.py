"""Undoing: last thing first, everything, and nothing after keep."""

from __future__ import annotations

from cni_bridge.rollback import Rollback


def test_steps_are_undone_last_first_and_once() -> None:
    undone: list[str] = []
    rollback = Rollback()
    rollback.add("first", lambda: undone.append("first"))
    rollback.add("second", lambda: undone.append("second"))
    assert rollback.run() == []
    assert rollback.run() == []
    assert undone == ["second", "first"]


def test_a_step_that_fails_keeps_none_of_the_others_from_being_undone() -> None:
    undone: list[str] = []

    def fail() -> None:
        raise OSError("no such device")

    rollback = Rollback()
    rollback.add("the link", lambda: undone.append("link"))
    rollback.add("the rule", fail)
    rollback.add("the route", lambda: undone.append("route"))
    assert rollback.run() == ["the rule: no such device"]
    assert undone == ["route", "link"]


def test_what_is_kept_is_not_undone() -> None:
    undone: list[str] = []
    rollback = Rollback()
    rollback.add("all", lambda: undone.append("all"))
    rollback.keep()
    assert rollback.run() == []
    assert undone == []
