"""Asks and answers: ids, deadlines, cancelling, late and double answers.

An ask is one or more messages from the client under an id that is never used again; its answer is one
message, or a failure. Both travel as numbered units of the session (see session.py), so a resume never
executes an ask twice; pieces of large ones take turns. What belongs to an id that is finished is ignored;
what belongs to an id that was never issued is a violation.
"""

from __future__ import annotations

from typing import Any

from linkbox.core import frames
from linkbox.core.link import Arrival
from linkbox.core.mailbox import Box
from linkbox.core.session import NEVER, Session
from linkbox.core.stream import Pile, too_large
from linkbox.core.units import Delivery
from linkbox.errors import (
    AnswerError,
    DeadlineExceeded,
    DecodeError,
    PeerLost,
    ProtocolViolation,
    StateError,
    TooLarge,
)

SWEEP = 0.25
"""Seconds between two looks for forgotten requests."""
_OVERHEAD = 100
"""What a message counts besides its bytes: empty ones cost memory too."""


class Ask:
    """An ask of ours that waits for its answer."""

    __slots__ = (
        "frames",
        "box",
        "error",
        "id",
        "is_done",
        "parts",
        "receipt",
        "session",
        "size",
        "to_mailbox",
        "value",
    )

    def __init__(self, session: Session, id: int, to_mailbox: bool) -> None:
        self.session = session
        self.id = id
        self.to_mailbox = to_mailbox
        self.frames = 0
        """How many frames it was sent as."""
        self.receipt: Delivery | None = None
        self.box = Box()
        self.parts: Pile | None = None
        self.size = 0
        self.is_done = False
        self.value: Any = None
        self.error: Exception | None = None


class Incoming:
    """An ask of a peer that has not been answered. What the mailbox of a server of asks holds."""

    __slots__ = (
        "deadline",
        "held",
        "id",
        "is_cancelled",
        "is_finished",
        "is_whole",
        "messages",
        "parts",
        "session",
        "size",
    )

    def __init__(self, session: Session, id: int, deadline: float | None) -> None:
        self.session = session
        self.id = id
        self.deadline = deadline
        self.messages: list[Any] = []
        self.parts: Pile | None = None
        self.size = 0
        self.held = 0
        """Bytes of it that were kept before it was whole."""
        self.is_whole = False
        """Has all of it arrived?"""
        self.is_cancelled = False
        self.is_finished = False
        """Answered, failed or cancelled: nothing more to say."""


class Sweeper:
    """Looks now and then for requests that were forgotten, while any are open."""

    __slots__ = ("due_at", "hub", "timer_at")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.due_at = self.timer_at = NEVER

    def next_timer(self) -> float:
        """When to look next."""
        return self.due_at

    def handle_timer(self, now: float) -> None:
        """Fail what was forgotten."""
        hub = self.hub
        while hub.forgotten:
            incoming = hub.forgotten.popleft()
            if not incoming.is_finished:
                hub.fail_ask(incoming, "RequestFailed", "the server dropped the request unanswered")
        self.due_at = now + SWEEP if hub.asks.open else NEVER


