"""Whatever the configuration holds, every verb ends in a result or an error with a code of its own, never in a bug."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cni_bridge.host_local import verbs
from cni_bridge.protocol import skeleton
from tests.cni.plugins import variables

TEXTS = st.one_of(
    st.sampled_from(
        [
            "10.0.0.0/29",
            "10.0.0.0/8",
            "10.0.0.1",
            "10.0.0.3/29",
            "fd00::/125",
            "fd00::3",
            "::ffff:10.0.0.0/120",
            "0.0.0.0/0",
            "::/0",
            "",
            "\0",
            "\ud800",
        ]
    ),
    st.text(max_size=6),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
RANGE = st.dictionaries(st.sampled_from(["subnet", "Subnet", "rangeStart", "rangeEnd", "gateway"]), TEXTS | SCALARS)
RANGES = st.lists(st.lists(RANGE | SCALARS, max_size=3) | SCALARS, max_size=3)
IPS = st.lists(TEXTS | SCALARS, max_size=2) | SCALARS
ROUTES = st.lists(st.dictionaries(st.sampled_from(["dst", "gw", "mtu"]), TEXTS | SCALARS) | SCALARS, max_size=2) | SCALARS
IPAM = st.fixed_dictionaries(
    {},
    optional={
        "ranges": RANGES | SCALARS,
        "subnet": TEXTS,
        "rangeStart": TEXTS,
        "gateway": TEXTS,
        "routes": ROUTES,
        "resolvConf": TEXTS,
        "stickyAddresses": st.booleans() | SCALARS,
        "resetAtBoot": st.booleans() | SCALARS,
        "lockTimeoutSeconds": SCALARS,
    },
)
PREVIOUS = st.dictionaries(st.sampled_from(["ips", "interfaces", "routes", "dns", "cniVersion"]), ROUTES)
ATTACHMENTS = st.lists(st.dictionaries(st.sampled_from(["containerID", "ifname"]), TEXTS), max_size=2) | SCALARS
ARGS = st.sampled_from(
    [
        "",
        "IP=10.0.0.3",
        "IP=x",
        "IP=",
        ";",
        "A=B",
        "IgnoreUnknown=1;K8S_POD_NAME=a b",
        "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=é",
    ]
)


@settings(max_examples=400)
@given(
    command=st.sampled_from(["ADD", "ADD", "DEL", "CHECK", "GC", "STATUS"]),
    ipam=IPAM | SCALARS,
    members=st.fixed_dictionaries(
        {},
        optional={
            "runtimeConfig": st.fixed_dictionaries({}, optional={"ips": IPS, "ipRanges": RANGES}) | SCALARS,
            "args": st.fixed_dictionaries({}, optional={"cni": st.fixed_dictionaries({}, optional={"ips": IPS}) | SCALARS}) | SCALARS,
            "prevResult": PREVIOUS | SCALARS,
            "cni.dev/valid-attachments": ATTACHMENTS,
        },
    ),
    args=ARGS,
)
def test_no_configuration_is_a_bug(command: str, ipam: Any, members: dict[str, Any], args: str) -> None:  # noqa: ANN401 - any JSON
    with tempfile.TemporaryDirectory() as folder:
        said = {"cniVersion": "1.1.0", "name": "net", **members}
        said["ipam"] = {**ipam, "dataDir": folder} if isinstance(ipam, dict) else ipam
        given_variables = {name.encode(): value.encode() for name, value in variables(command, args=args).items()}
        code, stdout, stderr = skeleton.answer(verbs, given_variables, lambda: json.dumps(said).encode())
    answer = json.loads(stdout) if stdout else {}
    assert code == (1 if "code" in answer else 0)
    assert answer.get("code") != 999, stderr.decode()
    assert "code" not in answer or answer["msg"]
