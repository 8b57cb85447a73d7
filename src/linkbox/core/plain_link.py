"""A connection with a plain framing: messages, and FIN as the only END mark.

Nothing is acknowledged and nothing is resumed: a message that was given to the kernel is forgotten, and
messages in transit when the connection breaks are lost. See link.py first.
"""

from __future__ import annotations

from collections.abc import Sequence

from linkbox.core.arrival import Arrival
from linkbox.core.connection import Buffer
from linkbox.core.context import Context
from linkbox.core.effects import UNAUTHENTICATED
from linkbox.core.ending import wants_end
from linkbox.core.link import WRITE_BUDGET, Link, LinkOwner, State
from linkbox.core.outgoing import message_of
from linkbox.core.send_window import SendWindow
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wire import handshake_messages
from linkbox.core.wire.frames import PREFACE, preface
from linkbox.core.wire.framing import PlainFraming
from linkbox.errors import DecodeError, FormatError, LinkboxError, LinkError, PeerLost, ProtocolViolation
from linkbox.proxy_header import SIGNATURE, WORD

_LAST_READ = 1.0
"""Seconds that a stopping endpoint leaves its peer to read the last messages."""


class PlainLink(Link):
    """A connection with a plain framing, on which FIN is the only END mark."""

    __slots__ = ("_decoder", "_farewell", "_framing", "_held", "_is_first", "_reading")

    def __init__(
        self, owner: LinkOwner, context: Context, address: str, now: float, framing: PlainFraming
    ) -> None:
        super().__init__(owner, context, address, now)
        settings = context.settings
        self._framing = framing
        self._reading = settings.responses or framing
        """The framing of what arrives."""
        self._decoder = self._reading.decoder(context.limits.message)
        self.state = State.HANDSHAKE if settings.secure or settings.asks_first else State.OPEN
        self._is_first = not context.is_client
        """Has nothing arrived yet, at a server?"""
        self._farewell: list[Buffer] = []
        """The refusal of a client that uses our own protocol."""
        self._held = b""
        """Bytes that arrived before the peer was admitted (``accept=``)."""

    def open(self, session: Session) -> None:
        """The peer is admitted: start to send and receive the session's messages."""
        self.carry(session)
        self.state = State.OPEN
        self.heard_at: float = self.context.effects.now
        self.schedule(self.silence_deadline())

    def receive(self, data: bytes, now: float) -> list[Arrival]:
        self.heard_at = now
        if self.state is State.HANDSHAKE:
            self._held += data
            return []
        if self.state is not State.OPEN or self.session is None:
            self.drain(data)
            return []
        if self._held:
            data, self._held = self._held + data, b""
        if self._is_first and data and self._is_linkbox(data, now):
            return []
        payloads = self._decoder.feed(data)
        arrivals = self._arrived(payloads)
        if self._decoder.error is not None:
            self.violated(self._decoder.error)
        if not self.context.is_client:
            # A client has chosen its server, which may send the beginning of a line and wait, as a prompt.
            self.watch_progress(self._decoder.pending, bool(payloads), now)
        if self.eof and not self.closed and self.session.ending.peer_last is None:
            arrivals += self.receive_eof(now)  # FIN arrived before the peer was admitted.
        return arrivals

    def _is_linkbox(self, data: bytes, now: float) -> bool:
        """Does a client use our own protocol? Then refuse it, so that it says why.

        Also log a PROXY protocol header that nobody asked for: it becomes a strange first message.
        """
        self._is_first = False
        effects, here = self.context.effects, self._reading.name
        if data.startswith((WORD, SIGNATURE)):
            text = f"{self.address}: this looks like a PROXY protocol header; use proxy_protocol=True"
            effects.log_limited(UNAUTHENTICATED, text)
        if not data.startswith(PREFACE) or here == "raw":
            return False
        text = f"the framing here is {here}, the client's is linked: both need the same framing="
        effects.log_limited(UNAUTHENTICATED, f"{self.address} was refused (protocol): {text}")
        self._farewell = [preface(), handshake_messages.refuse("protocol", text)]
        self.failed(ProtocolViolation(f"{self.address}: {text}"))
        self.close_soon(now)
        effects.to_write.append(self)
        return True

    def violated(self, error: LinkboxError) -> None:
        count = 0 if self.session is None else self.session.receiving.arrived
        text = f"{self.address} broke the framing {self._reading.name} after {count} messages: {error}"
        shown = type(error)(text)
        shown.__cause__ = error.__cause__  # Of a user's framing: with the traceback.
        self.owner.plain_error(self, shown)
        is_final = self.context.is_client and isinstance(shown, LinkError)
        self.abort(shown if is_final else ProtocolViolation(text))

    def _arrived(self, payloads: Sequence[bytes]) -> list[Arrival]:
        session = self.session
        if self._decoder.rejected:
            self._report_rejected()
        # A server of requests begins the next one that has arrived, even if none has arrived now.
        if session is None or not (payloads or self.context.pattern.asks):
            return []
        messages = list(payloads)
        session.receiving.add_plain(messages)
        return self.owner.plain_messages(session, messages)

    def _report_rejected(self) -> None:
        """Report bad frames; the connection goes on, because the frames behind them are good."""
        errors, self._decoder.rejected = self._decoder.rejected, []
        for error in errors:
            text = f"{self.address} broke the framing {self._reading.name}: {error}"
            self.owner.plain_error(self, DecodeError(text))
        if more := self._decoder.more_rejected:
            self._decoder.more_rejected = 0
            self.context.counters.rejected += more - 1
            text = f"{self.address} broke the framing {self._reading.name}: {more} more bad frames"
            self.owner.plain_error(self, DecodeError(text))

    def forget_input(self) -> None:
        self._decoder.error = None  # What a user's decoder has raised refers to its frames, and so here.
        self._decoder, self._held = self._reading.decoder(self.context.limits.message), b""

    def receive_eof(self, now: float) -> list[Arrival]:
        """Process FIN, which is the peer's END mark and may complete a last message."""
        self.eof = True
        if self.state is State.HANDSHAKE:
            return []  # `receive` processes it when the peer is admitted.
        if self.state is not State.OPEN or self.session is None:
            self.abort(None)
            return []
        arrivals = self._arrived(self._decoder.eof())
        if self._decoder.error is not None:
            self.violated(self._decoder.error)
            return arrivals
        session = self.session
        session.ending.peer_last = session.receiving.arrived
        arrivals += self.owner.plain_rest(session)
        arrivals.append(Arrival(session, [], session.receiving.arrived))  # The END, after all messages.
        return arrivals

    def data_to_send(self, now: float) -> list[Buffer]:
        self.context.effects.now = now
        session = self.session
        self.has_more = True
        if self._farewell:
            farewell, self._farewell = self._farewell, []
            return farewell
        if session is None or session.route.link is not self:
            return []
        if session.sending.queue and not self.shut:
            payloads = _pull(session.sending, WRITE_BUDGET)
            session.owner.acked(session, [])  # SENT is the last stage with a plain framing.
            try:
                return [self._framing.encode_many(payloads)]
            except FormatError as error:  # A framing of a user that has encoded the message before.
                self.abort(PeerLost(f"{self.address} cannot be sent a message that was accepted: {error}"))
                return []
        if wants_end(session):
            session.ending.is_sent = True
            self.half_close = True
        if session.ending.is_sent and session.receiving.end_reason is not None:
            self.close_soon(now)
        return []

    def settle_eof(self, now: float) -> None:
        if self.shut and self.session is not None and self.session.ending.is_sent:
            self.close_soon(now)

    def finish_writing(self) -> None:
        session, now = self.session, self.context.effects.now
        if session is not None and self.half_close:
            session.ending.is_acked = True  # No acknowledgement will follow.
            session.owner.end_acked(session, [])
        super().finish_writing()
        if self.state is not State.OPEN:
            return
        # The peer may never close its half.
        if self.context.is_stopping:
            self.close_soon(now)  # Give it time to read what was sent.
            was_silent = session is None or not session.sending.sent
            self.close_by(now + (0.0 if was_silent else _LAST_READ))
        elif self.context.pattern.asks and not self.context.is_client:
            self.close_soon(now)  # After the last response the peer has nothing more to send.
        elif self._is_two_way():
            self.heard_at = now
            self.schedule(self.silence_deadline())
        elif not self._awaits_response():
            self.close_by(now + self.context.limits.close)

    def _is_two_way(self) -> bool:
        """May the peer send messages after this side has ended?"""
        pattern = self.context.pattern
        return pattern.server_sends and not pattern.asks

    def _awaits_response(self) -> bool:
        """Is FIN the end of a request? Then the timeout of the request closes the connection."""
        return self.context.is_client and self.context.pattern.asks and self._framing.name == "raw"

    def silence_deadline(self) -> float:
        """When to close if nothing more arrives: see ``idle_timeout``; sooner after this side has ended."""
        if self.eof:
            return NEVER
        patience = self.context.settings.idle_timeout or NEVER
        if self.shut and self._is_two_way():
            limits = self.context.limits
            # The slot of a server is wanted by others; the server of a client may still be at work.
            is_client = self.context.is_client
            patience = min(patience, limits.heartbeat + limits.peer_timeout if is_client else limits.close)
        return self.heard_at + patience

    def on_silence(self, now: float) -> None:
        if self.paused:
            self.heard_at = now  # Nothing is read, because the mailbox is full.
            return
        silence = now - self.heard_at
        idle = self.context.settings.idle_timeout
        is_idle = idle is not None and silence >= idle
        why = f"idle_timeout={idle:g}" if is_idle else "and did not close its half"
        self.abort(PeerLost(f"{self.address} sent nothing for {silence:.1f} s, {why}"))

    def send_control(self, frame: bytes) -> None:
        pass  # A plain framing has no frames.


def _pull(window: SendWindow, byte_budget: int) -> list[bytes]:
    """Take whole messages off the queue, and forget them."""
    payloads: list[bytes] = []
    queue, size = window.queue, 0
    while queue and size < byte_budget:
        message = message_of(queue[0])
        payload = message.payload or b""
        if payloads and size + len(payload) > byte_budget:
            break
        queue.popleft()
        payloads.append(payload)
        size += len(payload)
        window.sent += 1
        message.number = window.sent
    window.acked = window.sent
    window.held_bytes -= size
    window.messages_sent += len(payloads)
    window.bytes_sent += size
    return payloads
