"""What is over is freed by counting its references: only a cycle would wait for the garbage collector, which
stops the whole process while it looks through every object. Anyone who may connect could make such cycles."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from linkbox.core.patterns import AR, P2M, P2P, Pattern
from linkbox.core.wire import frames
from linkbox.core.wire.framing import Framing, Linked
from linkbox.core.wire.framings.split import Lines
from linkbox.limits import Limits
from linkbox.testing._cores import MemoryLink
from tests.core.stored import StoredWire
from tests.core.wire import Wire, probe_server
from tests.threaded.helpers import without_collector

MANY = 5
"""Conversations of each kind."""


def _ended(wire: Wire) -> None:
    for _ in range(MANY):
        session = wire.connect()
        wire.send(wire.client, session, b"x", b"y")
        session.end()
        wire.settle()
        wire.run()
        wire.server.mailbox.take_all()


def _dropped(wire: Wire) -> None:
    """Each leaves a session behind; all but one are given up for the next one, that one after a while."""
    for number in range(MANY):
        probe = probe_server(wire, session=f"{number:032x}")
        wire.send(wire.server, wire.server.sessions.by_id[f"{number:032x}"], b"never acknowledged")
        wire.server.lost(probe.link, ConnectionResetError("reset"), wire.now)
        wire.settle()
    wire.advance(100.0)
    assert not wire.server.sessions.by_id


def _violated(wire: Wire) -> None:
    for number in range(MANY):
        for said in (b"GET / HTTP/1.1\r\n\r\n", frames.preface() + frames.frame(frames.HELLO, b"{")):
            probe_server(wire, greets=False).say(said)
        probe_server(wire, pattern="no such").eof()
        for frame in (bytes([99, 0, 0, 0]), b"\xff" * 8, frames.frame(frames.ACK, b"x")):
            probe_server(wire, session=f"{number:032x}").say(frame)


def _resumed(wire: Wire) -> None:
    session = wire.connect()
    for _ in range(MANY):
        wire.send(wire.client, session, b"x")
        wire.drop_all()
        wire.advance(1.0)
        assert session.is_up
    wire.server.mailbox.take_all()


def _asked(wire: Wire) -> None:
    for number in range(MANY):
        answered, failed = wire.ask(b"answer"), wire.ask(b"fail")
        wire.run()
        for request in wire.requests():
            if request.data == b"answer":
                request.answer(b"x")
            else:
                request.fail(ValueError("no"))
        wire.run()
        assert answered.is_done and failed.is_done, number
        wire.ask(b"never answered").session.close(None)
        wire.run()
        wire.requests()


def test_nor_does_the_record_of_a_conversation_that_is_over_and_taken() -> None:
    limits = Limits(sessions=1, stored_session=60.0)
    wire = StoredWire(max_peers=1000, limits=limits, listening=set(), stores={"server"})
    with without_collector() as left:
        for number in range(MANY):
            probe = probe_server(wire, session=f"{number:032x}")
            probe.say(frames.frame(frames.DATA, b"x"), frames.frame(frames.DATA, b"y"))
            wire.server.lost(probe.link, ConnectionResetError("reset"), wire.now)
            wire.settle()
        wire.advance(1000.0)
        assert not wire.server.sessions.by_id
        assert wire.stores["server"].counts()["inbox"] == 2 * MANY, "their messages outlive them"
        assert wire.server.mailbox.take_all() == [b"x", b"y"] * MANY
        wire.settle()
        assert wire.stores["server"].counts() == {"session": 0, "spool": 0, "inbox": 0, "doubt": 0}
        wire.advance(1000.0)
        del probe
        _part_ends()
        assert left() == []


def _part_ends() -> None:
    """The two ends of a connection of the wire refer to each other, which is of no interest here."""
    for each in gc.get_objects():
        if type(each) is MemoryLink and each.gone:
            vars(each).pop("other", None)


CASES: list[tuple[Callable[[Wire], None], Pattern, Framing]] = [
    (_ended, P2P, Linked()),
    (_ended, P2M, Linked()),
    (_ended, P2M, Lines()),
    (_dropped, P2P, Linked()),
    (_violated, P2P, Linked()),
    (_resumed, P2P, Linked()),
    (_asked, AR, Linked()),
    (_asked, AR, Lines()),
]


@pytest.mark.parametrize(
    ("use", "pattern", "framing"), CASES, ids=[f"{a.__name__}-{b.name}-{c.name}" for a, b, c in CASES]
)
def test_nothing_waits_for_the_collector(
    use: Callable[[Wire], None], pattern: Pattern, framing: Framing
) -> None:
    limits = Limits(sessions=1, session=60.0)
    wire = Wire(pattern, framing=framing, max_peers=1000, limits=limits, listening=set(), keep_alive=False)
    with without_collector() as left:
        use(wire)
        wire.advance(1000.0)  # No timer refers to them any more.
        _part_ends()
        assert left() == []
