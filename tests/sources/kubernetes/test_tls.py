"""Contexts and certificates as values; connections with them are made in test_client.py and test_credentials.py."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.certificates import Authority, User
from uproxy.sources.kubernetes.tls import BadPem, Pem, Tls, not_after

AUTHORITY = Authority()
CLIENT = AUTHORITY.client(User("system:kube-proxy"))
DAY = 86400


def lasting(until: datetime) -> bytes:
    """Make a certificate that expires then."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lasting")])
    began = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, began, until)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificates_end_is_read() -> None:
    assert not_after(CLIENT.chain) == pytest.approx(time.time() + 365 * DAY, abs=DAY)
    assert not_after(AUTHORITY.client(User("x"), expired=True).chain) == pytest.approx(time.time() - DAY, abs=DAY)


@pytest.mark.parametrize("year", [2049, 2050, 9999])
def test_a_certificates_end_is_read_in_both_its_forms(year: int) -> None:
    # From 2050 on the year is written with four digits: RFC 5280, 4.1.2.5.
    until = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert not_after(lasting(until)) == until.timestamp()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        CLIENT.key,
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        CLIENT.chain[:100] + b"\n-----END CERTIFICATE-----",
        b"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate_has_no_end(content: bytes) -> None:
    assert not_after(content) is None


def test_servers_are_verified_unless_somebody_says_otherwise() -> None:
    usual, careless = Tls().context(), Tls(is_verified=False).context()
    assert (usual.verify_mode, usual.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)
    assert usual.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_old_authorities_are_taken_as_kubectl_takes_them() -> None:
    flags = Tls(Pem("ca", AUTHORITY.pem)).context().verify_flags
    assert not flags & ssl.VerifyFlags.VERIFY_X509_STRICT
    assert flags & ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def test_comments_around_certificates_do_not_matter() -> None:
    commented = "# Autorité de la maison\n".encode("latin-1") + AUTHORITY.pem + "# fin — voilà\n".encode()
    assert len(Tls(Pem("ca", commented)).context().get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (Tls(Pem("ca file", b"")), "ca file: holds no certificate"),
        (Tls(Pem("ca file", b"\xff")), "ca file: holds no certificate"),
        (Tls(Pem("ca file", CLIENT.key)), "ca file: holds no certificate"),
        (Tls(Pem("ca file", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----")), "ca file: holds no certificate"),
        (Tls(None, Pem("our file", CLIENT.chain)), "our file: has no key beside it"),
        (Tls(None, Pem("our file", b"x"), Pem("key file", CLIENT.key)), "our file and key file: are no certificate with its key"),
        (Tls(None, Pem("our file", CLIENT.chain), Pem("key file", b"")), "our file and key file: are no certificate with its key"),
    ],
)
def test_what_cannot_be_used_is_named(tls: Tls, told: str) -> None:
    with pytest.raises(BadPem) as caught:
        tls.context()
    assert str(caught.value).startswith(told)
    assert "_ssl.c" not in str(caught.value)
