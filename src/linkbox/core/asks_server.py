"""The server's side of requests: assembles them, keeps the open ones, sends responses and failures.

asks_client.py explains requests. With a plain framing requests have no id: the next request of a connection
begins when the one before it has its response. incoming_asks.py has the limits on memory.
"""

from __future__ import annotations

from collections import deque

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.channel import AskHeader, OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.incoming_asks import OVERHEAD, AskMemory, IncomingAsk, SessionAsks
from linkbox.core.request_mailbox import RequestMailbox
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.errors import PeerLost, ProtocolViolation, StateError

__all__ = ["IncomingAsk", "ServerAsks", "request_failed"]


class ServerAsks:
    """All requests of a server that have no response yet."""

    __slots__ = ("_by_session", "_context", "abandoned", "memory", "open_count")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_session: dict[Session, SessionAsks] = {}
        self.memory: AskMemory = AskMemory(context)
        self.open_count: int = 0
        self.abandoned: deque[IncomingAsk] = deque()
        """Requests that the application has dropped without a response; any thread may append."""

    # -- responding ------------------------------------------------------------------------------------

    def fail(self, ask: IncomingAsk, type: str, text: str) -> bool:
        """Send a failure, unless the client has disconnected or cancelled the request.

        Returns true with a plain framing, which has no failures: then the caller must close the session.
        """
        if ask.session.is_plain:
            return self._close(ask)
        self.respond(ask, AskHeader(frames.FAIL, ask.id), frames.encode_fail(ask.id, type, text))
        return False

    def ignore(self, ask: IncomingAsk) -> None:
        """With a plain framing, or after a client of a broker has cancelled it: there is no response."""
        self._close(ask)

    def respond(self, ask: IncomingAsk, header: AskHeader, payload: bytes) -> None:
        """Send a response or a failure, unless the client has disconnected or cancelled the request."""
        if not self._close(ask):
            return
        session = ask.session
        if session.send_at_once(payload, header) is None:
            session.send_part(payload, header)
        asks = ask.asks
        if self.memory.keep(asks) or asks.is_full:
            self._regulate(asks)
            if ask.session.link is None and not self.memory.is_kept(asks):
                ask.session.close(_no_room(ask.session))

    def _close(self, ask: IncomingAsk) -> bool:
        """Remove the request. False if the client does not wait for the response any more."""
        if ask.is_finished and not ask.is_cancelled:
            raise StateError("this request has been answered already")
        is_known = ask.asks.open.pop(ask.id, None) is not None
        if is_known:
            self.open_count -= 1
        if ask.held:
            self._settle(ask)
            ask.messages = []  # What is not decoded of the request may keep it alive.
        ask.is_finished = True
        return is_known and not ask.is_cancelled

    def _settle(self, ask: IncomingAsk) -> None:
        """The request is in the mailbox, which counts it now, or will never be: count it no longer here."""
        ask.asks.halves.pop(ask.id, None)
        self.memory.count(ask.asks, -ask.held)
        ask.held = 0
        ask.assembler = None

    def add_decoded(self, ask: IncomingAsk, more: int, is_final: bool, now: float) -> bool:
        """A message of a request of several is decoded, and takes ``more`` bytes than before.

        If there is no room, fail the request and return False.
        """
        asks, limits = ask.asks, self._context.limits
        most = limits.decoded if self._context.settings.decodes else limits.message
        if more > 0:
            ask.held += more
            self.memory.count(asks, more)
        if is_final:
            # A full mailbox has room for one more message of each peer, not for all that it gathered before.
            cost = ask.session.receiving.waiting_bytes + ask.held
            if cost > most and self._mailbox().is_full_together():
                self.fail(ask, "limit", "the mailbox is full, and the request is large: try again later")
                return False
            self._settle(ask)
        elif more > 0 and self.memory.is_over(asks) and not self._make_room(asks, now):
            self.fail(ask, "linkbox.TooLarge", self.memory.refusal(asks))
            return False
        return True

    def on_message_failed(self, session: Session, message: OutgoingMessage) -> None:
        """The response is larger than the client accepts: fail the request."""
        header = message.header
        if header is not None and header.kind == frames.ANSWER:
            fail = frames.encode_fail(header.id, "linkbox.TooLarge", str(message.error))
            session.sending.enqueue(
                session.sending.message_type(session, fail, AskHeader(frames.FAIL, header.id))
            )

    # -- peers that do not take their responses --------------------------------------------------------

    def acked(self, session: Session) -> None:
        """The peer has acknowledged responses (with a plain framing: they were written)."""
        asks = self._by_session.get(session)
        if asks is not None and asks.kept:
            before = asks.kept
            if self.memory.keep(asks) != asks.is_full:
                self._regulate(asks)
            elif asks.is_full and asks.kept < before:
                session.request_ack()  # Others may wait on their way: ask again.

    def _regulate(self, asks: SessionAsks) -> None:
        """Start no further requests of a peer that has to take its responses first, or start them again."""
        is_full = self.memory.keep(asks)
        if is_full == asks.is_full:
            return
        asks.is_full = is_full
        session, receiving = asks.session, asks.session.receiving
        if session.is_plain:
            self.go_on(session)
        elif is_full:
            self._mailbox().suspend(receiving)
            session.request_ack()
        else:
            mailbox = self._mailbox()
            mailbox.resume(receiving)
            self._context.effects.to_wake.append(mailbox.changed)
            receiving.request_ack(ACK_DUE_SOON)
        self.memory.keep(asks)

    def _mailbox(self) -> RequestMailbox:
        mailbox = self._context.mailbox
        assert isinstance(mailbox, RequestMailbox)
        return mailbox

    # -- the ends of connections and sessions ----------------------------------------------------------

    def has_open(self, session: Session) -> bool:
        """Does the peer wait for responses?"""
        asks = self._by_session.get(session)
        return asks is not None and bool(asks.open or asks.unread)

    def end_arrived(self, session: Session) -> None:
        """The peer sends nothing more: its incomplete requests will never be complete."""
        asks = self._by_session.get(session)
        if asks is not None and asks.halves:
            self._fail_halves(asks, "RequestFailed", "the client ended before the request was complete")

    def disconnected(self, session: Session) -> bool:
        """The connection is lost. False: there is no room for what has to be kept until the peer returns."""
        asks = self._by_session.get(session)
        if asks is None:
            return True
        self.memory.disconnected(asks)
        self.memory.keep(asks)
        return self.memory.is_kept(asks)

    def drop_session(self, session: Session) -> None:
        """Cancel the requests of a peer whose session is closed."""
        asks = self._by_session.pop(session, None)
        if asks is None:
            return
        for ask in asks.open.values():
            ask.is_cancelled = ask.is_finished = True
            if ask.held:
                ask.held, ask.messages = 0, []
        self.open_count -= len(asks.open)
        asks.open.clear()
        asks.halves.clear()
        asks.unread.clear()
        self.memory.forget(asks)
        self._mailbox().discard(session.receiving)

    # -- from the wire ---------------------------------------------------------------------------------

    def on_ask(
        self, session: Session, payload: bytes, now: float
    ) -> tuple[IncomingAsk, Payload | None, bool] | None:
        """Process a piece of a request.

        If it completes a message, return the request, the message (None: the request is complete without a
        further one) and whether it is the last one.
        """
        id, flags, left, body = frames.decode_ask(payload)
        receiving, size, limit = session.receiving, len(body), self._context.limits.message
        receiving.add_units(1, size, size)
        asks = self._by_session.get(session) or self._of(session)
        ask = asks.open.get(id)
        if ask is None:
            if id <= asks.newest:
                return None  # The rest of a cancelled or failed request.
            ask = self._open(asks, id, None if left is None else now + left / 1000)
            if ask is None:
                return None
        elif ask.is_whole:
            return None  # It is complete; nothing can be added.
        is_last = not flags & (frames.MORE_OF_MESSAGE | frames.MORE_OF_ASK)
        ask.is_whole = is_last or bool(flags & frames.NO_MESSAGE)
        if flags & frames.NO_MESSAGE:
            if ask.assembler is not None:
                raise ProtocolViolation(f"request {id} is complete in the middle of a message")
            asks.halves.pop(id, None)
            return ask, None, True
        if not ask.is_whole and not self._hold(ask, size, flags, now):
            return None
        whole: Payload | None = body
        if flags & frames.MORE_OF_MESSAGE or ask.assembler is not None or size > limit:
            whole = ask.gather(body, flags, limit)
        if whole is None:
            return None
        if ask.is_whole and ask.held:
            asks.halves.pop(id, None)
        return ask, whole, not flags & frames.MORE_OF_ASK

    def _of(self, session: Session) -> SessionAsks:
        asks = self._by_session.get(session)
        if asks is None:
            asks = self._by_session[session] = SessionAsks(session)
        return asks

    def _open(self, asks: SessionAsks, id: int, deadline: float | None) -> IncomingAsk | None:
        """Add a new request. If there are too many, fail it and return None."""
        ask, most = IncomingAsk(asks, id, deadline), self._context.limits.asks
        asks.newest = id
        asks.open[id] = ask
        self.open_count += 1
        if len(asks.open) <= most:
            return ask
        self.fail(ask, "limit", f"more than {most} requests at once: the server has Limits(asks={most})")
        return None

    def _hold(self, ask: IncomingAsk, size: int, flags: int, now: float) -> bool:
        """Count bytes of an incomplete request. If there is no room, fail the request and return False."""
        asks, memory = ask.asks, self.memory
        if not ask.held:
            size += OVERHEAD
            asks.halves[ask.id] = ask
        if not flags & frames.MORE_OF_MESSAGE:
            size += OVERHEAD
        ask.held += size
        if memory.hold(asks, size, now) or self._make_room(asks, now):
            return True
        self.fail(ask, "linkbox.TooLarge", memory.refusal(asks))
        return False

    def _make_room(self, asks: SessionAsks, now: float) -> bool:
        """Fail incomplete requests of other clients that are disconnected or silent. True if that helps."""
        while (other := self.memory.stale(asks, now)) is not None:
            if other.session.is_plain:
                other.session.close(request_failed(other.session))
            else:
                self._fail_halves(
                    other, "limit", "the request was not completed in time; others needed its memory"
                )
            if not self.memory.is_over(asks):
                return True
        return False

    def _fail_halves(self, asks: SessionAsks, type: str, text: str) -> None:
        for ask in list(asks.halves.values()):
            self.fail(ask, type, text)

    def on_cancel(self, session: Session, payload: bytes) -> bool:
        """Process CANCEL: the client no longer waits for the response. True if the request was open."""
        size = len(payload) + 4  # The peer's SendWindow counts the whole frame, with its header.
        session.receiving.add_units(1, size, size)
        id = frames.decode_cancel(payload)[0]
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
        """Process messages of a plain framing; without any, begin the next request. See `go_on`.

        With Raw, a request is complete at FIN.
        """
        asks, memory = self._of(session), self.memory
        if session.is_ending:
            return []
        if self._context.settings.framing.name == "raw":
            self._on_raw(asks, payloads)
            return []
        if payloads:
            asks.unread.extend(payloads)
            memory.count(asks, sum(map(len, payloads)) + OVERHEAD * len(payloads))
        arrivals: list[Arrival] = []
        if asks.unread and not asks.open and not asks.is_full:
            payload = asks.unread.popleft()
            memory.count(asks, -len(payload) - OVERHEAD)
            arrivals.append(self._begin_plain(asks, payload))
        self._pause(asks)
        return arrivals

    def begin(self, session: Session, deadline: float | None) -> IncomingAsk:
        """With a plain framing or a broker: begin a request, which is complete and has no id of its own."""
        asks = self._of(session)
        asks.newest += 1
        ask = asks.open[asks.newest] = IncomingAsk(asks, asks.newest, deadline)
        ask.is_whole = True
        self.open_count += 1
        return ask

    def _begin_plain(self, asks: SessionAsks, payload: Payload) -> Arrival:
        session = asks.session
        return Arrival(session, [payload], session.receiving.arrived, self.begin(session, None))

    def _pause(self, asks: SessionAsks) -> None:
        """Read from the connection only while not too many requests wait for their turn."""
        link, limits = asks.session.link, self._context.limits
        assert link is not None
        count, held = len(asks.unread), asks.held
        if link.paused:  # Read again when half of them are gone.
            count, held = 2 * count, 2 * held
        must_pause = bool(asks.unread) and (
            count >= limits.asks or held >= limits.mailbox_bytes or self.memory.is_over(asks)
        )
        if must_pause != link.paused:
            link.paused = must_pause
            self._context.effects.to_write.append(link)

    def _on_raw(self, asks: SessionAsks, payloads: list[bytes]) -> None:
        for payload in payloads:
            asks.raw.add(payload, self._context.limits.message)
        now = self._context.effects.now
        if not self.memory.hold(asks, asks.raw.held - asks.held, now) and not self._make_room(asks, now):
            asks.session.close(request_failed(asks.session))

    def on_plain_eof(self, session: Session) -> list[Arrival]:
        """Process FIN: with Raw, it completes the client's request."""
        if self._context.settings.framing.name != "raw" or not session.receiving.arrived_bytes:
            return []
        asks = self._of(session)
        whole = asks.raw.whole(self._context.limits.message)
        self.memory.count(asks, -asks.held)
        return [self._begin_plain(asks, whole)]

    def go_on(self, session: Session) -> None:
        """With a plain framing: begin the next request, if none is open and the peer takes its responses.

        The driver calls the link again, and so `on_plain`: the message is decoded outside of the lock.
        """
        asks = self._by_session.get(session)
        if asks is not None and asks.unread and not asks.open and not asks.is_full:
            link = session.link
            assert link is not None
            self._context.effects.to_read.append(link)

    def end_plain(self, session: Session) -> None:
        """With a plain framing: send the responses that are due, then close. Begin no further request."""
        asks = self._of(session)
        asks.unread.clear()
        self.memory.count(asks, -asks.held)
        session.end()


def request_failed(session: Session) -> PeerLost:
    """Return the reason to close a plain connection: a plain framing cannot report a failed request."""
    return PeerLost(f"a request of {session.peer} failed or was cancelled")


def _no_room(session: Session) -> PeerLost:
    """Return the reason to close the session of a peer that is disconnected."""
    return PeerLost(f"{session.peer} is disconnected, and there is no room for its responses")
