"""A connection that speaks our own protocol. The page of link.py holds here too."""

from __future__ import annotations

from typing import Final

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.channel import OutgoingMessage, Unit
from linkbox.core.connection import Buffer
from linkbox.core.context import Context
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.handshake import Handshake
from linkbox.core.link import WRITE_BUDGET, Link, LinkOwner, State
from linkbox.core.outgoing import Bundle, Piece
from linkbox.core.send_window import BATCH_BODIES, EARLY_BYTES
from linkbox.core.session import ACK_NOW_FRAME, Session
from linkbox.core.wire import frames, handshake_messages
from linkbox.core.wire.decoder import Decoder, lone, too_large
from linkbox.core.wire.rejections import error_of
from linkbox.errors import PeerLost, ProtocolViolation

OPEN = State.OPEN
JOINED: Final = 16 * 1024
"""A payload up to this size is copied behind its header; a longer one is written from where it is."""
TRY_AGAIN: Final = ("busy", "limit")
"""Refusals that may be different a moment later."""
_EARLY_BODIES: Final = EARLY_BYTES // 2
"""The headers and tables of lengths of what is sent early must fit too."""


class LinkedLink(Link):
    """A connection that speaks our own protocol."""

    __slots__ = (
        "_arrivals",
        "_control",
        "_decoder",
        "_drained",
        "_end_ack_sent",
        "_late",
        "handshake",
    )

    def __init__(
        self, owner: LinkOwner, context: Context, address: str, now: float, handshake: Handshake
    ) -> None:
        super().__init__(owner, context, address, now)
        self.handshake: Handshake | None = handshake
        """Consumes the bytes until the link is open, then None."""
        self._decoder = Decoder()
        self._arrivals: list[Arrival] = []
        self._control: list[Buffer] = handshake.output
        self._late: list[tuple[int, bytes]] = []
        """What the peer has said of messages that are still on disk only."""
        self._end_ack_sent = False
        self._drained = 0

    # -- opening ---------------------------------------------------------------------------------------

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        if self.handshake is not None:
            self.handshake.certificate = certificate
        super().secured(identity, certificate, now)

    def heard(self, now: float) -> None:
        """Something has arrived: the peer lives."""
        self.heard_at = now
        self._pinged_at = None

    def open(self, session: Session, now: float) -> None:
        """The handshake is complete: the session's messages flow."""
        handshake, self.handshake = self.handshake, None
        assert handshake is not None
        self._decoder.hold(handshake.take_rest())
        self.session = session
        self.state = State.OPEN
        if session.receiving.arrived:
            session.ack_again()
            self._control += session.rejections.frames
        if session.changed.waiters and session.in_flight():  # Somebody waits for a receipt.
            self._control.append(ACK_NOW_FRAME)
        self.schedule(self.silence_deadline())

    def send_welcome(self, frame: bytes) -> None:
        """The answer to HELLO goes out before anything else."""
        self._control.append(frame)

    def refuse(self, code: str, reason: str, now: float) -> None:
        """Refuse the client, and close."""
        self._control.append(handshake_messages.refuse(code, reason))
        self.error = ProtocolViolation(reason)
        self.close_soon(now)
        self.context.effects.to_write.append(self)

    # -- receiving -------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Arrival]:
        self.heard_at = now
        self._pinged_at = None
        # One whole frame is what a conversation mostly brings: it is spared the general way.
        frame = lone(data) if self.state is OPEN and not self._decoder.busy else None
        try:
            if frame is None:
                self._receive_any(data, now)
            elif frame[0] == frames.DATA:
                self._on_message(frame[1])
            else:
                self._handle(frame[0], frame[1], now)
        except ProtocolViolation as error:
            self.violated(error)
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    def _receive_any(self, data: bytes, now: float) -> None:
        """Whatever state the link is in, and however the bytes are cut."""
        if self.state is State.CLOSING:
            self.drain(data)
            return
        if self.closed:
            return
        decoder = self._decoder
        found = decoder.receive(data)
        for kind, payload in found:
            if kind == frames.DATA:
                self._on_message(payload)
            else:
                self._handle(kind, payload, now)
                if self.state is not OPEN:
                    return
        if decoder.error is not None:
            raise decoder.error
        if decoder.busy or self._partial_at is not None:
            self.watch_progress(decoder.buffered, bool(found), now)

    def violated(self, error: ProtocolViolation) -> None:
        """The peer has broken the protocol: close."""
        self.abort(ProtocolViolation(f"{self.address} broke the protocol: {error}"))

    def drain(self, data: bytes) -> None:
        """After a refusal: read what comes, so that the refusal arrives; but not for ever."""
        self._drained += len(data)
        if self.session is None and self._drained > EARLY_BYTES:
            self.abort(None)

    def forget_input(self) -> None:
        self._decoder = Decoder()
        self._late = []
        self.handshake = None

    def receive_eof(self, now: float) -> list[Arrival]:
        self.eof = True
        session = self.session
        if self.state is State.CLOSING:
            self.abort(None)
        elif session is None or session.ending.peer_last is None:
            self.abort(PeerLost(f"{self.address} closed the connection without an END"))
        else:
            self.settle_eof(now)
        return []

    def settle_eof(self, now: float) -> None:
        session = self.session
        if session is None or session.receiving.processed < (session.ending.peer_last or 0):
            return  # What came before the END is still being decoded.
        if session.is_finished():
            self.close_soon(now)
        else:
            self.abort(PeerLost(f"{self.address} closed the connection before the END was confirmed"))

    def _on_message(self, payload: bytes) -> None:
        session = self._receiving_session()
        receiving = session.receiving
        size = len(payload)
        receiving.add_units(1, size, size)
        if receiving.assembly is None and size <= self.context.limits.message:
            self._add_messages(session, [payload], False)
            return
        whole: Payload
        if receiving.assembly is None:
            whole = too_large(size, self.context.limits.message)
        else:
            whole, receiving.assembly = receiving.assembly.whole(payload), None
        self._add_messages(session, [whole], True)

    def _receiving_session(self) -> Session:
        """The session, if messages may arrive now."""
        session = self._session()
        if session.ending.peer_last is not None:
            raise ProtocolViolation("messages after END")
        return session

    def _session(self) -> Session:
        """The session: the link is open."""
        assert self.session is not None
        return self.session

    def _add_messages(self, session: Session, payloads: list[Payload], may_have_errors: bool) -> None:
        arrivals = self._arrivals
        if arrivals:
            newest = arrivals[-1]
            if newest.ask is None and newest.last + len(payloads) == session.receiving.arrived:
                newest.payloads += payloads
                newest.last = session.receiving.arrived
                newest.mark = session.receiving.arrived_bytes
                newest.has_errors = newest.has_errors or may_have_errors
                return
        arrival = Arrival(session, payloads, session.receiving.arrived)
        arrival.has_errors = may_have_errors
        arrivals.append(arrival)

    def _handle(self, kind: int, payload: bytes, now: float) -> None:
        """A frame other than DATA: the frequent ones first."""
        if kind == frames.ACK:
            self._on_ack(payload)
        elif kind in _ASK_FRAMES:
            self._on_ask_frame(kind, payload, now)
        elif kind == frames.BATCH:
            self._on_batch(payload)
        elif kind == frames.PART:
            self._on_part(payload)
        elif kind == frames.PING:
            self._session()
            self.send_control(frames.encode_number(frames.PONG, frames.decode_number(frames.PING, payload)))
        elif kind == frames.PONG:
            self._session()
            self.round_trip = max(0.0, now - frames.decode_number(frames.PONG, payload) / 1e6)
        elif kind == frames.ACK_NOW:
            self._session().on_ack_now()
        elif kind == frames.REJECT:
            self._on_reject(payload)
        elif kind == frames.DROPPED:
            self._session().sending.on_dropped(*frames.decode_dropped(payload))
        elif kind == frames.END:
            self._on_end(payload)
        elif kind == frames.END_ACK:
            self._on_end_ack(payload)
        elif kind == frames.GOAWAY:
            self._on_goaway(payload)
        elif kind == frames.REFUSE:
            self._on_refuse(payload, now)
        else:
            raise ProtocolViolation(f"a {frames.type_name(kind)} that is out of place")

    def _on_batch(self, payload: bytes) -> None:
        session = self._receiving_session()
        bodies = frames.decode_batch(payload)
        receiving, limit = session.receiving, self.context.limits.message
        if receiving.assembly is not None:
            raise ProtocolViolation("BATCH inside a parted message")
        count = len(bodies)
        receiving.add_units(count, len(payload) - 4 - 4 * count, len(bodies[-1]))
        if limit < BATCH_BODIES * 2:
            checked = [each if len(each) <= limit else too_large(len(each), limit) for each in bodies]
            self._add_messages(session, checked, True)
        else:
            self._add_messages(session, [*bodies], False)

    def _on_part(self, payload: bytes) -> None:
        receiving = self._receiving_session().receiving
        if receiving.assembly is not None:
            receiving.add_piece(0, payload)
        else:
            total, body = frames.decode_first_part(payload)
            receiving.add_piece(total, body)
        receiving.request_ack(ACK_DUE_SOON)

    def _is_early(self, session: Session, kind: int, payload: bytes) -> bool:
        """Is it about messages that are still on disk only? Then it is processed when they are in memory."""
        if session.record is None or not session.record.is_loading():
            return False
        most = self.context.limits.control_frames
        if len(self._late) >= most:
            raise ProtocolViolation(f"more than {most} frames ahead of the first message")
        self._late.append((kind, payload))
        return True

    def process_late(self) -> None:
        late, self._late = self._late, []
        try:
            for kind, payload in late:
                self._handle(kind, payload, self.heard_at)
                if self.state is not OPEN:
                    return
        except ProtocolViolation as error:
            self.violated(error)

    def _on_ack(self, payload: bytes) -> None:
        session = self._session()
        if not self._is_early(session, frames.ACK, payload):
            acked, taken, byte_limit, unit_limit = frames.decode_ack(payload)
            session.on_ack(acked, taken, byte_limit, unit_limit)

    def _on_reject(self, payload: bytes) -> None:
        session = self._session()
        if not self._is_early(session, frames.REJECT, payload):
            number, code, reason = frames.decode_reject(payload)
            session.on_reject(number, error_of(code, f"{session.peer} rejected the message: {reason}"))

    def _on_end(self, payload: bytes) -> None:
        session = self._receiving_session()
        last = frames.decode_number(frames.END, payload)
        arrived = session.receiving.arrived
        if last != arrived or session.receiving.assembly is not None:
            raise ProtocolViolation(f"END after unit {last}; {arrived} have arrived")
        session.ending.peer_last = last
        session.owner.end_arrived(session)

    def _on_end_ack(self, payload: bytes) -> None:
        session = self._session()
        last, sent = frames.decode_number(frames.END_ACK, payload), session.sending.sent
        if not session.ending.is_sent or last != sent:
            raise ProtocolViolation(f"END_ACK of unit {last}; {sent} have been sent")
        session.ending.is_acked = True
        session.owner.end_acked(session, session.sending.forget(last))

    def _on_goaway(self, payload: bytes) -> None:
        session = self._session()
        if not self.context.is_client:
            raise ProtocolViolation("a GOAWAY that is out of place")
        if not self._is_early(session, frames.GOAWAY, payload):
            self.owner.going_away(self, session, frames.decode_number(frames.GOAWAY, payload))

    def _on_refuse(self, payload: bytes, now: float) -> None:
        """In the middle of a conversation: the server has disconnected this client."""
        message = handshake_messages.decode_refuse(payload)
        if not self.context.is_client:
            raise ProtocolViolation("a REFUSE that is out of place")
        error = handshake_messages.refusal(message, self.address)
        self.owner.refused(self, error, message.code in TRY_AGAIN, now)
        self.abort(error)

    def _on_ask_frame(self, kind: int, payload: bytes, now: float) -> None:
        session = self._receiving_session()
        arrival = self.owner.ask_frame(session, kind, payload, now)
        # Also a frame that brings no message has to be counted as processed, in its turn.
        self._arrivals.append(arrival or Arrival(session, [], session.receiving.arrived))
        session.receiving.request_ack(ACK_DUE_SOON)

    # -- sending ---------------------------------------------------------------------------------------

    def send_at_once(self, message: OutgoingMessage, now: float) -> bool:
        session, payload = self.session, message.payload
        if self._control or self.state is not OPEN or session is None or payload is None:
            return False
        sending, size = session.sending, len(payload)
        if (
            size > JOINED
            or sending.queue
            or session.record is not None
            or sending.sent >= sending.peer_units
            or sending.sent_bytes >= sending.peer_bytes
        ):
            return False
        if message.header is None:
            self._control.append(frames.frame(frames.DATA, payload))
        else:
            self._control.append(_ask_frame(message, 0, payload, True, now))
        sending.sent_at_once(message, size)
        return True

    def data_to_send(self, now: float) -> list[Buffer]:
        self.has_more = False
        if self.shut:
            return []
        out = self._control
        session = self.session
        if self.state is OPEN and session is not None and session.route.link is self:
            self._control = []
            if session.rejections.unreported:
                out += [frames.encode_dropped(*each) for each in session.rejections.take_unreported()]
            if session.route.ack_due and session.receiving.ack_goes_with_write(now):
                out.append(session.ack_frame())
            if session.sending.queue:
                self._write_units(session, out, now)
            if session.ending.is_requested or session.ending.peer_last is not None:
                self._write_ends(session, out, now)
        elif self.handshake is not None:
            out = self.handshake.output[:]
            self._control.clear()
            self._write_early(out, now)
        else:
            self._control = []
        return out

    def _write_units(self, session: Session, out: list[Buffer], now: float) -> None:
        budget = WRITE_BUDGET
        while session.may_send():
            budget -= self._pull(session, BATCH_BODIES, out, now)
            if budget <= 0:
                self.has_more = True
                return

    def _pull(self, session: Session, most: int, out: list[Buffer], now: float) -> int:
        """Write the next units of the queue; returns about how many bytes that was."""
        units = session.sending.pull(most)
        if len(units) == 1:
            unit = units[0]
            if isinstance(unit, Bundle):
                batch = frames.encode_batch(unit.payloads)
            else:
                return _write_unit(unit, out, now)
        elif units:
            batch = frames.encode_batch([_payload(unit) for unit in units])
        else:
            session.owner.message_failed(session, session.sending.pop_too_large())
            return 0
        out.append(batch)
        return len(batch)

    def _write_early(self, out: list[Buffer], now: float) -> None:
        """One round trip for a short life: what fits goes out behind HELLO."""
        session = self.session
        if session is None or session.route.link is not self or not self._may_send_early():
            return
        sending = session.sending
        while session.may_send() and sending.sent_bytes + sending.next_size() <= _EARLY_BODIES:
            self._pull(session, _EARLY_BODIES - sending.sent_bytes, out, now)
        if session.wants_end():
            session.ending.is_sent = True
            out.append(frames.encode_number(frames.END, sending.sent))

    def _may_send_early(self) -> bool:
        return self.state is State.HANDSHAKE and self.handshake is not None and self.handshake.may_send_early

    def _write_ends(self, session: Session, out: list[Buffer], now: float) -> None:
        ending = session.ending
        if not self._end_ack_sent and session.end_has_arrived():
            self._end_ack_sent = True
            out.append(session.ack_frame())
            out.append(frames.encode_number(frames.END_ACK, ending.peer_last or 0))
        if session.wants_end():
            ending.is_sent = True
            out.append(frames.encode_number(frames.END, session.sending.sent))
        if self._end_ack_sent and ending.is_sent:
            # FIN says: this end knows that you have everything. A peer that never comes back needs not know.
            if ending.is_acked and (session.record is None or session.record.is_settled()):
                self.close_soon(now)
            elif not session.resumes:
                self.half_close = True

    def send_control(self, frame: bytes) -> None:
        limit = self.context.limits.control_frames
        if self._stalled_at is not None and len(self._control) >= limit:
            self.abort(
                ProtocolViolation(f"{self.address} does not read the {limit} control frames owed to it")
            )
            return
        self._control.append(frame)
        to_write = self.context.effects.to_write
        if not to_write or to_write[-1] is not self:  # One read may bring thousands of frames to be answered.
            to_write.append(self)

    # -- the heartbeat ---------------------------------------------------------------------------------

    def silence_deadline(self) -> float:
        limits = self.context.limits
        if self._pinged_at is not None:
            return self._pinged_at + limits.peer_timeout
        return self.heard_at + limits.heartbeat

    def on_silence(self, now: float) -> None:
        if self._pinged_at is not None:
            silence = now - self.heard_at
            self.abort(PeerLost(f"{self.address} gave no sign of life for {silence:.1f} s"))
        else:
            self.ping(now)

    def ping(self, now: float) -> None:
        """Ask for a sign of life; without one within ``Limits.peer_timeout`` the link is given up."""
        self._pinged_at = now
        self.schedule(now + self.context.limits.peer_timeout)
        self.send_control(frames.encode_number(frames.PING, int(now * 1e6)))


