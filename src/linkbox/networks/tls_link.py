"""TLS: a byte filter between a connection and its link, the same object for threads and asyncio.

How to think about it. A `TlsLink` belongs to one link. The network passes it the bytes of the connection
(`receive`, `receive_eof`), and it reports the decrypted bytes as a network does. It encrypts what the link
has to write (`data_to_send`), once the TLS handshake is complete, and returns `close_notify` for the end. It
owns no socket and no thread. Records must be written in the order in which it returns them.

A half-close is a close_notify followed by FIN. A FIN alone may be forged by an attacker on the path, so the
peer counts as lost, not as finished. The standard library's transports for asyncio have no half-close.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

from linkbox.address import Address
from linkbox.core.connection import Buffer
from linkbox.core.connection import Connection as Link
from linkbox.core.wire import frames
from linkbox.errors import AuthenticationFailed, ConnectFailed, LinkError, PeerLost, ProtocolViolation
from linkbox.networks.network import NetworkEvents
from linkbox.tls import certificate_of, client_context

READ = 16 * 1024
"""Most bytes of a record: OpenSSL returns no more at a time."""
HANDSHAKE = b"\x16"
"""The first byte of a TLS handshake."""
HANDSHAKE_MOST = 64 * 1024
"""Bytes taken from a peer before its handshake is complete. Nearly all of them are certificates."""
HELLO_MOST = 16 * 1024
"""Bytes of a ClientHello. Usual ones have less than 2 KiB; OpenSSL would reserve up to 128."""
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""In a server's answer it asks for another ClientHello (RFC 8446, 4.1.3)."""
RECORD_HEADER = 5
NO_TLS = b"\x15\x03\x03\x00\x02\x02\x0a"
"""An alert ("unexpected message") for a peer without TLS; a linkbox client recognizes it."""


class Ticket:
    """A TLS session that shortens the next handshake of a client: the certificate is not verified again.

    All connections of one endpoint share it, because they have the same context and server.
    """

    __slots__ = ("session",)

    def __init__(self) -> None:
        self.session: ssl.SSLSession | None = None


