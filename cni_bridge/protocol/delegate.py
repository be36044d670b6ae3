"""Executing another plugin, as an IPAM plugin is: specification, section 4.

Owns what it is given and the reading of its answer; knows nothing of what it does. The delegate gets the whole
configuration and the environment as they are, but for CNI_COMMAND, and its stderr is ours.
"""

from __future__ import annotations

import errno

from cni_bridge import spawned
from cni_bridge.protocol import config as fields
from cni_bridge.protocol import json_codec, reading
from cni_bridge.protocol.errors import DELEGATE_FAILED, IO_FAILURE, TRY_AGAIN_LATER, CniError
from cni_bridge.protocol.search import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_bridge.protocol.results import Result
    from cni_bridge.protocol.skeleton import Request


def add(plugin: str, request: Request) -> Result:
    """Run the delegate's ADD and give its result in the 1.1.0 form.

    Raises the delegate's own CniError, or one of 4, 5, 6, 7, 11 and 100. When it raises, the caller still owes a DEL.
    """
    stdout = run(plugin, "ADD", request)
    try:
        said = json_codec.decode(stdout)
    except ValueError as reason:
        raise CniError(DELEGATE_FAILED, f'the result of plugin "{plugin}" is not JSON: {reason}') from None
    if not isinstance(said, dict):
        raise CniError(DELEGATE_FAILED, f'the result of plugin "{plugin}" is not an object', json_codec.encode(said))
    return reading.from_version(said, request.version)


def run(plugin: str, command: str, request: Request) -> bytes:
    """Run any of the delegate's verbs and give what it wrote to stdout. Raises as `add` does."""
    executable = find(plugin, request.path)
    variables = {**request.variables, b"CNI_COMMAND": command.encode()}
    code, stdout = _execute(executable, variables, request.stdin)
    if code:
        raise _failure(plugin, code, stdout)
    return stdout


def _execute(executable: str, variables: Mapping[bytes, bytes], stdin: bytes) -> tuple[int, bytes]:
    """Run it to its end; give its exit code, negative for a signal's number, and its stdout."""
    try:
        code, (stdout,) = spawned.run([executable], variables, stdin)
    except OSError as reason:
        number = TRY_AGAIN_LATER if reason.errno == errno.ETXTBSY else IO_FAILURE
        raise CniError(number, f'cannot execute plugin "{executable}": {reason.strerror}') from None
    return code, stdout


def _failure(plugin: str, code: int, stdout: bytes) -> CniError:
    """Make the error that the delegate wrote ours; say what is known when it wrote none."""
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    try:
        said = json_codec.decode(stdout)
        if isinstance(said, dict) and (number := fields.integer(said, "code")):
            return CniError(number, fields.text(said, "msg"), fields.text(said, "details"))
    except (ValueError, CniError):
        pass
    details = stdout.decode("utf-8", "replace").strip() or "stdout is empty; stderr may say more"
    return CniError(DELEGATE_FAILED, f'plugin "{plugin}" failed without an error object: {ended}', details)
