"""What the HTTP client raises, as tables; what a real server can show is in test_client.py."""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from uproxy.sources.kubernetes.api_errors import ApiError, CertificateRejected, Garbled, Unreachable
from uproxy.sources.kubernetes.transport_errors import from_exception

KEY = ConnectionKey("api.example", 6443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


def connecting(number: int) -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(KEY, OSError(number, os.strerror(number)))


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    error.verify_message = "what OpenSSL says"
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (connecting(errno.ECONNREFUSED), Unreachable, "refused"),
        (connecting(errno.EHOSTUNREACH), Unreachable, "no_route"),
        (connecting(errno.ENETUNREACH), Unreachable, "no_route"),
        (connecting(errno.ETIMEDOUT), Unreachable, "timeout"),
        (connecting(errno.EMFILE), Unreachable, "unreachable"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), Unreachable, "timeout"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), Unreachable, "reset"),
        (aiohttp.ClientOSError(errno.EPIPE, "broken pipe"), Unreachable, "reset"),
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), Unreachable, "reset"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name or service not known")), Unreachable, "dns_failure"),
        (aiohttp.ConnectionTimeoutError(), Unreachable, "timeout"),
        (aiohttp.SocketTimeoutError(), Unreachable, "timeout"),
        (TimeoutError(), Unreachable, "timeout"),
        (aiohttp.ServerDisconnectedError(), Unreachable, "disconnected"),
        (aiohttp.ClientPayloadError("incomplete"), Unreachable, "cut"),
        (aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, "refused")), Unreachable, "proxy"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(9)), CertificateRejected, "not_yet_valid"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(10)), CertificateRejected, "expired"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(18)), CertificateRejected, "unknown_authority"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(20)), CertificateRejected, "unknown_authority"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(62)), CertificateRejected, "host_name"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(64)), CertificateRejected, "host_name"),
        (aiohttp.ClientConnectorCertificateError(KEY, verification(26)), CertificateRejected, "certificate"),
        (aiohttp.ClientConnectorSSLError(KEY, tls("WRONG_VERSION_NUMBER")), Unreachable, "not_tls"),
        (aiohttp.ClientConnectorSSLError(KEY, tls("TLSV1_ALERT_INTERNAL_ERROR")), Unreachable, "tls"),
        (tls("SSLV3_ALERT_BAD_CERTIFICATE"), CertificateRejected, "client_certificate"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), CertificateRejected, "client_certificate"),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), CertificateRejected, "client_certificate"),
        (aiohttp.http_exceptions.ContentEncodingError("bad gzip"), Garbled, "garbled"),
    ],
)
def test_each_failure_has_a_name_a_place_and_a_remedy(error: Exception, kind: type[ApiError], reason: str) -> None:
    if isinstance(error, aiohttp.http_exceptions.ContentEncodingError):
        wrapped = aiohttp.ClientPayloadError("400, message: bad gzip")
        wrapped.__cause__ = error
        error = wrapped
    found = from_exception(error, "GET https://api.example:6443/api", "10 s")
    assert (type(found), found.reason) == (kind, reason)
    assert ": GET https://api.example:6443/api; " in str(found)
    assert "\n" not in str(found)


def test_an_alert_behind_another_error_is_found() -> None:
    # TLS 1.3: the server looks at our certificate when the handshake is over for us, so the alert comes instead of an answer.
    error = aiohttp.ClientOSError(None, "read failed")
    error.__cause__ = tls("TLSV13_ALERT_CERTIFICATE_REQUIRED")
    assert from_exception(error, "GET /", "10 s").reason == "client_certificate"


def test_how_long_was_waited_is_told() -> None:
    assert str(from_exception(aiohttp.ConnectionTimeoutError(), "GET /", "10 s")).startswith("no connection within 10 s: GET /; ")
    assert str(from_exception(TimeoutError(), "GET /", "30 s")).startswith("no whole answer within 30 s: GET /; ")
