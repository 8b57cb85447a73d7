"""A whole endpoint on the bench: one hub of `tests.core.wire`, and what must hold whatever its peer says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from linkbox.core.asks_client import Ask, ClientAsks
from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.channel import OutgoingMessage
from linkbox.core.context import Settings
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.incoming_asks import OVERHEAD, SessionAsks
from linkbox.core.link import Link
from linkbox.core.linked_link import LinkedLink
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import Pattern
from linkbox.core.plain_link import PlainLink
from linkbox.core.send_window import EARLY_BYTES, EARLY_UNITS
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framings import Framing, Linked, PlainFraming
from linkbox.errors import FormatError, LinkboxError
from linkbox.limits import Limits
from linkbox.operations.requests import Request
from tests.core.wire import ALL_KINDS, Owner, Probe, Wire

SECRET = b"a secret"
SMALL = Limits(
    message=2000,
    mailbox_bytes=4000,
    mailbox_messages=20,
    mailbox_total=6000,
    window_bytes=4000,
    window_messages=20,
    control_frames=8,
    asks=4,
    session=60.0,
    sessions=3,
)
LARGE = Limits(session=60.0, control_frames=100_000)
"""No script comes near these."""
FRAMING_SLACK = 8


class Bench(Wire):
    """A wire whose entropy is the same in each run, and whose clients dial nobody unless they are let."""

    def __init__(
        self,
        pattern: Pattern,
        limits: Limits,
        *,
        secret: bool = False,
        framing: Framing | None = None,
        overflow: str = "block",
        is_bytes: bool = False,
        listening: bool = True,
    ) -> None:
        self.numbers = count(1)
        known = (lambda name: [SECRET]) if secret else None
        super().__init__(
            pattern,
            limits=limits,
            framing=framing or Linked(),
            overflow=overflow,
            mailbox=BytesMailbox if is_bytes else Mailbox,
            listening=ALL_KINDS if listening else set(),
            server_secrets=known,
            client_secrets=known,
            identifies=secret,
        )
        self.on_dial: Callable[[Link], None] | None = None
        """Who answers when the client calls; None: the server, if it `is_reachable`."""
        self.receipts: list[OutgoingMessage] = []
        self.asked: list[Ask] = []

    def settings(self, name: str, limits: Any) -> Settings:
        made = super().settings(name, limits)
        made.entropy = lambda size: next(self.numbers).to_bytes(size)
        return made

    def settle(self) -> None:
        """As always; but a link with ten thousand things to say is named once, or it looks like unrest."""
        for hub in self.hubs:
            hub.effects.to_write[:] = dict.fromkeys(hub.effects.to_write)
        super().settle()

    def _dial(self, hub: ClientCore, session: Session) -> None:
        if self.on_dial is None:
            super()._dial(hub, session)
            return
        link = hub.connected(session, hub.dialing.address, self.now)
        if link is not None:
            self.on_dial(link)

    def take(self, hub: EndpointCore) -> list[Any]:
        """All messages of its mailbox, as the application gets them."""
        taken = hub.mailbox.take_all()
        if isinstance(hub, ServerCore) and hub.context.pattern.asks:
            owner = Owner(self, hub)
            taken = [Request(each, owner) for each in taken]
        self.settle()
        return taken

    def try_send(self, hub: EndpointCore, session: Session, size: int) -> None:
        """The application sends, if it may."""
        payload = self.fitting(b"m" * size)
        if payload is not None and session.error is None and not session.is_ending and session.has_room():
            try:
                self.receipts.append(session.send(payload))
            except LinkboxError:
                return
            self.settle()

    def fitting(self, payload: bytes) -> bytes | None:
        """What the framing can carry: front ends see to that."""
        try:
            if isinstance(self.framing, PlainFraming):
                self.framing.check(payload)
        except FormatError:
            return None
        return payload

    def try_ask(self, session: Session, size: int) -> None:
        """The application asks, if it may."""
        client, payload = self.client, self.fitting(b"q" * size)
        is_free = len(client.asks.waiting) < (1 if session.is_plain else self.limits.asks)
        if payload is not None and session.error is None and not session.is_ending and is_free:
            ask = client.asks.begin(session, False)
            client.asks.add(ask, payload, False, None)
            self.asked.append(ask)
            self.settle()

    def answer(self, request: Any, choice: int) -> None:
        """The application answers, in one of three ways."""
        payload = self.fitting(b"a" * (choice << (choice % 5)))
        if choice % 3 == 0 and payload is not None:
            request.answer(payload)
        elif choice % 3 == 1:
            request.fail("no")
        del request  # unanswered: the sweeper says so

    # -- what must hold ------------------------------------------------------------------------------

    def check(self) -> None:
        """After each step: what is held for peers is within the limits, and the marks are in order."""
        for hub in self.hubs:
            assert len(hub.links.links) <= hub.context.limits.connections
            for link in hub.links.links:
                check_link(link)
            for session in hub.sessions.by_id.values():
                check_session(session, hub)
            check_asks(hub)
        payloads = (each for _, arrival in self.undecoded for each in arrival.payloads)
        backlog = sum(len(each) for each in payloads if isinstance(each, bytes))
        assert backlog <= (max(self.limits.mailbox_bytes, EARLY_BYTES) + frames.MAX_PIECE) * 2

    def check_over(self) -> None:
        """After everybody has gone and enough time has passed: nothing is left of them."""
        for hub in self.hubs:
            assert not hub.links.links and not hub.sessions.by_id
            check_no_asks(hub)
            assert not hub.mailbox.take_all() or hub.context.pattern.asks
            assert hub.mailbox.count == hub.mailbox.nbytes == 0
            assert hub.context.paused_links is None or not hub.context.paused_links._paused
            assert not hub.effects.acks_due
        assert all(each.is_done for each in self.asked)
        assert all(each.error is not None or each.number for each in self.receipts)


def check_link(link: Link) -> None:
    """What one connection holds."""
    limits = link.context.limits
    if isinstance(link, PlainLink):
        assert link._decoder.pending <= limits.message + FRAMING_SLACK
        return
    assert isinstance(link, LinkedLink)
    if link._reader is not None:
        assert link._reader._decoder.buffered <= frames.MAX_PIECE + 12
    if link.handshake is not None:
        assert len(link.handshake._preface) < 8
        assert link.handshake._decoder.buffered <= frames.MAX_EARLY + frames.MAX_SMALL
        assert link.handshake.buffered() <= frames.MAX_EARLY + frames.MAX_SMALL
    # Each rejected unit costs a frame, and each unit costs credit.
    assert len(link._control) <= limits.control_frames + max(EARLY_UNITS, limits.mailbox_messages) + 2


def check_session(session: Session, hub: EndpointCore) -> None:
    """What one conversation holds."""
    limits, sending, receiving = hub.context.limits, session.sending, session.receiving
    assert sending.taken <= sending.acked <= sending.sent
    assert receiving.taken <= receiving.processed <= receiving.arrived
    window = max(limits.mailbox_bytes, EARLY_BYTES)
    overhead = 2 * OVERHEAD * limits.asks if session.context.pattern.asks else 0
    assert receiving.waiting_bytes <= window + max(limits.message, frames.MAX_PIECE) + overhead
    # A plain link that is full is not read any more; what came in one read is there.
    one_read = frames.MAX_EARLY if session.is_plain else 1
    assert receiving.waiting <= max(EARLY_UNITS, limits.mailbox_messages) + one_read
    assert receiving.assembly is None or held(receiving.assembly) <= limits.message + frames.MAX_PIECE
    # Answers wait for a peer that does not take them; asks for more of them need credit.
    most = limits.window_messages + max(EARLY_UNITS, limits.mailbox_messages) + limits.asks
    assert session.in_flight() <= most
    assert len(sending.dropped) <= 1000 and len(session.rejections.frames) <= 1000
    assert len(session.rejections.dropped) <= 1000


def held(pile: Pile | None) -> int:
    """Bytes, about, that what waits for the rest takes in memory."""
    return 0 if pile is None else pile.size + 50 * (len(pile._pieces) - 1 - pile.size // 4096)


def check_asks(hub: EndpointCore) -> None:
    """Open asks belong to somebody, and are within bounds."""
    server, client, limits = hub.sessions.server_asks, hub.sessions.client_asks, hub.context.limits
    sessions = set(hub.sessions.by_id.values())
    assert {*server._by_session, *client._by_session, *client._raw} <= sessions
    open_asks = [ask for asks in server._by_session.values() for ask in asks.open.values()]
    assert server.open_count == len(open_asks)
    for session, asks in server._by_session.items():
        assert asks.session is session and len(asks.open) <= limits.asks
        check_memory(asks, hub.context.is_plain)
        assert held(asks.raw._parts) <= limits.message
        assert all(ask.session is session and ask.id == id for id, ask in asks.open.items())
    memory = server.memory
    assert memory.gathered == sum(asks.held for asks in server._by_session.values())
    assert memory.kept == sum(asks.kept for asks in server._by_session.values())
    assert set(memory._holders) <= {asks for asks in server._by_session.values() if asks.held}
    one_read = frames.MAX_EARLY * (1 + OVERHEAD) if hub.context.is_plain else 0
    assert memory.gathered <= memory.limit + one_read * max(1, len(sessions))
    for ask in open_asks:
        kept = sum(len(each) + 100 for each in ask.messages if isinstance(each, bytes))
        assert kept + held(ask.assembler._parts) <= limits.mailbox_total + limits.message + 200
    assert all(held(each._parts) <= limits.message for each in client._raw.values())
    check_waiting(client, limits)


def check_memory(asks: SessionAsks, is_plain: bool) -> None:
    """What is counted of one client's requests is what is kept of them."""
    halves = {id: ask for id, ask in asks.open.items() if ask.held}
    assert asks.halves == halves and not any(ask.is_whole for ask in halves.values())
    unread = sum(len(each) + OVERHEAD for each in asks.unread)
    assert asks.held == unread + asks.raw.held + sum(ask.held for ask in halves.values())
    assert is_plain or not (asks.unread or asks.raw.held)
    assert asks.session.receiving.is_suspended == (asks.is_full and not is_plain)