_ASK_FRAMES: Final = frozenset((frames.ASK, frames.ANSWER, frames.FAIL, frames.CANCEL))


def _payload(unit: Unit) -> bytes:
    """The payload of one of several messages that fit a BATCH."""
    assert isinstance(unit, OutgoingMessage)
    return unit.payload or b""


def _write_unit(unit: Unit, out: list[Buffer], now: float) -> int:
    """The frame of one unit that is no bundle; returns how many bytes of message it carries."""
    if isinstance(unit, Piece):
        message, start, stop = unit.message, unit.start, unit.stop
    else:
        assert isinstance(unit, OutgoingMessage)
        message, start, stop = unit, 0, unit.size()
    payload, size = message.payload or b"", stop - start
    total = len(payload)
    if message.header is not None:
        whole = size == total
        body = payload if whole else payload[start:stop]
        out.append(_ask_frame(message, start, body, stop == total, now))
    elif size == total and size <= JOINED:
        out.append(frames.frame(frames.DATA, payload))
    elif stop == total:
        out += (frames.header(frames.DATA, size), memoryview(payload)[start:stop])
    elif start == 0:
        out.append(frames.encode_first_part(total, payload[:stop]))
    else:
        out += (frames.header(frames.PART, size), memoryview(payload)[start:stop])
    return size


def _ask_frame(message: OutgoingMessage, start: int, body: bytes, is_last: bool, now: float) -> bytes:
    """The frame for one piece of a request or a response."""
    header = message.header
    assert header is not None
    if header.kind not in (frames.ASK, frames.ANSWER):
        return message.payload or b""
    flags = header.flags if is_last else header.flags | frames.MORE_OF_MESSAGE
    if header.kind == frames.ANSWER:
        return frames.encode_answer(header.id, flags, body)
    left = None
    if header.deadline is not None and start == 0:
        left = max(0, int((header.deadline - now) * 1000))
    return frames.encode_ask(header.id, flags, left, body)
