"""What the HTTP client and the TLS library raise -> ApiError: which, where, what to do.

Owns the translation of errors that have no answer; api_errors.py owns those with one. Invariant: whatever the client
raises for the network's or the other side's sake becomes an ApiError; our own mistakes are left alone.
"""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp

from uproxy.sources.kubernetes.api_errors import STRANGER, ApiError, CertificateRejected, Garbled, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSPORT: Final = (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError)
"""What a request can fail with for reasons outside of this process."""


def from_exception(error: BaseException, where: str, waited: str) -> ApiError:
    """Say what one of TRANSPORT means. where: what was asked, whom and as whom; waited: what was waited for ("30 s")."""
    certificate = _find(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        return _certificate(certificate, where)
    tls = _find(error, ssl.SSLError)
    if tls is not None:
        return _tls(tls, where)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(f"the name {error.host} is not known ({_words(error.os_error)})", where, ADDRESS, reason="dns_failure")
    return _http(error, where, waited) or _network(error, where)


ADDRESS: Final = "is the address right (server in the kubeconfig, --master, KUBERNETES_SERVICE_HOST), is the network up?"


RESTARTING: Final = "the server, or what is before it, has ended or restarts"
PROXY: Final = "see proxy-url in the kubeconfig"


def _http(error: BaseException, where: str, waited: str) -> ApiError | None:
    """Translate what is about the conversation, not about the way to it."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unreachable(f"the proxy answers {error.status} {error.message}", where, PROXY, reason="proxy")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Unreachable(f"the proxy cannot be reached ({_words(error.os_error)})", where, PROXY, reason="proxy")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable("the connection was closed without an answer", where, RESTARTING, reason="disconnected")
    if isinstance(error, aiohttp.ClientPayloadError):
        return _cut(error, where)
    if isinstance(error, aiohttp.ClientResponseError):
        return Garbled(f"the answer is not HTTP ({' '.join(error.message.split())})", where, STRANGER)
    return _too_late(error, where, waited)


def _too_late(error: BaseException, where: str, waited: str) -> ApiError | None:
    """Translate a deadline of ours; the kernel's own timeout (ETIMEDOUT) is a TimeoutError too."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(f"no connection within {waited}", where, ADDRESS, reason="timeout")
    if isinstance(error, TimeoutError) and error.errno is None:
        return Unreachable(f"no whole answer within {waited}", where, "is the server overloaded, stopped or cut off?", reason="timeout")
    return None


def _cut(error: aiohttp.ClientPayloadError, where: str) -> ApiError:
    if any(isinstance(each, aiohttp.http_exceptions.ContentEncodingError) for each in _chain(error)):
        return Garbled("the answer's compression is damaged", where, STRANGER)
    return Unreachable("the answer was cut off", where, RESTARTING, reason="cut")


# errno -> what it is, its name for metrics, what to do.
_ERRNO: Final = {
    errno.ECONNREFUSED: ("connection refused", "refused", "nothing listens there: does the API server run, is the address right?"),
    errno.EHOSTUNREACH: ("no route to the host", "no_route", ADDRESS),
    errno.ENETUNREACH: ("no route to the network", "no_route", ADDRESS),
    errno.ETIMEDOUT: ("the connection timed out", "timeout", ADDRESS),
    errno.ECONNRESET: ("the connection was reset", "reset", RESTARTING),
    errno.ECONNABORTED: ("the connection was reset", "reset", RESTARTING),
    errno.EPIPE: ("the connection was reset", "reset", RESTARTING),
}


def _network(error: BaseException, where: str) -> ApiError:
    found = getattr(error, "os_error", error)
    # A connection that the client itself found closed has no number.
    number = getattr(found, "errno", None) or (errno.ECONNRESET if isinstance(found, ConnectionError) else None)
    if number in _ERRNO:
        what, reason, remedy = _ERRNO[number]
        return Unreachable(what, where, remedy, reason=reason)
    return Unreachable(f"no connection ({_words(found)})", where, ADDRESS)


# X509_V_ERR_* -> what is wrong, its name for metrics, what to do. openssl/x509_vfy.h
_VERIFY: Final = {
    9: ("is not valid yet", "not_yet_valid", "are both clocks right?"),
    10: ("has expired", "expired", "renew it (kubeadm certs renew apiserver), or is this machine's clock wrong?"),
    18: ("is signed by nobody we trust", "unknown_authority", ""),
    19: ("is signed by nobody we trust", "unknown_authority", ""),
    20: ("is signed by nobody we trust", "unknown_authority", ""),
    21: ("is signed by nobody we trust", "unknown_authority", ""),
    62: ("is not for this host name", "host_name", ""),
    64: ("is not for this IP address", "host_name", ""),
}
_REMEDIES: Final = {
    "unknown_authority": "certificate-authority must be the one of this cluster: is it, or does something else answer there?",
    "host_name": "use an address that it is for, or name one in tls-server-name of the kubeconfig",
}


def _certificate(error: ssl.SSLCertVerificationError, where: str) -> CertificateRejected:
    what, reason, remedy = _VERIFY.get(error.verify_code, ("is not accepted", "certificate", "see its issuer and its uses"))
    said = " ".join(str(error.verify_message).split())
    return CertificateRejected(f"the server's certificate {what} ({said})", where, remedy or _REMEDIES[reason], reason=reason)


def _tls(error: ssl.SSLError, where: str) -> ApiError:
    """Translate a failure of TLS other than the server's certificate."""
    said = str(error.reason or error).lower().replace("_", " ")
    if "alert" in said and ("certificate" in said or "unknown ca" in said):
        remedy = "client-certificate must be signed by the authority that the server trusts, and not have expired"
        return CertificateRejected(f"the server does not accept our certificate ({said})", where, remedy, reason="client_certificate")
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}:
        return Unreachable(f"no TLS is spoken there ({said})", where, "is it the right port, or http instead of https?", reason="not_tls")
    return Unreachable(f"TLS failed ({said})", where, RESTARTING, reason="tls")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what led to it."""
    each: BaseException | None = error
    for _ in range(8):  # as deep as the client wraps, and then some
        if each is None:
            return
        yield each
        each = getattr(each, "certificate_error", None) or each.__cause__ or getattr(each, "os_error", None) or each.__context__


_Error = TypeVar("_Error", bound=BaseException)


def _find(error: BaseException, kind: type[_Error]) -> _Error | None:
    # The client's own classes derive from these too, without what they know.
    return next((each for each in _chain(error) if isinstance(each, kind) and not isinstance(each, aiohttp.ClientError)), None)


def _words(error: BaseException) -> str:
    strerror = getattr(error, "strerror", None)
    return " ".join(str(strerror or error).split()) or type(error).__name__
