"""What a store changes in a conversation: who is dialled for ever, what is handed over, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.record import Record
from linkbox.core.patterns import P2M, P2P, Pattern
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, EndOfData, PeerLost, Refused, SessionLost
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.stored import StoredWire
from tests.core.test_meeting import refusal
from tests.core.wire import Probe, Wire, probe_client, probe_server

NOTHING = {"session": 0, "spool": 0, "inbox": 0, "doubt": 0}


@contextmanager
def stored(pattern: Pattern, *stores: str, **options: Any) -> Iterator[StoredWire]:
    wire = StoredWire(pattern, stores=set(stores), **options)
    try:
        yield wire
    finally:
        wire.close()


def begin(wire: StoredWire) -> Session:
    """A conversation of the client's, under way if the server can be reached."""
    session = wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    return session


def spool(wire: StoredWire, *payloads: bytes) -> list[OutgoingMessage]:
    """The client's application sends, and the disk has it."""
    session = wire.client.conversations.current(wire.now)
    entry = wire.client.spool(session, list(payloads), with_receipts=True)
    wire.settle()
    assert entry.is_settled and entry.error is None and entry.messages is not None
    return entry.messages


def note(wire: StoredWire, session: Session) -> None:
    """The disk hears of the session's marks now; otherwise it would with the next message."""
    assert isinstance(session.record, Record)
    session.record.touch(is_urgent=True)
    wire.settle()


# --- The next life of a client ------------------------------------------------------------------------


def test_a_conversation_in_which_nothing_was_said_is_not_taken_up() -> None:
    with stored(P2P, "client") as wire:
        wire.is_reachable = False
        note(wire, begin(wire))
        assert wire.stores["client"].counts()["session"] == 1
        wire.crash("client")
        assert wire.client.conversation is None and not wire.client.sessions.by_id
        assert wire.stores["client"].counts() == NOTHING


def test_a_conversation_that_was_to_end_ends_in_the_next_life() -> None:
    """What was accepted is sent first; what is sent later is a conversation of its own."""
    with stored(P2P, "client", "server") as wire:
        wire.is_reachable = False
        begin(wire)
        spool(wire, b"1:")
        session = wire.client.conversation
        assert session is not None
        session.end()
        note(wire, session)
        wire.crash("client")
        [taken_up] = wire.client.sessions.by_id.values()
        assert taken_up.is_ending and wire.client.conversation is None
        wire.is_reachable = True
        wire.advance(1)
        assert wire.server.mailbox.take_all() == [b"1:"]
        wire.advance(5)
        assert wire.stores["client"].counts() == NOTHING


# --- A server that has forgotten ----------------------------------------------------------------------


@pytest.mark.parametrize("is_current", [True, False])
def test_a_server_that_was_restarted_gets_what_it_cannot_have(is_current: bool) -> None:
    with stored(P2P, "client") as wire:
        old = begin(wire)
        [first] = spool(wire, b"1:")
        wire.run()
        wire.acks()
        assert wire.server.mailbox.take_all() == [b"1:"]
        [end] = [each for each in wire.ends if each.hub is wire.client]
        end.link.write_stalled(wire.now)
        end.is_full = True
        [lost] = spool(wire, b"2:")  # written, and on its way for ever
        wire.is_reachable = False
        wire.restart_server()
        [unsent] = spool(wire, b"3:")
        if not is_current:
            wire.client.conversation = None
        wire.is_reachable = True
        wire.advance(2)
        new = old.latest()
        assert new is not old
        assert wire.client.conversation is (new if is_current else None)
        assert wire.client.sessions.by_id == {new.peer.id: new}
        wire.acks()
        assert wire.server.mailbox.take_all() == [b"3:"]
        assert isinstance(lost.error, SessionLost) and lost.error.in_doubt == (lost,)
        assert unsent.channel is new and unsent.stage >= Stage.SENT
        assert first.stage >= Stage.RECEIVED


# --- A server that refuses, or stops -------------------------------------------------------------------


def test_what_is_stored_waits_for_a_place_and_its_application_is_told_why() -> None:
    with stored(P2P, "client") as wire:
        other = Wire.make_client(wire)
        wire.connect(other)
        session = begin(wire)
        spool(wire, b"1:")
        wire.advance(20)
        errors = [notice[2] for notice in wire.events(wire.client, EventKind.ERROR)]
        assert errors and all(isinstance(each, Refused) for each in errors)
        assert session.error is None and session.attempts.connect_by == NEVER
        assert other.conversation is not None
        other.sessions.close_session(other.conversation, None)
        wire.settle()
        wire.advance(30)
        assert wire.server.mailbox.take_all() == [b"1:"]


