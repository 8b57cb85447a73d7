"""A connection that uses our own protocol: the life of such a link. See link.py first."""

from __future__ import annotations

from typing import Final

from linkbox.core.arrival import Arrival
from linkbox.core.connection import Buffer
from linkbox.core.context import Context
from linkbox.core.effects import ACK_DUE_NOW
from linkbox.core.ending import end_has_arrived, is_finished, wants_end
from linkbox.core.frame_reader import FrameReader
from linkbox.core.frame_writer import write_early, write_units
from linkbox.core.handshake import Handshake
from linkbox.core.link import WRITE_BUDGET, Link, LinkOwner, State
from linkbox.core.session import ACK_NOW_FRAME, Session
from linkbox.core.wire import frames, handshake_messages
from linkbox.errors import PeerLost, ProtocolViolation

OPEN: Final = State.OPEN


class LinkedLink(Link):
    """A connection that uses our own protocol."""

    __slots__ = (
        "_control",
        "_end_ack_sent",
        "handshake",
        "reader",
    )

    def __init__(
        self, owner: LinkOwner, context: Context, address: str, now: float, handshake: Handshake
    ) -> None:
        super().__init__(owner, context, address, now)
        self.handshake: Handshake | None = handshake
        """Consumes the bytes until the link is open; None after that."""
        self.reader: FrameReader | None = None
        """Consumes the bytes once the link is open."""
        self._control: list[Buffer] = handshake.output
        self._end_ack_sent = False

    # -- opening ---------------------------------------------------------------------------------------

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        if self.handshake is not None:
            self.handshake.certificate = certificate
        super().secured(identity, certificate, now)

    def open(self, session: Session, now: float) -> None:
        """The handshake is complete: start to send and receive the session's messages."""
        handshake, self.handshake = self.handshake, None
        assert handshake is not None
        self.reader = FrameReader(self, session, handshake.take_rest())
        self.carry(session)
        self.state = State.OPEN
        if session.receiving.arrived:  # An older connection may have lost the acknowledgement.
            session.route.ack_due = ACK_DUE_NOW
            session.rejections.report_all()
            self._control += session.rejections.frames
        if session.changed.waiters and session.in_flight():  # A receipt is being waited for.
            self._control.append(ACK_NOW_FRAME)
        self.output = self._control
        self.schedule(self.silence_deadline())

    def send_welcome(self, frame: bytes) -> None:
        """Send the response to HELLO before anything else."""
        self._control.append(frame)

    def refuse(self, code: str, reason: str, now: float) -> None:
        """Refuse the client and close the connection."""
        self._control.append(handshake_messages.refuse(code, reason))
        self.error: Exception | None = ProtocolViolation(reason)
        self.close_soon(now)
        self.context.effects.to_write.append(self)

    # -- receiving -------------------------------------------------------------------------------------

    def forget_input(self) -> None:
        self.reader = self.handshake = self.output = None

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
            return  # Messages before the END are still being decoded.
        if is_finished(session):
            self.close_soon(now)
        else:
            self.abort(PeerLost(f"{self.address} closed the connection before the END was confirmed"))

    def process_late(self) -> None:
        if self.reader is not None:
            self.reader.process_late()

    # -- sending ---------------------------------------------------------------------------------------

    def data_to_send(self, now: float) -> list[Buffer]:
        self.context.effects.now = now
        self.has_more: bool = False
        if self.shut:
            return []
        out = self._control
        session = self.session
        if self.state is OPEN and session is not None and session.route.link is self:
            self._control = self.output = []
            route, receiving = session.route, session.receiving
            if session.rejections.unreported:
                out += [frames.encode_dropped(*each) for each in session.rejections.take_unreported()]
            if route.ack_due and (
                route.ack_due == ACK_DUE_NOW
                or now >= receiving.ride_at
                or receiving.arrived_bytes >= receiving.ride_from
            ):
                out.append(session.ack_frame())
            if session.sending.queue:
                self.has_more = write_units(session, out, WRITE_BUDGET, now)
            if session.ending.is_requested or session.ending.peer_last is not None:
                self._write_ends(session, out, now)
        elif self.handshake is not None:
            out = self.handshake.output[:]
            self._control.clear()
            if self.state is State.HANDSHAKE and self.handshake.may_send_early and session is not None:
                write_early(session, out, now)
        else:
            self._control = []
        return out

    def _write_ends(self, session: Session, out: list[Buffer], now: float) -> None:
        ending = session.ending
        if not self._end_ack_sent and end_has_arrived(session):
            self._end_ack_sent = True
            out.append(session.ack_frame())
            out.append(frames.encode_number(frames.END_ACK, ending.peer_last or 0))
        if wants_end(session):
            ending.is_sent = True
            out.append(frames.encode_number(frames.END, session.sending.sent))
        if self._end_ack_sent and ending.is_sent:
            # FIN means: this side knows that the peer has everything. Without a reconnect that is not needed.
            if ending.is_acked and (session.record is None or session.record.is_settled()):
                self.close_soon(now)
            elif not session.resumes:
                self.half_close = True

    def close_soon(self, now: float) -> None:
        self.output = None
        super().close_soon(now)

    def finish_writing(self) -> None:
        super().finish_writing()
        if self.state is OPEN:  # Both have ended and the peer does not reconnect: only its FIN is missing.
            self.close_by(self.context.effects.now + self.context.limits.close)

    def send_control(self, frame: bytes) -> None:
        limit = self.context.limits.control_frames
        if self._stalled_at is not None and len(self._control) >= limit:
            self.abort(
                ProtocolViolation(f"{self.address} does not read the {limit} control frames owed to it")
            )
            return
        self._control.append(frame)
        to_write = self.context.effects.to_write
        if not to_write or to_write[-1] is not self:  # One read may cause thousands of control frames.
            to_write.append(self)

    # -- the heartbeat ---------------------------------------------------------------------------------

    def silence_deadline(self) -> float:
        limits = self.context.limits
        if self._pinged_at > self.heard_at:
            return self._pinged_at + limits.peer_timeout
        return self.heard_at + limits.heartbeat

    def on_silence(self, now: float) -> None:
        if self._pinged_at > self.heard_at:
            silence = now - self.heard_at
            self.abort(PeerLost(f"{self.address} gave no sign of life for {silence:.1f} s"))
        else:
            self.ping(now)

    def ping(self, now: float) -> None:
        """Send PING; if nothing arrives within ``Limits.peer_timeout``, the connection is closed."""
        self._pinged_at = now
        self.schedule(now + self.context.limits.peer_timeout)
        self.send_control(frames.encode_number(frames.PING, int(now * 1e6)))
        if self.context.effects.reports("debug"):
            text = f"{self.address}: nothing arrived for {now - self.heard_at:.3g} s: ping"
            self.context.effects.log("debug", text, "heartbeat", None, {"address": self.address})
