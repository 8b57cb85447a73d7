"""Any sequence of sends, takes, drops, full disks and deaths of either process, with and without stores.

What must hold: nothing accepted by an end with a store is lost (it arrives, or is reported in doubt), nothing
is doubled but what is marked as redelivered, nothing is reordered, and no receipt says more than is true.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.entries import Spool
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import P2P
from linkbox.core.session import Session
from linkbox.errors import SessionLost, StoreError
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.stored import StoredWire
from tests.core.test_any_drops import SIDES, SIZES, small_pieces
from tests.core.wire import NO_BACKOFF

__all__ = ["small_pieces"]
OTHER = {"client": "server", "server": "client"}


class Way:
    """One direction: what its sender was promised, and what its receiver has seen."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """Accepted, in order; also what may have been, when the process died."""
        self.lost: set[bytes] = set()
        """A process without a store died with it, or it was not known whether it was accepted."""
        self.receipts: list[tuple[bytes, OutgoingMessage]] = []
        self.here: set[bytes] = set()
        """Is in the mailbox now, not redelivered."""
        self.seen: list[bytes] = []
        """Was in a mailbox, in the order of its first time."""
        self.taken: set[bytes] = set()
        self.settled: set[bytes] = set()
        """Taken, and that is on disk: must not come again."""
        self.doubt: set[bytes] = set()


class AnyCrashes(RuleBasedStateMachine):
    """P2P, with everything that can happen to it."""

    choices = ([], ["client"], ["server"], ["client", "server"])

    @initialize(data=st.data(), mailbox=st.sampled_from([Mailbox, BytesMailbox]))
    def begin(self, data: st.DataObject, mailbox: type[Mailbox]) -> None:
        limits = Limits(
            mailbox_bytes=data.draw(st.sampled_from([100, 1 << 20])),
            mailbox_messages=data.draw(st.sampled_from([2, 100_000])),
            window_bytes=data.draw(st.sampled_from([200, 1 << 20])),
            window_messages=data.draw(st.sampled_from([4, 100_000])),
            stored_session=60.0,  # then what waits for a client that is dead is given up
        )
        stores = data.draw(st.sampled_from(self.choices))
        self.wire = StoredWire(
            P2P,
            limits=limits,
            mailbox=mailbox,
            stores=set(stores),
            reconnect=NO_BACKOFF,
            max_peers=100,  # what waits for a client that is dead keeps its place
        )
        self.ways = {"client": Way(), "server": Way()}  # by who sends
        self.pending: list[tuple[str, list[bytes], Spool]] = []
        self.count = 0
        self.start_client()
        self.wire.run()

    def start_client(self) -> None:
        client = self.wire.client
        client.conversation = client.conversation or client.begin(self.wire.now)

    def hub(self, side: str) -> EndpointCore:
        return self.wire.hub(side)

    def session_of(self, side: str) -> Session | None:
        client = self.wire.client
        if side == "client":
            return client.conversation
        live = [each for each in self.wire.server.sessions.by_id.values() if each.error is None]
        return live[-1] if live else None

    def teardown(self) -> None:
        if hasattr(self, "wire"):
            try:
                self.heal()
            finally:
                self.wire.close()

    # -- what may happen -------------------------------------------------------------------------------

    @rule(side=SIDES, sizes=st.lists(SIZES, min_size=1, max_size=6), bad=st.booleans(), many=st.booleans())
    def send(self, side: str, sizes: list[int], bad: bool, many: bool) -> None:
        session, hub = self.session_of(side), self.hub(side)
        if session is None or session.is_ending or session.error is not None:
            return
        if hub.journal is None and not session.has_room():
            return
        messages = []
        for size in sizes:
            self.count += 1
            messages.append((b"bad" if bad else b"") + b"%d:" % self.count + b"x" * size)
        client = self.session_of("client")
        if client is not None and session.peer.id != client.peer.id:
            self.ways[side].lost.update(messages)  # to a client that is dead, and left nothing
        if hub.journal is not None:
            entry = hub.spool(session, messages, with_receipts=not many)
            self.pending.append((side, messages, entry))
        else:
            for message in messages:
                self.ways[side].receipts.append((message, session.send(message)))
            self.ways[side].sent += messages
        self.wire.settle()
        self.look()

    @rule(side=SIDES, count=st.integers(1, 9), piece=st.integers(0, 60))
    def take(self, side: str, count: int, piece: int) -> None:
        """Take some messages; of bytes, first a piece that may cut one in two."""
        self.look()
        mailbox, way = self.hub(side).mailbox, self.ways[OTHER[side]]
        if isinstance(mailbox, BytesMailbox) and piece and mailbox.has_count(piece):
            waiting = self.waiting(side)
            mailbox.take_count(piece)
            way.taken.update(set(waiting) - set(self.waiting(side)))  # of the peer that has enough
        while count and mailbox.has():
            way.taken.add(self.waiting(side)[0])
            mailbox.take()
            count -= 1
        self.wire.settle()
        self.look()

    def waiting(self, side: str) -> list[bytes]:
        """The messages in that mailbox, whole."""
        items = [item for batch in self.hub(side).mailbox.order for item in batch.items]
        return [bytes(item.obj) if isinstance(item, memoryview) else item for item in items]  # type: ignore[arg-type]

    @precondition(lambda self: self.wire.ends)
    @rule(which=st.integers(0, 9), size=st.sampled_from([1, 10, 100, None]), times=st.integers(1, 5))
    def move(self, which: int, size: int | None, times: int) -> None:
        end = self.wire.ends[which % len(self.wire.ends)]
        for _ in range(times):
            self.wire.move(end, size)

    @rule()
    def run(self) -> None:
        self.wire.run()

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0]))
    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    @rule(writes=st.booleans())
    def disk_speed(self, writes: bool) -> None:
        self.wire.writes = writes
        self.wire.settle()

    @rule(side=SIDES, is_full=st.booleans())
    def write(self, side: str, is_full: bool) -> None:
        self.wire.write(side, is_full)
        self.look()

    @precondition(lambda self: self.wire.ends)
    @rule(which=st.integers(0, 9), keep=st.sampled_from([0, 10, 1000]))
    def drop(self, which: int, keep: int) -> None:
        self.wire.now += 0.001
        self.wire.drop(self.wire.ends[which % len(self.wire.ends)], keep)
        self.wire.settle()

    @rule(side=SIDES, is_written=st.booleans())
    def crash(self, side: str, is_written: bool) -> None:
        self.look()
        way, back = self.ways[side], self.ways[OTHER[side]]
        is_stored = self.hub(side).journal is not None
        for who, messages, _ in self.pending:
            if who == side:  # nobody was told whether it was accepted
                way.sent += messages
            if who == side or not is_stored:
                self.ways[who].lost.update(messages)
        self.pending = [each for each in self.pending if each[0] != side]
        if not is_stored:
            way.lost.update(way.sent)
            back.lost.update(back.sent)  # it may have been in that mailbox, or on its way to it
        way.receipts.clear()
        back.here.clear()
        before = self.inbox(side)
        self.wire.crash(side, is_written)
        if is_stored:
            back.settled |= back.taken - (self.inbox(side) if is_written else before)
        if side == "client" and not is_stored:
            self.ways["server"].lost.update(self.ways["server"].sent)
        self.start_client()
        self.wire.settle()
        self.look()

    @rule(side=SIDES, victim=SIDES, moves=st.integers(0, 4), is_slow=st.booleans(), is_written=st.booleans())
    def crash_on_the_way(self, side: str, victim: str, moves: int, is_slow: bool, is_written: bool) -> None:
        """A message is somewhere between the two when one of them dies."""
        self.wire.run()
        writes, self.wire.writes = self.wire.writes, self.wire.writes and not is_slow
        self.send(side, [1], False, False)
        for _ in range(moves):
            for end in list(self.wire.ends):
                self.wire.move(end)
        self.crash(victim, is_written)
        self.wire.writes = writes
        self.wire.settle()

    def inbox(self, side: str) -> set[bytes]:
        """What is on that disk, not taken."""
        store = self.wire.stores.get(side)
        return set() if store is None else {row[0] for row in store.rows("SELECT payload FROM inbox")}

    @rule(side=SIDES)
    def acknowledge_now(self, side: str) -> None:
        session = self.session_of(side)
        if session is not None and session.error is None:
            session.request_ack()
            self.wire.settle()

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def nothing_lies(self) -> None:
        if hasattr(self, "wire"):
            self.look()
            for way in self.ways.values():
                for message, receipt in way.receipts:
                    self.check_receipt(way, message, receipt)

    def look(self) -> None:
        """Note what was accepted and what has arrived; check that it may."""
        for side, messages, entry in self.pending[:]:
            if entry.is_settled:
                self.pending.remove((side, messages, entry))
                if entry.error is None:
                    self.ways[side].sent += messages
                    self.ways[side].receipts += zip(messages, entry.messages or (), strict=False)
        for side in ("client", "server"):
            self.look_at_mailbox(side, self.ways[OTHER[side]])
        for side, store in self.wire.stores.items():
            self.ways[side].doubt.update(row[0] for row in store.rows("SELECT payload FROM doubt"))

    def look_at_mailbox(self, side: str, way: Way) -> None:
        mailbox = self.hub(side).mailbox
        assert mailbox.count == sum(len(batch.items) for batch in mailbox.order)
        for batch in mailbox.order:
            for item in batch.items:
                message = bytes(item.obj) if isinstance(item, memoryview) else item  # type: ignore[arg-type]
                if batch.redelivered:
                    assert message not in way.settled, "taken, that was on disk, and there again"
                    if message not in way.seen:  # its process died before it had rung
                        way.seen.append(message)
                elif message not in way.seen:
                    way.seen.append(message)
                else:
                    assert message in way.here, "doubled"
        way.here = {
            bytes(item.obj) if isinstance(item, memoryview) else item  # type: ignore[arg-type]
            for batch in mailbox.order
            for item in batch.items
            if not batch.redelivered
        }
        numbers = [number_of(message) for message in way.seen]
        assert numbers == sorted(numbers), "reordered"

    def check_receipt(self, way: Way, message: bytes, receipt: OutgoingMessage) -> None:
        stage = receipt.stage
        if stage is Stage.TAKEN:
            assert message in way.taken
        elif stage is Stage.RECEIVED:
            assert message in way.seen
        elif stage is Stage.FAILED and isinstance(receipt.error, SessionLost):
            assert receipt in receipt.error.in_doubt

    # -- and at the end ----------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on all is well: then what was accepted arrives."""
        self.wire.writes = True
        # A dead client's session keeps its slot if messages for it are in the spool: another one is needed.
        self.wire.server.admission.places.max_peers = 1000
        for _ in range(3000):  # a small mailbox takes two at a time
            self.wire.advance(0.5)
            self.take("client", 1000, 0)
            self.take("server", 1000, 0)
            of_the_client = self.wire.client.sessions.by_id
            sessions = [each for hub in self.wire.hubs for each in hub.sessions.by_id.values()]
            if not any(each.in_flight() for each in sessions if each.peer.id in of_the_client):
                break
        self.wire.advance(2.0)
        self.look()
        for side, way in self.ways.items():
            good = {message for message in way.sent if not message.startswith(b"bad")}
            reported = way.doubt | self.reported(side)
            # Where the receiver has a store, what was there stays there until it is taken.
            arrived = way.taken if OTHER[side] in self.wire.stores else set(way.seen)
            missing = good - arrived - way.lost - reported
            assert not missing, f"{side} lost {missing}"
            if self.wire.stores.keys() == {"client", "server"}:
                assert not way.doubt, "in doubt although both have stores"
        if self.wire.stores.keys() == {"client", "server"}:
            self.end_in_order()

    def reported(self, side: str) -> set[bytes]:
        """What callbacks were told to be in doubt."""
        return {
            each.payload
            for notices in self.wire.notices.values()
            for notice in notices
            if notice[0] is EventKind.ERROR and isinstance(notice[2], SessionLost)
            for each in notice[2].in_doubt
        }

    def end_in_order(self) -> None:
        """With stores on both sides nothing may be left of a conversation that has ended."""
        session = self.session_of("client")
        assert session is not None
        session.end()
        self.wire.advance(5.0)
        for store in self.wire.stores.values():
            assert store.counts() == {"session": 0, "spool": 0, "inbox": 0, "doubt": 0}


