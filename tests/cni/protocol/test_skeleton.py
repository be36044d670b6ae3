"""One request through the skeleton: the order of the checks, and one object on stdout whatever happens."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_bridge.protocol import results, skeleton
from cni_bridge.protocol.errors import CniError
from cni_bridge.protocol.skeleton import Request
from tests.cni.plugins import call, ours, reference

ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/gone", "CNI_IFNAME": "eth0"}
CONFIG = {"cniVersion": "1.1.0", "name": "net", "type": "recording"}


class Recording:
    """A plugin that notes which verbs were called; `failing` is raised by each of them."""

    ABOUT = "CNI plugin recording"

    def __init__(self, failing: BaseException | None = None) -> None:
        self.calls: list[Request] = []
        self.failing = failing

    def _note(self, request: Request) -> None:
        self.calls.append(request)
        if self.failing:
            raise self.failing

    def add(self, request: Request) -> results.Result:
        self._note(request)
        return {"interfaces": [], "ips": [{"address": "10.1.0.2/16"}], "routes": []}

    del_ = check = gc = status = _note


def answer(plugin: Recording, stdin: bytes | dict[str, Any] = CONFIG, **changes: str | None) -> tuple[int, dict[str, Any]]:
    """Give the exit code and what stdout holds; a variable of None is not there."""
    environment = {name: value for name, value in {**ENVIRONMENT, **changes}.items() if value is not None}
    variables = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    data = json.dumps(stdin).encode() if isinstance(stdin, dict) else stdin
    code, stdout, _ = skeleton.answer(plugin, variables, lambda: data)
    return code, json.loads(stdout) if stdout else {}


def test_a_verb_gets_what_the_runtime_said() -> None:
    plugin = Recording()
    assert answer(plugin, CNI_ARGS="A=B", CNI_PATH="/opt/cni/bin")[0] == 0
    (request,) = plugin.calls
    assert (request.command, request.container_id, request.ifname, request.netns) == ("ADD", "c1", "eth0", "/run/netns/gone")
    assert (request.args, request.path, request.config, request.prev_result) == ("A=B", "/opt/cni/bin", CONFIG, None)
    assert (request.name, request.version, json.loads(request.stdin)) == ("net", "1.1.0", CONFIG)


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_other_verbs_than_add_and_version_say_nothing_on_stdout(command: str) -> None:
    plugin = Recording()
    assert answer(plugin, CNI_COMMAND=command) == (0, {})
    assert [request.command for request in plugin.calls] == [command]


def test_without_a_command_a_plugin_introduces_itself_on_stderr() -> None:
    code, stdout, stderr = skeleton.answer(Recording(), {}, lambda: b"")
    assert (code, stdout) == (0, b"")
    assert stderr == b"CNI plugin recording\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"


def test_version_needs_nothing_and_does_not_read_stdin() -> None:
    def stdin() -> bytes:
        raise AssertionError("stdin was read")

    code, stdout, _ = skeleton.answer(Recording(), {b"CNI_COMMAND": b"VERSION"}, stdin)
    versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert (code, json.loads(stdout)) == (0, {"cniVersion": "1.1.0", "supportedVersions": versions})


BAD_REQUESTS: list[tuple[str, dict[str, str | None], bytes | dict[str, Any], int, str]] = [
    (
        "all missing names at once",
        {"CNI_CONTAINERID": None, "CNI_NETNS": "", "CNI_IFNAME": None},
        b"",
        4,
        "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing",
    ),
    (
        "a wrong value before missing names",
        {"CNI_CONTAINERID": None, "CNI_IFNAME": "a/b"},
        b"",
        4,
        "interface name contains / or : or whitespace characters",
    ),
    ("container ID", {"CNI_CONTAINERID": "-x"}, b"", 4, "invalid characters in containerID"),
    ("container ID beyond ASCII", {"CNI_CONTAINERID": "é"}, b"", 4, "invalid characters in containerID"),
    ("long name", {"CNI_IFNAME": "sixteen-letters-"}, b"", 4, "interface name is too long"),
    ("dots", {"CNI_IFNAME": ".."}, b"", 4, "interface name is . or .."),
    ("no-break space", {"CNI_IFNAME": "a\u00a0b"}, b"", 4, "interface name contains / or : or whitespace characters"),
    ("not JSON", {}, b"{", 6, "error unmarshall network config"),
    ("more than JSON", {}, b"{} {}", 6, "error unmarshall network config"),
    ("nothing", {}, b"", 6, "error unmarshall network config: it is empty"),
    ("an array", {}, b"[]", 6, "error unmarshall network config: it is [], an object is right"),
    ("no name", {}, {"cniVersion": "1.1.0"}, 7, "missing network name"),
    ("a number for a name", {}, {"name": 7}, 6, '"name" is 7: a string is right'),
    ("a path for a name", {}, {"name": "../x"}, 7, "invalid characters found in network name"),
    ("unknown verb after the configuration", {"CNI_COMMAND": "UPDATE"}, CONFIG, 4, "unknown CNI_COMMAND: UPDATE"),
    ("unknown verb and bad configuration", {"CNI_COMMAND": "UPDATE"}, b"{}", 7, "missing network name"),
    ("a version of the future", {}, {**CONFIG, "cniVersion": "9.9.9"}, 1, "incompatible CNI versions"),
    ("a version that is none", {"CNI_COMMAND": "CHECK"}, {**CONFIG, "cniVersion": "one"}, 6, 'invalid version "one"'),
    ("CHECK too early", {"CNI_COMMAND": "CHECK"}, {**CONFIG, "cniVersion": "0.3.1"}, 1, "config version does not allow CHECK"),
    ("GC too early", {"CNI_COMMAND": "GC"}, {**CONFIG, "cniVersion": "1.0.0"}, 1, "config version does not allow GC"),
    ("STATUS without a version", {"CNI_COMMAND": "STATUS"}, {"name": "net"}, 1, "config version does not allow STATUS"),
    (
        "the host as a container",
        {"CNI_NETNS": "/proc/self/ns/net"},
        CONFIG,
        8,
        "plugin's netns and netns from CNI_NETNS should not be the same",
    ),
    ("the host as a container, removed", {"CNI_NETNS": "/proc/self/ns/net", "CNI_COMMAND": "DEL"}, CONFIG, 8, "plugin's netns"),
]


@pytest.mark.parametrize(("changes", "stdin", "code", "message"), [one[1:] for one in BAD_REQUESTS], ids=[one[0] for one in BAD_REQUESTS])
def test_a_bad_request_is_refused_before_the_verb_runs(
    changes: dict[str, str | None], stdin: bytes | dict[str, Any], code: int, message: str
) -> None:
    plugin = Recording()
    exit_code, said = answer(plugin, stdin, **changes)
    assert (exit_code, said["code"]) == (1, code)
    assert said["msg"].startswith(message)
    assert plugin.calls == []


# Release 1.1.1 knows neither GC nor STATUS, compares the namespaces after it did what was asked, and reports missing names first.
OF_LATER_RELEASES = {
    "GC too early",
    "STATUS without a version",
    "the host as a container",
    "the host as a container, removed",
    "a wrong value before missing names",
}
KNOWN_TO_1_1_1 = [one for one in BAD_REQUESTS if one[0] not in OF_LATER_RELEASES]


@pytest.mark.parametrize(
    ("changes", "stdin", "code", "message"), [one[1:] for one in KNOWN_TO_1_1_1], ids=[one[0] for one in KNOWN_TO_1_1_1]
)
def test_the_reference_implementation_refuses_the_same_with_the_same_code(
    changes: dict[str, str | None], stdin: bytes | dict[str, Any], code: int, message: str
) -> None:
    environment = {name: value for name, value in {**ENVIRONMENT, "CNI_PATH": "/nowhere", **changes}.items() if value is not None}
    if code == 4 and not stdin:
        stdin = {**CONFIG, "cniVersion": "1.0.0"}  # 1.1.1 looks at the values of variables after the configuration
    said = call(reference("host-local"), environment, stdin).said
    assert said["code"] == code
    assert said["msg"][:20] == message[:20] or code == 6


def test_the_same_namespace_is_allowed_when_the_runtime_says_so() -> None:
    assert answer(Recording(), CNI_NETNS="/proc/self/ns/net", CNI_NETNS_OVERRIDE="True")[0] == 0


def test_an_error_carries_the_version_of_the_configuration() -> None:
    failing = Recording(CniError(11, "try later", "it is busy"))
    assert answer(failing, {**CONFIG, "cniVersion": "0.4.0"}) == (
        1,
        {"cniVersion": "0.4.0", "code": 11, "msg": "try later", "details": "it is busy"},
    )
    assert answer(failing, b"")[1]["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("bug", [ValueError("a bug"), RecursionError("deep"), SystemExit(3), KeyboardInterrupt()])
def test_a_bug_is_code_999_and_its_traceback_is_on_stderr_only(bug: BaseException) -> None:
    variables = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()}
    code, stdout, stderr = skeleton.answer(Recording(bug), variables, lambda: json.dumps(CONFIG).encode())
    assert (code, json.loads(stdout)["code"]) == (1, 999)
    assert b"Traceback" in stderr
    assert b"Traceback" not in stdout


def test_gc_gets_the_attachments_under_either_key_and_null_is_none() -> None:
    pairs = [{"containerID": "a", "ifname": "eth0"}]
    for key, value, expected in (
        ("cni.dev/valid-attachments", pairs, {("a", "eth0")}),
        ("cni.dev/attachments", pairs, {("a", "eth0")}),
        ("cni.dev/valid-attachments", None, set()),
        ("cni.dev/valid-attachments", [], set()),
    ):
        plugin = Recording()
        assert answer(plugin, {**CONFIG, key: value}, CNI_COMMAND="GC", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)[0] == 0
        assert plugin.calls[0].valid_attachments == expected


def test_gc_without_a_list_is_refused() -> None:
    plugin = Recording()
    assert answer(plugin, CNI_COMMAND="GC")[0] == 0
    with pytest.raises(CniError, match=r"cni\.dev/valid-attachments") as refused:
        _ = plugin.calls[0].valid_attachments
    assert refused.value.code == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["cniVersion", "name", "NAME", "ipam", "prevResult", "runtimeConfig", "args", "cni.dev/valid-attachments"])


@given(
    st.one_of(st.binary(), st.dictionaries(KEYS, JSON).map(lambda one: json.dumps(one).encode())),
    st.dictionaries(st.sampled_from([*ENVIRONMENT, "CNI_ARGS"]), st.binary().filter(lambda one: b"\0" not in one)),
)
def test_whatever_comes_in_one_object_or_nothing_comes_out_and_never_a_bug(stdin: bytes, changes: dict[str, bytes]) -> None:
    variables = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()}
    code, stdout, _ = skeleton.answer(
        Recording(), {**variables, **{name.encode(): value for name, value in changes.items()}}, lambda: stdin
    )
    said = json.loads(stdout) if stdout else {}
    assert isinstance(said, dict)
    assert code == (1 if "code" in said else 0)
    assert said.get("code") != 999


def test_a_process_whose_stdin_is_closed_says_so() -> None:
    import subprocess  # noqa: PLC0415 - this one test starts a shell

    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *ours("host-local")], env=ENVIRONMENT, capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)


def test_a_process_whose_stdout_nobody_reads_fails_quietly() -> None:
    import subprocess  # noqa: PLC0415 - as above

    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(ours("host-local"), env={"CNI_COMMAND": "VERSION"}, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_module_can_be_a_plugin() -> None:
    plain = Recording()
    module = SimpleNamespace(ABOUT="x", add=plain.add, del_=plain.del_, check=plain.check, gc=plain.gc, status=lambda _: {"pools": []})
    variables = {os.fsencode(name): os.fsencode(value) for name, value in {**ENVIRONMENT, "CNI_COMMAND": "STATUS"}.items()}
    code, stdout, _ = skeleton.answer(module, variables, lambda: json.dumps(CONFIG).encode())
    assert (code, json.loads(stdout)) == (0, {"cniVersion": "1.1.0", "pools": []})
