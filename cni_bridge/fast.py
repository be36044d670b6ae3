"""The interpreter's own C modules under their ordinary names, and what takes their place where one is missing.

Owns the choice; knows nothing of what they are used for. `_socket`, `_struct`, `_signal`, `_json` and `posix` are what
`socket`, `struct`, `signal`, `json` and `os` are made of, at a tenth of the cost: `import json` alone takes as long as a whole plugin run.
They are internals of CPython, so each is replaced by its public module when it is not there, or, in the case of the
JSON scanner, when it wants something else than it did up to Python 3.13.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import posix
    import signal
    from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton, socket
    from _struct import Struct
    from collections.abc import Callable
else:
    try:
        import posix
    except ImportError:
        import os as posix
    try:
        import _signal as signal
    except ImportError:
        import signal
    try:
        from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton, socket
    except ImportError:
        from socket import AF_INET, AF_INET6, inet_ntop, inet_pton, socket
    try:
        from _struct import Struct
    except ImportError:
        from struct import Struct

__all__ = ["AF_INET", "AF_INET6", "Struct", "inet_ntop", "inet_pton", "posix", "quote_json", "scan_json", "signal", "socket"]


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON value")


class _ScannerOptions:
    """What the scanner reads from `json.JSONDecoder`: strict strings, plain dicts, no NaN."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


def _c_codec() -> tuple[Callable[[str, int], tuple[object, int]], Callable[[str], str]]:
    import _json  # noqa: PLC0415 - tried here, so that its absence and a change of its interface take the same way out

    scan: Callable[[str, int], tuple[object, int]] = _json.make_scanner(_ScannerOptions)  # type: ignore[arg-type]  # any object with these attributes will do
    if scan('{"probe": [1]}', 0)[0] != {"probe": [1]}:
        raise ValueError("the scanner of _json does not scan")
    return scan, _json.encode_basestring_ascii


def _python_codec() -> tuple[Callable[[str, int], tuple[object, int]], Callable[[str], str]]:
    import json  # noqa: PLC0415 - costs more than all the rest: only where the C scanner cannot be had

    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    return decoder.scan_once, json.dumps  # type: ignore[attr-defined]  # public by use: json.scanner's interface


try:
    scan_json, quote_json = _c_codec()
except (ImportError, AttributeError, TypeError, ValueError):
    scan_json, quote_json = _python_codec()