def number_of(message: bytes) -> int:
    return int(message.removeprefix(b"bad").partition(b":")[0])


class BothStored(AnyCrashes):
    """Exactly once, whatever dies."""

    choices = (["client", "server"],)


FEW = settings(max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck))
for machine in (AnyCrashes, BothStored):
    machine.TestCase.settings = FEW
# Each is one test of some ten seconds; with coverage, on a busy machine, a minute.
for machine in (AnyCrashes.TestCase, BothStored.TestCase):
    machine.pytestmark = [
        pytest.mark.usefixtures("small_pieces"),
        pytest.mark.timeout(300),
        pytest.mark.patches,
    ]
TestAnyCrashes = AnyCrashes.TestCase
TestBothStored = BothStored.TestCase


def test_store_error_refuses_what_was_to_be_sent_and_nothing_else() -> None:
    wire = StoredWire(P2P, stores={"client"})
    session = wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    wire.writes = False
    refused = wire.client.spool(session, [b"1:"], with_receipts=True)
    wire.write("client", is_full=True)
    assert isinstance(refused.error, StoreError)
    assert refused.is_settled
    wire.writes = True
    accepted = wire.client.spool(session, [b"2:"], with_receipts=True)
    wire.run()
    wire.acks()
    assert accepted.error is None
    assert wire.server.mailbox.take_all() == [b"2:"]
    assert [each for each in wire.notes if "store" in each] == [
        "cannot write to the store: full",
        "the store works again",
    ]
    wire.close()


