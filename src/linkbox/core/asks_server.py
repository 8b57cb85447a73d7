"""The server's side of requests: assembles them, keeps the open ones, sends responses and failures.

asks_client.py explains requests. With a plain framing requests have no id: responses are sent in the order of
the requests, and only the oldest request of a connection is worked on.
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
"""Bytes counted for a message besides its payload: empty messages use memory too."""


class IncomingAsk(AskState):
    """A client's request that has no response yet."""

    __slots__ = ("deadline", "held", "is_cancelled", "is_finished", "is_whole", "messages")

    def __init__(self, session: Session, id: int, deadline: float | None) -> None:
        super().__init__(session, id)
        self.deadline = deadline
        self.messages: list[Value] = []
        self.held = 0
        """Bytes kept of it, counted until it is complete."""
        self.is_whole = False
        """Has the whole request arrived?"""
        self.is_cancelled = False
        self.is_finished = False
        """Is there a response or a failure, or was it cancelled? Then nothing more can be sent."""

    def weight(self) -> int:
        """The bytes that it counts in the mailbox."""
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
        """The highest id used so far."""
        self.raw = Assembler()
        """With Raw: the request, which is complete when the stream ends."""


class ServerAsks:
    """All requests of a server that have no response yet."""

    __slots__ = ("_by_session", "_context", "abandoned", "gathered", "open_count")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_session: dict[Session, _SessionAsks] = {}
        self.open_count = 0
        self.gathered = 0
        """Bytes of all requests that are incomplete or not started: credit does not limit them."""
        self.abandoned: deque[IncomingAsk] = deque()
        """Requests that the application has dropped without a response; any thread may append."""

    # -- responding ------------------------------------------------------------------------------------

    def answer(self, ask: IncomingAsk, payload: bytes) -> None:
        """Send the response, unless the client has disconnected or cancelled the request."""
        if self._close(ask):
            ask.session.send_part(AskHeader(frames.ANSWER, ask.id), payload)

    def fail(self, ask: IncomingAsk, type: str, text: str) -> bool:
        """Send a failure, unless the client has disconnected or cancelled the request.

        Returns true with a plain framing, which has no failures: then the caller must close the session.
        """
        if not self._close(ask):
            return False
        if ask.session.is_plain:
            return True
        ask.session.send_part(AskHeader(frames.FAIL, ask.id), frames.encode_fail(ask.id, type, text))
        return False

    def _close(self, ask: IncomingAsk) -> bool:
        """Remove the request. False if the client does not wait for the response any more."""
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
        """The response is larger than the client accepts: fail the request."""
        header = message.header
        if header is not None and header.kind == frames.ANSWER:
            fail = frames.encode_fail(header.id, "linkbox.TooLarge", str(message.error))
            session.sending.enqueue(
                session.sending.message_type(session, fail, AskHeader(frames.FAIL, header.id))
            )

    def has_open(self, session: Session) -> bool:
        """Does the peer wait for responses?"""
        asks = self._by_session.get(session)
        return asks is not None and bool(asks.open)

    def drop_session(self, session: Session) -> None:
        """Cancel the requests of a peer whose session is closed."""
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
        """Process a frame of a request. Return the message that it completes, if any, and whether it closes a
        request."""
        if kind == frames.ASK:
            return self._on_ask(session, payload, now), False
        if kind != frames.CANCEL:
            raise ProtocolViolation(f"{frames.type_name(kind)} from the wrong side")
        size = len(payload) + 4  # The peer's SendWindow counts the whole frame, with its header.
        session.receiving.add_units(1, size, size)
        return None, self._on_cancel(session, frames.decode_cancel(payload)[0])

    def _on_ask(self, session: Session, payload: bytes, now: float) -> Arrival | None:
        id, flags, left, body = frames.decode_ask(payload)
        session.receiving.add_units(1, len(body), len(body))
        asks = self._of(session)
        ask = asks.open.get(id)
        if ask is None:
            if id <= asks.newest:
                return None  # The rest of a cancelled or failed request.
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
        """Add a new request. If there are too many, fail it and return None."""
        ask, asks, most = IncomingAsk(session, id, deadline), self._of(session), self._context.limits.asks
        asks.newest = id
        asks.open[id] = ask
        self.open_count += 1
        if len(asks.open) <= most:
            return ask
        self._fail_early(ask, "limit", f"more than {most} requests at once")
        return None

    def _fail_early(self, ask: IncomingAsk, type: str, text: str) -> None:
        """Fail a request that reaches a limit before it is complete."""
        if self.fail(ask, type, text):
            ask.session.close(request_failed(ask.session))

    def _hold(self, ask: IncomingAsk, size: int) -> bool:
        """Count bytes of an incomplete request. Beyond the limit, fail the request and return False."""
        ask.held += size
        self.gathered += size
        limits = self._context.limits
        limit = max(limits.mailbox_total, 2 * limits.message)
        if self.gathered <= limit:
            return True
        self._fail_early(ask, "linkbox.TooLarge", f"incomplete requests have more than {limit} bytes")
        return False

    def _release(self, ask: IncomingAsk) -> None:
        self.gathered -= ask.held
        ask.held = 0

    def _on_cancel(self, session: Session, id: int) -> bool:
        """Process CANCEL: the client no longer waits for the response. True if the request was open."""
        asks = self._of(session)
        if id > asks.newest:
            raise ProtocolViolation(f"CANCEL of request {id}, which was never sent")
        ask = asks.open.get(id)
        if ask is None:
            return False
        self._close(ask)
        ask.is_cancelled = True
        return True

    # -- over plain framings ---------------------------------------------------------------------------

    def on_plain(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """Process messages of a plain framing. With Raw, a request is complete at FIN."""
        if self._context.settings.framing.name == "raw":
            raw = self._of(session).raw
            for payload in payloads:
                raw.add(payload, self._context.limits.message)
            return []
        found = (self._plain_message(session, payload) for payload in payloads if session.error is None)
        return [each for each in found if each is not None]

    def on_plain_eof(self, session: Session) -> list[Arrival]:
        """Process FIN: with Raw, it completes the client's request."""
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
        """May work on a complete request start? With a plain framing only if it is the oldest."""
        return not self._context.is_plain or self._oldest(ask.session) is ask

    def next_plain(self, session: Session) -> IncomingAsk | None:
        """Return the next request to work on, if it is complete."""
        ask = self._oldest(session)
        if ask is None or not ask.messages:
            return None
        self._release(ask)
        return ask

    def _oldest(self, session: Session) -> IncomingAsk | None:
        asks = self._by_session.get(session)
        return None if asks is None else next(iter(asks.open.values()), None)


def request_failed(session: Session) -> PeerLost:
    """Return the reason to close a plain connection: a plain framing cannot report a failed request."""
    return PeerLost(f"a request of {session.peer} failed or was cancelled")