class AskTable:
    """All asks of an endpoint: ours that wait (client), and the peers' that are open (server)."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.waiting: dict[int, Ask] = {}
        self.open: dict[tuple[str, int], Incoming] = {}
        self.open_counts: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        self.gathered = 0
        """Bytes of all asks that are not whole yet, or not begun: no credit holds these back."""
        self.last_id = 0

    # -- the client's side --------------------------------------------------------------------------

    def begin(self, session: Session, to_mailbox: bool) -> Ask:
        """A new ask. Add its messages with `add`; the first gives it its id, so ids go out in order."""
        return Ask(session, 0, to_mailbox)

    def _ensure_id(self, ask: Ask) -> None:
        ask.frames += 1
        if not ask.id:
            self.last_id += 1
            ask.id = self.last_id
            self.waiting[ask.id] = ask

    def add(self, ask: Ask, payload: bytes, more: bool, deadline: float | None) -> None:
        """A message of the ask; ``more`` are to follow, the last of them with `finish`."""
        self._ensure_id(ask)
        flags = frames.MORE_OF_ASK if more else 0
        ask.receipt = self._send(ask.session, frames.ASK, ask.id, payload, flags, deadline)

    def finish(self, ask: Ask) -> None:
        """All messages of an ask of several have been added."""
        self._ensure_id(ask)
        ask.receipt = self._send(ask.session, frames.ASK, ask.id, b"", frames.NO_MESSAGE)

    def _send(
        self,
        session: Session,
        kind: int,
        id: int,
        payload: bytes,
        flags: int = 0,
        deadline: float | None = None,
    ) -> Delivery:
        receipt = session.receipts(session, payload, kind, id=id, flags=flags, deadline=deadline)
        if session.is_plain and kind in (frames.FAIL, frames.CANCEL):
            # A plain framing cannot say it; what it can do is to close the connection.
            self.hub.close_session(session, PeerLost(f"an ask of {session.peer} failed, or was given up"))
            return receipt
        if session.error is not None:
            receipt.error = session.error
            self.fail_all(session, session.error)
            return receipt
        link = session.link
        if link is None or not link.write_at_once(receipt, self.hub.now):
            session.send_frame(receipt)
        self.hub.flush_soon(session)
        return receipt

    def cancel(self, ask: Ask, reason: str) -> None:
        """Nobody waits for the answer any more."""
        if self.waiting.pop(ask.id, None) is not None:
            self._send(ask.session, frames.CANCEL, ask.id, frames.encode_cancel(ask.id, reason))

    def settle(self, ask: Ask, value: Any, error: Exception | None) -> None:
        """The answer, or why there is none."""
        if self.waiting.pop(ask.id, None) is None:
            return
        ask.value, ask.error, ask.is_done = value, error, True
        ask.parts = None
        self.hub.on_answered(ask)

    def is_busy(self, session: Session) -> bool:
        """Is an ask under way on this session?"""
        return any(each.session is session for each in self.waiting.values())

    def fail_all(self, session: Session, error: Exception) -> None:
        """The session is over: its asks will not be answered."""
        for ask in [each for each in self.waiting.values() if each.session is session]:
            self.settle(ask, None, error)

    # -- the server's side --------------------------------------------------------------------------

    def answer(self, incoming: Incoming, payload: bytes) -> None:
        """Send the answer, unless the asker has gone."""
        if self._close(incoming):
            self._send(incoming.session, frames.ANSWER, incoming.id, payload)

    def fail(self, incoming: Incoming, type: str, text: str) -> None:
        """Send a failure, unless the asker has gone."""
        if self._close(incoming):
            frame = frames.encode_fail(incoming.id, type, text)
            self._send(incoming.session, frames.FAIL, incoming.id, frame)

    def _close(self, incoming: Incoming) -> bool:
        """Take the ask off the books. False if nobody waits for the answer any more."""
        if incoming.is_finished and not incoming.is_cancelled:
            raise StateError("this request has been answered already")
        known = self.open.pop((incoming.session.id, incoming.id), None) is not None
        if known:
            self.open_counts[incoming.session.id] -= 1
        self._release(incoming)
        incoming.is_finished = True
        return known and not incoming.is_cancelled

    def has_open(self, session: Session) -> bool:
        """Does this peer wait for answers?"""
        return self.open_counts.get(session.id, 0) > 0

    def drop_session(self, session: Session) -> None:
        """The peer is gone for good: its asks are cancelled."""
        self.newest.pop(session.id, None)
        if self.open_counts.pop(session.id, 0):
            for key in [key for key in self.open if key[0] == session.id]:
                incoming = self.open.pop(key)
                incoming.is_cancelled = incoming.is_finished = True
                self._release(incoming)

    # -- from the wire --------------------------------------------------------------------------------

    def on_frame(self, session: Session, kind: int, payload: bytes, now: float) -> Arrival | None:
        """An ASK, ANSWER, FAIL or CANCEL. Returns a message that has become whole."""
        is_ours = kind in (frames.ANSWER, frames.FAIL)
        if is_ours is not self.hub.is_client:
            raise ProtocolViolation(f"{frames.type_name(kind)} from the wrong side")
        if kind == frames.ASK:
            return self._on_ask(session, payload, now)
        if kind == frames.ANSWER:
            return self._on_answer(session, payload)
        size = len(payload) + 4
        session.on_units(1, size, size)
        if kind == frames.FAIL:
            id, type, text = frames.decode_fail(payload)
            ask = self._ours(session, id)
            if ask is not None:
                self.settle(ask, None, _failure(type, text))
        else:
            self._on_cancel(session, frames.decode_cancel(payload)[0])
        return None

    def _ours(self, session: Session, id: int) -> Ask | None:
        if not 0 < id <= self.last_id:
            raise ProtocolViolation(f"an answer to ask {id}; {self.last_id} were asked")
        ask = self.waiting.get(id)
        return ask if ask is not None and ask.session is session else None

    def _on_answer(self, session: Session, payload: bytes) -> Arrival | None:
        id, flags, body = frames.decode_answer(payload)
        session.on_units(1, len(body), len(body))
        ask = self._ours(session, id)
        if ask is None:
            return None
        whole = _gather(ask, body, flags, session.limits.message)
        return None if whole is None else Arrival(session, [whole], session.arrived, ask)

    def _on_ask(self, session: Session, payload: bytes, now: float) -> Arrival | None:
        id, flags, left, body = frames.decode_ask(payload)
        session.on_units(1, len(body), len(body))
        incoming = self.open.get((session.id, id))
        if incoming is None:
            if id <= self.newest.get(session.id, 0):
                return None  # The rest of one that was cancelled or failed.
            incoming = self._open(session, id, None if left is None else now + left / 1000)
            if incoming is None:
                return None
        if incoming.is_whole:
            return None  # It has been asked; there is nothing to add.
        is_last = not flags & (frames.MORE_OF_MESSAGE | frames.MORE_OF_ASK)
        incoming.is_whole = is_last or bool(flags & frames.NO_MESSAGE)
        if flags & frames.NO_MESSAGE:
            self._release(incoming)
            return Arrival(session, [], session.arrived, incoming)
        overhead = 0 if flags & frames.MORE_OF_MESSAGE else _OVERHEAD
        if not incoming.is_whole and not self._hold(incoming, len(body) + overhead):
            return None
        whole = _gather(incoming, body, flags, session.limits.message)
        if whole is None:
            return None
        arrival = Arrival(session, [whole], session.arrived, incoming)
        arrival.is_final = not flags & frames.MORE_OF_ASK
        if incoming.is_whole:
            self._release(incoming)  # from now on the mailbox counts it
        return arrival

    def _hold(self, incoming: Incoming, size: int) -> bool:
        """Keep a piece of an ask that is not whole. False if that is too much: the ask has failed."""
        incoming.held += size
        self.gathered += size
        limits = incoming.session.limits
        limit = max(limits.mailbox_total, 2 * limits.message)
        if self.gathered <= limit:
            return True
        self.fail(incoming, "linkbox.TooLarge", f"asks that are not whole yet have more than {limit} bytes")
        return False

    def _release(self, incoming: Incoming) -> None:
        self.gathered -= incoming.held
        incoming.held = 0

    def _open(self, session: Session, id: int, deadline: float | None) -> Incoming | None:
        incoming = Incoming(session, id, deadline)
        self.newest[session.id] = id
        count = self.open_counts.get(session.id, 0)
        self.open[session.id, id] = incoming
        self.open_counts[session.id] = count + 1
        if count >= session.limits.asks:
            self.fail(incoming, "limit", f"more than {session.limits.asks} asks at once")
            return None
        return incoming

    def _on_cancel(self, session: Session, id: int) -> None:
        if id > self.newest.get(session.id, 0):
            raise ProtocolViolation(f"CANCEL of ask {id}, which was never asked")
        incoming = self.open.get((session.id, id))
        if incoming is not None:
            self._close(incoming)
            incoming.is_cancelled = True
            self.hub.on_ask_closed(session)

    # -- over plain framings: an ask is one message, the next message back its answer ---------------------

    def on_plain(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """Whole messages over a plain framing. Over Raw there are none: FIN makes it whole."""
        if self.hub.settings.framing.name == "raw":
            for payload in payloads:
                _keep(session.raw, payload, session.arrived_bytes, session.limits.message)
            return []
        found = (self._plain_message(session, payload) for payload in payloads if session.error is None)
        return [each for each in found if each is not None]

    def on_plain_eof(self, session: Session) -> list[Arrival]:
        """The other side has closed its half: over Raw its message is whole."""
        if self.hub.settings.framing.name != "raw" or not session.arrived_bytes:
            return []
        whole = _whole(session.raw, session.arrived_bytes, session.limits.message)
        arrival = self._plain_message(session, whole)
        return [] if arrival is None else [arrival]

    def _plain_message(self, session: Session, payload: bytes | TooLarge) -> Arrival | None:
        if self.hub.is_client:
            ask = next((each for each in self.waiting.values() if each.session is session), None)
            return None if ask is None else Arrival(session, [payload], session.arrived, ask)
        incoming = self._open(session, self.newest.get(session.id, 0) + 1, None)
        if incoming is None:
            return None
        size = 0 if isinstance(payload, TooLarge) else len(payload)
        if self.open_counts[session.id] > 1 and not self._hold(incoming, size + _OVERHEAD):
            return None
        return Arrival(session, [payload], session.arrived, incoming)

    def may_start(self, incoming: Incoming) -> bool:
        """May a whole ask be worked on now? Over a plain framing only when it is the oldest."""
        if not incoming.session.is_plain:
            return True
        return next(iter(self._open_of(incoming.session)), None) is incoming

    def next_plain(self, session: Session) -> Incoming | None:
        """The next ask to work on, if it is whole."""
        incoming = next(iter(self._open_of(session)), None)
        if incoming is None or not incoming.messages:
            return None
        self._release(incoming)
        return incoming

    def _open_of(self, session: Session) -> list[Incoming]:
        return [each for each in self.open.values() if each.session is session]

    # -- onto the wire ----------------------------------------------------------------------------------

    def encode(
        self, delivery: Delivery, start: int, body: bytes | memoryview, is_last: bool, now: float
    ) -> tuple[bytes, ...]:
        """The frame for one piece of an ask or an answer."""
        if delivery.kind not in (frames.ASK, frames.ANSWER):
            return (delivery.payload,)
        flags = delivery.flags if is_last else delivery.flags | frames.MORE_OF_MESSAGE
        if delivery.kind == frames.ANSWER:
            return (frames.encode_answer(delivery.id, flags, bytes(body)),)
        left = None
        if delivery.deadline is not None and start == 0:
            left = max(0, int((delivery.deadline - now) * 1000))
        return (frames.encode_ask(delivery.id, flags, left, bytes(body)),)


def _gather(holder: Ask | Incoming, body: bytes, flags: int, limit: int) -> bytes | TooLarge | None:
    """Put the pieces of a message together: the whole of it, or None while pieces are missing."""
    more = flags & frames.MORE_OF_MESSAGE
    if not more and holder.parts is None:
        return body if len(body) <= limit else too_large(len(body), limit)
    parts = holder.parts = holder.parts or Pile()
    holder.size += len(body)
    _keep(parts, body, holder.size, limit)
    if more:
        return None
    size, holder.size, holder.parts = holder.size, 0, None
    return _whole(parts, size, limit)


def _keep(parts: Pile, body: bytes, size: int, limit: int) -> None:
    """Add a piece; nothing is kept of a message that is too large. ``size``: of the message so far."""
    if size <= limit:
        parts.add(body)
    elif parts.size:
        parts.take()


def _whole(parts: Pile, size: int, limit: int) -> bytes | TooLarge:
    return parts.take() if size <= limit else too_large(size, limit)


_FAILURES: dict[str, type[Exception]] = {
    "linkbox.TooLarge": TooLarge,
    "linkbox.DecodeError": DecodeError,
    "linkbox.DeadlineExceeded": DeadlineExceeded,
}


def _failure(type: str, text: str) -> Exception:
    """What the asker sees: some failures have an error of their own."""
    return _FAILURES[type](text) if type in _FAILURES else AnswerError(type, text)
