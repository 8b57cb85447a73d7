"""``linkbox cert``: a private certificate authority for a lab. The only module that uses cryptography."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkbox.cli.options import QuietOption
from linkbox.cli.status import WrongUse, exit_status, say
from linkbox.extras import how_to_install

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA, CA_KEY = "ca.pem", "ca.key"
CA_DAYS = 3650
DAYS = 397
"""The usual maximum of public authorities; for longer, see ``--days``."""
MOST_DAYS = 36_500
"""A hundred years: more is a typing error, and the dates of certificates end with the year 9999."""
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""A part of a host name. Hosts in labs have underscores, too."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:-]{0,63}")

cert: typer.Typer = typer.Typer(
    help="Make a private certificate authority for a lab: `init` once, then `issue` for each machine. "
    "Copy ca.pem to all machines; keep ca.key secret.",
    no_args_is_help=True,
)
FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="The folder of the authority.")]


@cert.command()
def init(
    folder: FolderOption = Path(),
    name: Annotated[str, typer.Option(help="Set the name of the authority.")] = "linkbox lab",
    days: Annotated[
        int, typer.Option(min=1, max=MOST_DAYS, help="Set how many days the certificate is valid.")
    ] = CA_DAYS,
    quiet: QuietOption = False,
) -> None:
    """Make an authority: ca.pem, its public certificate, and ca.key, its private key."""
    with exit_status(quiet):
        if not _NAME.fullmatch(name):
            raise WrongUse(f"--name {name!r}: it may have up to 64 letters, digits, spaces and . _ : -")
        x509, ec = _library()
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_common_name(name), key, _common_name(name), key, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(is_ca=True), critical=True)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CA_KEY, _pem_of_key(key), secret=True)
        _write(folder / CA, _pem(_signed(builder, key)))
        say(f"copy {folder / CA} to all machines; keep {folder / CA_KEY} secret", quiet)


@cert.command()
def issue(
    name: Annotated[
        str,
        typer.Argument(
            help="The host name or IP address of a server, or the name of a client: its identity.",
            show_default=False,
        ),
    ],
    san: Annotated[
        list[str] | None,
        typer.Option("--san", metavar="HOST", help="Add a host name or IP address. May be repeated."),
    ] = None,
    folder: FolderOption = Path(),
    days: Annotated[
        int, typer.Option(min=1, max=MOST_DAYS, help="Set how many days the certificate is valid.")
    ] = DAYS,
    quiet: QuietOption = False,
) -> None:
    """Issue a certificate for a server or a client: NAME.pem, and its private key NAME.key.

    Clients must connect to the server by NAME, or by one of the --san.
    """
    with exit_status(quiet):
        if not _NAME.fullmatch(name):
            raise WrongUse(f"NAME {name!r}: it may have up to 64 letters, digits, spaces and . _ : -")
        x509, ec = _library()
        hosts = [_host_of(each) for each in san or []]
        own = _host(name)
        if own is not None:  # otherwise it is the name of a client only
            hosts.insert(0, own)
        from cryptography.x509.oid import ExtendedKeyUsageOID

        ca, ca_key = _authority(folder)
        if days > (left := (ca.not_valid_after_utc - datetime.now(UTC)).days):
            raise WrongUse(f"{folder / CA} itself is valid for only {left} days: use --days {max(left, 1)}")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_common_name(name), key, ca.subject, ca_key, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(is_ca=False), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        stem = folder / name.replace(":", "-").replace(" ", "-")
        certificate, secret = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key")
        _write(secret, _pem_of_key(key), secret=True)
        _write(certificate, _pem(_signed(builder, ca_key)))
        say(f"made {certificate} and {secret}, valid for {days} days", quiet)


def _library() -> tuple[Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError as error:
        raise WrongUse(f"`linkbox cert` needs cryptography: {how_to_install('cli,tls')}") from error
    return x509, ec


def _host_of(text: str) -> x509.GeneralName:
    """The host name or IP address of a ``--san``."""
    host = _host(text)
    if host is None:
        raise WrongUse(
            f"--san {text!r} is neither a host name, such as pump-7.example.com, nor an IP address; "
            "repeat --san for several"
        )
    return host


def _host(text: str) -> x509.GeneralName | None:
    """A host name or IP address as it is in a certificate; None for any other text."""
    from cryptography import x509

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:  # a certificate cannot have the scope of fe80::1%eth0
        return None if "%" in text else x509.IPAddress(address)
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return x509.DNSName(name)


def _common_name(name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _usage(is_ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    no = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
        **no,
    )


def _builder(
    subject: x509.Name,
    key: EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    """The part that all certificates share."""
    from cryptography import x509

    now = datetime.now(UTC)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks in a lab may be wrong
        .not_valid_after(now + timedelta(days=days))
        .add_extension(own, critical=False)
        .add_extension(theirs, critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _authority(folder: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """Load the authority in that folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificate((folder / CA).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    except FileNotFoundError as error:
        raise WrongUse(
            f"{error.filename} does not exist: make an authority first, with `linkbox cert init`"
        ) from error
    except (ValueError, TypeError) as error:
        raise WrongUse(f"{folder / CA} or {folder / CA_KEY} is damaged, or encrypted: {error}") from error
    if certificate.public_key() != key.public_key():
        raise WrongUse(f"{folder / CA_KEY} is not the key of {folder / CA}")
    return certificate, key  # type: ignore[return-value]  # `init` makes only this kind of key


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, data: bytes, secret: bool = False) -> None:
    """Write a new file. An existing one is never overwritten."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    except FileExistsError as error:
        raise WrongUse(f"{file} already exists: move it away first, if it is no longer needed") from error
    with open(fd, "wb") as opened:
        opened.write(data)
