"""Stores, step by step: what the state machine of test_crashes.py meets by chance, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.decoding import Decoding
from linkbox.core.durable.entries import Fetch, Spool
from linkbox.core.durable.journal import BEHIND
from linkbox.core.durable.recovery import restore
from linkbox.core.patterns import P2M, P2P
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, PeerLost, ProtocolViolation, Refused, SessionLost, StoreError
from linkbox.events import EventKind, Peer, Stage
from linkbox.limits import Limits
from tests.core.stored import StoredWire
from tests.core.test_any_drops import small_pieces

__all__ = ["small_pieces"]
pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.fixture
def wires() -> Iterator[list[StoredWire]]:
    made: list[StoredWire] = []
    yield made
    for wire in made:
        wire.close()


def connected(wires: list[StoredWire], *args: Any, **options: Any) -> tuple[StoredWire, Session]:
    wire = StoredWire(*args, **options)
    wires.append(wire)
    session = wire.client.conversations.current(wire.now)
    wire.run()
    return wire, session


def spool(wire: StoredWire, session: Session, *messages: bytes) -> list[Any]:
    entry = wire.client.spool(session, list(messages), with_receipts=True)
    wire.settle()
    assert entry.is_settled and entry.error is None
    return entry.messages or []


def test_nothing_is_sent_before_it_is_on_disk(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    wire.writes = False
    entry = wire.client.spool(session, [b"1:"], with_receipts=True)
    wire.run()
    assert not entry.is_settled and wire.server.mailbox.count == 0
    wire.writes = True
    wire.run()
    assert entry.is_settled and wire.server.mailbox.take_all() == [b"1:"]


def test_nothing_arrives_before_it_is_on_disk(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    wire.writes = False
    [receipt] = wire.send(wire.client, session, b"1:")
    wire.run()
    wire.acks()
    assert wire.server.mailbox.count == 0 and receipt.stage is Stage.SENT
    assert wire.kinds(wire.server) == [EventKind.CONNECTED]
    wire.writes = True
    wire.acks()
    assert wire.server.mailbox.count == 1 and receipt.stage is Stage.RECEIVED
    assert wire.kinds(wire.server) == [EventKind.CONNECTED, EventKind.DATA]


def test_taken_is_told_when_that_is_on_disk(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    [receipt] = wire.send(wire.client, session, b"1:")
    wire.acks()
    wire.writes = False
    wire.server.mailbox.take()
    wire.acks()
    assert receipt.stage is Stage.RECEIVED
    wire.writes = True
    wire.acks()
    assert receipt.stage is Stage.TAKEN
    assert wire.stores["server"].counts()["inbox"] == 0


def test_the_quota_refuses_at_once(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"}, limits=Limits(store_bytes=10))
    wire.is_reachable = False
    wire.drop_all()
    wire.settle()
    spool(wire, session, b"1:" + b"x" * 7)
    with pytest.raises(StoreError, match=r"holds 9 bytes.*quota of 10"):
        wire.client.spool(session, [b"2:"], with_receipts=True)
    wire.is_reachable = True
    wire.advance(1.0)
    spool(wire, session, b"2:")
    wire.advance(1.0)
    assert len(wire.server.mailbox.take_all()) == 2


def two_peers(wires: list[StoredWire], **options: Any) -> tuple[StoredWire, Session, Session]:
    """A server with a store, and its sessions with a peer that is away and with another one."""
    wire, _ = connected(wires, P2P, stores={"server"}, max_peers=3, limits=Limits(store_bytes=100), **options)
    [away] = wire.server.sessions.by_id.values()
    wire.is_reachable = False
    wire.drop_all()
    wire.settle()
    other = wire.server.sessions.open(Peer("other", "tcp://other:1", "1" * 32, 0.0, None))
    return wire, away, other


def test_the_quota_is_shared(wires: list[StoredWire]) -> None:
    """A peer that is away has at most what is left for the others."""
    wire, away, other = two_peers(wires)
    for _ in range(5):
        wire.server.spool(away, [bytes(10)], with_receipts=True)
        wire.settle()
    with pytest.raises(StoreError, match=r"holds 50 bytes .* left for all other peers"):
        wire.server.spool(away, [b"x"], with_receipts=True)
    entry = wire.server.spool(other, [bytes(25)], with_receipts=True)
    wire.settle()
    assert entry.is_settled and entry.error is None
    with pytest.raises(StoreError, match=r"holds 25 bytes .* left for all other peers"):
        wire.server.spool(other, [b"x"], with_receipts=True)
    with pytest.raises(StoreError, match=r"holds 75 bytes.*quota of 100"):
        wire.server.spool(other, [bytes(26)], with_receipts=True)


def test_a_message_for_all_is_for_those_with_room(wires: list[StoredWire]) -> None:
    wire, away, other = two_peers(wires)
    wire.server.spool(away, [bytes(45)], with_receipts=True)
    wire.settle()
    refused, entry = wire.server.spool_each([away, other], bytes(10))
    wire.settle()
    assert isinstance(refused, StoreError) and "left for all other peers" in str(refused)
    assert isinstance(entry, Spool) and entry.is_settled and entry.error is None
    assert isinstance(wire.server.spool_each([other, other], bytes(10))[1], StoreError)  # 30, with 25 left
    assert wire.server.journal is not None and wire.server.journal.spooled() == 65


def test_peers_without_messages_cost_nothing(wires: list[StoredWire]) -> None:
    """The bytes of all peers are added up for each message, so only those that have some count."""
    wire, session = connected(wires, P2P, stores={"server"}, max_peers=3)
    [peer] = wire.server.sessions.by_id.values()
    journal = wire.server.journal
    assert journal is not None and not journal.spooling
    wire.server.spool(peer, [b"1:"], with_receipts=True)
    assert len(journal.spooling) == 1
    wire.run()
    wire.acks()
    assert wire.client.mailbox.take_all() == [b"1:"] and session.error is None
    wire.acks()
    assert not journal.spooling


def test_no_connection_is_accepted_while_the_disk_is_behind(wires: list[StoredWire]) -> None:
    """Or each commit would be longer than the last one, and what arrives after it waits for all of it."""
    wire, session = connected(wires, P2P, stores={"server"}, max_peers=3)
    server, journal = wire.server, wire.server.journal
    assert journal is not None
    wire.writes = False
    wire.send(wire.client, session, *[b"%d:" % number for number in range(BEHIND)])
    wire.run()
    assert not server.admission.is_crowded(wire.now)
    wire.send(wire.client, session, b"more:")
    wire.run()
    assert journal.arriving == BEHIND + 1 and server.admission.is_crowded(wire.now)
    wire.write("server", is_full=True)
    assert not server.admission.is_crowded(wire.now), "a full disk keeps no client out"
    wire.writes = True
    wire.advance(1.0)
    wire.run()
    assert not journal.arriving and not server.admission.is_crowded(wire.now)
    assert wire.server.mailbox.count == BEHIND + 1


def test_the_only_peer_has_all_of_the_quota(wires: list[StoredWire]) -> None:
    wire, _ = connected(wires, P2P, stores={"server"}, max_peers=1, limits=Limits(store_bytes=100))
    [peer] = wire.server.sessions.by_id.values()
    wire.is_reachable = False
    wire.drop_all()
    entry = wire.server.spool(peer, [bytes(100)], with_receipts=True)
    wire.settle()
    assert entry.is_settled and entry.error is None


def test_a_message_that_is_kept_comes_back_and_others_do_not(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    wire.send(wire.client, session, b"1:", b"2:", b"3:", b"4:")
    wire.acks()
    mailbox = wire.server.mailbox
    held = [mailbox.take_message(hold=True) for _ in range(3)]
    mailbox.unhold(held[1][1].source, held[1][2])
    wire.acks()
    assert session.sending.taken == 0  # the first is not done with
    wire.crash("server")
    wire.advance(1.0)
    mailbox = wire.server.mailbox
    assert [batch.redelivered for batch in mailbox.order] == [True, True]
    assert mailbox.take_all() == [b"1:", b"3:", b"4:"]
    wire.acks()
    assert session.sending.taken == 4
    assert wire.stores["server"].counts()["inbox"] == 0


def test_bytes_taken_of_a_message_are_not_there_again(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"}, mailbox=BytesMailbox)
    wire.send(wire.client, session, b"1:abcdef", b"2:ghijkl")
    wire.acks()
    assert wire.server.mailbox.take_count(11) == b"1:abcdef2:g"
    wire.acks()
    wire.crash("server")
    assert wire.server.mailbox.size() == 5
    assert wire.server.mailbox.take_count(5) == b"hijkl"


def test_a_stopping_server_tells_a_spool_what_it_has(wires: list[StoredWire]) -> None:
    """Without a store it says GOAWAY: the rest goes to whoever comes after it, and nothing is in doubt."""
    wire, session = connected(wires, P2M, stores={"client"}, limits=Limits(mailbox_messages=2))
    receipts = spool(wire, session, *(b"%d:" % number for number in range(4)))
    wire.run()
    first = wire.server.mailbox
    wire.server.shutdown(wire.now)
    wire.run()
    assert first.take_all() == [b"0:", b"1:"]
    assert [each.stage for each in receipts] == [Stage.RECEIVED] * 2 + [Stage.QUEUED] * 2
    assert wire.stores["client"].counts()["spool"] == 2
    wire.forget(wire.server)
    wire.server = wire.make_server()
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"2:", b"3:"]
    assert [each.stage for each in receipts[2:]] == [Stage.RECEIVED] * 2
    wire.acks()
    assert wire.stores["client"].counts() == {"session": 1, "spool": 0, "inbox": 0, "doubt": 0}


def test_a_stopping_server_ends_what_has_nothing_to_say(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2M, stores={"client"})
    wire.server.shutdown(wire.now)
    wire.run()
    assert session.error is not None and not wire.client.sessions.by_id


def test_both_stop_at_once_and_the_rest_stays(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2M, stores={"client"}, limits=Limits(mailbox_messages=2))
    spool(wire, session, *(b"%d:" % number for number in range(4)))
    wire.run()
    wire.client.shutdown(wire.now)
    wire.server.shutdown(wire.now)
    wire.run()
    assert isinstance(session.error, PeerLost) and wire.client.undelivered == 2
    wire.forget(wire.server)
    wire.server = wire.make_server()
    wire.crash("client")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"2:", b"3:"]  # none of it was in doubt


def test_a_server_with_a_store_that_stops_keeps_its_sessions(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    [receipt] = wire.send(wire.client, session, b"1:")
    wire.run()
    wire.server.shutdown(wire.now)
    wire.advance(0.1)
    assert session.error is None and receipt.stage is Stage.RECEIVED
    wire.crash("server")
    wire.send(wire.client, session, b"2:")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"1:", b"2:"]
    assert EventKind.RESUMED in wire.kinds(wire.client)


def test_a_stopping_client_leaves_what_the_server_is_not_there_for(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    wire.is_reachable = False
    wire.drop_all()
    spool(wire, session, b"1:")
    wire.client.shutdown(wire.now)
    assert not wire.client.sessions.by_id and isinstance(session.error, PeerLost)
    wire.is_reachable = True
    wire.crash("client")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"1:"]


def test_a_refusal_is_told_and_tried_again(wires: list[StoredWire]) -> None:
    wire = StoredWire(P2P, stores={"client"})
    wires.append(wire)
    wire.server.context.settings.format_name = "another"
    session = wire.client.conversations.current(wire.now)
    spool(wire, session, b"1:")
    wire.run()
    [notice] = wire.events(wire.client, EventKind.ERROR)
    assert isinstance(notice[2], Refused) and session.error is None
    wire.server.context.settings.format_name = "bytes"
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"1:"]


def test_what_is_in_doubt_is_reported_from_disk(wires: list[StoredWire]) -> None:
    """Both ends die, and the server has no store: what may have been sent is told with its contents."""
    wire, session = connected(wires, P2P, stores={"client"})
    wire.chunk = 0  # nothing arrives any more
    spool(wire, session, b"1:", b"2:" + b"x" * 200)
    wire.chunk = None
    wire.crash("server")
    wire.crash("client")
    wire.is_reachable = False
    late = spool(wire, wire.client.conversations.current(wire.now), b"3:")
    wire.is_reachable = True
    wire.advance(2.0)
    *each, notice = wire.events(wire.client, EventKind.ERROR)
    assert isinstance(notice[2], SessionLost)
    assert [one[3] for one in each] == list(notice[2].in_doubt)
    assert [each.payload for each in notice[2].in_doubt] == [b"1:", b"2:" + b"x" * 200]
    assert wire.server.mailbox.take_all() == [b"3:"]
    assert late[0].stage is Stage.RECEIVED
    assert [row[0] for row in wire.stores["client"].rows("SELECT payload FROM doubt")] == [
        b"1:",
        b"2:" + b"x" * 200,
    ]


def test_a_client_that_was_never_connected_leaves_nothing(wires: list[StoredWire]) -> None:
    wire = StoredWire(P2P, stores={"client"})
    wires.append(wire)
    wire.is_reachable = False
    session = wire.client.conversations.current(wire.now)
    wire.settle()
    session.record.touch()
    wire.settle()
    assert wire.stores["client"].counts()["session"] == 1
    wire.crash("client")
    assert wire.client.conversation is None
    wire.advance(1.0)
    assert wire.stores["client"].counts()["session"] == 0


def test_a_peer_that_claims_more_than_was_spooled(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    spool(wire, session, b"1:")
    wire.acks()
    wire.is_reachable = False
    wire.crash("client")
    with pytest.raises(ProtocolViolation, match="resumes at unit 9; 1 to 1 are possible"):
        wire.client.conversations.current(wire.now).record.resume(9)


def test_what_cannot_be_decoded_any_more_is_named(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    wire.send(wire.client, session, b"1:")
    wire.acks()

    def fails(payload: bytes) -> Any:
        raise DecodeError("not so")

    hub = wire.make_server()
    left = wire.stores["server"].load(hub.context.incarnation, hub.context.settings.wall)
    with pytest.raises(StoreError, match="message 1 in the store cannot be decoded any more: not so"):
        restore(hub, left, Decoding(fails, None, 1 << 40), lambda: None, wire.now)
    restore(wire.make_server(), left, None, lambda: None, wire.now)


def test_a_spool_beyond_the_window_goes_through_memory_bit_by_bit(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2M, stores={"client"}, limits=Limits(window_messages=4))
    wire.is_reachable = False
    wire.drop_all()
    messages = [b"%d:" % number for number in range(50)]
    receipts = spool(wire, session, *messages[:25])
    entry = wire.client.spool(session, messages[25:], with_receipts=False)
    wire.settle()
    assert entry.is_settled and session.in_flight() == 50
    assert session.sending.in_memory <= 25
    wire.is_reachable = True
    wire.advance(5.0)
    assert wire.server.mailbox.take_all() == messages
    wire.acks()
    assert {each.stage for each in receipts} == {Stage.TAKEN} and session.in_flight() == 0


def test_a_peer_whose_place_was_needed_leaves_failed_receipts(wires: list[StoredWire]) -> None:
    """A server's spool for a client that never comes back; also what the disk is still writing then."""
    wire, session = connected(wires, P2P, stores={"server"})
    there = wire.other(session)
    wire.drop_all()
    wire.is_reachable = False
    wire.settle()
    written = wire.server.spool(there, [b"1:"], with_receipts=True)
    wire.settle()
    wire.writes = False
    pending = wire.server.spool(there, [b"2:"], with_receipts=True)
    bulk = wire.server.spool(there, [b"3:"], with_receipts=False)
    wire.server.sessions.close_session(there, PeerLost("its place was needed"))
    wire.writes = True
    wire.settle()
    for entry in (written, pending):
        assert entry.messages is not None and isinstance(entry.messages[0].error, PeerLost)
    assert bulk.is_settled
    wire.settle()
    there.record.touch()
    wire.settle()
    assert wire.stores["server"].counts()["spool"] == 0


