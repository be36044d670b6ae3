"""How a plugin refuses or fails: one exception that becomes the error object on stdout.

Owns the codes; must not know who raises them. Codes up to 99 are the specification's (section 5, "Error"; 8 is the
reference implementation's), from 100 on a plugin's own. 999 is kept for bugs: nobody raises it on purpose.
"""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2  # the message carries key and value
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
UNAVAILABLE = 50
UNAVAILABLE_AND_IMPAIRED = 51  # containers that exist already may suffer too

DELEGATE_FAILED = 100  # a plugin that we executed ended without an error object
NO_FREE_ADDRESS = 101
ADDRESS_REFUSED = 102  # a requested address is taken, the gateway's or in no range
ALREADY_ALLOCATED = 103  # a second ADD without a DEL between them
NOT_AS_REPORTED = 104  # CHECK found something missing or changed
ALREADY_EXISTS = 105  # a link, address or name that is not ours is in the way

INTERNAL = 999


class CniError(Exception):
    """What the runtime is told: a code of this module, one line that names key and value, and optional details."""

    __slots__ = ("code", "details", "msg")

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg}; {self.details}" if self.details else self.msg
