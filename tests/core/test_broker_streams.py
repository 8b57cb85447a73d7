"""P2M over a broker, sans-IO: exactly once into a mailbox, or marked; simulations from seeds, and mutants."""

from __future__ import annotations

import random
from typing import Any

import pytest

from linkbox.core.broker import source_link, stream_link, stream_messages
from linkbox.core.broker.carrying import carry_messages
from linkbox.core.broker.circuit import (
    ACCEPT,
    DATA,
    FIN,
    PROBE,
    PROBE_PACKET,
    RST_PACKET,
    Circuit,
    CircuitBroken,
    accept_body,
    read_accept,
)
from linkbox.core.broker.hello import BrokerHello, check_hello, encode_hello
from linkbox.core.broker.marks import Marks
from linkbox.core.broker.sources import PREFETCH, BrokerSources
from linkbox.core.broker.stream_link import StreamLink
from linkbox.core.broker.stream_messages import Acknowledge, Publish, Stored, Taken, read_ranges, split_id
from linkbox.core.broker.subjects import Subjects
from linkbox.core.channel import OutgoingMessage
from linkbox.core.endpoint_core import ServerCore
from linkbox.core.patterns import P2M
from linkbox.core.wire import frames
from linkbox.errors import EndOfData, MailboxFull, PeerLost, Refused, TooLarge
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from linkbox.testing._stream import Kept
from tests.core.fake_broker import CLIENT, BrokerWire, CoreStream
from tests.core.stored import StoredWire


def texts(server: ServerCore) -> list[bytes]:
    return list(server.mailbox.take_all())


def test_messages_reach_the_mailbox_and_are_acknowledged_when_taken() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    session = link.session
    assert session is not None
    receipts = [session.send(b"%d" % number) for number in range(3)]
    wire.publish(link)
    assert [each.stage for each in receipts] == [Stage.RECEIVED] * 3
    assert wire.fetch() == 1, "three small messages are one pack"
    assert [peer.name for peer in wire.server.peers()] == ["client 1"]
    assert len(wire.stream.kept) == 1
    assert wire.server.mailbox.take() == b"0"
    wire.acknowledge()
    assert len(wire.stream.kept) == 1, "the pack is not taken yet"
    assert texts(wire.server) == [b"1", b"2"]
    wire.acknowledge()
    assert wire.stream.kept == {}
    assert wire.notes[-1] == Taken(CLIENT, "1-3")
    link.on_taken("1-3 nonsense 2", wire.now)
    assert receipts[-1].stage is Stage.TAKEN
    assert EventKind.CONNECTED in wire.kinds(wire.server)


def test_single_and_bundled_messages_keep_their_order() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    assert link.session is not None
    link.session.send(b"first")
    assert len(wire.publish(link)) == 1
    link.session.send_many([b"a", b"b"])
    [pack] = wire.publish(link)
    assert (pack.first, pack.last, pack.headers["Lb-Parts"]) == (2, 3, "1,1")
    wire.fetch()
    assert texts(wire.server) == [b"first", b"a", b"b"]


def test_a_message_that_is_given_away_again_is_marked_or_dropped() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    assert link.session is not None
    for number in range(2):
        link.session.send(b"%d" % number)
        wire.publish(link)
    wire.fetch()
    again = wire.stream.again(1)
    source = wire.source().on_stored(again, wire.now)
    assert source is not None
    assert (list(wire.server.arrivals), source.take_orders(wire.now)) == ([], [])
    assert texts(wire.server) == [b"0", b"1"]
    wire.acknowledge()
    assert wire.stream.kept == {}
    late = again._replace(place=7)
    wire.source().on_stored(late, wire.now)
    assert source.take_orders(wire.now) == [Acknowledge("1", stream_messages.ACK)]
    other = wire.make_server()
    wire.source(other).on_stored(late, wire.now)
    wire.deliver(other)
    assert [batch.redelivered for batch in other.mailbox.order] == [True]


