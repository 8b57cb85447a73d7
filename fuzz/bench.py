"""Whole endpoints on the bench: cores of `tests.core.wire`, one thread, a clock that is turned by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from fuzz import oracle
from fuzz.target import Choices
from linkbox.core.asks_client import Ask
from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.channel import OutgoingMessage
from linkbox.core.context import Settings
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.link import Link
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import Pattern
from linkbox.core.send_window import EARLY_BYTES
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.core.wire.framings import PlainFraming
from linkbox.errors import FormatError, LinkboxError
from linkbox.events import EventKind
from linkbox.limits import Limits
from linkbox.operations.requests import Request
from tests.core.stored import StoredWire
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
    session=80.0,
    stored_session=80.0,
    sessions=2,
    connections=5,
    unwelcomed=3,
    unwelcomed_per_ip=2,
    store_bytes=3000,
)
LARGE = Limits(session=80.0, stored_session=80.0, control_frames=100_000, mailbox_bytes=256 * 1024 * 1024)
"""No script comes near these; except for the number of messages, where the limit does not depend on cuts."""
GONE = 120.0
"""Seconds after which nothing is kept for a peer that has gone."""
MOMENT = 0.01
"""Seconds between two exchanges of a well-behaved client: what it has had is acknowledged by then."""
QUIET = 50
"""Other lines for the log, in a minute: of messages that were rejected, each power of two is told."""


def given(limits: Limits) -> Limits:
    """What the endpoints get. `tests/fuzz/test_bounds.py` lifts one of them, and the oracle must see it."""
    return limits


class Bench(Wire):
    """A wire whose entropy is the same in each run, and whose clients dial nobody unless they are let."""

    def __init__(
        self,
        pattern: Pattern,
        limits: Limits,
        *,
        is_bytes: bool = False,
        is_listening: bool = True,
        **options: Any,
    ) -> None:
        self.numbers = count(1)
        self.on_dial: Callable[[Link], None] | None = None
        """Who answers when the client calls; None: the server, if it `is_reachable`."""
        self.on_accept: Callable[[], bool] | None = None
        """What ``accept=`` says at once; None: it takes its time (see `decide`)."""
        self.receipts: list[OutgoingMessage] = []
        self.asked: list[Ask] = []
        self.lines: Counter[int] = Counter()
        """About connections that were not admitted, by minute."""
        self.bounds = limits
        self.full: dict[EndpointCore, oracle.Full | None] = {}
        """The mailboxes that were full at the last look."""
        super().__init__(
            pattern,
            limits=given(limits),
            mailbox=BytesMailbox if is_bytes else Mailbox,
            listening=ALL_KINDS if is_listening else set(),
            **options,
        )

    def settings(self, name: str, limits: Any) -> Settings:
        made = super().settings(name, limits)
        made.entropy = lambda size: next(self.numbers).to_bytes(size)
        return made

    def settle(self) -> None:
        """As always; but a link with ten thousand things to say is named once, or it looks like unrest."""
        for hub in self.hubs:
            effects = hub.effects
            if len(effects.to_write) > 1:
                effects.to_write[:] = dict.fromkeys(effects.to_write)
            if effects.log_lines:
                lines = [each.text for each in effects.log_lines if "a message from" not in each.text]
                self.lines[int(self.now // 60)] += len(lines)
        super().settle()
        while self.on_accept is not None and self.server.pending_accepts:
            self.server.decide(self.server.pending_accepts.take(), self.on_accept(), self.now)
            super().settle()

    def decide_next(self, is_welcome: bool) -> None:
        """``accept=`` has returned for the connection that has waited longest."""
        if self.server.pending_accepts:
            self.server.decide(self.server.pending_accepts.take(), is_welcome, self.now)
            self.settle()

    def _dial(self, hub: ClientCore, session: Session) -> None:
        if self.on_dial is None:
            super()._dial(hub, session)
            return
        link = hub.connected(session, hub.dialing.address, self.now)
        if link is not None:
            self.on_dial(link)

    def arrange(self, choices: Choices) -> None:
        """What the script says beforehand: whether ``accept=`` decides at once, or when a step says so."""
        if self.asks_first:
            choice = choices.byte() % 3
            if choice:
                self.on_accept = lambda: choice == 1 or next(self.numbers) % 2 == 0

    def equip(self, peer: Any) -> None:
        """Give the attacker further steps."""

    def probe(self, hub: EndpointCore, link: Link) -> Probe:
        """The attacker's end of that link."""
        return Probe(self, hub, link)

    def take(self, hub: EndpointCore) -> list[Any]:
        """All messages of its mailbox, as the application gets them."""
        taken = hub.mailbox.take_all()
        if isinstance(hub, ServerCore) and hub.context.pattern.asks:
            owner = Owner(self, hub)
            taken = [Request(each, owner) for each in taken]
        else:
            most = self.bounds.message
            assert all(len(each) <= most for each in taken if isinstance(each, bytes))
        self.settle()
        return taken

    def try_send(self, hub: EndpointCore, session: Session, size: int) -> None:
        """The application sends, if it may."""
        payload = self.fitting(b"m" * size)
        if payload is not None and session.error is None and not session.is_ending and session.has_room():
            try:
                if hub.has_store:
                    hub.spool(session, [payload], True)
                else:
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
            ask = Ask(session, False)
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

    def check(self, hub: EndpointCore) -> None:
        """After each step, of the endpoint that is attacked: see `oracle.check`."""
        oracle.check(hub, self.bounds, self.now)
        self.full[hub] = oracle.check_full(hub, self.bounds, self.full.get(hub))
        if self.undecoded:
            payloads = (each for _, arrival in self.undecoded for each in arrival.payloads)
            backlog = sum(len(each) for each in payloads if isinstance(each, bytes))
            assert backlog <= (max(self.bounds.mailbox_bytes, EARLY_BYTES) + frames.MAX_PIECE) * 2
        most = (oracle.LINES + 1) * len(self.hubs) + (QUIET if isinstance(self, StoredBench) else 0)
        assert all(each <= most for each in self.lines.values()), "the log is flooded"

    def check_over(self, attacked: EndpointCore) -> None:
        """After everybody has gone and enough time has passed: nothing is left of them."""
        for notices in self.notices.values():
            notices.clear()
        for hub in self.hubs:
            if isinstance(hub, ServerCore) and hub.context.pattern.asks:
                hub.mailbox.take_all()  # asks of peers that have gone: nobody answers them
            oracle.check_over(hub)
        oracle.check_memory(attacked)
        assert all(each.is_done for each in self.asked)
        assert all(each.error is not None or each.number for each in self.receipts)


