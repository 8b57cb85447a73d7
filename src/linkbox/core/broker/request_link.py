"""The replies of a server to one client that asks through a broker."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from linkbox.core.broker import ask_messages
from linkbox.core.broker.ask_messages import Reply
from linkbox.core.broker.link import BrokerLink
from linkbox.core.context import Context
from linkbox.core.incoming_asks import IncomingAsk
from linkbox.core.link import LinkOwner
from linkbox.core.outgoing import OutgoingMessage
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames

HERE_AFTER: Final = 0.05
"""Seconds after which a client is notified that its request is being worked on."""
IDLE: Final = 60.0
"""Seconds that the session of a client is kept after its last request."""

_FRAME_HEADER: Final = 4
"""Bytes before the payload of a frame: `ServerAsks` has made one of a failure."""


class Started(NamedTuple):
    """A request that has no reply yet."""

    reply_to: str
    here_at: float


class RequestLink(BrokerLink):
    """The replies to one client."""

    __slots__ = ("_by_reply", "_here", "_idle_at", "_orders", "_started", "_takes_notes")

    def __init__(
        self,
        owner: LinkOwner,
        context: Context,
        address: str,
        now: float,
        session: Session,
        by_reply: dict[str, IncomingAsk],
        most: int,
        takes_notes: bool,
    ) -> None:
        super().__init__(owner, context, address, now, session)
        self._takes_notes = takes_notes
        """Does the client know what "here" is? Others would take it as their response."""
        self._by_reply = by_reply
        """The requests of all clients, by the subjects of their replies."""
        self._started: dict[int, Started] = {}
        """The requests of this client, by their ids here."""
        self._here: deque[int] = deque()
        """Those of which the client was not notified that they are worked on; the oldest first."""
        self._orders: list[Reply] = []
        self._idle_at = NEVER
        session.sending.peer_message = most
        session.receiving.grant_endless()

    def start(self, id: int, reply_to: str, now: float) -> None:
        """A request has arrived."""
        self._started[id] = Started(reply_to, now + HERE_AFTER)
        self._idle_at = NEVER
        if self._takes_notes:
            self._here.append(id)
            self.schedule(now + HERE_AFTER)

    # -- sending -------------------------------------------------------------------------------------------

    def take_orders(self, now: float) -> list[Reply]:
        """The replies to publish now."""
        session = self.carried(now)
        if session is not None:
            for message in self.whole_messages(session):
                self._reply(message)
            if not self._started and self._idle_at == NEVER:
                self._idle_at = now + IDLE
                self.schedule(self._idle_at)
            sending = session.sending
            if sending.sent > sending.acked:
                # Nothing acknowledges a reply: forget it. May close the session.
                done = sending.on_ack(sending.sent, sending.sent, ENDLESS, ENDLESS)
                session.owner.acked(session, done)
        orders, self._orders = self._orders, []
        return orders

    def _reply(self, message: OutgoingMessage) -> None:
        header, payload = message.header, message.payload or b""
        assert header is not None
        started = self._started.pop(header.id)
        self._by_reply.pop(started.reply_to, None)
        if header.kind == frames.ANSWER:
            headers = {ask_messages.STATUS: ask_messages.OK}
        else:
            _, kind, text = frames.decode_fail(payload[_FRAME_HEADER:])
            headers = {ask_messages.STATUS: ask_messages.FAIL, ask_messages.TYPE: kind}
            payload = text.encode("utf-8", "replace")
        self._orders.append(Reply(started.reply_to, headers, payload))

    def forget(self, id: int) -> None:
        """The client no longer waits for the response."""
        self._by_reply.pop(self._started.pop(id).reply_to, None)

    # -- "here", and the end of a client that asks no more -------------------------------------------------

    def silence_deadline(self) -> float:
        while self._here and self._here[0] not in self._started:
            self._here.popleft()
        return self._started[self._here[0]].here_at if self._here else self._idle_at

    def on_silence(self, now: float) -> None:
        if not self._started:
            assert self.session is not None
            self.session.owner.close_session(self.session, None)
            return
        while self.silence_deadline() <= now:
            started = self._started[self._here.popleft()]
            self._orders.append(Reply(started.reply_to, {ask_messages.STATUS: ask_messages.HERE}, b""))
        self.context.effects.to_write.append(self)

    def abort(self, error: Exception | None) -> None:
        for id in list(self._started):
            self.forget(id)
        super().abort(error)