def test_a_stopping_server_leaves_the_rest_to_its_successor() -> None:
    """What it has not accepted is in the store: a new conversation takes that over."""
    with stored(P2M, "client") as wire:
        old = begin(wire)
        [first] = spool(wire, b"1:")
        wire.run()
        wire.server.shutdown(wire.now)
        [second] = spool(wire, b"2:")  # while GOAWAY is on its way
        wire.run()
        new = old.latest()
        assert new is not old and new.peer.id != old.peer.id
        wire.forget(wire.server)
        wire.server = wire.make_server()
        wire.advance(2)
        assert wire.server.mailbox.take_all() == [b"2:"]
        assert first.stage >= Stage.RECEIVED
        assert second.channel is new and second.stage >= Stage.RECEIVED


def test_a_stopping_client_leaves_to_its_next_life_what_a_stopping_server_has_not() -> None:
    with stored(P2M, "client") as wire:
        session = begin(wire)
        wire.server.shutdown(wire.now)
        spool(wire, b"1:")  # while GOAWAY is on its way
        wire.client.shutdown(wire.now)
        wire.run()
        assert isinstance(session.error, PeerLost) and session.latest() is session
        assert wire.client.undelivered == 1
        assert wire.stores["client"].counts() == {**NOTHING, "session": 1, "spool": 1}


def test_a_stopping_server_that_has_everything_leaves_nothing() -> None:
    with stored(P2M, "client") as wire:
        session = begin(wire)
        spool(wire, b"1:")
        wire.run()
        wire.acks()
        wire.server.shutdown(wire.now)
        wire.run()
        assert session.latest() is session
        assert isinstance(session.error, EndOfData)
        wire.settle()
        assert wire.stores["client"].counts() == NOTHING, "each stop of a server would leave a row behind"


# --- What is said of messages that are still on disk ----------------------------------------------------


def taken_up(wire: StoredWire) -> Probe:
    """A client of which the server has one message; it was started again, and its disk is slow."""
    begin(wire)
    wire.decodes = False
    spool(wire, b"1:")
    wire.run()
    wire.is_reachable = False
    wire.drop_all()
    wire.crash("client")
    wire.writes = False
    [session] = wire.client.sessions.by_id.values()
    wire.now = session.timer.due_at
    wire.client.handle_timers(wire.now)  # it tries again
    return probe_client(wire, session, resumed=True, received=1)


def on_disk(wire: StoredWire) -> None:
    wire.writes = True
    wire.settle()


def test_a_rejection_waits_for_its_message() -> None:
    with stored(P2P, "client") as wire:
        probe = taken_up(wire)
        probe.say(frames.encode_reject(1, "decode", "no good"), frames.encode_ack(1, 1, 99, 99))
        assert wire.kinds(wire.client) == [EventKind.RESUMED]
        on_disk(wire)
        [error] = wire.events(wire.client, EventKind.ERROR)
        assert "no good" in str(error[2]) and error[3].payload is None
        [session] = wire.client.sessions.by_id.values()
        assert session.sending.acked == 1 and wire.stores["client"].counts()["spool"] == 0


def test_a_server_that_stops_meanwhile_is_heeded_then() -> None:
    with stored(P2M, "client") as wire:
        probe = taken_up(wire)
        [session] = wire.client.sessions.by_id.values()
        probe.say(frames.encode_number(frames.GOAWAY, 1))
        assert session.error is None
        on_disk(wire)
        assert isinstance(session.error, EndOfData)
        assert wire.stores["client"].counts() == NOTHING


def test_what_cannot_be_said_of_a_message_is_a_violation_then() -> None:
    with stored(P2P, "client") as wire:
        probe = taken_up(wire)
        probe.say(frames.encode_ack(2, 0, 99, 99))
        assert not probe.is_closed
        on_disk(wire)
        assert probe.is_closed and "acknowledged 2" in str(probe.link.error)


def test_what_is_said_meanwhile_is_bounded_and_forgotten_with_the_link() -> None:
    with stored(P2P, "client", limits=Limits(control_frames=3)) as wire:
        probe = taken_up(wire)
        ack = frames.encode_ack(1, 0, 99, 99)
        probe.say(ack * 3)
        assert not probe.is_closed
        probe.say(ack)
        assert probe.is_closed and "more than 3 frames" in str(probe.link.error)
        assert probe.link.reader is None  # type: ignore[attr-defined]


# --- Stopping -----------------------------------------------------------------------------------------


