"""The server's side of requests: those that arrive in parts, those that are not answered, and their responses.

See asks_client.py for what a request is. Over a plain framing requests have no id: they are answered in their order,
and only the oldest of a connection is worked on.
"""

from __future__ import annotations

from collections import deque

from linkbox.core.arrival import Arrival, AskState, Assembler, Payload
from linkbox.core.channel import AskHeader, OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.session import Session
from linkbox.core.values import Value
from linkbox.core.wire import frames
from linkbox.errors import PeerLost, ProtocolViolation, StateError, TooLarge

OVERHEAD = 100
"""What a message counts besides its bytes: empty ones cost memory too."""


class IncomingAsk(AskState):
    """A request of a peer that has not been answered."""

    __slots__ = ("deadline", "held", "is_cancelled", "is_finished", "is_whole", "messages")

    def __init__(self, session: Session, id: int, deadline: float | None) -> None:
        super().__init__(session, id)
        self.deadline = deadline
        self.messages: list[Value] = []
        self.held = 0
        """Bytes of it that were kept before it was complete."""
        self.is_whole = False
        """Has all of it arrived?"""
        self.is_cancelled = False
        self.is_finished = False
        """Answered, failed or cancelled: there is nothing more to send."""

    def weight(self) -> int:
        """What it counts in the mailbox."""
        weight = 0
        for each in self.messages:
            weight += len(each) if isinstance(each, bytes) else OVERHEAD
        return weight


class _SessionAsks:
    """The requests of one session."""

    __slots__ = ("newest", "open", "raw")

    def __init__(self) -> None:
        self.open: dict[int, IncomingAsk] = {}
        self.newest = 0
        """The highest id that was used."""
        self.raw = Assembler()
        """Over Raw: the request that is complete when its stream ends."""