def test_what_has_arrived_and_finds_no_room_does_not_hold_up_the_marks_that_make_some() -> None:
    wire = StoredWire(P2P, stores={"server"})
    session = wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    for number in range(3):
        session.send(b"%d:" % number)
        wire.run()
    journal, store = wire.server.journal, wire.stores["server"]
    assert journal is not None
    wire.writes = False
    for number in range(3, 6):  # each arrives by itself, and is large
        session.send(b"%d:" % number + bytes(50_000))
        wire.run()
    assert len(journal.entries) == 3
    assert wire.server.mailbox.take() == b"0:"
    wire.write("server", is_full=True)
    assert journal.due == wire.now, "the marks are tried at once"
    wire.write("server")
    assert store.rows("SELECT count(*) FROM inbox") == [(2,)], "what was taken has made room"
    assert wire.server.mailbox.count == 2
    assert journal.error is not None
    wire.write("server")  # as much of it as half of what was refused
    assert store.rows("SELECT count(*) FROM inbox") == [(3,)]
    assert wire.server.mailbox.count == 3
    wire.write("server", is_full=True)
    wire.write("server")
    assert journal.due > wire.now, "less than that is not tried at once"
    wire.crash("server")  # it has acknowledged what it has, and no more
    wire.writes = True
    wire.advance(5.0)
    wire.acks()
    assert [each[:2] for each in wire.server.mailbox.take_all()] == [b"%d:" % n for n in range(1, 6)]
    wire.close()