def test_marked_messages_do_not_mark_others() -> None:
    wire = BrokerWire(P2M, is_bytes=True)
    stored = Stored("a" * 32, "pump", 1, [b"1"], False, "1", 1, "")
    for number, is_again in enumerate([False, True, True, False, False], 1):
        wire.source().on_stored(
            stored._replace(last=number, is_again=is_again, place=number, reply_to=str(number)), wire.now
        )
    wire.deliver(wire.server)
    marks = [batch.redelivered for batch in wire.server.mailbox.order for _ in batch.items]
    assert marks == [False, True, True, False, False]


def test_parts_of_packs_that_came_in_another_way_are_dropped() -> None:
    wire = BrokerWire(P2M)
    stored = Stored("a" * 32, "", 3, [b"1", b"2", b"3"], False, "1", 1, "")
    wire.source().on_stored(stored, wire.now)
    wire.source().on_stored(
        stored._replace(last=5, parts=[b"3", b"4", b"5"], place=2, reply_to="2"), wire.now
    )
    wire.deliver(wire.server)
    assert texts(wire.server) == [b"1", b"2", b"3", b"4", b"5"]


def test_notes_are_sent_to_the_inbox_of_a_client_only() -> None:
    wire = BrokerWire(P2M)
    for place, to in enumerate(("", "$JS.API.STREAM.DELETE.x", "_INBOX.*", CLIENT), 1):
        wire.source().on_stored(Stored("a" * 32, "", place, [b"x"], False, str(place), place, to), wire.now)
    wire.deliver(wire.server)
    texts(wire.server)
    wire.acknowledge()
    assert [note for note in wire.notes if isinstance(note, Taken)] == [Taken(CLIENT, "4-4")]


def test_messages_of_foreign_clients_share_a_session() -> None:
    wire = BrokerWire(P2M)
    for place in (1, 2):
        stored = Stored("a sensor", "", 0, [b"%d" % place], False, str(place), place, "")
        wire.source().on_stored(stored, wire.now)
    wire.deliver(wire.server)
    assert texts(wire.server) == [b"1", b"2"]
    wire.acknowledge()
    assert [note.what for note in wire.notes] == [b"+ACK", b"+ACK"]
    [session] = wire.server.sessions.by_id.values()
    assert session.peer.id == "0" * 32


def test_too_large_and_bad_messages_are_rejected_and_acknowledged() -> None:
    wire = BrokerWire(P2M, limits=Limits(message=10), client_limits=Limits())
    link = wire.sending()
    assert link.session is not None
    for payload in (b"bad one", b"x" * 11, b"good"):
        link.session.send(payload)
        wire.publish(link)
    wire.fetch()
    assert texts(wire.server) == [b"good"]
    wire.acknowledge()
    assert wire.stream.kept == {}
    assert wire.server.statistics().rejected == 2


def test_a_message_that_waits_long_is_reported_as_worked_on() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    assert link.session is not None
    link.session.send(b"x")
    wire.publish(link)
    wire.fetch()
    wire.advance(source_link.WORKING_EVERY / 2)
    wire.acknowledge()
    assert wire.notes == []
    wire.advance(source_link.WORKING_EVERY)
    wire.acknowledge()
    assert wire.notes == [Acknowledge("1", stream_messages.WORKING)]
    texts(wire.server)
    wire.acknowledge()
    wire.advance(source_link.WORKING_EVERY)
    assert wire.server.peers() != ()
    wire.advance(source_link.IDLE)
    assert wire.server.peers() == ()
    assert EventKind.DISCONNECTED in wire.kinds(wire.server)


def test_a_stopping_server_gives_back_in_order_what_was_not_taken() -> None:
    wire = BrokerWire(P2M)
    for number in range(4):
        link = wire.sending(session=wire.client.begin(wire.now))
        assert link.session is not None
        link.session.send(b"%d" % number)
        wire.publish(link)
    wire.fetch()
    assert wire.server.mailbox.take() == b"0"
    wire.server.shutdown(wire.now)
    wire.acknowledge()
    assert [note for note in wire.notes if isinstance(note, Acknowledge)] == [
        Acknowledge("1", b"+ACK"),
        *(Acknowledge(str(place), b"-NAK") for place in (2, 3, 4)),
    ]
    assert wire.server.mailbox.count == 0
    assert wire.server.is_idle()
    assert wire.fetch() == 0, "a stopping server takes nothing"
    other = wire.make_server()
    assert wire.fetch(other) == 3
    assert texts(other) == [b"1", b"2", b"3"]
    [link] = [each for each in other.links.links if each.session and each.session.receiving.processed][:1]
    link.abort(None)
    link.abort(None)


