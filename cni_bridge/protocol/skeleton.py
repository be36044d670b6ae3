"""The run of one verb: environment, stdin, configuration and version in, one JSON object and an exit code out.

Owns the order of the checks and what reaches stdout; knows no networking. A plugin is a module or an object with
`add`, `del_`, `check`, `gc` and `status`, each taking a Request; `main(plugin)` is what its executable calls.
Whatever happens, stdout holds one JSON object or nothing, and a plugin's failure is exit code 1.
"""

from __future__ import annotations

from cni_bridge.fast import posix
from cni_bridge.protocol import config as fields
from cni_bridge.protocol import json_codec, versions
from cni_bridge.protocol.environment import Environment
from cni_bridge.protocol.errors import INTERNAL, INVALID_ENVIRONMENT, INVALID_NETNS, IO_FAILURE, CniError
from cni_bridge.protocol.version_request import end, supported_versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn, Protocol

    from cni_bridge.protocol.config import Config
    from cni_bridge.protocol.results import Result

    class Plugin(Protocol):
        """What a plugin's module offers; an exception other than CniError is a bug and becomes code 999."""

        @property
        def ABOUT(self) -> str:  # noqa: N802 - a constant of the module
            """Name the plugin: printed when there is no CNI_COMMAND at all."""
            ...

        @property
        def add(self) -> Callable[[Request], Result]:
            """Attach; give the result of the chain up to here."""
            ...

        @property
        def del_(self) -> Callable[[Request], None]:
            """Detach as far as there is something; what is gone already is no error."""
            ...

        @property
        def check(self) -> Callable[[Request], None]:
            """Raise CniError when something of the attachment is missing or changed."""
            ...

        @property
        def gc(self) -> Callable[[Request], None]:
            """Remove what belongs to none of `valid_attachments`; go on after errors and report them together."""
            ...

        @property
        def status(self) -> Callable[[Request], Mapping[str, object] | None]:
            """Raise CniError 50 or 51 when an ADD could not be served; what is given is printed, runtimes ignore it."""
            ...


_STDIN = 0
_READ_BYTES = 65536
_OWN_NAMESPACE = "/proc/self/ns/net"


class Request:
    """One call: the environment's values (empty when missing), the configuration and what is read from it when asked."""

    __slots__ = ("args", "command", "config", "container_id", "ifname", "netns", "path", "stdin", "variables", "version")

    def __init__(self, environment: Environment, config: Config, stdin: bytes) -> None:
        self.command = environment.command
        self.container_id = environment.container_id
        self.netns = environment.netns
        self.ifname = environment.ifname
        self.args = environment.args
        self.path = environment.path
        self.variables = environment.variables
        self.config = config
        self.stdin = stdin
        self.version = fields.version_of(config)

    @property
    def name(self) -> str:
        """The network's name."""
        return fields.name_of(self.config)

    @property
    def prev_result(self) -> Result | None:
        """The result so far in the 1.1.0 form, None when there is none. Raises CniError (1 or 6) when it cannot be read."""
        said = fields.section(self.config, "prevResult")
        if not said:
            return None
        from cni_bridge.protocol import reading  # noqa: PLC0415 - the first plugin of a chain has nothing to read: every import costs

        return reading.from_version(said, self.version)

    @property
    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """What GC must keep, as (container ID, interface name). Raises CniError (7) when the runtime did not say."""
        return fields.valid_attachments(self.config)


def main(plugin: Plugin) -> NoReturn:
    """Serve the one request that environment and stdin hold, and end the process."""
    end(*answer(plugin, posix.environ, _read_stdin))


def answer(plugin: Plugin, variables: Mapping[bytes, bytes], read_stdin: Callable[[], bytes]) -> tuple[int, bytes, bytes]:
    """Serve one request without touching the process: give exit code, stdout and stderr. Never raises."""
    version = versions.NEWEST
    try:
        environment = Environment(variables)
        if not environment.command:
            return 0, b"", _introduction(plugin)
        environment.check()
        if environment.command == "VERSION":
            return 0, supported_versions(), b""
        stdin = read_stdin()
        config = fields.decode(stdin)
        version = fields.version_of(config)
        return 0, _serve(plugin, environment, config, stdin), b""
    except CniError as error:
        return 1, _encoded(_error_object(error, version)), b""
    except BaseException as bug:  # noqa: BLE001 - stdout must hold an error object whatever happens
        failure = CniError(INTERNAL, f"{type(bug).__name__}: {bug}", "a bug: stderr has the traceback")
        return 1, _encoded(_error_object(failure, version)), _traceback()


def _serve(plugin: Plugin, environment: Environment, config: Config, stdin: bytes) -> bytes:
    request = Request(environment, config, stdin)
    command = request.command
    if command not in {"ADD", "DEL", "CHECK", "GC", "STATUS"}:
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
    versions.require(request.version, command)
    if command in {"ADD", "DEL"} and not environment.netns_override:
        _refuse_own_namespace(request.netns)
    if command == "ADD":
        from cni_bridge.protocol import results  # noqa: PLC0415 - as above

        return _encoded(results.to_version(plugin.add(request), request.version))
    if command == "STATUS":
        report = plugin.status(request)
        return _encoded({"cniVersion": request.version, **report}) if report else b""
    {"DEL": plugin.del_, "CHECK": plugin.check, "GC": plugin.gc}[command](request)
    return b""


def _refuse_own_namespace(netns: str) -> None:
    """Refuse to take the host for a container. A path that is not there is the verb's business: DEL must bear it."""
    try:
        theirs, ours = posix.stat(netns), posix.stat(_OWN_NAMESPACE)
    except (OSError, ValueError):
        return
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
        raise CniError(INVALID_NETNS, "plugin's netns and netns from CNI_NETNS should not be the same", netns)


def _introduction(plugin: Plugin) -> bytes:
    return f"{plugin.ABOUT}\nCNI protocol versions supported: {', '.join(versions.SUPPORTED)}\n".encode()


def _error_object(error: CniError, version: str) -> dict[str, object]:
    said: dict[str, object] = {"cniVersion": version, "code": error.code, "msg": error.msg}
    if error.details:
        said["details"] = error.details
    return said


def _encoded(value: object) -> bytes:
    return json_codec.encode(value).encode("ascii")


def _traceback() -> bytes:
    import traceback  # noqa: PLC0415 - 10 ms that only a bug may cost

    return traceback.format_exc().encode("utf-8", "backslashreplace")


def _read_stdin() -> bytes:
    chunks = []
    try:
        while chunk := posix.read(_STDIN, _READ_BYTES):
            chunks.append(chunk)
    except OSError as reason:
        raise CniError(IO_FAILURE, f"error reading from stdin: {reason.strerror}") from None
    return b"".join(chunks)
