"""One connection that speaks the Linked wire. The pages of link.py hold here too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from linkbox.core import auth, frames, handshake
from linkbox.core.link import WRITE_BUDGET, Arrival, Buffer, Link, State
from linkbox.core.refusals import meaning_of
from linkbox.core.sending import BATCH_BODIES, EARLY_BYTES
from linkbox.core.session import Session
from linkbox.core.stream import Assembly, Decoder, lone, too_large
from linkbox.core.units import Bundle, Delivery, Piece
from linkbox.errors import PeerLost, ProtocolViolation, TooLarge
from linkbox.limits import Limits

OPEN = State.OPEN
STEP = 16 * 1024
"""Bytes of the handshake that are looked at together."""
JOINED = 16 * 1024
"""A payload up to this size is copied behind its header; a longer one is written from where it is."""


class LinkedLink(Link):
    """A connection that speaks the Linked wire."""

    __slots__ = (
        "auth",
        "control",
        "decoder",
        "draining",
        "early",
        "end_told",
        "greeted",
        "greeting",
        "hello",
        "hello_waits",
        "is_client",
        "late",
        "sent_before",
    )

    def __init__(
        self, hub: Any, address: str, limits: Limits, now: float, session: Session | None = None
    ) -> None:
        super().__init__(hub, address, limits, now)
        self.decoder = Decoder(small=True)
        self.greeting = b""
        self.greeted = False
        self.control: list[Buffer] = [frames.preface()]
        self.is_client = session is not None
        self.sent_before = 0 if session is None else session.sent
        """Units that older connections have carried."""
        self.hello_waits = False
        """Is HELLO to be said only when the server's preface is there?"""
        self.early = False
        """May messages be written before the welcome?"""
        self.end_told = False
        """Has END_ACK been written?"""
        self.draining = 0
        self.late: list[tuple[int, bytes]] = []
        """What was said of messages that are still on disk only."""
        self.auth: Any = None
        """Our half of the proof that both know the secret, where there is one (see auth.py)."""
        self.hello: Any = None
        """Server: what the client said of itself, until it has proven that it knows the secret."""
        if session is not None:
            self.session = session
            # Later, the server may know the session from the first. And who must prove itself waits.
            # And where there is a store, it has to know first that something is being sent.
            self.early = session.epoch == 1 and hub.settings.secrets is None and session.record is None

    # -- receiving ----------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Arrival]:
        """Bytes from the peer. Decode what is returned, then call ``hub.deliver`` for each, in order."""
        self.heard_at = now
        self.pinged_at = None
        # One whole frame is what a conversation mostly brings: it is spared the general way.
        frame = lone(data) if self.state is OPEN and not self.decoder.busy else None
        try:
            if frame is None:
                self._receive_any(data, now)
            elif frame[0] == frames.DATA:
                self._on_message(frame[1])
            else:
                self._handle((frame,), now)
        except ProtocolViolation as error:
            self._violated(error, now)
        arrivals, self.arrivals = self.arrivals, []
        return arrivals

    def _receive_any(self, data: bytes, now: float) -> None:
        """Whatever state the link is in, and however the bytes are cut."""
        if self.state is State.CLOSING:
            self._drain(data)
            return
        if self.closed:
            return
        if not self.greeted:
            data = self._greet(data)
        moved = False
        if self.decoder.small:
            data, moved = self._shake_hands(data, now)
        moved = self._handle(self.decoder.receive(data), now) or moved
        if self.decoder.error is not None:
            raise self.decoder.error
        if self.decoder.busy or self.partial_at is not None:
            self._fed(self.decoder.buffered, moved, now)

    def _shake_hands(self, data: bytes, now: float) -> tuple[bytes, bool]:
        """Little by little: what comes in one read with the end of it is not early. Returns the rest."""
        moved, view = False, memoryview(data)
        while view and self.decoder.small and self.decoder.error is None and self._is_listening():
            moved = self._handle(self.decoder.receive(bytes(view[:STEP])), now) or moved
            view = view[STEP:]
            # What came right behind a part of the handshake was held back.
            if not self.decoder.small or self.hello is not None:
                moved = self._handle(self.decoder.receive(b""), now) or moved
        return (bytes(view) if self._is_listening() else b""), moved

    def _is_listening(self) -> bool:
        return self.state is not State.CLOSING and not self.closed

    def _handle(self, found: Sequence[tuple[int, bytes]], now: float) -> bool:
        for kind, payload in found:
            if kind == frames.DATA:
                self._on_message(payload)
            else:
                _HANDLERS[kind](self, payload, now)
                if self.state is State.CLOSING or self.closed:
                    break
        return bool(found)

    def _greet(self, data: bytes) -> bytes:
        """The preface; returns what follows it."""
        data = self.greeting + data
        try:
            version = frames.check_preface(data)
        except ProtocolViolation as error:
            self.hub.on_stranger(self, error)
            self.abort(error)
            return b""
        if version is None:
            self.greeting = data
            return b""
        self.greeted, self.greeting = True, b""
        if self.is_client:
            self.hub.on_greeted(self, self.heard_at)
        else:
            self.hub.dirty.append(self)  # A server's preface goes out with the first it has to say.
        if version != frames.VERSION and not self.is_client:  # a client reads the server's REFUSE behind it
            text = f"protocol version {version} is not spoken here, only {frames.VERSION}"
            self.refuse("version", text, self.heard_at)
            return b""
        return data[8:]

    def _violated(self, error: ProtocolViolation, now: float) -> None:
        if self.state is State.CLOSING:
            return  # All is said: what comes is read so that a refusal arrives, and for nothing else.
        error = ProtocolViolation(f"{self.address} broke the protocol: {error}")
        if self.state is State.GREETING and not self.is_client:
            self.refuse("protocol", str(error), now)
        else:
            self.abort(error)

    def _drain(self, data: bytes) -> None:
        """After a refusal: read what comes, so that the refusal arrives; but not for ever."""
        self.draining += len(data)
        if self.session is None and self.draining > EARLY_BYTES:
            self.abort(None)

    def _forget_input(self) -> None:
        self.decoder, self.greeting, self.late = Decoder(small=True), b"", []

    def receive_eof(self, now: float) -> list[Arrival]:
        """The peer will send nothing more. Returns what its last bytes brought: here, nothing."""
        self.eof = True
        session = self.session
        if self.state is State.CLOSING:
            self.abort(None)
        elif session is None or session.peer_end is None:
            self.abort(PeerLost(f"{self.address} closed the connection without an END"))
        else:
            self.settle_eof(now)
        return []

    def settle_eof(self, now: float) -> None:
        session = self.session
        if session is None or session.source.processed < (session.peer_end or 0):
            return  # What came before the END is still being decoded.
        if self.hub.is_finished(session):
            self.close_soon(now)
        else:
            self.abort(PeerLost(f"{self.address} closed the connection before the END was confirmed"))

    def _on_hello(self, payload: bytes, now: float) -> None:
        message = handshake.decode(frames.HELLO, payload)
        if self.is_client or self.session is not None or self.auth is not None:
            raise ProtocolViolation("a HELLO that is out of place")
        settings = self.hub.settings
        if settings.secrets is None:
            self.hub.on_hello(self, message, now)
            return
        nonce = settings.entropy(auth.NONCE)
        self.auth = auth.ServerSide(settings.secrets, payload, nonce, settings.name, self.certificate)
        self.hello = message
        self.send_control(self.auth.challenge())
        self.decoder.proceed()

    def _on_challenge(self, payload: bytes, now: float) -> None:
        if not self.is_client or self.state is not State.GREETING:
            raise ProtocolViolation("a CHALLENGE that is out of place")
        nonce = self.hub.settings.entropy(auth.NONCE)
        proof = None if self.auth is None else self.auth.prove(payload, nonce, self.certificate)
        if proof is None:
            self._distrust(auth.NO_SECRET, now)
        else:
            self.send_control(proof)

    def _on_proof(self, payload: bytes, now: float) -> None:
        if self.auth is None or self.state is not State.GREETING:
            raise ProtocolViolation("a PROOF that is out of place")
        if self.is_client:
            if not self.auth.check(payload):
                self._distrust(auth.NOT_PROVEN, now)
            return
        hello, self.hello = self.hello, None
        if hello is None:
            raise ProtocolViolation("a second PROOF")
        proof = self.auth.check(payload, hello.name)
        if proof is None:
            self.hub.on_unproven(self, auth.WRONG, now)
        else:
            self.control.append(proof)
            self.hub.on_hello(self, hello, now)

    def _distrust(self, reason: str, now: float) -> None:
        """Client: this server is not the one we want, or we are not its client. That is final."""
        no = handshake.Refuse("authentication", reason)
        self.hub.on_refuse(self, no, now)
        self.abort(handshake.refusal(no, self.address))

    def _on_welcome(self, payload: bytes, now: float) -> None:
        message = handshake.decode(frames.WELCOME, payload)
        if not self.is_client or self.state is not State.GREETING:
            raise ProtocolViolation("a WELCOME that is out of place")
        if self.auth is not None and not self.auth.is_proven:
            self._distrust(auth.NOT_ASKED, now)
            return
        self.hub.on_welcome(self, message, now)

    def _on_refuse(self, payload: bytes, now: float) -> None:
        message = handshake.decode(frames.REFUSE, payload)
        assert isinstance(message, handshake.Refuse)
        if not self.is_client:
            raise ProtocolViolation("a REFUSE that is out of place")
        self.hub.on_refuse(self, message, now)
        self.abort(handshake.refusal(message, self.address))

    def open(self, session: Session, now: float) -> None:
        """Welcomed: the session's messages flow."""
        self.session = session
        self.state = State.OPEN
        self.decoder.small = False
        if session.arrived:  # what was acknowledged on an older connection may never have got there
            session.ack_owed = 2
            session.untold = session.drops[:]
            self.control += session.refusals
        if session.box.waiters and session.held:  # and who waits for a receipt asks again
            self.control.append(frames.frame(frames.ACK_NOW))
        self.hub.schedule(self, self._silence_deadline())

    def refuse(self, code: str, reason: str, now: float) -> None:
        """Say no, and close."""
        self.control.append(handshake.refuse(code, reason))
        self.error = ProtocolViolation(reason)
        self.close_soon(now)
        self.hub.dirty.append(self)

    def _on_message(self, payload: bytes) -> None:
        session = self._opened()
        size = len(payload)
        session.on_units(1, size, size)
        if not session.assembly and size <= session.limits.message:
            self._arrive(session, [payload])
        else:
            whole: bytes | TooLarge = too_large(size, session.limits.message)
            if session.assembly:
                whole, session.assembly = session.assembly.whole(payload), None
            self._arrive(session, [whole])
            self.arrivals[-1].has_errors = True

    def _opened(self) -> Session:
        session = self.session
        if self.state is not OPEN or session is None:
            raise ProtocolViolation("messages before the handshake was done")
        if session.peer_end is not None:
            raise ProtocolViolation("messages after END")
        return session

    def _arrive(self, session: Session, payloads: list[Any]) -> None:
        arrivals = self.arrivals
        if arrivals and arrivals[-1].ask is None and arrivals[-1].last + len(payloads) == session.arrived:
            arrivals[-1].payloads += payloads
            arrivals[-1].last, arrivals[-1].mark = session.arrived, session.arrived_bytes
        else:
            arrivals.append(Arrival(session, payloads, session.arrived))

    def _on_batch(self, payload: bytes, now: float) -> None:
        session = self._opened()
        payloads: list[Any] = frames.decode_batch(payload)
        if session.assembly:
            raise ProtocolViolation("BATCH inside a parted message")
        count = len(payloads)
        session.on_units(count, len(payload) - 4 - 4 * count, len(payloads[-1]))
        limit = session.limits.message
        if limit < BATCH_BODIES * 2:
            payloads = [each if len(each) <= limit else too_large(len(each), limit) for each in payloads]
            self._arrive(session, payloads)
            self.arrivals[-1].has_errors = True
        else:
            self._arrive(session, payloads)

    def _on_part(self, payload: bytes, now: float) -> None:
        session = self._opened()
        if session.assembly:
            session.on_units(1, len(payload), len(payload))
            session.assembly.put(payload)
        else:
            total, body = frames.decode_first_part(payload)
            session.on_units(1, len(body), len(body))
            session.assembly = Assembly(total, session.limits.message)
            session.assembly.put(body)
        session.owe_ack(1)

    def _is_early(self, kind: int, payload: bytes) -> bool:
        """Is it about messages that are still on disk only? Then it is heeded when they are here."""
        if not self._session().is_loading:
            return False
        if len(self.late) >= self.limits.control_frames:
            raise ProtocolViolation(
                f"more than {self.limits.control_frames} frames ahead of the first message"
            )
        self.late.append((kind, payload))
        return True

    def heed_late(self) -> None:
        """The messages are here: heed what the peer has said of them."""
        late, self.late = self.late, []
        try:
            self._handle(late, self.heard_at)
        except ProtocolViolation as error:
            self._violated(error, self.heard_at)

    def _on_ack(self, payload: bytes, now: float) -> None:
        if self._is_early(frames.ACK, payload):
            return
        session = self._session()
        self.hub.on_acked(session, session.on_ack(*frames.decode_ack(payload)))

    def _session(self) -> Session:
        if self.state is not State.OPEN or self.session is None:
            raise ProtocolViolation("frames before the handshake was done")
        return self.session

    def _on_ack_now(self, payload: bytes, now: float) -> None:
        self._session().on_ack_now()

    def _on_reject(self, payload: bytes, now: float) -> None:
        if self._is_early(frames.REJECT, payload):
            return
        session = self._session()
        number, code, reason = frames.decode_reject(payload)
        error = meaning_of(code, f"{session.peer} rejected the message: {reason}")
        delivery = session.on_reject(number, error)
        if delivery is not None:
            self.hub.on_delivery_failed(session, delivery)

    def _on_dropped(self, payload: bytes, now: float) -> None:
        self._session().on_dropped(*frames.decode_dropped(payload))

    def _on_ping(self, payload: bytes, now: float) -> None:
        self.send_control(frames.encode_number(frames.PONG, frames.decode_number(frames.PING, payload)))

    def _on_pong(self, payload: bytes, now: float) -> None:
        self.round_trip = max(0.0, now - frames.decode_number(frames.PONG, payload) / 1e6)

    def _on_end(self, payload: bytes, now: float) -> None:
        session = self._opened()
        last = frames.decode_number(frames.END, payload)
        if last != session.arrived or session.assembly:
            raise ProtocolViolation(f"END after unit {last}; {session.arrived} have arrived")
        session.peer_end = last
        self.hub.check_end(session)

    def _on_end_ack(self, payload: bytes, now: float) -> None:
        session = self._session()
        last = frames.decode_number(frames.END_ACK, payload)
        if not session.end_sent or last != session.sent:
            raise ProtocolViolation(f"END_ACK of unit {last}; {session.sent} have been sent")
        session.end_acked = True
        self.hub.on_end_acked(session, session.forget(last))

    def _on_goaway(self, payload: bytes, now: float) -> None:
        session = self._session()
        if not self.is_client:
            raise ProtocolViolation("a GOAWAY that is out of place")
        if self._is_early(frames.GOAWAY, payload):
            return
        self.hub.on_goaway(self, session, frames.decode_number(frames.GOAWAY, payload))

    def _on_ask_frame(self, kind: int, payload: bytes, now: float) -> None:
        session = self._opened()
        # What an ask's frame weighs is its message, as in `Session.send_frame`.
        arrival = self.hub.asks.on_frame(session, kind, payload, now)
        # Also what brings no message has to be counted as processed, in its turn.
        self.arrivals.append(arrival or Arrival(session, [], session.arrived))
        session.owe_ack(1)

    # -- sending ------------------------------------------------------------------------------------

    def write_at_once(self, delivery: Delivery, now: float) -> bool:
        """A small message, where nothing waits, and credit allows it."""
        session, payload = self.session, delivery.payload
        if self.control or self.state is not OPEN or session is None or len(payload) > JOINED:
            return False
        if session.queue or session.record is not None or not session.has_credit():
            return False
        if delivery.kind == frames.DATA:
            frame = frames.frame(frames.DATA, payload)
        else:
            (frame,) = self.hub.asks.encode(delivery, 0, payload, True, now)
            session.mixed = True  # should it go back to the queue
        try:
            session.sent_at_once(delivery)
            self.control.append(frame)
        except BaseException:  # Ctrl-C in between: what is counted must be written, or said again
            self.hub.interrupted(self)
            raise
        return True

    def data_to_send(self, now: float) -> list[Buffer]:
        """What to write now, in order; call again once it is written. Empty: nothing for now."""
        self.more = False
        if self.shut:
            return []
        out, self.control = self.control, []
        session = self.session
        if session is None or session.link is not self:
            return out
        if self.state is OPEN:
            if session.untold:
                out += (frames.encode_dropped(*each) for each in session.untold)
                session.untold = []
            if session.ack_owed and session.tells_acks(now):
                out.append(frames.encode_ack(*session.marks()))
            if session.queue:
                self._write_units(session, out, now)
            if session.ending or session.peer_end is not None:
                self._write_ends(session, out, now)
        elif self.early and self.state is State.GREETING:
            self._write_early(session, out, now)
        return out

    def _write_units(self, session: Session, out: list[Buffer], now: float) -> None:
        budget = WRITE_BUDGET
        while session.queue and session.may_send():
            budget -= self._write_pulled(session.pull(BATCH_BODIES), out, now)
            if budget <= 0:
                self.more = True
                return

    def _write_pulled(self, units: list[Any], out: list[Buffer], now: float) -> int:
        """Write what a pull has brought; returns about how many bytes that was."""
        if len(units) == 1:
            unit = units[0]
            if unit.__class__ is Bundle:
                out.append(frames.encode_batch(unit.payloads))
                return len(out[-1])
            return self._write_unit(unit, out, now)
        if not units:
            return 0
        out.append(frames.encode_batch([unit.payload for unit in units]))
        return len(out[-1])

    def _write_unit(self, unit: Any, out: list[Buffer], now: float) -> int:
        if unit.__class__ is not Piece:
            if unit.kind == frames.DATA:
                payload = unit.payload
                size = len(payload)
                if size <= JOINED:
                    out.append(frames.frame(frames.DATA, payload))
                else:
                    out += (frames.header(frames.DATA, size), payload)
                return size
            start, stop, total = 0, len(unit.payload), len(unit.payload)
            delivery: Delivery = unit
        else:
            delivery, start, stop, total = unit.delivery, unit.start, unit.stop, len(unit.delivery.payload)
        body = memoryview(delivery.payload)[start:stop]
        if delivery.kind != frames.DATA:
            out += self.hub.asks.encode(delivery, start, body, stop == total, now)
        elif stop == total:
            out += (frames.header(frames.DATA, len(body)), body)
        elif start == 0:
            out += (frames.encode_first_part(total, bytes(body)),)
        else:
            out += (frames.header(frames.PART, len(body)), body)
        return stop - start

    def _write_early(self, session: Session, out: list[Buffer], now: float) -> None:
        """One round trip for a short life: what fits goes out behind HELLO."""
        while session.may_send() and session.sent_bytes + session.next_size() <= _EARLY_BODIES:
            self._write_pulled(session.pull(_EARLY_BODIES - session.sent_bytes), out, now)
        if session.wants_end():
            session.end_sent = True
            out.append(frames.encode_number(frames.END, session.sent))

    def _write_ends(self, session: Session, out: list[Buffer], now: float) -> None:
        if (
            session.peer_end is not None
            and not self.end_told
            and session.source.processed >= session.peer_end
        ):
            self.end_told = True
            out.append(frames.encode_ack(*session.marks()))
            out.append(frames.encode_number(frames.END_ACK, session.peer_end))
        if session.wants_end():
            session.end_sent = True
            out.append(frames.encode_number(frames.END, session.sent))
        if self.end_told and session.end_sent:
            # FIN says: I know that you have everything. Who never comes back needs not to know.
            if session.end_acked and (session.record is None or session.record.is_settled()):
                self.close_soon(now)
            elif not session.resumes:
                self.half_close = True

    def send_control(self, frame: bytes) -> None:
        """Write a control frame soon. A peer that does not read may be owed so many, whatever they are."""
        limit = self.limits.control_frames
        if self.stalled_at is not None and len(self.control) >= limit:
            self.abort(
                ProtocolViolation(f"{self.address} does not read the {limit} control frames owed to it")
            )
            return
        self.control.append(frame)
        dirty = self.hub.dirty
        if not dirty or dirty[-1] is not self:  # one read may bring thousands of frames to be answered
            dirty.append(self)

    # -- the heartbeat --------------------------------------------------------------------------------

    def _silence_deadline(self) -> float:
        limits = self.limits
        if self.pinged_at is not None:
            return self.pinged_at + limits.peer_timeout
        return self.heard_at + limits.heartbeat

    def _on_silence(self, now: float) -> None:
        if self.pinged_at is not None:
            silence = now - self.heard_at
            self.abort(PeerLost(f"{self.address} gave no sign of life for {silence:.1f} s"))
        else:
            self.ping(now)

    def ping(self, now: float) -> None:
        """Ask for a sign of life; without one within ``peer_timeout`` the link is given up."""
        self.pinged_at = now
        self.hub.schedule(self, now + self.limits.peer_timeout)
        self.send_control(frames.encode_number(frames.PING, int(now * 1e6)))


