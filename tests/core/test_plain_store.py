"""A store as the inbox of a server with a plain framing: what has arrived is on disk, nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from linkbox import Lines
from linkbox.core.patterns import P2M, P2P, Pattern
from linkbox.core.session import Session
from linkbox.errors import DecodeError
from linkbox.events import EventKind, Stage
from tests.core.stored import StoredWire
from tests.core.wire import probe_server

NOTHING = {"session": 0, "spool": 0, "inbox": 0, "doubt": 0}


@contextmanager
def inbox(pattern: Pattern = P2M, **options: Any) -> Iterator[StoredWire]:
    wire = StoredWire(pattern, stores={"server"}, framing=Lines(), **options)
    try:
        yield wire
    finally:
        wire.close()


def write_marks(wire: StoredWire) -> None:
    """The marks that may wait are written now."""
    wire.advance(1)
    wire.settle()


def test_a_message_is_on_disk_before_it_is_in_the_mailbox() -> None:
    with inbox() as wire:
        wire.writes = False
        probe = probe_server(wire, greets=False)
        probe.say(b"one\ntwo\n")
        assert not wire.server.mailbox.count
        wire.writes = True
        wire.settle()
        assert wire.server.mailbox.count == 2
        wire.crash("server")
        assert wire.server.mailbox.take_all() == [b"one", b"two"]
        write_marks(wire)
        assert wire.stores["server"].counts() == NOTHING
        wire.crash("server")
        assert wire.server.mailbox.take_all() == []


def test_a_restart_keeps_no_slot_for_a_peer_that_cannot_resume() -> None:
    with inbox(P2P) as wire:
        probe_server(wire, greets=False).say(b"one\n")
        wire.crash("server")
        assert not wire.server.sessions.by_id
        probe = probe_server(wire, greets=False)
        probe.say(b"two\n")
        assert wire.server.mailbox.take_all() == [b"one", b"two"]


def test_nothing_is_left_of_a_peer_that_has_gone() -> None:
    with inbox() as wire:
        for text in (b"one\n", b""):
            probe = probe_server(wire, greets=False)
            probe.say(text)
            probe.eof()
            wire.settle()
            wire.run()
            assert probe.is_closed
        assert wire.server.mailbox.take_all() == [b"one"]
        assert len(wire.events(wire.server, EventKind.END)) == 2
        write_marks(wire)
        assert wire.stores["server"].counts() == NOTHING


def test_what_arrived_before_a_break_is_written_behind_it() -> None:
    with inbox() as wire:
        wire.writes = False
        probe = probe_server(wire, greets=False)
        probe.say(b"one\ntw")
        wire.server.lost(probe.link, OSError("reset"), wire.now)
        wire.writes = True
        wire.settle()
        assert wire.server.mailbox.take_all() == [b"one"]
        write_marks(wire)
        assert wire.stores["server"].counts() == NOTHING


def test_what_is_sent_is_not_stored() -> None:
    with inbox(P2P) as wire:
        assert wire.server.journal is not None and not wire.server.has_store
        probe = probe_server(wire, greets=False)
        [session] = wire.server.sessions.by_id.values()
        assert isinstance(session, Session) and session.send_at_once(b"x") is None
        [receipt] = wire.send(wire.server, session, b"answer")
        wire.settle()
        assert probe.raw() == b"answer\n" and receipt.stage is Stage.SENT
        session.close(None)
        write_marks(wire)
        assert wire.stores["server"].counts() == NOTHING


def test_what_is_unsent_at_a_break_fails_and_is_not_kept_in_doubt() -> None:
    with inbox(P2P) as wire:
        probe = probe_server(wire, greets=False)
        [session] = wire.server.sessions.by_id.values()
        receipt = session.send_later(b"never")
        probe.link.abort(None)
        wire.settle()
        assert receipt.failed
        write_marks(wire)
        assert wire.stores["server"].counts() == NOTHING


def test_a_message_that_cannot_be_decoded_is_left_out() -> None:
    with inbox() as wire:
        probe = probe_server(wire, greets=False)
        probe.say(b"one\nbad\ntwo\n")
        assert isinstance(wire.events(wire.server, EventKind.ERROR)[0][2], DecodeError)
        [session] = wire.server.sessions.by_id.values()
        assert not session.rejections.frames
        wire.crash("server")
        assert wire.server.mailbox.take_all() == [b"one", b"two"]


def test_a_server_that_stops_ends_its_conversations() -> None:
    for pattern in (P2P, P2M):
        with inbox(pattern) as wire:
            probe = probe_server(wire, greets=False)
            probe.say(b"one\n")
            wire.server.shutdown(wire.now)
            wire.settle()
            assert probe.sink.fin
            probe.eof()
            wire.settle()
            wire.run()
            assert wire.server.is_idle() and not wire.server.undelivered
            wire.crash("server")
            assert wire.server.mailbox.take_all() == [b"one"]