def check_waiting(asks: ClientAsks, limits: Limits) -> None:
    """What a client's requests hold, and their books by session."""
    waiting = {id: ask for of in asks._by_session.values() for id, ask in of.items()}
    assert waiting == asks.waiting
    assert all(held(ask.assembler._parts) <= limits.message + 200 for ask in waiting.values())


def check_no_asks(hub: EndpointCore) -> None:
    """No request of anybody is left."""
    server, client = hub.sessions.server_asks, hub.sessions.client_asks
    memory = server.memory
    assert not server.open_count and not server._by_session
    assert not memory.gathered and not memory.kept and not memory._holders
    assert not client.waiting and not client._by_session and not client._raw


def newest_ask(hub: EndpointCore, session: Session | None) -> int:
    """The highest id of the session's requests that a server has seen."""
    asks = None if session is None else hub.sessions.server_asks._by_session.get(session)
    return 0 if asks is None else asks.newest


def last_ask(hub: EndpointCore) -> int:
    """The id of a client's newest request."""
    return hub.sessions.client_asks._last_id


def see(probe: Probe) -> list[tuple[int, bytes]]:
    """What the endpoint has said: it must be frames of our wire."""
    heard = probe.heard()
    assert probe.decoder.error is None, probe.decoder.error
    return heard
