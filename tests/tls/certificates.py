"""Certificates for tests: an authority that issues what a test wants, expired and wrong ones too."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("cryptography", reason="the certificates of these tests are made with cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from linkbox import tls


class Issued(NamedTuple):
    """Two files in PEM."""

    cert: Path
    key: Path


class Authority:
    """A private CA in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"{name} of the tests")
        self._certificate = self._sign(self._name, self._key, [], 0, 1, is_ca=True)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._issued: dict[tuple[str, ...], Issued] = {}

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        hosts: list[str],
        begins: float,
        days: float,
        is_ca: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins, hours=-1))
            .not_valid_after(now + timedelta(days=begins + days))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str, *hosts: str, begins: float = 0, days: float = 1) -> Issued:
        """A certificate and its key for ``name`` (empty: no common name), good for these hosts."""
        known = (name, *hosts, str(begins))
        if known in self._issued:
            return self._issued[known]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(name), key, list(hosts), begins, days)
        stem = f"{self.ca.stem}-{len(self._issued)}"
        made = Issued(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        made.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._issued[known] = made
        return made

    def server(self, *, clients: bool = False, host: str = "127.0.0.1", begins: float = 0) -> ssl.SSLContext:
        """A server's context; ``clients``: they need certificates of this authority."""
        made = self.issue("server", host, "localhost", begins=begins)
        return tls.server_context(made.cert, made.key, client_ca=self.ca if clients else None)

    def client(self, name: str | None = None, *hosts: str) -> ssl.SSLContext:
        """The context of a client that trusts this authority; with a certificate, if it has a name."""
        if name is None:
            return tls.client_context(self.ca)
        made = self.issue(name, *hosts)
        return tls.client_context(self.ca, made.cert, made.key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
