"""Contexts for TLS that are safe as they are: ``ssl=linkbox.tls.server_context("cert.pem", "key.pem")``.

Any `ssl.SSLContext` will do for ``ssl=``; those made here take TLS 1.2 or newer, check what has to be
checked, and raise at once for a file that is missing or is not what it should be. A server that has a secret
too must know its own certificate, for the secret is bound to it. The standard library does not tell which
one a context shows: of those made here it is known, others are made known with `remember`.
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
    """For a server: its certificate (with intermediate ones behind it, if any) and its key, in PEM.

    With ``client_ca`` only clients come in that have a certificate from there; its name is their
    ``Peer.identity``. OSError for a file that cannot be read, ValueError for one that is not what it
    should be.
    """
    context = _new(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, cert, key)
    context.num_tickets = 1  # for the client's next connection; it has one at a time
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    remember(context, cert)
    return context


def client_context(
    ca: File | None = None, cert: File | None = None, key: File | None = None
) -> ssl.SSLContext:
    """For a client: whom to trust (``ca``: a file in PEM; None: whom this machine trusts). Host names are
    checked. ``cert`` and ``key``: a certificate of its own, where the server wants one.

    OSError for a file that cannot be read, ValueError for one that is not what it should be.
    """
    if (cert is None) is not (key is None):
        raise ValueError("client_context: cert= and key= come together")
    context = _new(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
    else:
        _load_ca(context, ca)
    if cert is not None and key is not None:
        _load_own(context, cert, key)
    return context


def remember(context: ssl.SSLContext, cert: File) -> None:
    """Say which certificate (a file in PEM) a server's context shows, if it was not made by `server_context`.

    Say it again after loading another one. A context that shows one of several cannot be used with a secret.
    """
    text = Path(cert).read_text("ascii", "replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        raise ValueError(f"{cert}: there is no certificate in it (in PEM)")
    der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)])
    _certificates[context] = hashlib.sha256(der).digest()


def certificate_of(context: ssl.SSLContext) -> bytes | None:
    """The SHA-256 of the certificate that a server's context shows, where that is known."""
    return _certificates.get(context)


def _new(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_own(context: ssl.SSLContext, cert: File, key: File) -> None:
    _check_readable(cert, key)

    def no_password() -> NoReturn:  # else OpenSSL would ask at the terminal
        raise ValueError(
            f"{key} is encrypted: give a key without a password, in a file only its owner may read"
        )

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise ValueError(f"{cert} is no certificate in PEM, or {key} is not its key ({error})") from error


def _load_ca(context: ssl.SSLContext, ca: File) -> None:
    _check_readable(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ValueError(f"{ca}: there is no certificate in it (in PEM) ({error})") from error


def _check_readable(*files: File) -> None:
    """The ssl module does not say which file it misses."""
    for file in files:
        with open(file, "rb"):
            pass
