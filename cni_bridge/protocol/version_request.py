"""VERSION: the one request that needs no configuration, no networking and hardly any code.

Owns its answer, and how a process ends when its answer is written. Executables ask here before they load anything else:
what VERSION then costs is the interpreter's own start.
"""

from __future__ import annotations

from cni_bridge.protocol.versions import NEWEST, SUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import posix
    from typing import NoReturn
else:
    try:
        import posix
    except ImportError:
        import os as posix

_STDOUT, _STDERR = 1, 2


def answer_version() -> None:
    """Answer VERSION and end the process; return if something else was asked."""
    if posix.environ.get(b"CNI_COMMAND") == b"VERSION":
        end(0, supported_versions(), b"")


def supported_versions() -> bytes:
    """Give the answer as JSON: version numbers need no quoting."""
    listed = '","'.join(SUPPORTED)
    return f'{{"cniVersion":"{NEWEST}","supportedVersions":["{listed}"]}}'.encode()


def end(code: int, stdout: bytes, stderr: bytes) -> NoReturn:
    """Write both, and end the process without the interpreter's own farewell: that costs 1.5 ms and would do nothing."""
    try:
        _write(_STDERR, stderr)
        _write(_STDOUT, stdout)
    except OSError:
        code = 1  # nobody reads: the exit code is all that is left to say
    posix._exit(code)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]
