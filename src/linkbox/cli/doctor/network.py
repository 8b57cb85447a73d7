"""The first steps: does the name exist, does something listen, is its certificate right?"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import Any, Final

from linkbox import Address
from linkbox.cli.doctor.report import Failed, Report, Status

SOON: Final = 14
"""Days before the end of a certificate from which on it is mentioned."""
EXPIRED, NOT_YET, WRONG_HOST, WRONG_IP = 10, 9, 62, 64
"""Codes of OpenSSL for certificates; all others are about who has signed it."""


class Way:
    """How to connect to an address, once it is known that this works."""

    def __init__(
        self, report: Report, address: Address, context: ssl.SSLContext | None, timeout: float
    ) -> None:
        self.report = report
        self.address = address
        self.timeout = timeout
        self._context = context
        self._target: tuple[int, Any] | None = None

    @property
    def is_secure(self) -> bool:
        """Is it a tls:// address?"""
        return self._context is not None

    def explore(self) -> None:
        """Resolve the name, connect, check the certificate. Raises `Failed`."""
        targets = self._resolve()
        error: OSError | None = None
        for target in targets:
            try:
                began = time.monotonic()
                self._connect(target).close()
            except OSError as raised:
                error = raised
                self.report.note("connection", f"{_shown(target)}: {_reason(raised)}")
            else:
                self.report.ok("connection", f"{_shown(target)} accepts, {_milliseconds(began)}")
                self._target = target
                break
        if error is not None and self._target is None:
            raise self._unreachable(error)
        if self._context is not None:
            self._check_certificate(self._context)

    def open(self) -> socket.socket:
        """A new connection, with TLS if the address says so. OSError if that fails."""
        sock = self.open_bare()
        if self._context is None:
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname=self.address.host)
        except BaseException:
            sock.close()
            raise

    def open_bare(self) -> socket.socket:
        """A new connection without TLS."""
        assert self._target is not None
        return self._connect(self._target)

    def _connect(self, target: tuple[int, Any]) -> socket.socket:
        sock = socket.socket(target[0], socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(target[1])
        except BaseException:
            sock.close()
            raise
        return sock

    def _resolve(self) -> list[tuple[int, Any]]:
        address = self.address
        if address.scheme == "unix":
            return [(socket.AF_UNIX, address.sockaddr)]
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            advice = f"check the spelling of {address.host}, or use an IP address"
            raise self.report.fail(Status.UNREACHABLE, "name", text, advice) from error
        pairs: list[tuple[int, Any]] = [(family, target) for family, _, _, _, target in found]
        targets = list(dict.fromkeys(pairs))
        if address.host_kind == "name":
            self.report.ok("name", f"{address.host} is {', '.join(str(each[1][0]) for each in targets)}")
        return targets

    def _unreachable(self, error: OSError) -> Failed:
        address = self.address
        if isinstance(error, TimeoutError):
            text = f"no answer within {self.timeout:g} s"
            advice = (
                "a firewall drops the packets, or the machine is off: check the address, the firewall of the "
                "server, and whether both are in the same network"
            )
        elif error.errno == errno.ECONNREFUSED or (address.scheme == "unix" and error.errno == errno.ENOENT):
            text = "nothing listens there"
            what = "path" if address.path else "port"
            advice = (
                f"start the server, or correct the {what}. A server that listens at 127.0.0.1 "
                "cannot be reached from other machines"
            )
        else:
            text, advice = _reason(error), "check the address, and that this machine has a route to it"
        return self.report.fail(Status.UNREACHABLE, "connection", text, advice)

    # -- TLS -------------------------------------------------------------------------------------------

    def _check_certificate(self, context: ssl.SSLContext) -> None:
        report = self.report
        try:
            with self.open() as sock:
                assert isinstance(sock, ssl.SSLSocket)
                found, version = sock.getpeercert() or {}, sock.version()
        except ssl.SSLCertVerificationError as error:
            raise self._bad_certificate(error) from error
        except (OSError, ssl.SSLError) as error:
            raise self.without_tls(_reason(error)) from error
        days = _days_left(found)
        report.ok("TLS", f"{version}, a certificate for {_hosts(found)}, valid for {days:.0f} days")
        if days < SOON:
            report.note("TLS", "renew the certificate soon")

    def without_tls(self, reason: str) -> Failed:
        """The end of the diagnosis: no TLS handshake was possible."""
        from linkbox.cli.doctor.speaking import identify

        text = f"no TLS handshake: {reason}"
        other = identify(self.open_bare, self.timeout)
        advice = f"the server speaks {other.name}, without TLS: {other.advice}"
        return self.report.fail(Status.OTHER_PROTOCOL, "TLS", text, advice)

    def _bad_certificate(self, error: ssl.SSLCertVerificationError) -> Failed:
        code, host = error.verify_code, self.address.host
        if code == EXPIRED:
            text, advice = "the certificate has expired", "renew it on the server; `linkbox cert` makes one"
        elif code == NOT_YET:
            text, advice = "the certificate is not valid yet", "check the clocks of both machines"
        elif code in (WRONG_HOST, WRONG_IP):
            text = f"the certificate is not for {host}"
            advice = f"connect by a name that is in the certificate, or make one for {host}"
        else:
            text = f"the certificate is signed by an unknown authority ({error.verify_message})"
            advice = "name the file of the authority: --tls-ca ca.pem, in a program tls.client_context(ca=…)"
        return self.report.fail(Status.CERTIFICATE, "TLS", text, advice)


def certificate_hash(sock: socket.socket) -> bytes:
    """With TLS, the SHA-256 of the server's certificate, which the proof of a secret covers."""
    if not isinstance(sock, ssl.SSLSocket):
        return b""
    return hashlib.sha256(sock.getpeercert(True) or b"").digest()


def speaks_tls(open_bare: Any, timeout: float) -> bool:
    """Does a TLS client get an answer there?"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError):
        with open_bare() as sock:
            sock.settimeout(timeout)
            context.wrap_socket(sock).close()
        return True
    return False


def _days_left(certificate: dict[str, Any]) -> float:
    return (ssl.cert_time_to_seconds(certificate["notAfter"]) - datetime.now(UTC).timestamp()) / 86400


def _hosts(certificate: dict[str, Any]) -> str:
    return ", ".join(value for _, value in certificate.get("subjectAltName", ())) or "no host"


def _shown(target: tuple[int, Any]) -> str:
    return str(target[1]) if isinstance(target[1], str) else f"{target[1][0]}, port {target[1][1]}"


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error) or type(error).__name__


def _milliseconds(since: float) -> str:
    return f"{(time.monotonic() - since) * 1e3:.1f} ms"
