"""A whole endpoint on the bench: one hub of `tests.core.wire`, and what must hold whatever its peer says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from linkbox.core.asks import Ask

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.channel import OutgoingMessage
from linkbox.core.endpoint_core import ClientCore, EndpointCore
from linkbox.core.link import Link
from linkbox.core.linked_link import LinkedLink
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import Pattern
from linkbox.core.plain_link import PlainLink
from linkbox.core.send_window import EARLY_BYTES, EARLY_UNITS
from linkbox.core.session import Session
from linkbox.core.settings import Settings
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framings import Framing, Linked, PlainFraming
from linkbox.errors import FormatError, LinkboxError
from linkbox.limits import Limits
from tests.core.wire import ALL_KINDS, Probe, Wire

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
        """All messages of its mailbox."""
        taken = hub.mailbox.take_all()
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
                check_session(session)
            check_asks(hub)
        payloads = (each for _, arrival in self.undecoded for each in arrival.payloads)
        backlog = sum(len(each) for each in payloads if isinstance(each, bytes))
        assert backlog <= (max(self.limits.mailbox_bytes, EARLY_BYTES) + frames.MAX_PIECE) * 2

    def check_over(self) -> None:
        """After everybody has gone and enough time has passed: nothing is left of them."""
        for hub in self.hubs:
            assert not hub.links.links and not hub.sessions.by_id
            asks = hub.asks
            assert not asks.open and not asks.newest and not asks.open_counts and not asks.waiting
            assert not hub.mailbox.take_all() or hub.context.pattern.asks
            assert hub.mailbox.count == hub.mailbox.nbytes == 0
            assert not hub.paused and not hub.effects.acks_due
        assert all(each.is_done for each in self.asked)
        assert all(each.error is not None or each.number for each in self.receipts)


def check_link(link: Any) -> None:
    """What one connection holds."""
    limits = link.limits
    if isinstance(link, PlainLink):
        assert link.decoder.pending <= limits.message + FRAMING_SLACK
        return
    assert isinstance(link, LinkedLink)
    assert len(link.greeting) < 8
    most = frames.MAX_EARLY + frames.MAX_SMALL if link.decoder.small else frames.MAX_PIECE + 12
    assert link.decoder.buffered <= most
    # Each rejected unit costs a frame, and each unit costs credit.
    assert len(link.control) <= limits.control_frames + max(EARLY_UNITS, limits.mailbox_messages) + 2


def check_session(session: Session) -> None:
    """What one conversation holds."""
    limits, source = session.limits, session.receiving
    assert session.sending.taken <= session.sending.acked <= session.sending.sent
    assert source.taken <= source.processed <= session.receiving.arrived
    window = max(limits.mailbox_bytes, EARLY_BYTES)
    assert source.waiting_bytes <= window + max(limits.message, frames.MAX_PIECE)
    # A plain link that is full is not read any more; what came in one read is there.
    one_read = frames.MAX_EARLY if session.is_plain else 1
    assert source.waiting <= max(EARLY_UNITS, limits.mailbox_messages) + one_read
    assert (
        session.receiving.assembly is None
        or held(session.receiving.assembly) <= limits.message + frames.MAX_PIECE
    )
    assert held(session.raw) <= limits.message
    # Answers wait for a peer that does not take them; asks for more of them need credit.
    assert (
        session.in_flight()
        <= limits.window_messages + max(EARLY_UNITS, limits.mailbox_messages) + limits.asks
    )
    assert len(session.sending.dropped) <= 1000 and len(session.rejections.frames) <= 1000


def held(pile: Pile) -> int:
    """Bytes, about, that what waits for the rest takes in memory."""
    return pile.size + 50 * (len(pile._pieces) - 1 - pile.size // 4096)


def check_asks(hub: EndpointCore) -> None:
    """Open asks belong to somebody, and are within bounds."""
    asks, limits = hub.asks, hub.context.limits
    assert asks.gathered == sum(each.in_flight() for each in asks.open.values())
    assert asks.gathered <= max(limits.mailbox_total, 2 * limits.message)
    assert set(asks.newest) <= set(hub.sessions.by_id)
    assert {id for id, _ in asks.open} <= set(hub.sessions.by_id)
    counts = dict.fromkeys(asks.open_counts, 0)
    for (id, _), incoming in asks.open.items():
        counts[id] += 1
        kept = sum(len(each) + 100 for each in incoming.messages if isinstance(each, bytes))
        kept += 0 if incoming.parts is None else held(incoming.parts)
        assert kept <= limits.mailbox_total + limits.message + 200
    assert counts == asks.open_counts
    assert all(number <= limits.asks for number in counts.values())


def see(probe: Probe) -> list[tuple[int, bytes]]:
    """What the endpoint has said: it must be frames of our wire."""
    heard = probe.heard()
    assert probe.decoder.error is None, probe.decoder.error
    return heard