def test_only_what_there_is_room_for_is_fetched() -> None:
    wire = BrokerWire(P2M, limits=Limits(mailbox_messages=3, mailbox_bytes=100))
    link = wire.sending()
    assert link.session is not None
    for number in range(5):
        link.session.send(b"%d" % number)
        wire.publish(link)
    assert wire.source().room() == (3, 100)
    assert wire.fetch() == 3
    assert wire.source().room() == (0, 97)
    wire.server.mailbox.requested = 2000
    assert wire.source().room() == (1997, 1997)
    wire.server.mailbox.requested = 0
    link.session.send_many([b"x"] * 40)
    wire.publish(link)
    texts(wire.server)
    wire.acknowledge()
    assert wire.fetch() == 3
    assert wire.source().room() == (0, 58)
    assert wire.source(wire.make_server()).room()[0] == 3
    assert PREFETCH > 3


def test_what_a_lost_connection_leaves_in_doubt_is_published_again_and_marked() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    session = link.session
    assert session is not None
    session.send(b"1")
    wire.publish(link)
    session.send(b"2")
    wire.publish(link, is_acknowledged=False)
    session.send(b"3")
    wire.client.lost(link, ConnectionResetError("cut"), wire.now)
    assert link.closed
    link.on_stored(2, "", False, wire.now)  # too late
    link.on_taken("1-2", wire.now)
    again = wire.sending(session=session)
    assert EventKind.RESUMED in wire.kinds(wire.client)
    published = wire.publish(again)
    assert [(each.first, each.last, "Lb-Again" in each.headers) for each in published] == [(2, 3, True)]
    assert session.sending.acked == 3
    found = []
    for _ in range(2):
        wire.fetch()
    found = [(item, batch.redelivered) for batch in wire.server.mailbox.order for item in batch.items]
    assert found == [(b"1", False), (b"2", False), (b"3", True)], "the broker has what it had, and the rest"


def test_missing_acknowledgements_end_the_connection() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    assert link.session is not None
    link.session.send(b"1")
    link.session.send(b"2")
    orders = link.take_orders(wire.now)
    wire.advance(stream_link.ACK_WAIT / 2)
    assert not link.closed
    link.session.send(b"3")
    link.take_orders(wire.now)
    link.on_stored(orders[0].first, "", False, wire.now)
    wire.advance(stream_link.ACK_WAIT * 0.9)
    assert not link.closed
    wire.advance(stream_link.ACK_WAIT)
    assert link.closed
    assert isinstance(link.error, PeerLost)


def test_a_full_stream_fails_the_messages_and_other_errors_the_connection() -> None:
    wire = BrokerWire(P2M)
    wire.stream.messages.most = 1
    link = wire.sending()
    session = link.session
    assert session is not None
    first = session.send(b"1")
    wire.publish(link)
    second = session.send(b"2")
    wire.publish(link)
    assert first.stage is Stage.RECEIVED
    assert isinstance(second.error, MailboxFull)
    third = session.send(b"3")
    [order] = link.take_orders(wire.now)
    link.on_stored(order.first, "no leader", False, wire.now)
    assert link.closed
    assert not third.failed
    link.on_stored(99, "", False, wire.now)


def test_a_message_that_failed_already_does_not_fail_twice() -> None:
    wire = BrokerWire(P2M)
    wire.stream.messages.most = 0
    link = wire.sending()
    session = link.session
    assert session is not None
    receipt = session.send(b"1")
    [order] = link.take_orders(wire.now)
    receipt.error = TooLarge("otherwise")
    link.on_stored(order.first, "maximum messages exceeded", True, wire.now)
    assert isinstance(receipt.error, TooLarge)
    assert session.sending.acked == 1


