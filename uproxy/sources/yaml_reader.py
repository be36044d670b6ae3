"""YAML text -> dictionaries, lists, strings, numbers, booleans and None, read as Kubernetes reads it.

Owns the meaning of scalars, anchors, merge keys and duplicate keys, and the bounds on what a text may unfold to;
libyaml (through PyYAML) finds the tokens. Knows nothing of files and objects. Works in steps, so that one large
document stops nobody. Twice as quick as yaml.CSafeLoader, whose resolver and constructor are Python too
(55 against 118 us for a Service), and without its surprises: timestamps, base 60, merge bombs, Python tags.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml
from msgspec import Struct
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out
from yaml.events import AliasEvent, DocumentEndEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

STEP_EVENTS: Final = 64
"""Events between two steps: about 50 us."""


class Bounds(Struct, frozen=True):
    """What one document may come to. nodes: scalars, lists and maps, what aliases stand for counted each time."""

    nodes: int
    depth: int


class Malformed(Exception):
    """A text that cannot be read: the line (1 is the first), what is wrong there, and the number of documents before it."""

    def __init__(self, line: int, reason: str, before: int = 0) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason
        self.before = before


class Twice(Struct, frozen=True):
    """A key that a map has more than once: the number of documents before it, and its line."""

    before: int
    key: str
    line: int


def read(text: str, bounds: Bounds, twice: list[Twice] | None = None) -> Generator[None, None, list[Any]]:
    """Give the documents of a text, after any number of steps; empty ones are None. Raises Malformed.

    twice: takes the keys that a map has more than once, of which the last one counts then; without it they are malformed.
    """
    builder = _Builder(bounds)
    builder.twice = twice
    try:
        parser = CParser(text)
        try:
            yield from _feed(parser, builder)
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as error:
        raise Malformed(error.problem_mark.line + 1 if error.problem_mark else 1, _words(error), len(builder.documents)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
        raise Malformed(line, str(error.reason), len(builder.documents)) from error
    except Malformed as error:
        raise Malformed(error.line, error.reason, len(builder.documents)) from error
    return builder.documents


def read_at_once(text: str, bounds: Bounds, twice: list[Twice] | None = None) -> list[Any]:
    """Do the same in one step: for a file that is small, or read by nobody who could wait."""
    steps = read(text, bounds, twice)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return list(end.value)


def _feed(parser: CParser, builder: _Builder) -> Generator[None, None, None]:
    next_event = parser.get_event
    takers = _TAKERS
    countdown = STEP_EVENTS
    while (event := next_event()) is not None:
        taker = takers.get(type(event))
        if taker is not None:
            taker(builder, event)
        countdown -= 1
        if not countdown:
            countdown = STEP_EVENTS
            yield


def _words(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


class _Builder:
    """Puts the events of a parser together. `_open` is the list or map being filled, `_key` the key whose value comes next."""

    def __init__(self, bounds: Bounds) -> None:
        self.documents: list[Any] = []
        self.twice: list[Twice] | None = None
        self._bounds = bounds
        self._plain: dict[str, Any] = {}
        self._stack: list[tuple[Any, str | None, str | None, int]] = []
        self._start_document()

    def _start_document(self) -> None:
        self._open: Any = None
        self._key: str | None = None
        self._root: Any = None
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._merges: dict[int, list[Any]] = {}
        self._stack.clear()

    def end_document(self, _event: object) -> None:
        """End the document."""
        self.documents.append(self._root)
        self._start_document()

    def take_scalar(self, event: ScalarEvent) -> None:
        """Take a scalar: a key, or a value."""
        value = event.value
        opened = self._open
        if type(opened) is dict and self._key is None:
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1)
            self._take_key(value, event)
            return
        if event.implicit[0]:
            try:
                value = self._plain[value]
            except KeyError:
                value = self._plain[event.value] = resolve(event.value)
        elif event.tag is not None and event.tag not in _TEXT_TAGS:
            value = _tagged(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._count(1, event)
        self._add(value, event)

    def _take_key(self, key: str, event: yaml.Event) -> None:
        if key in self._open:
            if self.twice is None:
                raise Malformed(_line(event), f"duplicate key {key!r}")
            self.twice.append(Twice(len(self.documents), key, _line(event)))
        self._key = key

    def _add(self, value: Any, event: yaml.Event) -> None:  # noqa: ANN401 - any YAML value
        opened = self._open
        if type(opened) is list:
            opened.append(value)
        elif type(opened) is not dict:
            self._root = value
        elif self._key is None:
            raise Malformed(_line(event), "a list or map cannot be a key")
        elif self._key == "<<":
            self._key = None
            self._merges.setdefault(id(opened), []).append((value, _line(event)))
        else:
            opened[self._key] = value
            self._key = None

    def start_map(self, event: MappingStartEvent) -> None:
        """Begin a map."""
        self._start({}, event, "tag:yaml.org,2002:map")

    def start_list(self, event: SequenceStartEvent) -> None:
        """Begin a list."""
        self._start([], event, "tag:yaml.org,2002:seq")

    def _start(self, value: Any, event: Any, tag: str) -> None:  # noqa: ANN401 - either kind of collection and its event
        if event.tag is not None and event.tag not in {tag, "!"}:
            raise Malformed(_line(event), f"the tag {event.tag!r} is not known here")
        if type(self._open) is dict and self._key is None:
            raise Malformed(_line(event), "a list or map cannot be a key")
        if len(self._stack) >= self._bounds.depth:
            raise Malformed(_line(event), f"nested deeper than {self._bounds.depth} levels")
        self._count(1, event)
        self._stack.append((self._open, self._key, event.anchor, self._nodes))
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open, self._key = value, None

    def end(self, event: yaml.Event) -> None:
        """End the list or map that is being filled."""
        value = self._open
        if self._merges and id(value) in self._merges:
            self._merge(value, event)
        self._open, self._key, anchor, nodes_before = self._stack.pop()
        if anchor is not None:
            self._anchors[anchor] = (value, 1 + self._nodes - nodes_before)
        self._add(value, event)

    def take_alias(self, event: AliasEvent) -> None:
        """Take what an anchor stands for."""
        found = self._anchors.get(event.anchor or "")
        if found is None:
            raise Malformed(_line(event), f"the alias *{event.anchor} stands for nothing, or for what it is in")
        value, nodes = found
        self._count(nodes, event)
        if type(self._open) is dict and self._key is None:
            if not isinstance(value, str):
                raise Malformed(_line(event), "a key must be text")
            self._take_key(value, event)
        else:
            self._add(value, event)

    def _merge(self, target: dict[str, Any], event: yaml.Event) -> None:
        """Take over what `<<` names: the map's own keys win, then those named first (https://yaml.org/type/merge.html)."""
        for value, line in self._merges.pop(id(target)):
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise Malformed(line, "<< takes a map or a list of maps")
                self._count(len(source), event)
                for key, merged in source.items():
                    target.setdefault(key, merged)

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > self._bounds.nodes:
            raise Malformed(_line(event), f"comes to more than {self._bounds.nodes} values (aliases counted each time)")


