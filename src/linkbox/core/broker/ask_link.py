"""The client's side of requests over a broker: sends them, and finds out when their server is gone.

A request is sent once. Its server replies, or sends a note that it is at work ("here") after
`HERE_AFTER` seconds; then the client asks every second whether that server still has the request. So a client
finds a dead server within about three seconds, although the broker reports no loss. When the connection to
the broker is lost, all requests on their way fail with `PeerLost`: they may have been executed.
"""

from __future__ import annotations

import enum
from typing import Final

from linkbox.core.arrival import Arrival
from linkbox.core.asks_client import ClientAsks
from linkbox.core.broker import ask_messages
from linkbox.core.broker.ask_messages import MOST_PARTS, Cancel, Probe, Request
from linkbox.core.broker.link import BrokerLink
from linkbox.core.broker.marks import Marks
from linkbox.core.broker.subjects import is_inbox
from linkbox.core.context import Context
from linkbox.core.link import LinkOwner
from linkbox.core.outgoing import OutgoingMessage
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames
from linkbox.errors import ConnectFailed, EndOfData, LinkError, PeerLost, Refused, TooLarge
from linkbox.text import printable

PROBE_EVERY: Final = 1.0
"""Seconds between two questions to the server of a request."""
MISSES: Final = 2
"""Questions in a row without a reply, after which the server is lost."""
GONE_TIMES: Final = 3
"""How often a request is sent again because a stopping server has not begun it."""

Order = Request | Cancel | Probe


class Verdict(enum.Enum):
    """What a probe has found."""

    HAS = "has"
    GONE = "gone"
    SILENT = "silent"


class OpenRequest:
    """A request without a reply."""

    __slots__ = (
        "deadline",
        "is_sent",
        "looked_at",
        "misses",
        "numbers",
        "parts",
        "request",
        "server",
        "turns",
    )

    def __init__(self, deadline: float | None) -> None:
        self.deadline: float | None = deadline
        self.parts: list[bytes] = []
        self.numbers: list[int] = []
        """The numbers of its units."""
        self.is_sent: bool = False
        self.request: Request | None = None
        """What was sent, for a server that stops without having begun it."""
        self.server: str = ""
        """The inbox of the server, once it is known."""
        self.looked_at: float = 0.0
        self.misses: int = 0
        self.turns: int = 0


