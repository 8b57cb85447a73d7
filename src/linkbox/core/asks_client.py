"""The client's side of requests: ids, deadlines, cancelling, late and duplicate responses.

A request is one or more messages with an id that is never used again; its response is one message or a
failure. Both are numbered units of the session (see send_window.py), so a request is not executed twice after
a resume. Pieces of large requests are interleaved. Frames for the id of a finished request are ignored;
frames for an id that was never used are protocol violations.
"""

from __future__ import annotations

from linkbox.core.arrival import Arrival, Assembler
from linkbox.core.asks_plain import PlainAsk, PlainAsks
from linkbox.core.channel import AskHeader, OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.histogram import BUCKETS
from linkbox.core.session import Session
from linkbox.core.source import Source
from linkbox.core.values import Value
from linkbox.core.wait_queue import NOTHING, WaitQueue
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import too_large
from linkbox.errors import (
    AnswerError,
    DeadlineExceeded,
    DecodeError,
    MailboxFull,
    ProtocolViolation,
    TooLarge,
)
from linkbox.events import EventKind


class Answer:
    """An item in a ClientAR's mailbox: the response to ``receipt``, or the error of its request."""

    __slots__ = ("error", "value")

    def __init__(self, value: Value, error: Exception | None) -> None:
        self.value: Value = value
        self.error: Exception | None = error


class Ask(PlainAsk):
    """A request that waits for its response. As a predicate: has it a response, or failed?"""

    __slots__ = (
        "began_at",
        "changed",
        "ends_at_once",
        "ends_session",
        "error",
        "frames_sent",
        "is_done",
        "to_mailbox",
        "value",
    )

    def __init__(
        self, session: Session, to_mailbox: bool, ends_session: bool = False, ends_at_once: bool = False
    ) -> None:
        self.session = session
        self.id = 0
        self.assembler: Assembler | None = None
        self.to_mailbox: bool = to_mailbox
        self.ends_session: bool = ends_session
        """With a plain framing: is the connection for this request only?"""
        self.began_at: float = 0.0
        """When it got its id."""
        self.ends_at_once: bool = ends_at_once
        """Does the end of the request end the conversation at this side?"""
        self.frames_sent: int = 0
        """The number of messages it was sent as."""
        self.receipt: OutgoingMessage | None = None
        self.question: Value = None
        self.expects = True
        self.changed: WaitQueue = WaitQueue()
        self.is_done: bool = False
        self.value: Value = None
        self.error: Exception | None = None

    def holds(self) -> bool:
        return self.is_done

    def claim(self) -> Value:
        return True if self.is_done else NOTHING  # without a call of `holds`


class SlotQueue(WaitQueue):
    """The queue of callers that may send a request when another one is finished."""

    __slots__ = ("_asks",)

    def __init__(self, asks: ClientAsks) -> None:
        super().__init__()
        self._asks = asks

    def available(self) -> int:
        return self._asks.free_slots()