def test_an_interrupted_start_over_waits_for_the_next_life(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    spool(wire, session, b"1:")
    wire.acks()
    wire.crash("server")
    wire.writes = False
    wire.advance(0.5)  # the server has forgotten us; the disk is slow
    wire.client.abort()
    wire.writes = True
    wire.settle()
    assert wire.stores["client"].counts()["doubt"] == 0
    wire.crash("client")
    wire.run()
    spool(wire, wire.client.conversations.current(wire.now), b"2:")
    wire.acks()
    assert wire.server.mailbox.take_all() == [b"2:"]


def test_the_mailbox_forgets_what_a_store_has() -> None:
    wire = StoredWire(P2P, stores=set())
    session = wire.connect()
    wire.send(wire.client, session, b"1:", b"2:")
    wire.run()
    wire.server.mailbox.clear()
    assert wire.server.mailbox.count == wire.server.mailbox.nbytes == 0
    assert not wire.server.mailbox.has()


def test_rejections_are_said_again_after_a_crash(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    receipts = wire.send(wire.client, session, b"1:", b"bad", b"2:")
    wire.writes = True
    wire.decodes = True
    end = wire.end_of(wire.client)
    wire.move(wire.end_of(wire.server))
    end.incoming.clear()  # the REJECT does not get there
    wire.crash("server")
    wire.advance(1.0)
    assert [each.stage for each in receipts] == [Stage.RECEIVED, Stage.FAILED, Stage.RECEIVED]
    assert isinstance(receipts[1].error, DecodeError)
    assert frames.MAX_PIECE == 50


def test_what_is_unread_of_a_conversation_that_is_over(wires: list[StoredWire]) -> None:
    """The session is gone, its messages are not; the peer is known by name, through any number of lives."""
    wire, session = connected(wires, P2M, stores={"server"})
    wire.send(wire.client, session, b"1:", b"2:", b"3:")
    session.end()
    wire.advance(1.0)
    assert not wire.server.sessions.by_id
    for _ in range(2):
        wire.crash("server")
        assert not wire.server.sessions.by_id
    item, batch, _ = wire.server.mailbox.take_message()
    assert (item, batch.source.peer.name, batch.redelivered) == (b"1:", "client 1", True)
    wire.acks()
    wire.crash("server")
    assert wire.server.mailbox.take_all() == [b"2:", b"3:"]
    wire.acks()
    assert wire.stores["server"].counts() == {"session": 0, "spool": 0, "inbox": 0, "doubt": 0}


def test_a_rejection_whose_sender_has_gone_waits_for_it(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    wire.writes = False
    [receipt] = wire.send(wire.client, session, b"bad")
    wire.run()
    wire.is_reachable = False
    wire.drop_all()
    wire.writes = True
    wire.settle()
    wire.is_reachable = True
    wire.advance(1.0)
    assert isinstance(receipt.error, DecodeError)


def test_a_disk_that_stays_full_is_named_once(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"server"})
    wire.writes = False
    [receipt] = wire.send(wire.client, session, b"1:")
    wire.run()
    for _ in range(3):
        wire.write("server", is_full=True)
    assert [each for each in wire.notes if "store" in each] == ["cannot write to the store: full"]
    assert wire.server.mailbox.count == 0 and receipt.stage is Stage.SENT
    wire.writes = True
    wire.acks()
    assert wire.server.mailbox.take_all() == [b"1:"] and receipt.stage is Stage.RECEIVED


def test_a_message_in_pieces_goes_on_where_it_was(wires: list[StoredWire]) -> None:
    """The client dies in the middle of a message of several units; the server has some of them."""
    wire, session = connected(wires, P2P, stores={"client"})
    message = b"1:" + b"x" * 330
    spool(wire, session, message)
    end = wire.end_of(wire.server)
    wire.move(end, 150)
    wire.crash("client")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [message]
    wire.acks()
    assert wire.stores["client"].counts()["spool"] == 0


def test_a_server_whose_store_is_younger_than_the_spool_knows_what_it_never_had(
    wires: list[StoredWire],
) -> None:
    """The session is older than the server's store, but its first connection is not."""
    wire = StoredWire(P2M, stores={"client", "server"})
    wires.append(wire)
    wire.is_reachable = False
    session = wire.client.conversations.current(wire.now)
    spool(wire, session, b"1:")
    wire.advance(5.0)
    wire.stores["server"]._about(knows_since=repr(wire.now + 1000.0))
    wire.crash("server")
    wire.is_reachable, wire.writes = True, False
    wire.advance(0.1)
    while not session.sending.sent:
        wire.write("client")
        wire.run()
    assert wire.server.mailbox.count == 0  # there, and not on disk
    wire.crash("server")
    wire.writes = True
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"1:"]
    assert wire.stores["client"].counts()["doubt"] == 0


def test_a_session_that_is_forgotten_while_the_disk_is_slow(wires: list[StoredWire]) -> None:
    """The server knows the new session before the disk knows of the end of the old one."""
    wire, session = connected(wires, P2P, stores={"client"})
    spool(wire, session, b"1:")
    wire.acks()
    wire.writes = False
    wire.crash("server")
    wire.advance(0.2)
    assert wire.client.conversation is not session
    wire.drop_all()
    wire.advance(0.2)
    wire.writes = True
    wire.settle()
    spool(wire, wire.client.conversations.current(wire.now), b"2:")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"2:"]
    assert wire.stores["client"].counts()["doubt"] == 0


