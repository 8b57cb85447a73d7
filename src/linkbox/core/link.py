"""One connection: bytes and a clock in; bytes, arrivals and one timer out.

How to think about it. A link is born with a connection and dies with it. It turns bytes into frames
and frames into calls on its session (messages, marks) and its hub (who may come in, what it means).
It knows no socket: whoever has one does this, and nothing else:

- bytes came: ``receive_data(data, now)``, and see that what it returns is decoded and delivered;
- the peer closed its half: ``receive_eof(now)``;
- after either, or whenever the hub names the link in ``dirty``: write ``data_to_send(now)`` until it
  returns nothing, then do what ``half_close`` and ``closed`` say;
- at ``next_timer()``: ``handle_timer(now)``.

States::

    GREETING --welcome--> OPEN --both ENDs, or a refusal--> CLOSING --eof or deadline--> CLOSED
        any --error, eof too early, deadline--> CLOSED

`LinkedLink` (linked.py) speaks our own wire; `PlainLink` (plain.py) one of the plain framings.
"""

from __future__ import annotations

import enum
from typing import Any

from linkbox.core.session import NEVER, Session
from linkbox.core.units import Delivery
from linkbox.errors import LinkError, PeerLost, TooLarge
from linkbox.limits import Limits

Buffer = bytes | memoryview
WRITE_BUDGET = 256 * 1024
"""Bytes handed out at a time: control frames wait no longer than these take."""


