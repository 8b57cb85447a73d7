"""Any sequence of sends, takes, cuts and delays: nothing is lost, doubled or reordered, no receipt lies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from linkbox.core import frame_writer, send_window
from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.mailbox import Mailbox
from linkbox.core.outgoing import Bundle, OutgoingMessage, Piece, count_of
from linkbox.core.patterns import P2P
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, EndOfData, MailboxFull
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import ALL_KINDS, Wire

pytestmark = pytest.mark.patches
SIZES = st.sampled_from([0, 1, 44, 45, 46, 115, 330])
"""Around the borders of pieces and batches, as they are made here (see `small_pieces`)."""
SIDES = st.sampled_from(["client", "server"])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of more than 50 bytes travel in pieces, and batches hold 40.

    What is written without queueing must be one unit, also when it is queued after a drop: it is smaller.
    """
    monkeypatch.setattr(frames, "MAX_PIECE", 50)
    monkeypatch.setattr(frame_writer, "BATCH_BODIES", 40)
    monkeypatch.setattr(frame_writer, "_EARLY_BODIES", 49)
    monkeypatch.setattr(frame_writer, "JOINED", 45)
    monkeypatch.setattr(send_window, "JOINED", 45)


def unit_size(unit: Any) -> int:
    if isinstance(unit, Bundle):
        return sum(map(len, unit.payloads))
    return unit.stop - unit.start if isinstance(unit, Piece) else len(unit.payload) - unit.offset