def test_what_the_broker_does_not_take_is_too_large() -> None:
    wire = BrokerWire(P2M, most=100)
    link = wire.sending()
    session = link.session
    assert session is not None
    with pytest.raises(TooLarge):
        session.send(b"x" * 101)
    receipt = session.send_later(b"x" * 101)
    session.send(b"fits")
    assert [order.body for order in wire.publish(link)] == [b"fits"]
    assert isinstance(receipt.error, TooLarge)


def test_the_end_is_when_the_broker_has_everything() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    session = link.session
    assert session is not None
    session.send(b"1")
    session.end()
    [order] = link.take_orders(wire.now)
    assert session.error is None
    link.on_stored(order.first, "", False, wire.now)
    assert isinstance(session.error, EndOfData)
    assert carry_messages(wire.client, session, 10, wire.now) is None
    assert link.take_orders(wire.now) == []


def test_notes_about_messages_that_were_never_sent_are_ignored() -> None:
    wire = BrokerWire(P2M)
    link = wire.sending()
    session = link.session
    assert session is not None
    session.send(b"1")
    wire.publish(link)
    link.on_taken("1-99999999999", wire.now)
    link.on_taken("5-9", wire.now)
    assert session.sending.taken == 0
    link.on_taken("1-1", wire.now)
    assert session.sending.taken == 1


# -- a store -------------------------------------------------------------------------------------------


class StoredBrokerWire(StoredWire, BrokerWire):
    """A client with a store, and a broker."""

    def __init__(self, **options: Any) -> None:
        super().__init__(P2M, stores={"client"}, **options)

    def spool(self, *payloads: bytes) -> list[OutgoingMessage]:
        entry = self.client.spool(self.client.conversations.current(self.now), list(payloads), True)
        self.settle()
        assert entry.messages is not None
        return entry.messages

    def go(self) -> StreamLink:
        """The session that waits gets a link, and the disk records that it has one."""
        [session] = self.client.sessions.by_id.values()
        link = self.sending(session=session)
        self.settle()
        return link


def test_spooled_messages_are_deleted_when_the_broker_has_them() -> None:
    wire = StoredBrokerWire()
    receipts = wire.spool(b"1", b"2")
    link = wire.go()
    wire.publish(link)
    wire.settle()
    assert [each.stage for each in receipts] == [Stage.RECEIVED] * 2
    assert wire.stores["client"].counts()["spool"] == 0
    session = link.session
    assert session is not None
    session.end()
    assert link.take_orders(wire.now) == []
    wire.settle()
    link.take_orders(wire.now)
    assert isinstance(session.error, EndOfData)


def test_the_end_waits_until_the_disk_knows_that_the_broker_has_all() -> None:
    wire = StoredBrokerWire()
    wire.spool(b"1")
    link = wire.go()
    session = link.session
    assert session is not None
    wire.writes = False
    session.end()
    wire.publish(link)
    assert session.error is None, "after a crash now, the message would be sent again"
    wire.writes = True
    wire.settle()
    link.take_orders(wire.now)
    assert isinstance(session.error, EndOfData)


def test_what_a_killed_client_may_have_published_is_marked() -> None:
    wire = StoredBrokerWire()
    wire.spool(b"1")
    link = wire.go()
    wire.publish(link)
    wire.settle()
    wire.spool(b"2")
    wire.publish(link, is_acknowledged=False)
    wire.crash("client")
    wire.take_up("client")
    wire.spool(b"3")
    again = wire.publish(wire.go())
    assert [order.body for order in again] == [b"23"] or [order.body for order in again] == [b"2", b"3"]
    assert "Lb-Again" in again[0].headers
    for _ in range(3):
        wire.fetch()
    found = [(item, batch.redelivered) for batch in wire.server.mailbox.order for item in batch.items]
    assert found[:2] == [(b"1", False), (b"2", False)]
    assert found[-1][0] == b"3"
    assert len({item for item, mark in found if not mark}) == len([item for item, mark in found if not mark])