def test_a_client_that_stops_while_nobody_is_there_keeps_what_it_has() -> None:
    with stored(P2M, "client") as wire:
        wire.is_reachable = False
        session = begin(wire)
        spool(wire, b"1:", b"2:")
        wire.client.shutdown(wire.now)
        wire.settle()
        assert "was not there when this end stopped" in str(session.error)
        assert wire.client.undelivered == 2
        assert wire.stores["client"].counts() == {**NOTHING, "session": 1, "spool": 2}
        wire.crash("client")
        wire.is_reachable = True
        wire.advance(2)
        assert wire.server.mailbox.take_all() == [b"1:", b"2:"]


def test_a_server_that_stops_goes_on_with_its_clients_in_its_next_life() -> None:
    with stored(P2P, "client", "server") as wire:
        session = begin(wire)
        spool(wire, b"1:")
        wire.run()
        (old,) = wire.server.sessions.by_id.values()
        wire.server.shutdown(wire.now)
        wire.run()
        assert not wire.server.sessions.by_id and old.error is not None
        assert session.error is None
        spool(wire, b"2:")
        wire.crash("server")
        wire.advance(2)
        assert session.error is None
        assert wire.kinds(wire.client).count(EventKind.RESUMED) == 1
        wire.advance(2)
        assert [bytes(each) for each in wire.server.mailbox.take_all()] == [b"1:", b"2:"]


def test_what_is_taken_after_the_end_of_an_endpoint_does_not_count() -> None:
    with stored(P2P, "server") as wire:
        session = begin(wire)
        for number in range(6):
            session.send(b"%d:" % number)
        wire.run()
        mailbox = wire.server.mailbox
        assert [bytes(mailbox.take()) for _ in range(2)] == [b"0:", b"1:"]
        _, batch, number = mailbox.take_message(hold=True)
        source = batch.source
        wire.writes = False
        session.send(b"6:")  # on its way to the disk
        wire.run()
        wire.server.abort()
        assert (mailbox.count, source.waiting, mailbox.size(), mailbox.nbytes) == (0, 0, 0, 0)
        mailbox.unhold(source, number)
        source.on_taken()
        wire.writes = True
        wire.settle()
        assert mailbox.count == 0, "what reaches the disk now is for the next start as well"
        wire.crash("server")
        assert [bytes(each) for each in wire.server.mailbox.take_all()] == [b"%d:" % n for n in range(2, 7)]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_nobody_knows_how_long_a_peer_was_gone_before_a_restart(is_restarted: bool) -> None:
    with stored(P2P, "client", "server") as wire:
        begin(wire)
        spool(wire, b"1:")
        wire.run()
        wire.is_reachable = False
        wire.drop_all()
        if is_restarted:
            wire.crash("server")
        wire.server.effects.is_logged = lambda level: level == "info"
        wire.is_reachable = True
        wire.advance(10)
        (line,) = [line for line in wire.notes if "resumed with" in line]
        assert ("after a restart of this end" in line, "it was gone for" in line) == (
            is_restarted,
            not is_restarted,
        )


# --- The mailbox --------------------------------------------------------------------------------------


def test_what_is_rejected_when_its_sender_has_gone_is_said_when_it_comes_back() -> None:
    with stored(P2P, "client", "server") as wire:
        begin(wire)
        wire.advance(1)
        entry = wire.client.spool(wire.client.conversations.current(wire.now), [b"bad"], with_receipts=True)
        wire.write("client")
        wire.writes = False
        wire.run()  # it has arrived, and waits for the disk
        wire.is_reachable = False
        wire.drop_all()
        wire.writes = True
        wire.settle()
        assert wire.server.context.counters.rejected == 1
        wire.is_reachable = True
        wire.advance(2)
        assert entry.messages is not None
        assert isinstance(entry.messages[0].error, DecodeError)


def test_what_is_rejected_is_said_once_that_is_on_disk() -> None:
    with stored(P2P, "server") as wire:
        session = begin(wire)
        wire.writes = False
        [receipt] = wire.send(wire.client, session, b"bad")
        wire.run()
        assert receipt.error is None
        wire.writes = True
        wire.settle()
        wire.run()
        assert isinstance(receipt.error, DecodeError)
        assert wire.stores["server"].counts()["inbox"] == 0


def test_a_message_that_is_kept_is_taken_when_its_application_says_so() -> None:
    with stored(P2P, "server") as wire:
        session = begin(wire)
        [receipt] = wire.send(wire.client, session, b"1:")
        wire.run()
        mailbox = wire.server.mailbox
        item, batch, number = mailbox.take_message(hold=True)
        wire.acks()
        assert item == b"1:" and receipt.stage is Stage.RECEIVED
        assert wire.stores["server"].counts()["inbox"] == 1
        mailbox.unhold(batch.source, number)
        wire.acks()
        assert wire.stores["server"].counts()["inbox"] == 0
        session.request_ack()
        wire.acks()
        assert receipt.stage is Stage.TAKEN


