"""Everything that can go wrong between us and an API server, by whose fault it is and what to do.

    ApiError                  what happened, where it was tried, what to do: one line
    +-- Unreachable           no answer: address, DNS, network, a server that is down or does not answer in time
    +-- CertificateRejected   one side did not accept the other one's certificate
    +-- NoCredentials         a credential plugin or file gave nothing that could be sent
    +-- CredentialsRejected   401;  Forbidden 403;  Gone 410 in all forms;  TooManyRequests 429
    +-- ServerFailed          5xx;  Refused: any other 4xx
    +-- Stalled, Garbled      an answer that stopped coming, or that no API server gives

Owns the classification of answers and watch ERROR events. Pure: must not know how requests are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

from uproxy.errors import UproxyError

EXCERPT_CHARACTERS: Final = 160
"""How much of a foreign answer is quoted: enough to recognise whose it is."""


class ApiError(UproxyError):
    """Something between us and the API server went wrong; all that is known is in the one line of str().

    reason: a word for metrics. code: the HTTP status, 0 without one. status_reason: Kubernetes' own word for it
    (metav1.StatusReason), "" without one. retry_after: seconds that the server asks to be left alone, 0 for none.
    """

    label = "error"

    def __init__(self, what: str, where: str = "", remedy: str = "", *, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.reason = reason or self.label
        self.retry_after = retry_after
        self.code = 0
        self.status_reason = ""

    def __str__(self) -> str:
        tried = f"{self.what}: {self.where}" if self.where else self.what
        return f"{tried}; {self.remedy}" if self.remedy else tried


class Unreachable(ApiError):
    """There was no answer. reason: dns_failure, refused, timeout, no_route, reset, disconnected, cut, proxy, not_tls."""

    label = "unreachable"


class CertificateRejected(ApiError):
    """A certificate was not accepted. reason: unknown_authority, expired, not_yet_valid, host_name, client_certificate, certificate."""

    label = "certificate"


class NoCredentials(ApiError):
    """Nothing could be sent: a token or certificate file cannot be read, a credential plugin failed."""

    label = "no_credentials"


class CredentialsRejected(ApiError):
    """401: the server does not know us (any more)."""

    label = "unauthorized"


class Forbidden(ApiError):
    """403: the server knows us, and we may not."""

    label = "forbidden"


class Gone(ApiError):
    """A resourceVersion or continue token that the server cannot go on from: list anew. reason: gone, version_too_large."""

    label = "gone"


class TooManyRequests(ApiError):
    """429: ask again after retry_after seconds."""

    label = "too_many_requests"


class ServerFailed(ApiError):
    """5xx: the server, or what it needs, is in trouble."""

    label = "server_error"


class Refused(ApiError):
    """Any other 4xx: asking the same again is of no use. reason: bad_request, not_found, conflict, invalid, refused ..."""

    label = "refused"


class Stalled(ApiError):
    """A stream on which nothing came for too long, not even a bookmark."""

    label = "stalled"


class Garbled(ApiError):
    """Bytes that are not what an API server says: cut, damaged, or somebody else's."""

    label = "garbled"


class _Cause(Struct):
    reason: str = ""
    message: str = ""


class _Details(Struct, rename="camel"):
    retry_after_seconds: float = 0
    causes: tuple[_Cause, ...] | None = ()


class Status(Struct):
    """metav1.Status, as far as it matters here."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


def from_response(code: int, headers: Mapping[str, str], body: bytes, where: str, unix_now: float) -> ApiError:
    """Say what an answer with an HTTP status other than 2xx means. where: what was asked, whom and as whom.

    headers: looked up by their usual spelling (Retry-After, Content-Type), so a case-insensitive mapping is best.
    unix_now: seconds, against which a date in Retry-After is held.
    """
    status = _status(body)
    if status is None:
        error = _from_stranger(code, headers, body, where)
    else:
        status.code = code
        error = _from_status(status, where)
    error.retry_after = max(error.retry_after, _retry_after(headers.get("Retry-After", ""), unix_now))
    return error


def from_error_event(raw: bytes, where: str) -> ApiError:
    """Say what the object of a watch's ERROR event means."""
    status = _status(raw)
    if status is None:
        return Garbled(f"a watch ended with an error that is no Status ({excerpt(raw)})", where)
    return _from_status(status, where)


def not_json(headers: Mapping[str, str], where: str) -> Garbled | None:
    """Tell whether a successful answer is somebody else's: API servers asked for JSON give JSON."""
    kind = headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() == "application/json":
        return None
    return Garbled(f"the answer is {kind or 'of no type'} instead of JSON", where, STRANGER)