class ClientAsks:
    """All requests of a client that wait for their response."""

    __slots__ = ("_by_session", "_context", "_decodes", "_last_id", "_plain", "_raw", "slots", "waiting")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decodes = context.settings.decodes
        self.waiting: dict[int, Ask] = {}
        self.slots: SlotQueue = SlotQueue(self)
        """Woken when fewer requests wait for their responses."""
        self._by_session: dict[Session, dict[int, Ask]] = {}
        self._raw: dict[Session, Assembler] = {}
        """With Raw: the responses, which are complete when their streams end."""
        self._last_id = 0
        is_raw = context.settings.framing.name == "raw"
        self._plain = PlainAsks(context) if context.is_plain and not is_raw else None
        """Whose turn it is, with a plain framing that has messages."""

    # -- sending ---------------------------------------------------------------------------------------

    def free_slots(self) -> int:
        """The number of requests that may be sent now: `Limits.asks` is the most that wait at a time."""
        return self._context.limits.asks - len(self.waiting)

    def finish(self, ask: Ask) -> None:
        """Complete a request of several messages."""
        self.add(ask, None, False, None)

    def add(self, ask: Ask, payload: bytes | None, more: bool, deadline: float | None) -> None:
        """Send a message of the request; None: there is no further one.

        The first call sets its id, so that ids are sent in order. ``more``: others may follow; call `finish`
        after the last.
        """
        session = ask.session
        ask.frames_sent += 1
        if not ask.id:
            self._last_id += 1
            ask.id = self._last_id
            ask.began_at = self._context.effects.now
            self.waiting[ask.id] = ask
            self._by_session.setdefault(session, {})[ask.id] = ask
        flags = frames.NO_MESSAGE if payload is None else frames.MORE_OF_ASK if more else 0
        header = AskHeader(frames.ASK, ask.id, flags, deadline)
        if session.error is None and self._plain is not None:
            ask.receipt = session.sending.message_type(session, payload or b"", header)
            self._plain.add(ask)
            self.advance(session)
            return
        if session.error is None:
            body = payload or b""
            ask.receipt = session.send_at_once(body, header) or session.send_part(body, header)
            if ask.ends_at_once and not more:
                session.end()
            return
        ask.receipt = session.sending.message_type(session, payload or b"", header)
        ask.receipt.error = session.error
        self.fail_all(session, session.error)

    def cancel(self, ask: Ask, reason: str) -> bool:
        """Cancel a request. Returns true if the caller must close the session, which has a plain framing."""
        if ask.id not in self.waiting:
            return False
        session = ask.session
        if self._plain is not None:
            must_close = self._plain.cancel(ask)
            self._forget(ask)
            self.advance(session)
            return must_close
        self._forget(ask)
        if session.is_plain:
            return True
        unsent = session.sending.withdraw(ask.id)
        self._context.effects.to_wake.append(session.changed)
        if unsent < ask.frames_sent:  # The server must not be asked to cancel what it does not know.
            session.send_part(frames.encode_cancel(ask.id, reason), AskHeader(frames.CANCEL, ask.id))
        return False

    def _forget(self, ask: Ask) -> bool:
        """Remove a request. False if it was removed already."""
        if self.waiting.pop(ask.id, None) is None:
            return False
        if self.slots.waiters:
            self._context.effects.to_wake.append(self.slots)
        if self._plain is not None:
            self._plain.forget(ask)
        of_session = self._by_session[ask.session]
        del of_session[ask.id]
        if not of_session:
            del self._by_session[ask.session]
        return True

    def settle(self, ask: Ask, value: Value, error: Exception | None) -> None:
        """Complete a request with its response or an error."""
        if not self._forget(ask):
            return
        ask.value, ask.error, ask.is_done = value, error, True
        ask.assembler = None
        effects, session = self._context.effects, ask.session
        effects.to_wake.append(ask.changed)
        if error is None:  # `Histogram.add`, without the call
            seconds, times = effects.now - ask.began_at, self._context.counters.answer_times
            times.counts[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1
            times.total += seconds
        if self._plain is not None:
            self.advance(session)
        if ask.ends_session and session.error is None:
            session.end()
        if ask.to_mailbox:
            self._store(session, value, error, ask.receipt)

    def _store(
        self,
        session: Session,
        value: Value,
        error: Exception | None,
        receipt: OutgoingMessage | None,
        size: int = 0,
    ) -> None:
        """Put a response into the mailbox, or a message of ``size`` bytes that nobody has asked for."""
        # A separate source, because credit for responses is not counted in units.
        source, mailbox, effects = Source(session.peer), self._context.mailbox, self._context.effects
        at = self._context.wall_time(effects.now)
        batch = mailbox.put(source, (Answer(value, error),), 1, size, at)
        batch.receipt = receipt
        effects.to_wake.append(mailbox.changed)
        if not effects.events.takes_over(session.peer):
            effects.emit(EventKind.DATA, session.peer)

    # -- sessions --------------------------------------------------------------------------------------

    def of(self, session: Session) -> list[Ask]:
        """The waiting requests of a session, the oldest first."""
        return list(self._by_session.get(session, {}).values())

    def is_busy(self, session: Session) -> bool:
        """Is a request waiting on this session?"""
        return session in self._by_session

    def fail_all(self, session: Session, error: Exception) -> None:
        """Fail the requests of a session that is closed, but for those that can move: see `take_over`."""
        self._raw.pop(session, None)
        plain = self._plain
        may_move = plain is not None and not self._context.is_stopping and plain.is_greeted(session)
        for ask in self.of(session):
            if plain is not None and plain.is_held(ask):
                if may_move:
                    continue
                assert ask.receipt is not None
                ask.receipt.error = error
            self.settle(ask, None, error)

    def take_over(self, old: Session, new: Session) -> None:
        """Move the requests that waited for their turn on a plain connection that is closed."""
        assert self._plain is not None
        moved = self.of(old)
        for ask in moved:
            self.move(old, new, ask.id)
            assert ask.receipt is not None
            ask.receipt.channel = new
            self._plain.add(ask)
        old.successor = new
        self.advance(new)

    def advance(self, session: Session) -> None:
        """With a plain framing: send the requests whose turn it is."""
        if self._plain is None or session.error is not None:
            return
        for ask in self._plain.advance(session):
            self.settle(self.waiting[ask.id], None, None)

    def move(self, old: Session, new: Session, id: int) -> None:
        """Move a request to another session."""
        ask = self.waiting.get(id)
        if ask is not None and ask.session is old:
            self._forget(ask)
            ask.session = new
            self.waiting[id] = ask
            self._by_session.setdefault(new, {})[id] = ask

    def on_message_failed(self, message: OutgoingMessage) -> None:
        """Fail a request, one of whose messages the server does not accept."""
        header = message.header
        if header is not None and header.kind == frames.ASK and header.id in self.waiting:
            self.settle(self.waiting[header.id], None, message.error)

    # -- from the wire ---------------------------------------------------------------------------------

    def on_frame(self, session: Session, kind: int, payload: bytes) -> Arrival | None:
        """Process a frame of a response. Return the response that it completes, if any.

        A response goes to its caller at once if it need not be decoded, and nothing before it waits.
        """
        receiving = session.receiving
        if kind == frames.ANSWER:
            id, flags, body = frames.decode_answer(payload)
            size = len(body)
        elif kind == frames.FAIL:
            id, type_name, text = frames.decode_fail(payload)
            size = len(payload) + 4  # The peer's SendWindow counts the whole frame, with its header.
        else:
            raise ProtocolViolation(f"{frames.type_name(kind)} from the wrong side")
        receiving.add_units(1, size, size)
        if not 0 < id <= self._last_id:
            raise ProtocolViolation(f"a response to request {id}, but only {self._last_id} were sent")
        ask = self.waiting.get(id)
        if ask is None or ask.session is not session:
            return None  # It is finished.
        if kind == frames.FAIL:
            self.settle(ask, None, _failure(type_name, text))
            return None
        limit = self._context.limits.message
        if flags & frames.MORE_OF_MESSAGE or ask.assembler is not None or size > limit:
            whole = ask.gather(body, flags, limit)
            return None if whole is None else Arrival(session, [whole], receiving.arrived, ask)
        if self._decodes or receiving.processed < receiving.arrived - 1:
            return Arrival(session, [body], receiving.arrived, ask)
        receiving.messages_received += 1
        receiving.bytes_received += size
        self.settle(ask, body, None)
        return None

    # -- over a broker: a response is one message ------------------------------------------------------

    def on_answer(self, session: Session, id: int, body: bytes) -> Arrival | None:
        """Process a response. Return it if it must be decoded; else its caller has it."""
        receiving, size, limit = session.receiving, len(body), self._context.limits.message
        receiving.add_units(1, size, size)
        ask = self.waiting.get(id)
        if ask is None or ask.session is not session:
            return None
        if size > limit:
            return Arrival(session, [too_large(size, limit)], receiving.arrived, ask)
        if self._decodes or receiving.processed < receiving.arrived - 1:
            return Arrival(session, [body], receiving.arrived, ask)
        receiving.count_messages(1, size)
        receiving.processed = receiving.arrived
        self.settle(ask, body, None)
        return None

    def settle_failure(self, ask: Ask, type: str, text: str) -> None:
        """Let a request fail as its server says."""
        self.settle(ask, None, _failure(type, text))

    # -- over plain framings: a request is one message, the next message back its response --------------

    def on_plain(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """Process messages of a plain framing. With Raw, a response is complete at FIN."""
        if self._context.settings.framing.name == "raw":
            assembler = self._raw.setdefault(session, Assembler())
            for payload in payloads:
                assembler.add(payload, self._context.limits.message)
            return []
        first = session.receiving.arrived - len(payloads) + 1
        return [Arrival(session, [payload], number) for number, payload in enumerate(payloads, first)]

    def on_plain_message(self, session: Session, value: Value, size: int, error: Exception | None) -> None:
        """Process a decoded message of a plain framing, of ``size`` bytes of memory, or why it is none."""
        if self._plain is None or session.error is not None:
            return
        outcome = self._plain.deliver(session, value, size, error)
        if outcome.ask is not None:
            self.settle(self.waiting[outcome.ask.id], outcome.value, outcome.error)
            return
        effects, limits = self._context.effects, self._context.limits
        if outcome.error is not None:
            self._context.counters.rejected += 1
            effects.emit(EventKind.ERROR, session.peer, outcome.error)
        size, mailbox = outcome.size // max(len(outcome.unsolicited), 1), self._context.mailbox
        for message in outcome.unsolicited:
            if mailbox.count < limits.asks and mailbox.nbytes < limits.mailbox_bytes:
                self._store(session, message, None, None, size)
                continue
            text = f"{session.peer} sends messages that nobody has asked for, and nobody takes them"
            effects.emit(EventKind.OVERFLOW, session.peer, MailboxFull(text))
        self.advance(session)

    def closed(self, session: Session) -> None:
        """Forget a session with a plain framing."""
        if self._plain is not None:
            self._plain.closed(session)

    def on_plain_eof(self, session: Session) -> list[Arrival]:
        """Process FIN: with Raw, it completes the response."""
        assembler, asks = self._raw.pop(session, None), self.of(session)
        if assembler is None or not asks:
            return []
        whole = assembler.whole(self._context.limits.message)
        return [Arrival(session, [whole], session.receiving.arrived, asks[0])]


_FAILURES: dict[str, type[Exception]] = {
    "linkbox.TooLarge": TooLarge,
    "linkbox.DecodeError": DecodeError,
    "linkbox.DeadlineExceeded": DeadlineExceeded,
}


def _failure(type: str, text: str) -> Exception:
    """The error that the caller receives: some types of failure have an exception class of their own."""
    return _FAILURES[type](text) if type in _FAILURES else AnswerError(type, text)
