"""What the API server says it was asked: its audit log, without what it and the tests' own client ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.cluster.certificates import ADMIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": [ADMIN.name, "system:apiserver", "system:anonymous"]},
        {"level": "Metadata"},
    ],
}


class Request(NamedTuple):
    """One request: a watch is told of twice, when it starts and when it is over."""

    user: str
    verb: str
    path: str
    query: Mapping[str, str]
    code: int
    over: bool
    agent: str

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """Read one line of the log."""
        event = json.loads(line)
        target = urlsplit(event["requestURI"])
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        code = event.get("responseStatus", {}).get("code", 0)
        user, over = event["user"].get("username", ""), event["stage"] == "ResponseComplete"
        return cls(user, event["verb"], target.path, query, code, over, event.get("userAgent", ""))


def read(path: Path, user: str = "") -> list[Request]:
    """Read all requests so far, or those of one user."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    requests = [Request.parse(line) for line in lines if line.endswith(b"\n")]
    return [request for request in requests if user in {"", request.user}]
