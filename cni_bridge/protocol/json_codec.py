"""JSON as runtimes write and read it, on the interpreter's own scanner.

Owns text to values and back; knows nothing of what they mean. Broken UTF-8 and halves of surrogate pairs become
U+FFFD, as in Go. What is written is ASCII only and holds no line breaks.
"""

from __future__ import annotations

from cni_bridge.fast import quote_json, scan_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SPACE = " \t\r\n"


def decode(data: bytes) -> Json:
    """Give the one value that the bytes hold. Raises ValueError, whose text says where it ends to be JSON."""
    source = data.decode("utf-8", "replace").strip(_SPACE)
    try:
        value, end = _scan(source)
    except StopIteration as stop:
        raise ValueError(f"no value at character {stop.value}" if source else "it is empty") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if end != len(source):
        raise ValueError(f"more follows the value at character {end}")
    if "\\ud" in source or "\\uD" in source:
        value = _without_halves(value)
    return value  # type: ignore[return-value]  # the scanner makes nothing else


def _scan(source: str) -> tuple[object, int]:
    try:
        return scan_json(source, 0)
    except SystemError:  # Python 3.11 and 3.12 take the exception from json.decoder if that is loaded, and else fail to raise any
        import json.decoder  # noqa: F401, PLC0415 - the scanner wants it loaded, only to say what is wrong

        return scan_json(source, 0)


def _without_halves(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    return value


def encode(value: object) -> str:
    """Write dicts with text keys, lists, tuples, text, numbers, booleans and None. Raises TypeError for anything else."""
    if isinstance(value, str):
        return quote_json(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return _encode_object(value)
    if isinstance(value, (list, tuple)):
        return _encode_array(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _encode_object(members: Mapping[str, object]) -> str:
    return f"{{{','.join([f'{quote_json(key)}:{encode(value)}' for key, value in members.items()])}}}"


def _encode_array(items: Sequence[object]) -> str:
    return f"[{','.join([encode(item) for item in items])}]"