_HANDLERS: dict[int, Callable[[Any, bytes, float], None]] = {
    frames.HELLO: LinkedLink._on_hello,
    frames.WELCOME: LinkedLink._on_welcome,
    frames.REFUSE: LinkedLink._on_refuse,
    frames.CHALLENGE: LinkedLink._on_challenge,
    frames.PROOF: LinkedLink._on_proof,
    frames.BATCH: LinkedLink._on_batch,
    frames.PART: LinkedLink._on_part,
    frames.ACK: LinkedLink._on_ack,
    frames.ACK_NOW: LinkedLink._on_ack_now,
    frames.REJECT: LinkedLink._on_reject,
    frames.DROPPED: LinkedLink._on_dropped,
    frames.PING: LinkedLink._on_ping,
    frames.PONG: LinkedLink._on_pong,
    frames.END: LinkedLink._on_end,
    frames.END_ACK: LinkedLink._on_end_ack,
    frames.GOAWAY: LinkedLink._on_goaway,
    frames.ASK: lambda link, payload, now: link._on_ask_frame(frames.ASK, payload, now),
    frames.ANSWER: lambda link, payload, now: link._on_ask_frame(frames.ANSWER, payload, now),
    frames.FAIL: lambda link, payload, now: link._on_ask_frame(frames.FAIL, payload, now),
    frames.CANCEL: lambda link, payload, now: link._on_ask_frame(frames.CANCEL, payload, now),
}
"""Who deals with a frame of that type."""

_EARLY_BODIES = EARLY_BYTES // 2
"""The headers and tables of lengths of what is sent early must fit too."""