def test_a_stored_message_that_the_broker_does_not_take_fails_alone() -> None:
    wire = StoredBrokerWire(most=100)
    large, huge, good = wire.spool(b"x" * 101, b"y" * (frames.MAX_PIECE + 1), b"good")
    link = wire.go()
    for _ in range(3):
        wire.publish(link)
        wire.settle()
    assert isinstance(large.error, TooLarge)
    assert isinstance(huge.error, TooLarge)
    assert good.stage is Stage.RECEIVED
    assert wire.stores["client"].counts()["spool"] == 0


def test_a_refused_dial_is_tried_again_with_a_store() -> None:
    wire = StoredBrokerWire()
    wire.spool(b"1")
    [session] = wire.client.sessions.by_id.values()
    wire.client.connect_refused(session, Refused("not yet", "denied"), wire.now)
    assert session.error is None
    assert EventKind.ERROR in wire.kinds(wire.client)


def test_a_full_stream_is_tried_again_with_a_store() -> None:
    wire = StoredBrokerWire()
    wire.stream.messages.most = 0
    [receipt] = wire.spool(b"1")
    link = wire.go()
    wire.publish(link)
    assert link.closed
    assert not receipt.failed
    wire.stream.messages.most = None
    wire.publish(wire.go())
    assert receipt.stage is Stage.RECEIVED


# -- simulations ---------------------------------------------------------------------------------------


class Campaign:
    """One client, two servers, and kills at random: of the broker, of servers, of connections."""

    library_reconnects = False
    """Does the library make a lost connection again, and go on with what is new?"""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.wire = BrokerWire(P2M)
        self.session = self.wire.client.conversations.current(0.0)
        self.link = self.wire.sending(session=self.session)
        self.servers = [self.wire.server, self.wire.make_server()]
        self.found: list[tuple[int, bool]] = []
        self.sent = 0
        self.order: list[int] = []
        """The numbers in the order in which the stream had them first."""

    def run(self, steps: int = 400) -> None:
        deeds: list[Any] = [self.send] * 4 + [self.publish] * 3 + [self.fetch] * 3 + [self.take] * 3
        deeds += [self.cut, self.publish_in_part, self.kill_broker, self.kill_server, self.stop_server]
        for _ in range(steps):
            self.random.choice(deeds)()
        for _ in range(1000):
            self.publish(1.0)
            for server in self.servers:
                self.wire.stream.lose(server)  # every acknowledgement is late: all comes again
            self.fetch()
            self.take(1000)
            if not self.wire.stream.kept and not self.session.in_flight():
                return
        raise AssertionError("it does not come to an end")

    def send(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.session.send(b"%d" % self.sent)
            self.sent += 1

    def publish(self, acknowledged: float = 0.8) -> None:
        self._note(self.wire.publish(self.link, self.random.random() < acknowledged))
        if self.session.in_flight() and acknowledged == 1.0:
            self.cut()

    def publish_in_part(self) -> None:
        """The connection is lost while messages are written."""
        orders = self.link.take_orders(self.wire.now)
        written = self.random.randint(0, len(orders))
        for order in orders[:written]:
            self.wire.stream.publish(order, CLIENT)
        self._note(orders[:written])
        if self.library_reconnects:
            self.send()
            self.publish()
        self.cut()

    def _note(self, orders: list[Publish]) -> None:
        self.order += [number for order in orders for number in range(order.first, order.last + 1)]

    def cut(self) -> None:
        self.wire.client.lost(self.link, ConnectionResetError("cut"), self.wire.now)
        self.link = self.wire.sending(session=self.session)

    def kill_broker(self) -> None:
        self.wire.stream.kill()
        self.cut()

    def fetch(self) -> None:
        for server in self.servers:
            self.wire.fetch(server, self.random.randint(1, 5))

    def take(self, most: int = 6) -> None:
        server = self.random.choice(self.servers) if most < 1000 else None
        for each in self.servers if server is None else [server]:
            for _ in range(self.random.randint(0, most) if most < 1000 else most):
                if not each.mailbox.count:
                    break
                batch = next(batch for batch in each.mailbox.order if batch.items)
                mark = batch.redelivered
                self.found.append((int(each.mailbox.take()), mark))
            if self.random.random() < 0.7 or most == 1000:
                self.wire.acknowledge(each)

    def _replace(self, at: int) -> None:
        old = self.servers[at]
        self.wire.stream.lose(old)
        self.servers[at] = self.wire.make_server()

    def kill_server(self) -> None:
        self._replace(self.random.randrange(2))

    def stop_server(self) -> None:
        at = self.random.randrange(2)
        self.servers[at].shutdown(self.wire.now)
        self.wire.acknowledge(self.servers[at])
        self._replace(at)

    def faults(self) -> list[str]:
        numbers = [number for number, _ in self.found]
        unmarked = [number for number, mark in self.found if not mark]
        found = [f"lost {number}" for number in range(self.sent) if number not in set(numbers)]
        firsts = list(dict.fromkeys(self.order))
        if firsts != sorted(firsts):
            found.append("out of order")
        return found + [f"twice {number}" for number in set(unmarked) if unmarked.count(number) > 1]


SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_what_comes_twice_is_marked(seed: int) -> None:
    campaign = Campaign(seed)
    campaign.run()
    assert campaign.sent > 50
    assert campaign.faults() == []


def faults_of_all() -> list[str]:
    found: list[str] = []
    for seed in SEEDS:
        campaign = Campaign(seed)
        try:
            campaign.run()
        except AssertionError as error:
            found.append(str(error))
        found += campaign.faults()
    return found


@pytest.mark.patches
def test_without_lb_again_the_simulation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_messages, "AGAIN", "Lb-Ignored")
    monkeypatch.setattr("linkbox.core.broker.stream_link.stream_messages.AGAIN", "Lb-Other", raising=False)
    real = BrokerWire.publish

    def publish(self: BrokerWire, link: Any, is_acknowledged: bool = True) -> Any:
        orders = link.take_orders(self.now)
        for order in orders:
            order.headers.pop(stream_messages.AGAIN, None)
            error = self.stream.publish(order, CLIENT)
            if is_acknowledged:
                link.on_stored(order.first, error, "maximum" in error, self.now)
        return orders + real(self, link, is_acknowledged) if orders else orders

    monkeypatch.setattr(BrokerWire, "publish", publish)
    assert any(each.startswith("twice") for each in faults_of_all())


