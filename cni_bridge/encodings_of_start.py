"""UTF-8 in the place of the interpreter's package `encodings`, until something else is asked for.

Never imported by this name: `home` puts it, as `encodings`, where a plugin's interpreter looks first. Each start of Python looks
up UTF-8, for file names and standard streams, and reads a table of 300 other encodings and the module `codecs` for it.
Without them and what `home` spares a start takes 0.8 ms less, a tenth. Everything else is left to the whole package,
which then takes this one's place.
"""

from __future__ import annotations

import _codecs
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from codecs import CodecInfo
    from types import ModuleType

_FOLDER = __file__.rpartition("/")[0]
__path__ = [f"{folder}/encodings" for folder in sys.path if folder != _FOLDER]


class _Later:
    """One of the whole package's coders, made when it is asked for anything: each standard stream has one, and few are used."""

    def __init__(self, errors: str = "strict") -> None:
        self._errors = errors
        self._real: object = None

    def __getattr__(self, name: str) -> object:
        if self._real is None:
            from encodings import utf_8  # noqa: PLC0415 - this module is `encodings`, and that one's imports are what it avoids

            self._real = getattr(utf_8, type(self).__name__)(self._errors)
        return getattr(self._real, name)


class IncrementalEncoder(_Later):
    """encodings.utf_8.IncrementalEncoder."""


class IncrementalDecoder(_Later):
    """encodings.utf_8.IncrementalDecoder."""


class _Utf8(tuple):  # type: ignore[type-arg]  # noqa: SLOT001 - has attributes
    """What codecs.lookup gives (codecs.CodecInfo), as far as the interpreter itself reads it."""

    _is_text_encoding = True
    name = "utf-8"
    incrementalencoder = IncrementalEncoder
    incrementaldecoder = IncrementalDecoder

    def __getattr__(self, name: str) -> object:
        from encodings import utf_8  # noqa: PLC0415 - as above

        return getattr(utf_8.getregentry(), name)


def _search(name: str) -> CodecInfo | None:
    """Give a codec (codecs.register); None when there is none of that name."""
    if name in {"utf_8", "utf8", "utf-8"}:
        return _Utf8((_codecs.utf_8_encode, _codecs.utf_8_decode, None, None))  # type: ignore[return-value]  # like one
    return _whole().search_function(name)  # type: ignore[no-any-return]  # encodings.search_function


def _whole() -> ModuleType:
    """Let the interpreter's own package take this module's place; give it."""
    if vars(sys.modules["encodings"]) is globals():
        _codecs.unregister(_search)
        sys.path[:] = [folder for folder in sys.path if folder != _FOLDER]
        del sys.modules["encodings"]
    import encodings  # noqa: PLC0415 - this module until now

    return encodings


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_whole(), name)


if __name__ == "encodings":
    _codecs.register(_search)