class Records:
    """Divides what arrives in a handshake at the ends of TLS records, and reads the size of a ClientHello.

    So a server knows the size before OpenSSL does, which reserves as much.
    """

    __slots__ = ("_header", "_hello", "_is_second", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        """Bytes of the record that have not arrived."""
        self._hello = b""
        """Type and size of the ClientHello, as far as they have arrived."""
        self._is_second = False

    def next_size(self, data: memoryview) -> int:
        """The number of the first bytes that belong together: to one header, or to the rest of one record."""
        if not self._left:
            if len(self._header) == RECORD_HEADER:
                self._header = b""
            size = min(RECORD_HEADER - len(self._header), len(data))
            self._header += data[:size]
            if len(self._header) == RECORD_HEADER:
                self._left = int.from_bytes(self._header[3:])
            return size
        size = min(self._left, len(data))
        self._left -= size
        if self._header[:1] == HANDSHAKE:
            self._hello += data[: min(size, 4 - len(self._hello))]
        return size

    def hello_size(self) -> int:
        """The size of the ClientHello; 0 until it is known."""
        return int.from_bytes(self._hello[1:]) if len(self._hello) == 4 else 0

    def expect_second(self) -> None:
        """Another ClientHello follows. There is no third."""
        if not self._is_second:
            self._is_second = True
            self._hello = b""


class TlsLink:
    """The TLS of one connection."""

    def __init__(self, context: ssl.SSLContext, host: str | None, ticket: Ticket) -> None:
        """``host``: the name that a client expects in the certificate; None on a server."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._is_server = host is None
        self._ticket: Ticket | None = None if self._is_server else ticket
        """Where to keep the session that the server sends; None once that is done."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, host is None, host, ticket.session)
        self._certificate = certificate_of(context) or b""
        self._unwrapped = memoryview(b"")
        """Bytes of the link that could not be encrypted yet."""
        self._records = Records()
        self._taken = 0
        """Bytes of the handshake."""
        self._is_ready = False
        self._has_failed = False
        self._has_ended = False
        """Has the peer sent its close_notify?"""
        self._is_closing = False
        """Has this side sent its close_notify?"""
        if not self._is_server:
            self._shake_hands()

    # -- input ----------------------------------------------------------------------------------------

    def receive(self, events: NetworkEvents, link: Link, data: bytes, now: float) -> None:
        """Bytes have arrived on the connection."""
        if self._has_failed:
            events.hub.received(link, data, now)  # The link is being refused, and only counts the bytes.
            return
        if self._is_server and not link.has_begun and not data.startswith(HANDSHAKE):
            self._fail(link, ProtocolViolation(_not_tls(data)), now)
            return
        link.has_begun = True
        if self._is_ready:
            self._incoming.write(data)
        else:
            self._receive_handshake(link, data, now)
        if self._is_ready and not link.closed:
            self._read(events, link, now)
        if self._outgoing.pending or self._unwrapped:
            events.flush_later(link)

    def _receive_handshake(self, link: Link, data: bytes, now: float) -> None:
        rest = memoryview(data)
        try:
            while rest and not self._is_ready:
                size = self._records.next_size(rest)
                self._taken += size
                if self._taken > HANDSHAKE_MOST or (
                    self._is_server and self._records.hello_size() > HELLO_MOST
                ):
                    self._refuse_large(link, now)
                    return
                self._incoming.write(rest[:size])
                rest = rest[size:]
                if self._shake_hands():
                    link.secured(self._identity(), self._binding(), now)
                elif self._is_server and self._outgoing.pending:
                    answer = self._outgoing.read()
                    self._outgoing.write(answer)
                    if RETRY in answer:
                        self._records.expect_second()
            self._incoming.write(rest)
        except ssl.SSLError as error:
            self._fail(link, self._explain(error, link.address), now)

    def _refuse_large(self, link: Link, now: float) -> None:
        """The peer needs too much memory for its handshake: close the connection at once."""
        error: LinkError
        if self._is_server:
            text = f"a ClientHello of more than {HELLO_MOST} bytes"
            if self._taken > HANDSHAKE_MOST:
                text = f"more than {HANDSHAKE_MOST} bytes"
            error = ProtocolViolation(f"the TLS handshake failed: the client sends {text}")
        else:
            error = ConnectFailed(
                f"the TLS handshake with {link.address} failed: it sends more than {HANDSHAKE_MOST} bytes"
            )
        self._fail(link, error, now)
        link.abort(error)

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._is_ready = True
        return True

    def _read(self, events: NetworkEvents, link: Link, now: float) -> None:
        pieces: list[bytes] = []
        failure: ssl.SSLError | None = None
        try:
            while piece := self._tls.read(READ):
                pieces.append(piece)
            self._has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._has_ended = True
        except ssl.SSLError as error:
            failure = error.with_traceback(None)  # It would refer to this frame, which refers to it.
        if pieces:
            if self._ticket is not None:  # TLS 1.3 sends it before the first data
                self._ticket.session, self._ticket = self._tls.session, None
            events.hub.received(link, pieces[0] if len(pieces) == 1 else b"".join(pieces), now)
        if link.closed:
            return
        if failure is not None:
            why = self._explain(failure, link.address)
            # A server rejects a client's certificate only after the handshake.
            if isinstance(why, AuthenticationFailed) and not self._is_server:
                self._fail(link, why, now)
            else:
                events.hub.lost(link, failure, now)
        elif self._has_ended and not link.eof:
            events.hub.ended(link, now)

    def receive_eof(self, events: NetworkEvents, link: Link, now: float) -> None:
        """The peer has closed its half of the connection."""
        if self._has_failed:
            events.hub.ended(link, now)
        elif not self._is_ready:
            what = f"{link.address} closed the connection during the TLS handshake"
            if self._is_server:
                link.abort(PeerLost(what))
            else:
                self._fail(link, ConnectFailed(f"{what}; if it does not speak TLS, use tcp://"), now)
        elif not self._has_ended:
            events.hub.lost(link, ConnectionAbortedError("it was cut off: TLS was not closed"), now)

    # -- output ---------------------------------------------------------------------------------------

    def data_to_send(self, events: NetworkEvents, link: Link, now: float) -> list[Buffer]:
        """Return what to write now, in order; call again once it is written. Empty: nothing for now."""
        if self._is_ready and not (self._has_failed or self._is_closing):
            if not self._unwrapped:
                buffers = link.data_to_send(now)
                self._unwrapped = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
            if self._unwrapped:
                self._wrap(events, link, now)
        return [self._outgoing.read()] if self._outgoing.pending else []

    def _wrap(self, events: NetworkEvents, link: Link, now: float) -> None:
        try:
            while self._unwrapped:
                written = self._tls.write(self._unwrapped)  # mypyc would evaluate a slice bound twice
                self._unwrapped = self._unwrapped[written:]
        except ssl.SSLWantReadError:
            pass  # The server renegotiates (TLS 1.2): its bytes must be read first.
        except ssl.SSLError as error:
            events.hub.lost(link, error, now)

    def close_notify(self) -> bytes:
        """The last bytes to write, before FIN. Empty when called again."""
        if self._is_ready and not (self._has_failed or self._is_closing or self._unwrapped):
            self._is_closing = True
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # The peer may still send; its bytes are read as before.
        return self._outgoing.read()

    # -- identity and errors --------------------------------------------------------------------------

    def _identity(self) -> str | None:
        """The name in a client's verified certificate: its common name, or else its first DNS name."""
        try:
            found: Any = self._tls.getpeercert() if self._is_server else None
        except ValueError:  # not Unicode: no usable name
            return None
        if not found:
            return None
        names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
        names += [value for key, value in found.get("subjectAltName", ()) if key == "DNS"]
        return next(filter(None, names), None)

    def _binding(self) -> bytes:
        """The SHA-256 of the server's certificate."""
        return self._certificate if self._is_server else sha256(self._tls.getpeercert(True) or b"").digest()

    def _fail(self, link: Link, error: LinkError, now: float) -> None:
        self._has_failed = True
        if self._is_server and not self._outgoing.pending:  # OpenSSL does not always write an alert
            self._outgoing.write(NO_TLS)
        link.insecure(error, now)

    def _explain(self, error: ssl.SSLError, address: str) -> LinkError:
        """Convert an error of OpenSSL to one that names the cause and the remedy."""
        reason = error.reason or str(error)
        about = "ALERT" in reason and any(word in reason for word in _ABOUT_CERTIFICATES)
        if isinstance(error, ssl.SSLCertVerificationError):
            why = error.verify_message.rstrip(".")
            if self._is_server:
                return AuthenticationFailed(f"its certificate is not valid here: {why}")
            return AuthenticationFailed(
                f"{address} is not trusted: {why}; give ssl=linkbox.tls.client_context(ca=…) the authority "
                "that issued its certificate, and use a host name that the certificate contains"
            )
        if self._is_server:
            if "PEER_DID_NOT_RETURN" in reason:
                return AuthenticationFailed("it has no certificate, and every client needs one here")
            hint = ": it does not trust this server's certificate" if about else ""
            return ProtocolViolation(f"the TLS handshake failed{hint} ({error})")
        if about or reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":  # TLS 1.2 gives no other reason
            return AuthenticationFailed(
                f"{address} does not accept the certificate of this client, or wants one; give it "
                f"ssl=linkbox.tls.client_context(ca=…, cert=…, key=…) ({error})"
            )
        hint = "; does it speak TLS? If not, use tcp://" if reason in _NOT_TLS else ""
        return ConnectFailed(f"the TLS handshake with {address} failed{hint} ({error})")


_ABOUT_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")


def tls_maker(
    address: Address, context: ssl.SSLContext | None, is_server: bool, has_secret: bool
) -> Callable[[], TlsLink]:
    """Return the function that makes the TLS of each connection. Raises for an unusable or unsafe context."""
    if context is None:
        context = client_context()
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl= takes an ssl.SSLContext, not {type(context).__name__}: see linkbox.tls")
    if is_server and has_secret and certificate_of(context) is None:
        raise ValueError(
            "a secret under TLS is bound to the server's certificate, and of this ssl= it is not known: "
            "make it with linkbox.tls.server_context(…), or say linkbox.tls.remember(context, 'cert.pem')"
        )
    make = partial(TlsLink, context, None if is_server else address.host.rstrip("."), Ticket())
    try:
        make()
    except ssl.SSLError as error:
        side = "server" if is_server else "client"
        raise ValueError(
            f"this ssl= is not for a {side}: use linkbox.tls.{side}_context(…) ({error})"
        ) from error
    if not is_server and not has_secret and context.verify_mode == ssl.CERT_NONE:
        raise ValueError(
            "this ssl= checks no certificate, so anybody could be the server: use "
            "linkbox.tls.client_context(ca='ca.pem'), or a secret= that the server must know"
        )
    return make


def _not_tls(data: bytes) -> str:
    """The reason to refuse a connection without TLS."""
    try:
        frames.check_preface(data)
    except ProtocolViolation as error:
        return f"this server uses TLS: {error}"
    return "this server uses TLS, this linkbox client does not: use a tls:// address"