class ServerAsks:
    """All requests that a server has not answered."""

    __slots__ = ("_by_session", "_context", "abandoned", "gathered", "open_count")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_session: dict[Session, _SessionAsks] = {}
        self.open_count = 0
        self.gathered = 0
        """Bytes of all requests that are not complete, or not begun: no credit holds these back."""
        self.abandoned: deque[IncomingAsk] = deque()
        """Requests that the application has dropped unanswered; any thread may append."""

    # -- responding ------------------------------------------------------------------------------------

    def answer(self, ask: IncomingAsk, payload: bytes) -> None:
        """Send the response, unless the client has gone."""
        if self._close(ask):
            ask.session.send_part(AskHeader(frames.ANSWER, ask.id), payload)

    def fail(self, ask: IncomingAsk, type: str, text: str) -> bool:
        """Send a failure, unless the client has gone. True: only closing the session can say so (plain framings)."""
        if not self._close(ask):
            return False
        if ask.session.is_plain:
            return True
        ask.session.send_part(AskHeader(frames.FAIL, ask.id), frames.encode_fail(ask.id, type, text))
        return False

    def _close(self, ask: IncomingAsk) -> bool:
        """Take the request off the books. False if nobody waits for the response any more."""
        if ask.is_finished and not ask.is_cancelled:
            raise StateError("this request has been answered already")
        asks = self._by_session.get(ask.session)
        is_known = asks is not None and asks.open.pop(ask.id, None) is not None
        if is_known:
            self.open_count -= 1
        if ask.held:
            self._release(ask)
        ask.is_finished = True
        return is_known and not ask.is_cancelled

    def on_message_failed(self, session: Session, message: OutgoingMessage) -> None:
        """The client does not take a response of this size: its request fails."""
        header = message.header
        if header is not None and header.kind == frames.ANSWER:
            fail = frames.encode_fail(header.id, "linkbox.TooLarge", str(message.error))
            session.sending.enqueue(
                session.sending.message_type(session, fail, AskHeader(frames.FAIL, header.id))
            )

    def has_open(self, session: Session) -> bool:
        """Does this peer wait for responses?"""
        asks = self._by_session.get(session)
        return asks is not None and bool(asks.open)

    def drop_session(self, session: Session) -> None:
        """The peer is gone for good: its requests are cancelled."""
        asks = self._by_session.pop(session, None)
        if asks is not None:
            for ask in asks.open.values():
                ask.is_cancelled = ask.is_finished = True
                self._release(ask)
            self.open_count -= len(asks.open)

    # -- from the wire ---------------------------------------------------------------------------------

    def on_frame(
        self, session: Session, kind: int, payload: bytes, now: float
    ) -> tuple[Arrival | None, bool]:
        """A frame about a request. Returns the message that is complete with it, if any; and whether a request
        is closed with it."""
        if kind == frames.ASK:
            return self._on_ask(session, payload, now), False
        if kind != frames.CANCEL:
            raise ProtocolViolation(f"{frames.type_name(kind)} from the wrong side")
        size = len(payload) + 4  # What such a frame weighs at its sender, see `Session.send_part`.
        session.receiving.add_units(1, size, size)
        return None, self._on_cancel(session, frames.decode_cancel(payload)[0])

    def _on_ask(self, session: Session, payload: bytes, now: float) -> Arrival | None:
        id, flags, left, body = frames.decode_ask(payload)
        session.receiving.add_units(1, len(body), len(body))
        asks = self._of(session)
        ask = asks.open.get(id)
        if ask is None:
            if id <= asks.newest:
                return None  # The rest of one that was cancelled or failed.
            ask = self._open(session, id, None if left is None else now + left / 1000)
            if ask is None:
                return None
        if ask.is_whole:
            return None  # It is complete; nothing can be added.
        is_last = not flags & (frames.MORE_OF_MESSAGE | frames.MORE_OF_ASK)
        ask.is_whole = is_last or bool(flags & frames.NO_MESSAGE)
        arrived = session.receiving.arrived
        if flags & frames.NO_MESSAGE:
            self._release(ask)
            return Arrival(session, [], arrived, ask)
        overhead = 0 if flags & frames.MORE_OF_MESSAGE else OVERHEAD
        if not ask.is_whole and not self._hold(ask, len(body) + overhead):
            return None
        whole = ask.assembler.gather(body, flags, self._context.limits.message)
        if whole is None:
            return None
        arrival = Arrival(session, [whole], arrived, ask)
        arrival.is_final = not flags & frames.MORE_OF_ASK
        if ask.is_whole and ask.held:
            self._release(ask)  # From now on the mailbox counts it.
        return arrival

    def _of(self, session: Session) -> _SessionAsks:
        asks = self._by_session.get(session)
        if asks is None:
            asks = self._by_session[session] = _SessionAsks()
        return asks

    def _open(self, session: Session, id: int, deadline: float | None) -> IncomingAsk | None:
        """A new request; None if there are too many: it has failed."""
        ask, asks, most = IncomingAsk(session, id, deadline), self._of(session), self._context.limits.asks
        asks.newest = id
        asks.open[id] = ask
        self.open_count += 1
        if len(asks.open) <= most:
            return ask
        self._fail_early(ask, "limit", f"more than {most} asks at once")
        return None

    def _fail_early(self, ask: IncomingAsk, type: str, text: str) -> None:
        """A limit is reached before the request was complete."""
        if self.fail(ask, type, text):
            ask.session.close(request_failed(ask.session))

    def _hold(self, ask: IncomingAsk, size: int) -> bool:
        """Keep a piece of a request that is not complete. False if that is too much: the request has failed."""
        ask.held += size
        self.gathered += size
        limits = self._context.limits
        limit = max(limits.mailbox_total, 2 * limits.message)
        if self.gathered <= limit:
            return True
        self._fail_early(ask, "linkbox.TooLarge", f"asks that are not whole yet have more than {limit} bytes")
        return False

    def _release(self, ask: IncomingAsk) -> None:
        self.gathered -= ask.held
        ask.held = 0

    def _on_cancel(self, session: Session, id: int) -> bool:
        """The client does not want the response any more. True if the request was open."""
        asks = self._of(session)
        if id > asks.newest:
            raise ProtocolViolation(f"CANCEL of ask {id}, which was never asked")
        ask = asks.open.get(id)
        if ask is None:
            return False
        self._close(ask)
        ask.is_cancelled = True
        return True

    # -- over plain framings ---------------------------------------------------------------------------

    def on_plain(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """Whole messages over a plain framing. Over Raw the request is complete at FIN."""
        if self._context.settings.framing.name == "raw":
            raw = self._of(session).raw
            for payload in payloads:
                raw.add(payload, self._context.limits.message)
            return []
        found = (self._plain_message(session, payload) for payload in payloads if session.error is None)
        return [each for each in found if each is not None]

    def on_plain_eof(self, session: Session) -> list[Arrival]:
        """The client has closed its half: over Raw its request is complete."""
        if self._context.settings.framing.name != "raw" or not session.receiving.arrived_bytes:
            return []
        whole = self._of(session).raw.whole(self._context.limits.message)
        arrival = self._plain_message(session, whole)
        return [] if arrival is None else [arrival]

    def _plain_message(self, session: Session, payload: Payload) -> Arrival | None:
        asks = self._of(session)
        ask = self._open(session, asks.newest + 1, None)
        if ask is None:
            return None
        size = 0 if isinstance(payload, TooLarge) else len(payload)
        if len(asks.open) > 1 and not self._hold(ask, size + OVERHEAD):
            return None
        return Arrival(session, [payload], session.receiving.arrived, ask)

    def may_start(self, ask: IncomingAsk) -> bool:
        """May a complete request be worked on now? Over a plain framing only when it is the oldest."""
        return not self._context.is_plain or self._oldest(ask.session) is ask

    def next_plain(self, session: Session) -> IncomingAsk | None:
        """The next request to work on, if it is complete."""
        ask = self._oldest(session)
        if ask is None or not ask.messages:
            return None
        self._release(ask)
        return ask

    def _oldest(self, session: Session) -> IncomingAsk | None:
        asks = self._by_session.get(session)
        return None if asks is None else next(iter(asks.open.values()), None)


def request_failed(session: Session) -> PeerLost:
    """Why a plain connection is closed: nothing else can say that a request has failed."""
    return PeerLost(f"an ask of {session.peer} failed, or was given up")
