"""TLS between a socket's bytes and a link: what both front ends use, under their lock.

How to think about it. A `Secured` stands before one link. Bytes of the socket go in through `receive` and
`receive_eof`, which call the hub as a front end does without TLS; what is to be written comes out of
`data_to_send`, which asks the link once hands are shaken, and of `farewell` at the end. It owns no socket and
no thread. Records must be written in the order they come out.

A half-close is TLS's own (close_notify) and FIN behind it. FIN alone may be anybody's who sits on the wire:
the peer is lost then, and has not ended. The standard library's transports for asyncio know neither.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

from linkbox.address import Address
from linkbox.core.wire import frames
from linkbox.core.link import Arrival, Link
from linkbox.errors import AuthenticationFailed, ConnectFailed, LinkError, PeerLost, ProtocolViolation
from linkbox.tls import certificate_of, client_context

READ = 16 * 1024
"""Bytes of a record, at most: OpenSSL hands out no more at a time."""
HANDSHAKE = b"\x16"
"""The first byte of whoever speaks TLS."""
NO_TLS = b"\x15\x03\x03\x00\x02\x02\x0a"
"""An alert ("unexpected message") for whoever does not: a client of ours understands even that."""


class Ticket:
    """What the server gave a client to shake hands quicker the next time: nothing is verified again.

    All connections of one endpoint share it; they have one context, and one server they verified.
    """

    __slots__ = ("session",)

    def __init__(self) -> None:
        self.session: ssl.SSLSession | None = None


class Secured:
    """The TLS of one connection."""

    def __init__(self, context: ssl.SSLContext, host: str | None, ticket: Ticket) -> None:
        """``host``: whom a client expects to meet; None on a server."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._is_server = host is None
        self._ticket: Ticket | None = None if self._is_server else ticket
        """Where a new one goes, once it has come."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, host is None, host, ticket.session)
        self._certificate = certificate_of(context) or b""
        self._unwrapped = memoryview(b"")
        """What the link has said, and could not be made a record yet."""
        self._is_ready = False
        self._has_begun = False
        self._has_failed = False
        self._has_ended = False
        """Has the peer said its close_notify?"""
        self._is_closing = False
        """Have we?"""
        if not self._is_server:
            self._shake_hands()

    # -- what comes in --------------------------------------------------------------------------------

    def receive(self, link: Link, data: bytes, now: float, into: deque[Arrival]) -> None:
        """Bytes came from the socket. Deliver what is added to ``into``, as after ``hub.receive``."""
        hub = link.hub
        if self._has_failed:
            hub.receive(link, data, now, into)  # Nothing but counted: it is being turned away.
            return
        if self._is_server and not self._has_begun and not data.startswith(HANDSHAKE):
            self._fail(link, ProtocolViolation(_stranger(data)), now)
            return
        self._has_begun = True
        self._incoming.write(data)
        try:
            if not self._is_ready and self._shake_hands():
                link.secured(self._identity(), self._binding(), now)
        except ssl.SSLError as error:
            self._fail(link, self._explain(error, link.address), now)
        if self._is_ready and not link.closed:
            self._read(link, now, into)
        if self._outgoing.pending or self._unwrapped:
            hub.dirty.append(link)

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._is_ready = True
        return True

    def _read(self, link: Link, now: float, into: deque[Arrival]) -> None:
        hub = link.hub
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
            failure = error
        if pieces:
            if self._ticket is not None:  # TLS 1.3 sends it ahead of the first data
                self._ticket.session, self._ticket = self._tls.session, None
            hub.receive(link, b"".join(pieces), now, into)
        if link.closed:
            return
        if failure is not None:
            why = self._explain(failure, link.address)
            # A server says what it thinks of a client's certificate only after the handshake.
            if isinstance(why, AuthenticationFailed) and not self._is_server:
                self._fail(link, why, now)
            else:
                hub.broken(link, failure, now)
        elif self._has_ended and not link.eof:
            hub.receive_eof(link, now, into)

    def receive_eof(self, link: Link, now: float, into: deque[Arrival]) -> None:
        """The socket has no more. Deliver what is added to ``into``."""
        hub = link.hub
        if self._has_failed:
            hub.receive_eof(link, now, into)
        elif not self._is_ready:
            what = f"{link.address} closed the connection during the TLS handshake"
            if self._is_server:
                link.abort(PeerLost(what))
            else:
                self._fail(link, ConnectFailed(f"{what}; if it does not speak TLS, use tcp://"), now)
        elif not self._has_ended:
            hub.broken(link, ConnectionAbortedError("it was cut off: TLS was not closed"), now)

    # -- what goes out --------------------------------------------------------------------------------

    def data_to_send(self, link: Link, now: float) -> list[Any]:
        """What to write now, in order; call again once it is written. Empty: nothing for now."""
        if self._is_ready and not (self._has_failed or self._is_closing):
            if not self._unwrapped:
                buffers = link.data_to_send(now)
                self._unwrapped = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
            if self._unwrapped:
                self._wrap(link, now)
        return [self._outgoing.read()] if self._outgoing.pending else []

    def _wrap(self, link: Link, now: float) -> None:
        try:
            while self._unwrapped:
                self._unwrapped = self._unwrapped[self._tls.write(self._unwrapped) :]
        except ssl.SSLWantReadError:
            pass  # An old server renegotiates, with a context that lets it: first it has to say something.
        except ssl.SSLError as error:
            link.hub.broken(link, error, now)

    def farewell(self) -> bytes:
        """Nothing more will be said: the last bytes to write, before FIN. Empty when called again."""
        if self._is_ready and not (self._has_failed or self._is_closing or self._unwrapped):
            self._is_closing = True
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # The peer may still have something to say: it is read as before.
        return self._outgoing.read()

    # -- who it is, and what went wrong ---------------------------------------------------------------

    def _identity(self) -> str | None:
        """The name in a client's verified certificate: its common name, or else its first DNS name."""
        try:
            found: Any = self._tls.getpeercert() if self._is_server else None
        except ValueError:  # not Unicode: whose authority signs that names nobody
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
        if self._is_server and not self._outgoing.pending:  # OpenSSL does not always say something
            self._outgoing.write(NO_TLS)
        link.insecure(error, now)

    def _explain(self, error: ssl.SSLError, address: str) -> LinkError:
        """Whose fault it is, and what to do about it."""
        reason = error.reason or str(error)
        about = "ALERT" in reason and any(word in reason for word in _ABOUT_CERTIFICATES)
        if isinstance(error, ssl.SSLCertVerificationError):
            why = error.verify_message.rstrip(".")
            if self._is_server:
                return AuthenticationFailed(f"its certificate is not valid here: {why}")
            return AuthenticationFailed(
                f"{address} is not trusted: {why}; give ssl=linkbox.tls.client_context(ca=…) the authority "
                "that issued its certificate, and use a host name that stands in it"
            )
        if self._is_server:
            if "PEER_DID_NOT_RETURN" in reason:
                return AuthenticationFailed("it has no certificate, and every client needs one here")
            hint = ": it does not trust this server's certificate" if about else ""
            return ProtocolViolation(f"the TLS handshake failed{hint} ({error})")
        if about or reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":  # in TLS 1.2, nothing more is said
            return AuthenticationFailed(
                f"{address} does not accept the certificate of this client, or wants one; give it "
                f"ssl=linkbox.tls.client_context(ca=…, cert=…, key=…) ({error})"
            )
        hint = "; does it speak TLS? If not, use tcp://" if reason in _NOT_TLS else ""
        return ConnectFailed(f"the TLS handshake with {address} failed{hint} ({error})")


_ABOUT_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")


def securing(
    address: Address, context: ssl.SSLContext | None, is_server: bool, has_secret: bool
) -> Callable[[], Secured]:
    """What makes the TLS of each connection. Raises for a context that cannot work, or protects nobody."""
    if context is None:
        context = client_context()
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"ssl= takes an ssl.SSLContext, not {type(context).__name__}: see linkbox.tls")
    if is_server and has_secret and certificate_of(context) is None:
        raise ValueError(
            "a secret under TLS is bound to the server's certificate, and of this ssl= it is not known: "
            "make it with linkbox.tls.server_context(…), or say linkbox.tls.remember(context, 'cert.pem')"
        )
    make = partial(Secured, context, None if is_server else address.host.rstrip("."), Ticket())
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


def _stranger(data: bytes) -> str:
    """What somebody without TLS looks like."""
    try:
        frames.check_preface(data)
    except ProtocolViolation as error:
        return f"TLS is spoken here: {error}"
    return "TLS is spoken here, and this is a linkbox client without it: let it use tls://"