def unread_of_two_servers(wires: list[StoredWire]) -> tuple[StoredWire, Session]:
    """A client with a store, and in its mailbox what two lives of a server without one have sent."""
    wire, session = connected(wires, P2P, stores={"client"})
    wire.send(wire.server, wire.other(session), b"1:", b"2:", b"3:")
    wire.acks()
    wire.restart_server()
    wire.advance(1.0)
    assert isinstance(session.latest(), Session) and session.latest() is not session
    wire.send(wire.server, wire.other(session), b"4:", b"5:")
    wire.acks()
    assert wire.client.mailbox.count == 5
    return wire, session.latest()


def test_what_is_unread_of_a_forgotten_session_stays_until_it_is_taken(wires: list[StoredWire]) -> None:
    """Numbers on the wire begin anew, those on disk do not."""
    wire, _ = unread_of_two_servers(wires)
    mailbox = wire.client.mailbox
    assert mailbox.take() == b"1:"
    assert mailbox.take_message(hold=True)[0] == b"2:"
    wire.acks()
    assert wire.stores["client"].counts()["inbox"] == 4
    wire.crash("client")
    assert wire.client.mailbox.take_all() == [b"2:", b"3:", b"4:", b"5:"]
    wire.acks()
    assert wire.stores["client"].counts()["inbox"] == 0