class StoredBench(Bench, StoredWire):
    """The same with a store at one side or at both."""

    def check_over(self, attacked: EndpointCore) -> None:
        """And nothing is left on the disk but what is in doubt, which the user may look at."""
        super().check_over(attacked)
        if "server" in self.stores:
            counts = self.stores["server"].counts()
            assert not any(counts[each] for each in ("session", "spool", "inbox")), counts


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


class Honest:
    """A client that behaves, on the same server: it is served at once, whatever others do."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client = bench.client
        self.session: Session | None = None

    @property
    def is_there(self) -> bool:
        """Is it connected, and its server not stopping?"""
        return self.session is not None and not self.bench.server.is_stopping

    def connect(self) -> None:
        """Come, and be welcomed at once."""
        self.session = self.bench.connect()
        self.bench.shake()
        assert self.session.is_up, "a well-behaved client is not admitted"

    def exchange(self) -> list[Any]:
        """Be served while the clock stands still. Returns what the server had from others."""
        bench, session = self.bench, self.session
        assert session is not None
        bench.advance(MOMENT)
        before = bench.now
        decodes, bench.decodes = bench.decodes, True
        bench.decode_all()
        others = bench.take(bench.server)
        if bench.pattern.asks:
            others += self._ask(session)
        else:
            bench.try_send(self.client, session, 7)
            bench.run()
            others += bench.take(bench.server)
            assert b"m" * 7 in others, "a well-behaved client is not heard"
            others.remove(b"m" * 7)
        is_over = session.error is not None and bench.framing.name != "raw"
        assert bench.now == before and not is_over and not self.client.context.counters.reconnects
        bench.decodes = decodes
        return others

    def _ask(self, session: Session) -> list[Any]:
        bench = self.bench
        bench.try_ask(session, 7)
        if bench.framing.name == "raw":
            session.end()  # there, an ask is whole when its stream ends
        bench.run()
        requests = bench.take(bench.server)
        mine = [each for each in requests if each.peer.id == self._name(session)]
        assert mine, "a well-behaved client is not heard"
        mine[-1].answer(b"fine!!!")
        bench.run()
        assert bench.asked[-1].value == b"fine!!!", "a well-behaved client is not answered"
        return [each for each in requests if each not in mine]

    def _name(self, session: Session) -> str:
        """The id of its session at the server."""
        if not session.is_plain:
            return session.peer.id
        newest = list(self.bench.server.sessions.by_id.values())
        return next(each.peer.id for each in reversed(newest) if each.peer.address == "tcp://client")

    def leave(self) -> None:
        """Go, in order."""
        self.client.dialing.reconnect = None
        self.client.shutdown(self.bench.now)
        self.bench.advance(1)
        self.client.abort()
        self.bench.run()


def kinds(bench: Bench, hub: EndpointCore) -> list[str]:
    """The events of a hub that do not depend on when something was heard."""
    return sorted(kind.name for kind in bench.kinds(hub) if kind is not EventKind.DELIVERED)