STRANGER: Final = "something else than an API server answers there: a proxy, a balancer, a wrong port or path?"

_decode_status: Final = msgspec.json.Decoder(Status).decode


def _status(body: bytes) -> Status | None:
    try:
        status = _decode_status(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return status if status.kind == "Status" else None


def _from_status(status: Status, where: str) -> ApiError:
    code = status.code or _CODES.get(status.reason, HTTPStatus.INTERNAL_SERVER_ERROR)
    what = f"{_named(code)} ({' '.join(status.message.split()) or status.reason or 'no message'})"
    error = _GONE.make(what, where, code) if _is_gone(status, code) else _make(what, where, code, status.message)
    if isinstance(error, Gone) and code != HTTPStatus.GONE:
        error.reason = "version_too_large"
    error.status_reason = status.reason
    if status.details is not None:
        error.retry_after = max(0.0, status.details.retry_after_seconds)
    return error


def _from_stranger(code: int, headers: Mapping[str, str], body: bytes, where: str) -> ApiError:
    """Classify an answer without a Status by its HTTP status alone."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip()
    said = f", {kind}" if kind else ""
    quoted = f": {excerpt(body)}" if body.strip() else ", empty"
    error = _make(f"{_named(code)} (no Status{said}{quoted})", where, code, "")
    if error.code < HTTPStatus.INTERNAL_SERVER_ERROR or "html" in kind:
        error.remedy = STRANGER
    return error


class _Meaning(Struct, frozen=True):
    kind: type[ApiError]
    remedy: str
    reason: str = ""

    def make(self, what: str, where: str, code: int) -> ApiError:
        error = self.kind(what, where, self.remedy, reason=self.reason)
        error.code = code
        return error


_GONE: Final = _Meaning(Gone, "everything is listed anew")
_MEANINGS: Final[dict[int, _Meaning]] = {
    400: _Meaning(Refused, "the server does not understand this version's requests", "bad_request"),
    401: _Meaning(CredentialsRejected, "the credentials are missing, wrong, expired or revoked"),
    403: _Meaning(Forbidden, "bind this user to the cluster role system:node-proxier (deploy/kubernetes/rbac.yaml)"),
    404: _Meaning(Refused, "does the address lead to an API server that has this resource?", "not_found"),
    408: _Meaning(ServerFailed, "it is tried again", "server_timeout"),
    409: _Meaning(Refused, "", "conflict"),
    410: _GONE,
    422: _Meaning(Refused, "", "invalid"),
    429: _Meaning(TooManyRequests, "it is tried again when the server says so"),
    504: _Meaning(ServerFailed, "it is tried again", "server_timeout"),
}
_ANONYMOUS: Final = "the server did not see who asks: no credentials were sent, or nothing that it looks at"


def _make(what: str, where: str, code: int, message: str) -> ApiError:
    meaning = _MEANINGS.get(code) or _meaning_of_class(code)
    error = meaning.make(what, where, code)
    if isinstance(error, Forbidden) and '"system:anonymous"' in message:
        error.remedy = _ANONYMOUS
    return error


def _meaning_of_class(code: int) -> _Meaning:
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Meaning(ServerFailed, "it is tried again; the server's own log says more")
    if code >= HTTPStatus.BAD_REQUEST:
        return _Meaning(Refused, "")
    return _Meaning(Garbled, STRANGER)


# metav1.StatusReason -> HTTP status, for a Status without code. k8s.io/apimachinery/pkg/api/errors/errors.go
_CODES: Final[dict[str, int]] = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Gone": 410,
    "Expired": 410,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "Timeout": 504,
    "ServerTimeout": 500,
}


def _is_gone(status: Status, code: int) -> bool:
    """Tell whether only a new list helps: 410, or a resourceVersion that this server has not reached (an etcd restored from a backup)."""
    causes = (status.details.causes if status.details else None) or ()
    too_large = any(cause.reason == "ResourceVersionTooLarge" for cause in causes)
    return too_large or code == HTTPStatus.GONE or status.reason in {"Expired", "Gone"}


def _named(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP status {code}"


def _retry_after(value: str, unix_now: float) -> float:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3), as seconds from now; 0 for what is neither."""
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - unix_now)
    except (TypeError, ValueError, OverflowError):
        return 0.0


_TAGS: Final = re.compile(rb"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def excerpt(body: bytes) -> str:
    """Give the beginning of some answer as one printable line without mark-up."""
    text = " ".join(_TAGS.sub(b" ", body[:8192]).decode("utf-8", "replace").split())
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= EXCERPT_CHARACTERS else f"{plain[:EXCERPT_CHARACTERS]}..."
