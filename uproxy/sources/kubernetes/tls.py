"""What one side shows the other: the authority that signs the server's certificate, and our own one with its key.

Owns the TLS settings and which of them deviate from Python's own, so that a kubeconfig works here when it works with
kubectl. Must not know where the bytes come from. Invariant: a key is never written to a disk.
"""

from __future__ import annotations

import os
import re
import ssl
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator


class BadPem(ValueError):
    """Something that should be a certificate or a key and is not; the message names where it is from."""


class Pem(Struct, frozen=True):
    """Certificates or a key, and where they are from ("certificate-authority /etc/kubernetes/ca.crt")."""

    origin: str
    content: bytes


class Tls(Struct, frozen=True):
    """How a connection is secured. authority: who signs the server's certificate; None: whom the system trusts.

    is_verified: whether the server must show a certificate of that authority at all.
    """

    authority: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    is_verified: bool = True

    def context(self) -> ssl.SSLContext:
        """Make the context for connections; raises BadPem. Reads the system's certificates: 20 ms without an authority."""
        context = _trusting(self.authority) if self.is_verified else _trusting_anybody()
        # What OpenSSL has as its own least version differs between distributions.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # client-go trusts what the file holds, be it an intermediate or the server's own certificate ...
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # ... and takes authorities without a key identifier or key usage, which Python 3.13 refuses (old clusters have such).
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate is not None:
            _show(context, self.certificate, self.key)
        return context


def _trusting(authority: Pem | None) -> ssl.SSLContext:
    if authority is None:
        return ssl.create_default_context()
    # Comments around certificates may be of any encoding. Without any certificate Python would trust the system's.
    text = authority.content.decode("ascii", "ignore")
    if "-----BEGIN" not in text:
        raise BadPem(f"{authority.origin}: holds no certificate")
    try:
        return ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise BadPem(f"{authority.origin}: holds no certificate ({_words(error)})") from error


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _show(context: ssl.SSLContext, certificate: Pem, key: Pem | None) -> None:
    """Let connections show a certificate. Python takes it from a file only: here one that has no name and is no more."""
    if key is None:
        raise BadPem(f"{certificate.origin}: has no key beside it (client-key or client-key-data)")
    try:
        with _as_file(certificate.content) as certificate_path, _as_file(key.content) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_refuse_password)
    except _Encrypted as error:
        raise BadPem(f"{key.origin}: is encrypted, and there is nobody to ask for the password") from error
    except (ssl.SSLError, ValueError) as error:
        raise BadPem(f"{certificate.origin} and {key.origin}: are no certificate with its key ({_words(error)})") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class _Encrypted(Exception):
    """A key that wants a password."""


def _refuse_password() -> str:
    """Answer instead of OpenSSL's prompt on the terminal."""
    raise _Encrypted


def _words(error: Exception) -> str:
    """Give OpenSSL's own word for a failure, without the place in its source."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else _PLACE.sub("", " ".join(str(error).split()))


_PLACE: Final = re.compile(r"^\[\w+\] | \(_ssl\.c:\d+\)$")


_SEQUENCE: Final = 0x30
_EXPLICIT_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_CENTURY: Final = 50  # RFC 5280, 4.1.2.5.1: years below are of this century


def not_after(content: bytes) -> float | None:
    """Give the Unix time at which the first certificate expires, None when it cannot be read (RFC 5280, 4.1)."""
    try:
        der = ssl.PEM_cert_to_DER_cert(_first(content.decode("ascii", "replace")))
        _, certificate, _ = _element(der)
        _, body, _ = _element(certificate)
        tag, _, rest = _element(body)
        if tag == _EXPLICIT_VERSION:
            _, _, rest = _element(rest)  # the serial number
        _, _, rest = _element(rest)  # the algorithm
        _, _, rest = _element(rest)  # the issuer
        tag, validity, _ = _element(rest)
        _, _, rest = _element(validity)
        return _moment(*_element(rest)[:2]) if tag == _SEQUENCE else None
    except (ValueError, IndexError):
        return None


def _first(text: str) -> str:
    begin, end = text.index("-----BEGIN CERTIFICATE-----"), text.index("-----END CERTIFICATE-----")
    return text[begin:end] + "-----END CERTIFICATE-----"


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Take the first element off: its tag, its content and what follows (ITU-T X.690, 8.1)."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[0], der[start : start + length], der[start + length :]


def _moment(tag: int, content: bytes) -> float:
    digits = content.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("20" if int(digits[:2]) < _CENTURY else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
