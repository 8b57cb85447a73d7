"""Processes the frames of an open Linked connection: calls the session for each of them."""

from __future__ import annotations

from typing import Final

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.backoff import TRY_AGAIN
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.link import Link, State
from linkbox.core.send_window import BATCH_BODIES
from linkbox.core.session import Session
from linkbox.core.wire import frames, handshake_messages
from linkbox.core.wire.decoder import HEADER_SIZE, LIMITS, Decoder, too_large
from linkbox.core.wire.rejections import error_of
from linkbox.errors import ProtocolViolation
from linkbox.text import LONGEST_MESSAGE, printable

OPEN: Final = State.OPEN
LINK_FRAMES: Final = 256
"""Most frames of one link that are processed in one go."""
TURN_FRAMES: Final = 1024
"""After this number in one turn, the links that come later in it process `FEW_FRAMES` at a time:
tiny frames cost much more than their bytes, and those of many busy peers must not keep all others waiting."""
FEW_FRAMES: Final = 8
_ASK_FRAMES: Final = frozenset((frames.ASK, frames.ANSWER, frames.FAIL, frames.CANCEL))


class FrameReader:
    """Finds frames in the bytes of one open link, and processes them."""

    __slots__ = ("_arrivals", "_asks", "_context", "_decoder", "_late", "_link", "_session", "_stores")

    def __init__(self, link: Link, session: Session, held: bytes) -> None:
        """``held``: bytes that arrived behind the handshake; the next `receive` processes them first."""
        self._link = link
        self._session = session
        self._context = context = link.context
        self._asks = context.pattern.asks
        """Do requests and responses arrive, and no messages?"""
        self._stores = (
            not context.settings.decodes and context.mailbox.overflow == "block" and session.record is None
        )
        """May a message go from here to the mailbox at once?"""
        self._decoder = Decoder()
        self._decoder.hold(held)
        self._arrivals: list[Arrival] = []
        self._late: list[tuple[int, bytes]] = []
        """Frames that refer to messages which are still only on disk."""

    def receive(self, data: bytes, now: float) -> list[Arrival]:
        """Process bytes from the peer; return the messages that they complete."""
        size, kind = len(data) - HEADER_SIZE, -1
        if size >= 0 and not self._decoder.busy:
            word = frames.unpack_header(data)[0]
            if word & 0xFFFFFF == size <= LIMITS[word >> 24]:
                kind = word >> 24  # Fast path: most reads return exactly one complete frame.
        try:
            if kind == frames.DATA:
                self._on_message(data[HEADER_SIZE:])
            elif kind in _ASK_FRAMES:
                self._on_ask_frame(kind, data[HEADER_SIZE:], now)
            elif kind < 0:
                self._receive_any(data, now)
            else:
                self._handle(kind, data[HEADER_SIZE:], now)
        except ProtocolViolation as error:
            self._link.violated(error)
        arrivals = self._arrivals
        if arrivals:
            self._arrivals = []
        return arrivals

    def _receive_any(self, data: bytes, now: float) -> None:
        """Process bytes with any number of frames, or parts of them: some now, the others in later turns."""
        decoder, link, effects = self._decoder, self._link, self._context.effects
        if link.is_behind:
            if data:
                decoder.hold(data)
                return
            link.is_behind = False
            effects.to_write.append(link)
        found = decoder.receive(data, LINK_FRAMES if effects.frames < TURN_FRAMES else FEW_FRAMES)
        effects.frames += len(found)
        for kind, payload in found:
            if kind == frames.DATA:
                self._on_message(payload)
            else:
                self._handle(kind, payload, now)
                if link.state is not OPEN:
                    if link.eof_waits:
                        self._settle_eof(now)
                    return
        if decoder.has_more:
            link.is_behind = True
            effects.to_read.append(link)
            effects.to_write.append(link)
        if decoder.error is not None:
            link.violated(decoder.error)  # Not raised: with a traceback, it would refer to the link.
            return
        link.watch_progress(decoder.buffered if decoder.busy else 0, bool(found), now)
        if link.eof_waits and not link.is_behind:
            self._settle_eof(now)

    def _settle_eof(self, now: float) -> None:
        """Process the peer's FIN, which has waited for the frames before it."""
        link = self._link
        link.eof_waits = False
        if not link.closed:
            self._context.effects.to_write.append(link)
            link.receive_eof(now)

    def _on_message(self, payload: bytes) -> None:
        session = self._session
        if session.ending.peer_last is not None or self._asks:
            raise self._misplaced(frames.DATA)
        receiving = session.receiving
        size, largest = len(payload), self._context.limits.message
        receiving.add_units(1, size, size)
        if receiving.assembly is not None:
            whole, receiving.assembly = receiving.assembly.whole(payload), None
            self._add_messages([whole], True)
        elif size > largest:
            self._add_messages([too_large(size, largest)], True)
        elif self._stores and receiving.processed == receiving.arrived - 1:
            receiving.processed_bytes = receiving.arrived_bytes
            at = self._context.effects.now + self._context.settings.wall
            receiving.store((payload,), receiving.arrived, size, at)
        else:  # It is decoded first, or others before it.
            self._add_messages([payload], False)

    def _receiving_session(self, kind: int) -> Session:
        """Return the session, if such a frame (of messages, or END) may arrive now."""
        if self._session.ending.peer_last is not None or (self._asks and kind != frames.END):
            raise self._misplaced(kind)
        return self._session

    def _misplaced(self, kind: int) -> ProtocolViolation:
        if self._session.ending.peer_last is not None:
            return ProtocolViolation("messages after END")
        return ProtocolViolation(
            f"a {frames.type_name(kind)} frame, although the pattern is {self._context.pattern.name}"
        )

    def _add_messages(self, payloads: list[Payload], may_have_errors: bool) -> None:
        session, arrivals = self._session, self._arrivals
        arrived = session.receiving.arrived
        if arrivals:
            newest = arrivals[-1]
            if newest.ask is None and newest.last + len(payloads) == arrived:
                newest.payloads += payloads
                newest.last = arrived
                newest.mark = session.receiving.arrived_bytes
                newest.has_errors = newest.has_errors or may_have_errors
                return
        arrival = Arrival(session, payloads, arrived)
        arrival.has_errors = may_have_errors
        arrivals.append(arrival)

    def _handle(self, kind: int, payload: bytes, now: float) -> None:
        """Process a frame other than DATA; frequent types first."""
        if kind == frames.ACK:
            self._on_ack(payload)
        elif kind in _ASK_FRAMES:
            self._on_ask_frame(kind, payload, now)
        elif kind == frames.BATCH:
            self._on_batch(payload)
        elif kind == frames.PART:
            self._on_part(payload)
        elif kind == frames.PING:
            self._link.send_control(
                frames.encode_number(frames.PONG, frames.decode_number(frames.PING, payload))
            )
        elif kind == frames.PONG:
            self._on_pong(max(0.0, now - frames.decode_number(frames.PONG, payload) / 1e6))
        elif kind == frames.ACK_NOW:
            self._on_ack_now()
        elif kind == frames.REJECT:
            self._on_reject(payload)
        elif kind == frames.DROPPED:
            self._session.sending.on_dropped(*frames.decode_dropped(payload))
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
        session = self._receiving_session(frames.BATCH)
        bodies = frames.decode_batch(payload)
        receiving, limit = session.receiving, self._context.limits.message
        if receiving.assembly is not None:
            raise ProtocolViolation("BATCH inside a parted message")
        count = len(bodies)
        receiving.add_units(count, len(payload) - 4 - 4 * count, len(bodies[-1]))
        if limit < BATCH_BODIES * 2:
            checked = [each if len(each) <= limit else too_large(len(each), limit) for each in bodies]
            self._add_messages(checked, True)
        else:
            self._add_messages([*bodies], False)

    def _on_part(self, payload: bytes) -> None:
        receiving = self._receiving_session(frames.PART).receiving
        if receiving.assembly is not None:
            receiving.add_piece(0, payload)
        else:
            total, body = frames.decode_first_part(payload)
            receiving.add_piece(total, body)
        receiving.request_ack(ACK_DUE_SOON)

    def _is_early(self, session: Session, kind: int, payload: bytes) -> bool:
        """Keep a frame that refers to messages which are still only on disk. False for any other frame."""
        if session.record is None or not session.record.is_loading():
            return False
        most = self._context.limits.control_frames
        if len(self._late) >= most:
            raise ProtocolViolation(f"more than {most} frames ahead of the first message")
        self._late.append((kind, payload))
        return True

    def process_late(self) -> None:
        late, self._late = self._late, []
        try:
            for kind, payload in late:
                self._handle(kind, payload, self._link.heard_at)
                if self._link.state is not OPEN:
                    return
        except ProtocolViolation as error:
            self._link.violated(error)

    def _on_ack(self, payload: bytes) -> None:
        session = self._session
        if session.record is None or not self._is_early(session, frames.ACK, payload):
            acked, taken, byte_limit, unit_limit = frames.decode_ack(payload)
            done = session.sending.on_ack(acked, taken, byte_limit, unit_limit)
            session.owner.acked(session, done)

    def _on_reject(self, payload: bytes) -> None:
        session = self._session
        if not self._is_early(session, frames.REJECT, payload):
            number, code, reason = frames.decode_reject(payload)
            shown = printable(reason, LONGEST_MESSAGE)
            error = error_of(code, f"{session.peer} rejected the message: {shown}")
            message = session.sending.on_reject(number, error)
            if message is not None:
                session.owner.message_failed(session, message)

    def _on_end(self, payload: bytes) -> None:
        session = self._receiving_session(frames.END)
        last = frames.decode_number(frames.END, payload)
        arrived = session.receiving.arrived
        if last != arrived or session.receiving.assembly is not None:
            raise ProtocolViolation(f"END after unit {last}; {arrived} have arrived")
        session.ending.peer_last = last
        session.owner.end_arrived(session)

    def _on_end_ack(self, payload: bytes) -> None:
        session = self._session
        last, sent = frames.decode_number(frames.END_ACK, payload), session.sending.sent
        if not session.ending.is_sent or last != sent:
            raise ProtocolViolation(f"END_ACK of unit {last}; {sent} have been sent")
        session.ending.is_acked = True
        session.owner.end_acked(session, session.sending.forget(last))

    def _on_goaway(self, payload: bytes) -> None:
        session = self._session
        if not self._context.is_client:
            raise ProtocolViolation("a GOAWAY that is out of place")
        if not self._is_early(session, frames.GOAWAY, payload):
            self._link.owner.going_away(self._link, session, frames.decode_number(frames.GOAWAY, payload))

    def _on_refuse(self, payload: bytes, now: float) -> None:
        """Process REFUSE on an open connection: the server has disconnected this client."""
        message = handshake_messages.decode_refuse(payload)
        if not self._context.is_client:
            raise ProtocolViolation("a REFUSE that is out of place")
        error = handshake_messages.refusal(message, self._link.address)
        self._link.owner.refused(self._link, error, message.code in TRY_AGAIN, now)
        self._link.abort(error)

    def _on_ask_frame(self, kind: int, payload: bytes, now: float) -> None:
        session = self._session
        if session.ending.peer_last is not None or not self._asks:
            raise self._misplaced(kind)
        receiving = session.receiving
        arrival = self._link.owner.ask_frame(session, kind, payload, now)
        if arrival is not None:
            self._arrivals.append(arrival)
        elif receiving.processed < receiving.arrived - 1:  # It is counted as processed after those before it.
            self._arrivals.append(Arrival(session, [], receiving.arrived))
        else:
            receiving.processed = receiving.arrived
            receiving.processed_bytes = receiving.arrived_bytes
            if not session.route.ack_due or not receiving.waiting:  # to take what waits will request it
                receiving.request_ack(ACK_DUE_SOON)

    def _on_pong(self, seconds: float) -> None:
        self._link.round_trip = seconds
        self._context.counters.round_trips.add(seconds)
        if self._context.effects.reports("debug"):
            text, peer = f"pong of {self._session.peer}: {seconds * 1e3:.3g} ms", self._session.peer
            self._context.effects.log("debug", text, "heartbeat", peer, {"round_trip": seconds})

    def _on_ack_now(self) -> None:
        """The peer is waiting for receipts: acknowledge now, and each message up to here as it is taken."""
        self._context.mailbox.settle_fast_queue()
        self._session.receiving.acknowledge_each()