# Not in the builder: bound methods in it would be a cycle, and each document garbage that only the collector finds.
_TAKERS: Final[dict[type[yaml.Event], Callable[[_Builder, Any], None]]] = {
    ScalarEvent: _Builder.take_scalar,
    MappingStartEvent: _Builder.start_map,
    SequenceStartEvent: _Builder.start_list,
    MappingEndEvent: _Builder.end,
    SequenceEndEvent: _Builder.end,
    AliasEvent: _Builder.take_alias,
    DocumentEndEvent: _Builder.end_document,
}


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})

_CONSTANTS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_is_number: Final = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<octal>0o?[0-7_]+)|(?P<hex>0x[0-9a-fA-F_]+)|(?P<binary>0b[01_]+)|(?P<decimal>0|[1-9][0-9_]*))", re.ASCII
).fullmatch
_is_float: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII).fullmatch
_LONGEST_NUMBER: Final = 40


def resolve(plain: str) -> Any:  # noqa: ANN401 - any scalar
    """Give the value of a scalar without quotes as kubectl does (sigs.k8s.io/yaml, YAML 1.1 without its oddities).

    yes, no, on and off are booleans; 010 and 0o10 are 8; dates, times and base 60 are text.
    """
    if plain in _CONSTANTS:
        return _CONSTANTS[plain]
    if plain[0] not in "0123456789+-." or len(plain) > _LONGEST_NUMBER:
        return plain
    match = _is_number(plain)
    if match is None:
        return float(plain) if _is_float(plain) else plain
    return _whole_number(plain, match)


def _whole_number(plain: str, match: re.Match[str]) -> int | str:
    base = {"octal": 8, "hex": 16, "binary": 2, "decimal": 10}[match.lastgroup or "decimal"]
    digits = match[match.lastgroup or "decimal"].replace("_", "").lower()
    prefix = {8: ("0o", "0"), 16: ("0x",), 2: ("0b",), 10: ()}[base]
    for each in prefix:
        if digits.startswith(each):
            digits = digits[len(each) :]
            break
    return int(match["sign"] + digits, base) if digits else plain


_TAGGED: Final[dict[str, type[Any] | tuple[type[Any], ...]]] = {
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": (int, float),
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
}


def _tagged(event: ScalarEvent) -> Any:  # noqa: ANN401 - any scalar
    """Give the value of a scalar with a tag of its own. Raises Malformed."""
    wanted = _TAGGED.get(event.tag or "")
    value = resolve(event.value)
    if wanted is None:
        raise Malformed(_line(event), f"the tag {event.tag!r} is not known here")
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise Malformed(_line(event), f"{event.value!r} is not what its tag says")
    return value