@pytest.mark.patches
def test_without_the_barrier_the_simulation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = CoreStream.stored

    def stored(self: CoreStream, kept: Kept) -> Stored:
        self.barrier = 0
        return real(self, kept)

    monkeypatch.setattr(CoreStream, "stored", stored)
    assert any(each.startswith("twice") for each in faults_of_all())


@pytest.mark.patches
def test_acknowledged_before_it_is_taken_the_simulation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = source_link.SourceLink._acknowledge
    monkeypatch.setattr(source_link.SourceLink, "_acknowledge", lambda self, taken: real(self, 1 << 60))
    assert any(each.startswith("lost") for each in faults_of_all())


@pytest.mark.patches
def test_with_the_reconnect_of_the_library_the_simulation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Campaign, "library_reconnects", True)
    assert "out of order" in faults_of_all()


def stuck_behind_a_slow_server(seed: int) -> int:
    """One of two servers takes nothing: how many messages does the other one never get?"""
    dice = random.Random(seed)
    wire = BrokerWire(P2M, limits=Limits(mailbox_messages=5))
    slow, quick = wire.server, wire.make_server()
    link = wire.sending()
    assert link.session is not None
    sent, found = 40, 0
    for _ in range(sent):
        link.session.send(b"x")
        wire.publish(link)
        for server in dice.sample([slow, quick], 2):
            wire.fetch(server)
        if dice.random() < 0.5:
            found += len(texts(quick))
    while wire.fetch(quick) or quick.mailbox.count:
        found += len(texts(quick))
        wire.acknowledge(quick)
    return sent - found


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_server_keeps_no_more_than_its_mailbox_holds(seed: int) -> None:
    assert stuck_behind_a_slow_server(seed) <= 5


@pytest.mark.patches
def test_when_messages_are_pushed_instead_of_pulled_the_simulation_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BrokerSources, "room", lambda self: (1_000_000, 1 << 40))
    assert max(map(stuck_behind_a_slow_server, range(5))) > 5