class Half:
    """What one application has sent, with its receipts, and what the other one has taken of it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.receipts: list[OutgoingMessage | None] = []
        """None where nobody asked for one."""
        self.taken: list[bytes] = []

    def check_order(self, waiting: list[bytes], drops: bool) -> None:
        """What came through is what was sent, in order, each once; receipts say no more than is true."""
        rest = iter(self.sent)
        there = self.taken + waiting
        assert all(message in rest for message in there)
        stages = [receipt.stage for receipt in self.receipts if receipt is not None]
        good = [stage for stage in stages if stage is not Stage.FAILED]
        assert good == sorted(good, reverse=True)
        for message, receipt in zip(self.sent, self.receipts, strict=True):
            if receipt is not None:
                self.check_receipt(message, receipt, there, drops)

    def check_receipt(
        self, message: bytes, receipt: OutgoingMessage, there: list[bytes], drops: bool
    ) -> None:
        stage = receipt.stage
        if stage is Stage.TAKEN:
            assert message in self.taken
        elif stage is Stage.RECEIVED:
            assert message in there or drops  # it was there, but may have been dropped since
        elif stage is Stage.FAILED:
            assert message not in there
            kind = DecodeError if message.startswith(b"bad") else MailboxFull
            assert isinstance(receipt.error, (kind, MailboxFull))


class AnyDrops(RuleBasedStateMachine):
    """P2P with everything that can happen to it, but the death of a process."""

    policies = ("block",)
    may_drop = True
    is_bytes = False
    """Is nothing decoded, so that messages are stored when they arrive? Then none is bad."""

    @initialize(
        data=st.data(),
        mailbox=st.sampled_from([Mailbox, BytesMailbox]),
        listening=st.sampled_from([set(), ALL_KINDS]),
        is_up=st.booleans(),
    )
    def begin(
        self, data: st.DataObject, mailbox: type[Mailbox], listening: set[EventKind], is_up: bool
    ) -> None:
        limits = Limits(
            mailbox_bytes=data.draw(st.sampled_from([100, 1000, 1 << 20])),
            mailbox_messages=data.draw(st.sampled_from([1, 2, 5, 100_000])),
            mailbox_total=data.draw(st.sampled_from([150, 1 << 28])),
            window_bytes=data.draw(st.sampled_from([200, 1 << 20])),
        )
        policy = data.draw(st.sampled_from(self.policies))
        secrets = (lambda name: [b"secret"]) if data.draw(st.booleans()) else None
        self.wire = Wire(
            P2P,
            limits=limits,
            mailbox=mailbox,
            listening=listening,
            overflow=policy,
            server_secrets=secrets,
            client_secrets=secrets,
            is_bytes=self.is_bytes,
        )
        self.session = self.wire.client.conversation = self.wire.client.begin(self.wire.now)
        self.halves = {"client": Half(), "server": Half()}  # by who sends
        self.count = 0
        if is_up:
            self.wire.run()

    def hub(self, side: str) -> EndpointCore:
        return self.wire.client if side == "client" else self.wire.server

    def session_of(self, side: str) -> Session | None:
        return self.session if side == "client" else self.wire.server.sessions.by_id.get(self.session.peer.id)

    def teardown(self) -> None:
        if hasattr(self, "wire"):
            self.heal()

    # -- what may happen -------------------------------------------------------------------------------

    @rule(side=SIDES, sizes=st.lists(SIZES, min_size=1, max_size=8), bad=st.booleans(), later=st.booleans())
    def send(self, side: str, sizes: list[int], bad: bool, later: bool) -> None:
        session, half = self.session_of(side), self.halves[side]
        if session is None or session.is_ending or session.error is not None or not session.has_room():
            return
        for size in sizes:
            self.count += 1
            message = (b"bad" if bad and not self.is_bytes else b"") + b"%d:" % self.count + b"x" * size
            half.sent.append(message)
            half.receipts.append(session.send(message))
        if not later:
            self.wire.settle()

    @rule(side=SIDES, sizes=st.lists(SIZES, min_size=1, max_size=8), bad=st.booleans(), later=st.booleans())
    def send_many(self, side: str, sizes: list[int], bad: bool, later: bool) -> None:
        """The same as a bundle, as far as there is room."""
        session, half = self.session_of(side), self.halves[side]
        if session is None or session.is_ending or session.error is not None or not session.has_room():
            return
        first = self.count + 1
        messages = [
            (b"bad" if bad and number % 2 and not self.is_bytes else b"") + b"%d:" % number + b"x" * size
            for number, size in enumerate(sizes, first)
        ]
        queued = session.send_many(messages)
        self.count += queued
        half.sent += messages[:queued]
        half.receipts += [None] * queued
        session.flush()
        if not later:
            self.wire.settle()

    @rule(side=SIDES, count=st.integers(1, 9), all=st.booleans())
    def take(self, side: str, count: int, all: bool) -> None:
        mailbox, taken = self.hub(side).mailbox, self.half_for(side).taken
        if all:
            taken += mailbox.take_all()
        while count and mailbox.has():
            taken.append(mailbox.take())
            count -= 1
        self.wire.settle()

    def half_for(self, side: str) -> Half:
        """What comes in on that side."""
        return self.halves["server" if side == "client" else "client"]

    @precondition(lambda self: self.wire.ends)
    @rule(which=st.integers(0, 9), size=st.sampled_from([1, 3, 10, 100, None]), times=st.integers(1, 5))
    def move(self, which: int, size: int | None, times: int) -> None:
        end = self.wire.ends[which % len(self.wire.ends)]
        for _ in range(times):
            self.wire.move(end, size)

    @rule()
    def run(self) -> None:
        self.wire.run()

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.1, 1.0]))
    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    @rule(decodes=st.booleans())
    def decode_later(self, decodes: bool) -> None:
        self.wire.decodes = decodes
        if decodes:
            self.wire.decode_all()

    @precondition(lambda self: self.may_drop and self.wire.ends)
    @rule(which=st.integers(0, 9), keep=st.sampled_from([0, 1, 10, 1000]))
    def drop(self, which: int, keep: int) -> None:
        self.wire.now += 0.001
        self.wire.drop(self.wire.ends[which % len(self.wire.ends)], keep)
        self.wire.settle()

    @precondition(lambda self: self.may_drop and self.session.link is not None)
    @rule()
    def drop_seen_by_the_client_alone(self) -> None:
        self.wire.now += 0.001
        end = self.wire.end_of(self.wire.client)
        self.wire.client.lost(end.link, OSError("cut"), self.wire.now)
        self.wire.settle()

    @rule(side=SIDES)
    def acknowledge_now(self, side: str) -> None:
        session = self.session_of(side)
        if session is not None and session.error is None:
            session.request_ack()
            self.wire.settle()

    @precondition(lambda self: self.count > 20)
    @rule(side=SIDES)
    def end(self, side: str) -> None:
        session = self.session_of(side)
        if session is not None and session.error is None:
            session.end()
            self.wire.settle()

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def nothing_lies(self) -> None:
        if not hasattr(self, "wire"):
            return
        for hub in self.wire.hubs:
            mailbox = hub.mailbox
            assert mailbox.count == sum(len(batch.items) for batch in mailbox.order)
            for session in hub.sessions.by_id.values():
                self.check_marks(session)
        for side in ("client", "server"):
            hub, mailbox = self.hub(side), self.hub(side).mailbox
            waiting = [item for batch in mailbox.order for item in batch.items]
            stored = len(self.half_for(side).taken) + len(waiting) + mailbox.dropped
            assert self.wire.kinds(hub).count(EventKind.DATA) <= stored
            self.half_for(side).check_order(waiting, mailbox.overflow == "drop_oldest")

    def check_marks(self, session: Session) -> None:
        assert session.sending.taken <= session.sending.acked <= session.sending.sent
        assert sum(map(count_of, session.sending.unacked)) == session.sending.sent - session.sending.acked
        waiting = [
            *session.sending.queue,
            *(unit for unit in session.sending.unacked if not isinstance(unit, OutgoingMessage)),
        ]
        whole = sum(
            len(unit.payload) for unit in session.sending.unacked if isinstance(unit, OutgoingMessage)
        )
        assert session.sending.held_bytes == whole + sum(map(unit_size, waiting))
        assert session.in_flight() == sum(map(count_of, (*session.sending.queue, *session.sending.unacked)))
        source = session.receiving
        assert source.taken <= source.processed <= session.receiving.arrived
        assert source.waiting == sum(len(batch.items) for batch in source.batches)

    # -- and at the end ----------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on all is well: then everything arrives, and everything ends in order."""
        self.wire.decodes = True
        self.wire.decode_all()
        for _ in range(500):
            self.take_everything()
            if self.is_settled():
                break
            self.wire.advance(0.5)
        assert self.is_settled()
        self.session.end()
        for _ in range(5):
            self.wire.advance(1.0)
            self.take_everything()
        assert isinstance(self.session.error, EndOfData)
        self.wire.advance(4000.0)  # longer than anything is kept
        self.check_the_end()

    def take_everything(self) -> None:
        for side in ("client", "server"):
            self.take(side, 0, True)

    def is_settled(self) -> bool:
        done = (Stage.TAKEN, Stage.FAILED)
        return all(
            receipt.stage in done or (receipt.stage is Stage.RECEIVED and receipt.channel.error is not None)
            for half in self.halves.values()
            for receipt in half.receipts
            if receipt is not None
        ) and not any(
            session.in_flight() for hub in self.wire.hubs for session in hub.sessions.by_id.values()
        )

    def check_the_end(self) -> None:
        for side in ("client", "server"):
            hub, half = self.hub(side), self.half_for(side)
            assert not hub.sessions.by_id and not hub.links.links
            assert hub.next_timer() == float("inf")
            assert hub.mailbox.nbytes == hub.undelivered == 0
            good = [message for message in half.sent if not message.startswith(b"bad")]
            assert len(half.taken) == len(good) - hub.mailbox.dropped
            assert hub.context.counters.rejected == len(half.sent) - len(good)
            if hub.effects.events.listening:
                self.check_events(hub, half)

    def check_events(self, hub: EndpointCore, half: Half) -> None:
        kinds = self.wire.kinds(hub)
        # A message may take over the event of one that was dropped before the event was taken.
        dropped = hub.mailbox.dropped if hub.mailbox.overflow == "drop_oldest" else 0
        assert len(half.taken) <= kinds.count(EventKind.DATA) <= len(half.taken) + dropped
        assert kinds.count(EventKind.OVERFLOW) == hub.mailbox.dropped
        assert kinds.count(EventKind.END) == 1
        assert kinds.count(EventKind.CONNECTED) == 1
        up = 0
        for kind in kinds:
            up += kind in (EventKind.CONNECTED, EventKind.RESUMED)
            up -= kind is EventKind.DISCONNECTED
            assert up in (0, 1)
        assert up == 0


class AnyDropsOfBytes(AnyDrops):
    """The same without a format: messages are stored when they arrive, unless others are to be decoded."""

    is_bytes = True


class AnyOverflow(AnyDrops):
    """The same with mailboxes that drop what they have no room for."""

    policies = ("drop_oldest", "drop_newest", "error")


class AnyDelay(AnyDrops):
    """The same on a connection that holds."""

    policies = ("block", "drop_oldest", "drop_newest", "error")
    may_drop = False


FEW = settings(max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck))
for machine in (AnyDrops, AnyDropsOfBytes, AnyOverflow, AnyDelay):
    machine.TestCase.settings = FEW
TestAnyDrops = pytest.mark.usefixtures("small_pieces")(AnyDrops.TestCase)
TestAnyDropsOfBytes = pytest.mark.usefixtures("small_pieces")(AnyDropsOfBytes.TestCase)
TestAnyOverflow = pytest.mark.usefixtures("small_pieces")(AnyOverflow.TestCase)
TestAnyDelay = pytest.mark.usefixtures("small_pieces")(AnyDelay.TestCase)
