"""Contexts for TLS that are safe as they are: ``ssl=linkbox.tls.server_context("cert.pem", "key.pem")``.

``ssl=`` accepts any `ssl.SSLContext`. The contexts made here require TLS 1.2 or newer, verify certificates
and host names, and raise at once if a file is missing or invalid. A server with both TLS and a secret must
know its own certificate, because the secret is bound to it. The standard library cannot say which
certificate a context uses: linkbox knows it for contexts made here, and `remember` registers it for others.
"""

from __future__ import annotations

import hashlib
import ssl
import weakref
from os import PathLike
from pathlib import Path
from typing import NoReturn

__all__ = ["certificate_of", "client_context", "remember", "server_context"]

File = str | PathLike[str]

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_certificates: weakref.WeakKeyDictionary[ssl.SSLContext, bytes] = weakref.WeakKeyDictionary()


def server_context(cert: File, key: File, client_ca: File | None = None) -> ssl.SSLContext:
    """Make a context for a server. ``cert``: its certificate, followed by intermediate ones if there are any;
    ``key``: its private key; both in PEM.

    With ``client_ca`` the server accepts only clients with a certificate of this authority; the name in it is
    their ``Peer.identity``. OSError if a file cannot be read, ValueError if its content is invalid.
    """
    context = _new(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, cert, key)
    context.num_tickets = 1  # a client has one connection at a time, so it needs one ticket
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    remember(context, cert)
    return context


def client_context(
    ca: File | None = None, cert: File | None = None, key: File | None = None
) -> ssl.SSLContext:
    """Make a context for a client. ``ca``: a PEM file with the authorities to trust; None trusts those that
    this machine trusts. Host names are verified. ``cert`` and ``key``: the client's own certificate, if the
    server requires one.

    OSError if a file cannot be read, ValueError if its content is invalid.
    """
    if (cert is None) is not (key is None):
        raise ValueError("client_context: cert= and key= must be given together")
    context = _new(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
    else:
        _load_ca(context, ca)
    if cert is not None and key is not None:
        _load_own(context, cert, key)
    return context


def remember(context: ssl.SSLContext, cert: File) -> None:
    """Register the certificate (a PEM file) of a server's context that was not made by `server_context`.

    Call it again after loading another certificate. A context that chooses between several certificates
    cannot be used with a secret.
    """
    text = Path(cert).read_text("ascii", "replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        raise ValueError(f"{cert}: it contains no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)])
    _certificates[context] = hashlib.sha256(der).digest()


def certificate_of(context: ssl.SSLContext) -> bytes | None:
    """The SHA-256 of the certificate that a server's context uses, or None if it is unknown."""
    return _certificates.get(context)


def _new(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_own(context: ssl.SSLContext, cert: File, key: File) -> None:
    _check_readable(cert, key)

    def no_password() -> NoReturn:  # otherwise OpenSSL asks on the terminal
        raise ValueError(
            f"{key} is encrypted: use a key without a password, in a file that only its owner can read"
        )

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise ValueError(f"{cert} is not a certificate in PEM, or {key} is not its key ({error})") from error


def _load_ca(context: ssl.SSLContext, ca: File) -> None:
    _check_readable(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ValueError(f"{ca}: it contains no certificate in PEM ({error})") from error


def _check_readable(*files: File) -> None:
    """Name the file in the error: the ssl module does not say which one is missing."""
    for file in files:
        with open(file, "rb"):
            pass