# -- circuits, hellos and other small parts ------------------------------------------------------------


@pytest.fixture
def ends() -> tuple[Circuit, Circuit]:
    return Circuit(10), Circuit(10)


def test_a_circuit_carries_bytes_in_order(ends: tuple[Circuit, Circuit]) -> None:
    near, far = ends
    packets = [*near.packets([b"x" * 25]), *near.packets([b"a", memoryview(b"b")]), near.packet(FIN)]
    assert [far.receive(each) for each in packets] == [
        (DATA, b"x" * 10),
        (DATA, b"x" * 10),
        (DATA, b"x" * 5),
        (DATA, b"ab"),
        (FIN, b""),
    ]
    assert far.receive(PROBE_PACKET) == (PROBE, b"")
    assert Circuit(1 << 30).most == 512 * 1024


def test_a_gap_a_reset_or_nonsense_breaks_a_circuit(ends: tuple[Circuit, Circuit]) -> None:
    near, far = ends
    near.packets([b"lost"])
    [packet] = near.packets([b"x"])
    with pytest.raises(CircuitBroken, match="packet 1 has arrived instead of 0"):
        far.receive(packet)
    with pytest.raises(CircuitBroken, match="closed"):
        far.receive(RST_PACKET)
    with pytest.raises(CircuitBroken, match="none of linkbox"):
        far.receive(b"hi")


def test_numbers_of_packets_may_wrap() -> None:
    near, far = Circuit(), Circuit()
    near.sent = far.received = (1 << 32) - 1
    for packet in near.packets([b"x"]) + near.packets([b"y"]):
        far.receive(packet)
    assert far.received == (1 << 32) + 1


def test_accept_names_two_subjects(ends: tuple[Circuit, Circuit]) -> None:
    near, far = ends
    flag, body = far.receive(near.packet(ACCEPT, accept_body("_INBOX.a.listen", "_INBOX.a.c1")))
    assert (flag, read_accept(body)) == (ACCEPT, ("_INBOX.a.listen", "_INBOX.a.c1"))
    for wrong in (b"one", b"a b c", b"\xff \xff", b"_INBOX.a $JS.API.STREAM.DELETE.x", b"_INBOX.> _INBOX.a"):
        with pytest.raises(CircuitBroken):
            read_accept(wrong)


@pytest.mark.parametrize(
    ("theirs", "code"),
    [
        (BrokerHello("p2p", "json"), None),
        (BrokerHello("p2p", "json", name="pump"), None),
        (BrokerHello("ar", "json"), "pattern"),
        (BrokerHello("p2p", "bytes"), "format"),
        (BrokerHello("p2p", "json", 2), "version"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused(theirs: BrokerHello, code: str | None) -> None:
    refused = check_hello("nats://h/x", BrokerHello("p2p", "json"), encode_hello(theirs))
    assert (None if refused is None else refused.code) == code


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b'{"pattern": 5, "format": ""}', b"[" * 100_000])
def test_a_hello_that_is_none_is_refused(data: bytes) -> None:
    refused = check_hello("nats://h/x", BrokerHello("p2p", "json"), data)
    assert isinstance(refused, Refused)
    assert refused.code == "protocol"


def test_the_names_of_streams_are_different_for_different_names() -> None:
    assert Subjects("lb", "line-3.temperature").stream == "LB_line-3_temperature"
    assert Subjects("lb", "a_b").stream != Subjects("lb", "a.b").stream
    assert Subjects("my.own", "x").messages_of("s") == "my.own.x.p2m.s"


def test_marks_move_without_gaps() -> None:
    marks = Marks(2)
    marks.add([4, 2])
    assert marks.reached == 2
    marks.add(range(3, 4))
    assert marks.reached == 4


def test_ids_and_ranges_of_others_are_ignored() -> None:
    assert [split_id(each) for each in ("a:5", "5", "", "a:b", "a:²")] == [5, 5, 0, 0, 0]
    assert read_ranges("1-2 x-3 4- 5 6-y 7-7") == [range(1, 3), range(7, 8)]