def test_marks_of_a_forgotten_session_say_nothing_of_the_next(wires: list[StoredWire]) -> None:
    """What the disk knows to be taken is counted anew, too."""
    wire, session = connected(wires, P2P, stores={"client"})
    wire.send(wire.server, wire.other(session), b"1:", b"2:", b"3:")
    wire.acks()
    assert len(wire.client.mailbox.take_all()) == 3
    wire.acks()
    wire.restart_server()
    wire.advance(1.0)
    [receipt] = wire.send(wire.server, wire.other(session), b"4:")
    wire.acks()
    assert receipt.stage is Stage.RECEIVED
    assert wire.client.mailbox.take_all() == [b"4:"]
    wire.acks()
    assert receipt.stage is Stage.TAKEN
    assert EventKind.DISCONNECTED not in wire.kinds(wire.server)


def test_what_was_read_for_a_session_that_begins_anew_is_read_again(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    record = session.record
    fetch = Fetch(record, 0)
    fetch.rows = [(1, 2, b"1:")]
    record.spool.is_stub = True
    fetch.done(wire.client)
    assert not session.sending.queue and not record.spool.is_fetching
    record.spool.is_stub = False
    record.spool.loaded = 1
    record.load(fetch.rows)
    assert not session.sending.queue  # it is there already


def test_an_entry_that_is_on_disk_cannot_fail_any_more(wires: list[StoredWire]) -> None:
    wire, session = connected(wires, P2P, stores={"client"})
    entry = wire.client.spool(session, [b"1:"], with_receipts=True)
    wire.settle()
    assert wire.client.journal is not None
    entry.failed(wire.client.journal._owner, ValueError("late"))
    assert entry.is_settled and entry.error is None


def test_what_waits_for_room_is_looked_at_once_a_stored_message_is_in_the_mailbox(
    wires: list[StoredWire],
) -> None:
    wire, _ = connected(wires, P2P, stores={"server"})
    wire.server.effects.is_blocked = True
    wire.client.conversations.main.send_at_once(b"1:")  # type: ignore[union-attr]
    wire.run()
    assert wire.server.mailbox.take_all() == [b"1:"] and not wire.server.effects.is_blocked
