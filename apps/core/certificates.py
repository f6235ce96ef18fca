"""X.509 certificates of our own authorities: for hosts that join, and for the clusters that we make.

Keys are ECDSA on P-256. Authorities may sign only end certificates (path length 0).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SKEW = timedelta(minutes=10)  # a machine whose clock is late must not refuse what was just made


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


def make_authority(name: str) -> Pair:
    """A self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key))


def issue(
    authority: Pair, name: str, *, organization: str = "", names: Sequence[str] = (), server: bool, days: float
) -> Pair:
    """A new key with a certificate for a server or a client. `names`: DNS names and IP addresses of a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(authority, name, organization, key.public_key(), names, server, days)
    return Pair(certificate, _key_pem(key))


def new_request(name: str) -> tuple[str, str]:
    """A private key (PEM) that stays here, and a request (PEM) to have it certified."""
    key = _key_pem(ec.generate_private_key(ec.SECP256R1()))
    return key, request_for(key, name)


def request_for(key: str, name: str) -> str:
    """A request (PEM) to have this key (PEM) certified."""
    own = serialization.load_pem_private_key(key.encode(), None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(own, hashes.SHA256())  # type: ignore[arg-type]  # our own keys are all ECDSA
    return request.public_bytes(serialization.Encoding.PEM).decode()


def certify(authority: Pair, request: str, name: str, *, days: float) -> str:
    """A client certificate for a request's key. Only the key is taken from the request, never its names.

    Raises ValueError for what is no request, or is not signed by its key.
    """
    found = x509.load_pem_x509_csr(request.encode())
    if not found.is_signature_valid:
        raise ValueError("The certificate request is not signed by its own key.")
    return _sign(authority, name, "", found.public_key(), (), False, days)


def fingerprint(certificate: str) -> str:
    """SHA-256 of the certificate (DER), in hexadecimal."""
    return x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256()).hex()


def _sign(
    authority: Pair, name: str, organization: str, public_key: object, names: Sequence[str], server: bool, days: float
) -> str:
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    key = serialization.load_pem_private_key(authority.key.encode(), None)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(x509.Name(attributes), issuer.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(item) for item in names]), critical=False
        )
    return _pem(builder.sign(key, hashes.SHA256()))  # type: ignore[arg-type]  # our authorities' keys are all ECDSA


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: object, days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