class AskLink(BrokerLink):
    """The way of a client's requests to the servers of a name."""

    __slots__ = ("_asks", "_look_at", "_marks", "_most", "_open", "_orders")

    def __init__(
        self,
        owner: LinkOwner,
        context: Context,
        address: str,
        now: float,
        session: Session,
        asks: ClientAsks,
        most: int,
    ) -> None:
        super().__init__(owner, context, address, now, session)
        self._asks = asks
        self._most = most
        """The largest body that the broker accepts."""
        self._open: dict[int, OpenRequest] = {}
        self._orders: list[Order] = []
        self._marks = Marks(session.sending.sent)
        self._look_at = NEVER
        session.sending.peer_message = most
        session.receiving.grant_endless()

    # -- sending -------------------------------------------------------------------------------------------

    def take_orders(self, now: float) -> list[Order]:
        """What the network must do now."""
        session = self.carried(now)
        if session is not None:
            for message in self.whole_messages(session):
                self._send(message, now)
            self._check_end(session)
        orders, self._orders = self._orders, []
        return orders

    def _send(self, message: OutgoingMessage, now: float) -> None:
        header = message.header
        assert header is not None
        if header.kind == frames.CANCEL:
            self._cancel(header.id)
            self._done([message.number])
            return
        entry = self._open.get(header.id)
        if entry is None:
            entry = self._open[header.id] = OpenRequest(header.deadline)
        entry.numbers.append(message.number)
        if not header.flags & frames.NO_MESSAGE:
            entry.parts.append(message.payload or b"")
        if not header.flags & frames.MORE_OF_ASK:
            self._request(header.id, entry, message, now)

    def _request(self, id: int, entry: OpenRequest, message: OutgoingMessage, now: float) -> None:
        """The request is complete: send it."""
        settings, parts = self.context.settings, entry.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(body) > self._most or len(parts) > MOST_PARTS:
            message.error = TooLarge(
                f"{self.address} takes requests of at most {self._most} bytes and {MOST_PARTS} messages, not "
                f"{len(body)} and {len(parts)}; raise max_payload of the broker, or send several requests"
            )
            del self._open[id]
            assert self.session is not None
            self.session.owner.message_failed(self.session, message)
            self._done(entry.numbers)
            return
        headers = {
            ask_messages.CLIENT: self.context.incarnation,
            ask_messages.NAME: printable(settings.name),
            ask_messages.FORMAT: settings.format_name,
        }
        if entry.deadline is not None:
            headers[ask_messages.LEFT] = str(max(0, int((entry.deadline - now) * 1000)))
        if len(parts) != 1:
            headers[ask_messages.PARTS] = ",".join(str(len(part)) for part in parts)
        entry.parts = []
        entry.request = Request(id, headers, body)
        entry.is_sent = True
        entry.looked_at = now
        self._orders.append(entry.request)
        if self._look_at == NEVER:
            self._look_at = now + PROBE_EVERY
            self.schedule(self._look_at)

    def _cancel(self, id: int) -> None:
        """The caller no longer waits for the response."""
        entry = self._open.pop(id, None)
        if entry is not None and entry.is_sent:
            self._orders.append(Cancel(id, entry.server))

    # -- replies -------------------------------------------------------------------------------------------

    def on_reply(self, id: int, headers: dict[str, str], body: bytes, now: float) -> Arrival | None:
        """A message has arrived for a request. Returns the response, if it must be decoded."""
        self.context.effects.now = now
        entry, session = self._open.get(id), self.session
        if entry is None or session is None:
            return None  # It was cancelled, or has its response.
        status = headers.get(ask_messages.STATUS, headers.get("Status", ask_messages.OK))
        if status == ask_messages.HERE:
            server = headers.get(ask_messages.SERVER, "")
            entry.server = server if is_inbox(server) else ""
            entry.looked_at, entry.misses = now, 0
            self._received(entry)
            return None
        if status == ask_messages.GONE and self._again(entry, now):
            return None
        del self._open[id]
        self._received(entry)
        if status == ask_messages.OK:
            return self._asks.on_answer(session, id, body)
        ask = self._asks.waiting.get(id)
        if ask is not None:
            text = body.decode("utf-8", "replace")
            if status == ask_messages.FAIL:
                self._asks.settle_failure(ask, headers.get(ask_messages.TYPE, ""), text)
            else:
                self._asks.settle(ask, None, self._error(status, headers, text))
        self._check_end(session)
        return None

    def _again(self, entry: OpenRequest, now: float) -> bool:
        """The server stops and has not begun the request: another one may have it. False: there is none."""
        entry.turns += 1
        if entry.turns > GONE_TIMES or entry.request is None:
            return False
        entry.looked_at = now
        self._orders.append(entry.request)
        self.context.effects.to_write.append(self)
        return True

    def _error(self, status: str, headers: dict[str, str], text: str) -> LinkError:
        if status == ask_messages.REFUSED:
            code = headers.get(ask_messages.CODE, "refused")
            return Refused(f"{self.address} refused: {printable(text, 400)}", code)
        if status in (ask_messages.NOBODY, ask_messages.GONE):
            return ConnectFailed(f"no server serves {self.address}; is it started?")
        return PeerLost(f"{self.address}: a reply with the status {printable(status, 40)}")

    def _received(self, entry: OpenRequest) -> None:
        """A server has the request."""
        numbers, entry.numbers = entry.numbers, []
        self._done(numbers)

    def _done(self, numbers: list[int]) -> None:
        """These units need no attention any more."""
        session = self.session
        assert session is not None
        self._marks.add(numbers)
        reached, sending = self._marks.reached, session.sending
        if reached > sending.acked:
            session.owner.acked(session, sending.on_ack(reached, reached, ENDLESS, ENDLESS))

    def denied(self, error: LinkError, now: float) -> None:
        """The broker does not let this client ask."""
        self.context.effects.now = now
        for id in list(self._open):
            del self._open[id]
            ask = self._asks.waiting.get(id)
            if ask is not None:
                self._asks.settle(ask, None, error)

    # -- is the server still there? ------------------------------------------------------------------------

    def silence_deadline(self) -> float:
        return self._look_at

    def on_silence(self, now: float) -> None:
        for id, entry in self._open.items():
            if entry.is_sent and now - entry.looked_at >= PROBE_EVERY:
                entry.looked_at = now
                self._orders.append(Probe(id, entry.server))
        if self._orders:
            self.context.effects.to_write.append(self)
        self._look_at = now + PROBE_EVERY / 2 if self._open else NEVER
        self.schedule(self._look_at)

    def on_probed(self, id: int, verdict: Verdict, now: float) -> None:
        """The result of a `Probe`."""
        self.context.effects.now = now
        entry, session = self._open.get(id), self.session
        if entry is None or session is None:
            return
        entry.misses = entry.misses + 1 if verdict is Verdict.SILENT else 0
        if verdict is Verdict.GONE or entry.misses >= MISSES:
            del self._open[id]
            ask = self._asks.waiting.get(id)
            if ask is not None:
                lost = PeerLost(
                    f"{self.address}: the server that had the request is gone; it may be executed"
                )
                self._asks.settle(ask, None, lost)
            self._received(entry)
            self._check_end(session)

    # -- the end -------------------------------------------------------------------------------------------

    def _check_end(self, session: Session) -> None:
        """Close the conversation, once it has ended and has all its responses."""
        if session.link is not self or not session.ending.is_requested:
            return
        if session.sending.queue or self._asks.is_busy(session):
            return
        session.ending.is_sent = session.ending.is_acked = True
        session.receiving.end_reason = EndOfData(f"the conversation with {session.peer} is over")
        self.eof = True
        self.abort(None)

    def abort(self, error: Exception | None) -> None:
        if not self.closed:
            for id in list(self._open):
                self._cancel(id)
        super().abort(error)
