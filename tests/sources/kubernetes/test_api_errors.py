"""What answers and ERROR events mean, as tables: status, headers and body in, one line out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from uproxy.errors import UproxyError
from uproxy.sources.kubernetes.api_errors import (
    ApiError,
    CredentialsRejected,
    Forbidden,
    Garbled,
    Gone,
    Refused,
    ServerFailed,
    TooManyRequests,
    excerpt,
    from_error_event,
    from_response,
    not_json,
)

WHERE = "GET https://10.0.0.1:6443/api/v1/services (kubeconfig /k, context c)"
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
JSON = {"Content-Type": "application/json"}
HTML = b"<html><head><style>p {}</style><title>Sign in</title></head><body>\n<p>Who are you?</p></body></html>"


def status(code: int, reason: str = "", message: str = "it says so", **more: Any) -> bytes:  # noqa: ANN401 - any field of a Status
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return json.dumps({**body, **more}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind", "label"),
    [
        (400, "BadRequest", Refused, "bad_request"),
        (401, "Unauthorized", CredentialsRejected, "unauthorized"),
        (403, "Forbidden", Forbidden, "forbidden"),
        (404, "NotFound", Refused, "not_found"),
        (405, "MethodNotAllowed", Refused, "refused"),
        (406, "NotAcceptable", Refused, "refused"),
        (408, "", ServerFailed, "server_timeout"),
        (409, "AlreadyExists", Refused, "conflict"),
        (410, "Gone", Gone, "gone"),
        (410, "Expired", Gone, "gone"),
        (415, "UnsupportedMediaType", Refused, "refused"),
        (422, "Invalid", Refused, "invalid"),
        (429, "TooManyRequests", TooManyRequests, "too_many_requests"),
        (500, "InternalError", ServerFailed, "server_error"),
        (503, "ServiceUnavailable", ServerFailed, "server_error"),
        (504, "Timeout", ServerFailed, "server_timeout"),
        (599, "", ServerFailed, "server_error"),
        (418, "", Refused, "refused"),
        (302, "", Garbled, "garbled"),
    ],
)
def test_an_answers_status_says_what_it_is(code: int, reason: str, kind: type[ApiError], label: str) -> None:
    error = from_response(code, JSON, status(code, reason), WHERE, NOW)
    assert (type(error), error.reason, error.code, error.status_reason) == (kind, label, code, reason)
    assert f"{code} " in str(error) or f"status {code}" in str(error)
    assert f"(it says so): {WHERE}" in str(error)
    assert isinstance(error, UproxyError)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Unauthorized", CredentialsRejected),
        ("Forbidden", Forbidden),
        ("Expired", Gone),
        ("Gone", Gone),
        ("TooManyRequests", TooManyRequests),
        ("InternalError", ServerFailed),
        ("", ServerFailed),
    ],
)
def test_an_error_event_without_a_code_is_known_by_its_reason(reason: str, kind: type[ApiError]) -> None:
    event = json.loads(status(0, reason))
    del event["code"]
    assert type(from_error_event(json.dumps(event).encode(), WHERE)) is kind


def test_an_error_event_of_an_old_version_needs_a_new_list() -> None:
    event = status(410, "Expired", "too old resource version: 1 (210)")
    error = from_error_event(event, WHERE)
    assert type(error) is Gone
    assert str(error) == f"410 Gone (too old resource version: 1 (210)): {WHERE}; everything is listed anew"


def test_an_old_version_under_another_code_needs_a_new_list_too() -> None:
    assert type(from_error_event(status(500, "Expired"), WHERE)) is Gone


def test_a_version_that_is_not_reached_yet_needs_a_new_list() -> None:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    body = status(504, "Timeout", details={"causes": causes, "retryAfterSeconds": 1})
    error = from_response(504, JSON, body, WHERE, NOW)
    assert (type(error), error.reason, error.retry_after) == (Gone, "version_too_large", 1)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"null", b"[]", b'{"kind": "Pod"}', b'{"kind": "Status", "code": "x"}', b"\xff", b'{"kind": "Status"'],
)
def test_an_error_event_that_is_no_status_is_garbled(raw: bytes) -> None:
    assert type(from_error_event(raw, WHERE)) is Garbled


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0),
        ("", 0),
        ("soon", 0),
        ("-3", 0),
        ("1e99", 0),
        ("Tue, 99 Nov 2023 22:13:00 GMT", 0),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_the_time_to_be_left_alone_is_read_from_the_header(code: int, header: str, seconds: float) -> None:
    assert from_response(code, {**JSON, "Retry-After": header}, status(code), WHERE, NOW).retry_after == seconds


def test_the_time_to_be_left_alone_is_read_from_the_status_too() -> None:
    body = status(429, "TooManyRequests", details={"retryAfterSeconds": 9})
    assert from_response(429, JSON, body, WHERE, NOW).retry_after == 9
    assert from_response(429, {"Retry-After": "20"}, body, WHERE, NOW).retry_after == 20
    assert from_error_event(body, WHERE).retry_after == 9


@pytest.mark.parametrize("details", [None, {}, {"causes": None}, {"causes": []}, {"retryAfterSeconds": -1}])
def test_a_status_may_leave_its_details_away(details: object) -> None:
    error = from_response(503, JSON, status(503, details=details), WHERE, NOW)
    assert (type(error), error.retry_after) == (ServerFailed, 0)


@pytest.mark.parametrize(("code", "kind"), [(403, Forbidden), (404, Refused), (502, ServerFailed), (503, ServerFailed), (302, Garbled)])
def test_what_a_proxy_shows_to_humans_is_recognised(code: int, kind: type[ApiError]) -> None:
    error = from_response(code, {"Content-Type": "text/html; charset=utf-8"}, HTML, WHERE, NOW)
    assert type(error) is kind
    assert "no Status, text/html: Sign in Who are you?" in str(error)
    assert "something else than an API server answers there" in str(error)


def test_an_empty_failure_is_told_as_one() -> None:
    assert "503 Service Unavailable (no Status, empty)" in str(from_response(503, {}, b"", WHERE, NOW))


def test_a_message_of_many_lines_becomes_one() -> None:
    assert "\n" not in str(from_response(500, JSON, status(500, message="one\ntwo\r\n  three"), WHERE, NOW))


def test_who_is_taken_for_nobody_is_told_so() -> None:
    body = status(403, "Forbidden", 'services is forbidden: User "system:anonymous" cannot list resource "services"')
    assert "no credentials were sent" in str(from_response(403, JSON, body, WHERE, NOW))


@pytest.mark.parametrize("kind", ["application/json", "application/json;stream=watch", "Application/JSON; charset=utf-8"])
def test_json_is_what_an_api_server_gives(kind: str) -> None:
    assert not_json({"Content-Type": kind}, WHERE) is None


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/html"}, {"Content-Type": "application/vnd.kubernetes.protobuf"}])
def test_anything_else_is_not(headers: dict[str, str]) -> None:
    assert type(not_json(headers, WHERE)) is Garbled


def test_an_excerpt_is_short_printable_and_one_line() -> None:
    assert excerpt(b"a\n\tb\x00\x1b[31mc\xff") == "a b??[31mc\ufffd"
    assert len(excerpt(b"x" * 10_000)) < 200


def test_an_error_without_place_and_remedy_is_just_what_happened() -> None:
    assert str(ApiError("it rains")) == "it rains"
    assert str(ApiError("it rains", "here")) == "it rains: here"
    assert str(ApiError("it rains", remedy="take an umbrella")) == "it rains; take an umbrella"
