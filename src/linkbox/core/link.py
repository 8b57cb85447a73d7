"""One connection: bytes and the time in; bytes, arrivals and one timer out.

A link lives as long as its connection. It finds frames in the bytes, and calls its session (messages, marks)
and its owner for each of them. It has no socket (see connection.py). States::

    HANDSHAKE --welcome--> OPEN --both ENDs, or a refusal--> CLOSING --eof or deadline--> CLOSED
         any --error, eof too early, deadline--> CLOSED

`LinkedLink` (linked_link.py) implements our own protocol, `PlainLink` (plain_link.py) the plain framings.
During the handshake, a `Handshake` (handshake.py) consumes the bytes.
"""

from __future__ import annotations

import enum

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.connection import Connection
from linkbox.core.context import Context
from linkbox.core.send_window import EARLY_BYTES
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.errors import LinkboxError, LinkError, PeerLost, ProtocolViolation

WRITE_BUDGET = 256 * 1024
"""Most bytes returned for one write: a control frame waits for no more than these."""


class State(enum.Enum):
    """The state of a link."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class LinkOwner:
    """The reports of a link to its owner. `ServerSide` and `ClientSide` implement it."""

    __slots__ = ()

    def link_closed(self, link: Link, error: Exception | None) -> None:
        """The connection is closed: keep its session, or close it too."""
        raise NotImplementedError

    def secured(self, link: Link, now: float) -> None:
        """The TLS handshake is complete."""
        raise NotImplementedError

    def insecure(self, link: Link, error: LinkError, now: float) -> None:
        """The TLS handshake has failed."""
        raise NotImplementedError

    def going_away(self, link: Link, session: Session, accepted: int) -> None:
        """The server is stopping; it has accepted ``accepted`` units."""
        raise NotImplementedError

    def refused(self, link: Link, error: LinkError, may_pass: bool, now: float) -> None:
        """The server has refused or disconnected this client. ``may_pass``: a later attempt may succeed."""
        raise NotImplementedError

    def ask_frame(self, session: Session, kind: int, payload: bytes, now: float) -> Arrival | None:
        """A frame about a request has arrived. Returns the message that is complete with it, if any, unless
        that could be stored at once."""
        raise NotImplementedError

    def plain_messages(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """Messages, requests or responses have arrived with a plain framing."""
        raise NotImplementedError

    def plain_rest(self, session: Session) -> list[Arrival]:
        """The peer has closed its half: with Raw, this completes a request or response."""
        raise NotImplementedError

    def plain_error(self, link: Link, error: LinkboxError) -> None:
        """The peer has sent bytes that the plain framing does not allow."""
        raise NotImplementedError


class Link(Connection):
    """The base class of both kinds of link: state, deadlines, heartbeat."""

    __slots__ = (
        "_closing_at",
        "_drained",
        "_partial_at",
        "_pinged_at",
        "_stalled_at",
        "certificate",
        "context",
        "error",
        "heard_at",
        "identity",
        "opened_at",
        "owner",
        "round_trip",
        "session",
        "state",
        "timer_at",
    )

    def __init__(self, owner: LinkOwner, context: Context, address: str, now: float) -> None:
        super().__init__(address)
        self.owner: LinkOwner = owner
        self.context: Context = context
        self.state: State = State.HANDSHAKE
        self.session: Session | None = None
        self.error: Exception | None = None
        """Why the connection was closed, or the client refused."""
        self.identity: str | None = None
        """With TLS: the name in the peer's verified certificate."""
        self.certificate: bytes = b""
        """With TLS: the SHA-256 of the server's certificate, on both sides."""
        self.opened_at: float = now
        self.heard_at: float = now
        self._stalled_at: float | None = None
        self._partial_at: float | None = None
        self._pinged_at = -NEVER
        self._closing_at = NEVER
        self._drained = 0
        self.round_trip: float | None = None
        self.timer_at: float = NEVER
        """When `handle_timer` will be called (kept by `Timers`)."""

    # -- TLS -------------------------------------------------------------------------------------------

    def carry(self, session: Session) -> None:
        """Use the connection for this session; with TLS, once the TLS handshake is complete."""
        self.session = session

    def failed(self, error: Exception) -> None:
        """Keep the reason why the connection will be closed."""
        self.error = error

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        self.identity = identity
        self.certificate = certificate
        self.owner.secured(self, now)

    def insecure(self, error: Exception, now: float) -> None:
        assert isinstance(error, LinkError)
        self.owner.insecure(self, error, now)

    # -- deadlines -------------------------------------------------------------------------------------

    def schedule(self, when: float) -> None:
        """Ensure that `handle_timer` is called at this time or earlier."""
        self.context.effects.timers.schedule(self, when)

    def shorten_handshake(self, seconds: float, now: float) -> None:
        """Require the handshake to be complete within ``seconds``."""
        self.opened_at = min(self.opened_at, now + seconds - self.context.limits.handshake)
        self.schedule(now + seconds)

    def write_stalled(self, now: float) -> None:
        if self._stalled_at is None:
            self._stalled_at = now
            self.schedule(now + self.context.limits.stalled_write)

    def write_moved(self) -> None:
        self._stalled_at = None

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        if self.closed:
            return NEVER
        limits = self.context.limits
        soonest = self._closing_at
        if self.state is State.HANDSHAKE:
            soonest = min(soonest, self.opened_at + limits.handshake)
        elif self.state is State.OPEN:
            soonest = min(soonest, self.silence_deadline())
        if self._stalled_at is not None:
            soonest = min(soonest, self._stalled_at + limits.stalled_write)
        if self._partial_at is not None:
            soonest = min(soonest, self._partial_at + limits.progress)
        return soonest

    def silence_deadline(self) -> float:
        """When to call `on_silence`, unless something arrives earlier."""
        return NEVER

    def handle_timer(self, now: float) -> None:
        """Handle every deadline that has passed."""
        if now < self.next_timer():
            return
        limits = self.context.limits
        if now >= self._closing_at:
            self.abort(None)
        elif self.state is State.HANDSHAKE and now >= self.opened_at + limits.handshake:
            hint = "; is its framing= another one?" if self.context.is_client else ""
            self.abort(PeerLost(f"{self.address}: no handshake within {limits.handshake:g} s{hint}"))
        elif self._stalled_at is not None and now >= self._stalled_at + limits.stalled_write:
            self.abort(PeerLost(f"{self.address} took nothing for {limits.stalled_write:g} s"))
        elif self._partial_at is not None and now >= self._partial_at + limits.progress:
            self.abort(PeerLost(f"{self.address} did not finish a message within {limits.progress:g} s"))
        else:
            self.on_silence(now)

    def on_silence(self, now: float) -> None:
        """The heartbeat is due."""

    def watch_progress(self, buffered: int, has_moved: bool, now: float) -> None:
        """A message that has begun to arrive must be complete within ``Limits.progress``."""
        if not buffered:
            self._partial_at = None
        elif has_moved or self._partial_at is None:
            self._partial_at = now
            self.schedule(now + self.context.limits.progress)

    # -- life ------------------------------------------------------------------------------------------

    def is_open(self) -> bool:
        return self.state is State.OPEN

    def silence(self, now: float) -> float:
        return now - self.heard_at

    def round_trip_time(self) -> float | None:
        return self.round_trip

    def abort(self, error: Exception | None) -> None:
        if not self.closed:
            self.is_abortive: bool = error is not None and self.state is State.OPEN
            self.state = State.CLOSED
            self.closed = True
            self.error = self.error or error
            if self.error is not None:
                self.error.__traceback__ = self.error.__context__ = None  # Their frames refer to the link.
            self.owner.link_closed(self, self.error)
            self.forget_input()

    def violated(self, error: LinkboxError) -> None:
        """Close the connection, because the peer has violated the protocol."""
        self.abort(ProtocolViolation(f"{self.address} broke the protocol: {error}"))

    def forget_input(self) -> None:
        """Release incomplete input: a timer may keep the closed link in memory for a long time."""
        raise NotImplementedError

    def close_soon(self, now: float) -> None:
        """Write what is left, half-close, and read until the peer closes too.

        Closing a socket that has unread input would make the kernel discard bytes still in transit to the
        peer.
        """
        if self.state in (State.HANDSHAKE, State.OPEN):
            self.state = State.CLOSING
            self.half_close = True
            self.close_by(now + self.context.limits.close)
            if self.shut:
                self.finish_writing()

    def close_by(self, when: float) -> None:
        """Close at this time even if the peer has not closed."""
        self._closing_at = when
        self.schedule(when)

    def drain(self, data: bytes) -> None:
        """After a refusal, read and discard a limited amount of input, so that the refusal arrives."""
        self._drained += len(data)
        if self.session is None and self._drained > EARLY_BYTES:
            self.abort(None)

    def finish_writing(self) -> None:
        self.shut = True
        if self.eof and self.state is State.CLOSING:
            self.abort(None)

    def receive_eof(self, now: float) -> list[Arrival]:
        """Process the peer's FIN. Deliver the returned messages."""
        raise NotImplementedError

    def settle_eof(self, now: float) -> None:
        pass

    def process_late(self) -> None:
        pass


def bytes_of(payloads: list[Payload]) -> int:
    """The size of messages, without those that must be rejected."""
    if len(payloads) == 1:
        return len(payloads[0]) if isinstance(payloads[0], bytes) else 0
    return sum([len(each) for each in payloads if isinstance(each, bytes)])