class State(enum.Enum):
    """Where a link is in its life."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Arrival:
    """Consecutive messages of one session, whole but not decoded. ``last`` numbers the last of them.

    ``ask`` is what the one message belongs to (see asks.py), or None; ``is_final``: the ask is whole with it.
    ``mark`` is how many bytes had arrived with it.
    Where ``has_errors``, a payload may be a `TooLarge` instead: that message is to be rejected.
    """

    __slots__ = ("ask", "has_errors", "is_final", "last", "mark", "payloads", "session")

    def __init__(self, session: Session, payloads: list[Any], last: int, ask: Any = None) -> None:
        self.session = session
        self.payloads = payloads
        self.last = last
        self.mark = session.arrived_bytes
        self.ask = ask
        self.is_final = True
        self.has_errors = len(payloads) == 1 and payloads[0].__class__ is TooLarge


class Link:
    """What both kinds of link share: life, heartbeat, deadlines."""

    __slots__ = (
        "address",
        "arrivals",
        "carrier",
        "certificate",
        "closed",
        "closing_at",
        "eof",
        "error",
        "half_close",
        "heard_at",
        "hub",
        "identity",
        "is_abortive",
        "limits",
        "more",
        "opened_at",
        "partial_at",
        "paused",
        "pinged_at",
        "round_trip",
        "session",
        "shut",
        "stalled_at",
        "state",
        "timer_at",
    )

    def __init__(self, hub: Any, address: str, limits: Limits, now: float) -> None:
        self.hub = hub
        self.address = address
        self.limits = limits
        self.state = State.GREETING
        self.closed = False
        """Close the socket now."""
        self.more = True
        """Is there perhaps more to write than `data_to_send` has just returned?"""
        self.session: Session | None = None
        self.arrivals: list[Arrival] = []
        self.half_close = False
        """Shut down the writing half, once everything is written."""
        self.shut = False
        """It has been shut down."""
        self.is_abortive = False
        """Close the socket with a reset: FIN would say that this end has heard everything."""
        self.eof = False
        self.paused = False
        """Do not read for now (plain framings, full mailbox)."""
        self.error: Exception | None = None
        self.opened_at = self.heard_at = now
        self.stalled_at: float | None = None
        self.partial_at: float | None = None
        self.pinged_at: float | None = None
        self.closing_at = NEVER
        self.round_trip: float | None = None
        self.identity: str | None = None
        """Under TLS: the name in the peer's certificate, which was verified."""
        self.certificate = b""
        """Under TLS: the SHA-256 of the server's certificate, on both sides."""
        self.carrier: Any = None
        """The front end's own: whatever carries the bytes."""
        self.timer_at = NEVER
        """When the hub will call `handle_timer` (kept by the hub)."""

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        """TLS has shaken hands: only now is there anything to say. See ``identity`` and ``certificate``."""
        self.identity = identity
        self.certificate = certificate
        self.hub.on_secured(self, now)

    def insecure(self, error: LinkError, now: float) -> None:
        """TLS has failed to."""
        self.hub.on_insecure(self, error, now)

    def write_stalled(self, now: float) -> None:
        """The kernel did not take everything. Call `write_moved` when it takes something again."""
        if self.stalled_at is None:
            self.stalled_at = now
            self.hub.schedule(self, now + self.limits.stalled_write)

    def write_moved(self) -> None:
        """The kernel took something."""
        self.stalled_at = None

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        if self.closed:
            return NEVER
        limits = self.limits
        times = [self.closing_at]
        if self.state is State.GREETING:
            times.append(self.opened_at + limits.handshake)
        elif self.state is State.OPEN:
            times.append(self._silence_deadline())
        if self.stalled_at is not None:
            times.append(self.stalled_at + limits.stalled_write)
        if self.partial_at is not None:
            times.append(self.partial_at + limits.progress)
        return min(times)

    def _silence_deadline(self) -> float:
        return NEVER

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if now < self.next_timer():
            return
        limits = self.limits
        if now >= self.closing_at:
            self.abort(None)
        elif self.state is State.GREETING and now >= self.opened_at + limits.handshake:
            self.abort(PeerLost(f"{self.address}: no handshake within {limits.handshake:g} s"))
        elif self.stalled_at is not None and now >= self.stalled_at + limits.stalled_write:
            self.abort(PeerLost(f"{self.address} took nothing for {limits.stalled_write:g} s"))
        elif self.partial_at is not None and now >= self.partial_at + limits.progress:
            self.abort(PeerLost(f"{self.address} did not finish a message within {limits.progress:g} s"))
        else:
            self._on_silence(now)

    def _on_silence(self, now: float) -> None:
        """The heartbeat is due."""

    def abort(self, error: Exception | None) -> None:
        """It is over, now. The hub decides what becomes of the session."""
        if not self.closed:
            self.is_abortive = error is not None and self.state is State.OPEN
            self.state = State.CLOSED
            self.closed = True
            self.error = self.error or error
            self.hub.on_link_closed(self, self.error)
            self._forget_input()

    def _forget_input(self) -> None:
        """Half a message is of no use any more, and a timer may remember this link for long."""
        raise NotImplementedError

    def close_soon(self, now: float) -> None:
        """Nothing more to say: half-close after what is written, and drain until the peer closes too.

        Closing with unread input would make the kernel destroy what is still in flight.
        """
        if self.state in (State.GREETING, State.OPEN):
            self.state = State.CLOSING
            self.half_close = True
            self.closing_at = now + self.limits.close
            self.hub.schedule(self, self.closing_at)
            if self.shut:
                self.finish_writing()

    def finish_writing(self) -> None:
        """The writing half has been shut down."""
        self.shut = True
        if self.eof and self.state is State.CLOSING:
            self.abort(None)

    def receive_data(self, data: bytes, now: float) -> list[Arrival]:
        """Bytes from the peer. Decode what is returned, then call ``hub.deliver`` for each, in order."""
        raise NotImplementedError

    def receive_eof(self, now: float) -> list[Arrival]:
        """The peer will send nothing more. Deliver what is returned."""
        raise NotImplementedError

    def write_at_once(self, delivery: Delivery, now: float) -> bool:
        """Is nothing in the way of this message? Then it need not queue: `data_to_send` has it now."""
        return False

    def data_to_send(self, now: float) -> list[Buffer]:
        """What to write now, in order; call again once it is written. Empty: nothing for now."""
        raise NotImplementedError

    def settle_eof(self, now: float) -> None:
        """All that came before the peer's FIN has been dealt with now."""

    def _fed(self, buffered: int, moved: bool, now: float) -> None:
        """Keep an eye on messages that never get whole."""
        if not buffered:
            self.partial_at = None
        elif moved or self.partial_at is None:
            self.partial_at = now
            self.hub.schedule(self, now + self.limits.progress)