# --- A server with messages for a client that is away --------------------------------------------------


def server_spool(wire: StoredWire, *payloads: bytes) -> Session:
    """The server's application sends, and the disk has it."""
    [session] = wire.server.sessions.by_id.values()
    entry = wire.server.spool(session, list(payloads), with_receipts=False)
    wire.settle()
    assert entry.is_settled and entry.error is None
    return session


def in_doubt(wire: StoredWire) -> list[SessionLost]:
    found = [
        each[2]
        for notices in wire.notices.values()
        for each in notices
        if each[0] is EventKind.ERROR and isinstance(each[2], SessionLost)
    ]
    return [each for each in found if each.in_doubt]  # The others are of one message each.


def leave(wire: StoredWire) -> None:
    wire.is_reachable = False
    wire.drop_all()
    wire.settle()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_messages_in_the_spool_of_a_server_keep_the_slot_of_its_client(is_restarted: bool) -> None:
    with stored(P2P, "server") as wire:
        begin(wire)
        leave(wire)
        session = server_spool(wire, b"1:", b"2:")
        if is_restarted:
            wire.crash("server")
        probe = probe_server(wire, session="cd" * 16)
        assert "1 by absent peers with undelivered messages" in refusal(probe.heard()).reason
        assert session.peer.id in wire.server.sessions.by_id
        wire.is_reachable = True
        wire.advance(5)
        assert wire.client.mailbox.take_all() == [b"1:", b"2:"]
        assert not in_doubt(wire)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_a_server_gives_up_is_in_doubt(is_restarted: bool) -> None:
    limits = Limits(stored_session=100.0)
    with stored(P2P, "server", limits=limits) as wire:
        begin(wire)
        leave(wire)
        server_spool(wire, b"1:", b"2:")
        if is_restarted:
            wire.crash("server")
        wire.advance(101.0)
        [error] = in_doubt(wire)
        assert [each.payload for each in error.in_doubt] == [b"1:", b"2:"]
        assert "stored_session" in str(error)
        assert wire.stores["server"].counts() == NOTHING | {"doubt": 2}
        assert any("2 messages" in note and "in doubt" in note for note in wire.notes)
        assert wire.server.undelivered == 2
        assert wire.server.journal is not None and wire.server.journal.spooled() == 0


def test_a_message_that_was_being_written_when_its_session_was_given_up_is_in_doubt() -> None:
    with stored(P2P, "server") as wire:
        begin(wire)
        leave(wire)
        [session] = wire.server.sessions.by_id.values()
        wire.writes = False
        entry = wire.server.spool(session, [b"1:"], with_receipts=True)
        wire.server.disconnect(session, "gone", wire.now)
        wire.writes = True
        wire.settle()
        assert entry.messages is not None and entry.is_settled
        assert isinstance(entry.messages[0].error, PeerLost)
        assert wire.stores["server"].counts() == NOTHING | {"doubt": 1}


def test_a_silent_client_keeps_its_slot_while_messages_for_it_are_in_the_spool() -> None:
    with stored(P2P, "server") as wire:
        first = probe_server(wire)
        server_spool(wire, b"1:")
        wire.advance(3)
        second = probe_server(wire, session="cd" * 16)
        wire.advance(3)
        assert not first.is_closed
        assert refusal(second.heard()).code == "busy"


def test_the_store_knows_the_new_name_of_a_client_that_is_back() -> None:
    with stored(P2M, "server") as wire:
        first = probe_server(wire)
        [session] = wire.server.sessions.by_id.values()
        note(wire, session)
        wire.server.lost(first.link, ConnectionResetError("cut"), wire.now)
        wire.advance(1)
        probe_server(wire, name="renamed", epoch=2, born=session.generation.born)
        assert session.peer.name == "renamed" and session.link is not None
        wire.advance(1)  # Marks are written soon.
        wire.crash("server")
        assert [each.peer.name for each in wire.server.sessions.by_id.values()] == ["renamed"]


def test_the_slot_of_ones_own_earlier_session_is_free() -> None:
    """A client with a secret of its own gets in; what waited for its earlier session is in doubt."""
    secrets = {"server_secrets": lambda name: [b"s"], "client_secrets": lambda name: [b"s"]}
    with stored(P2P, "server", identifies=True, **secrets) as wire:
        begin(wire)
        [old] = wire.server.sessions.by_id.values()
        wire.crash("client")
        wire.run()
        wire.server.spool(old, [b"for it"], with_receipts=True)
        wire.settle()
        begin(wire)
        [new] = wire.server.sessions.by_id.values()
        assert new is not old
        assert new.peer.identity == old.peer.identity is not None
        assert wire.stores["server"].rows("SELECT payload FROM doubt") == [(b"for it",)]
