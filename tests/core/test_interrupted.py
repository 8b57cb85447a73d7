"""Ctrl-C in the middle of what a client's hub does: nothing is counted twice, and nothing is stuck."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from linkbox.core.arrival import Arrival
from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.linked_link import LinkedLink
from linkbox.core.patterns import AR
from linkbox.core.wire import frames
from linkbox.errors import PeerLost
from tests.core.test_session import Interrupted
from tests.core.wire import Wire, greeting, probe_client, probe_server


class Struck(deque[Arrival]):
    """What arrivals are handed over into, when the signal comes right behind that."""

    def extend(self, arrivals: Any) -> None:
        super().extend(arrivals)
        raise Interrupted


def test_a_session_has_one_connection_at_a_time() -> None:
    wire = Wire()
    session = wire.connect()
    client = wire.client
    first = session.link
    assert client.connected(session, client.dialing.address, wire.now) is None  # It was dialled twice.
    assert session.link is first
    assert first is not None
    client.interrupted(first)
    assert session.link is None
    second = client.connected(session, client.dialing.address, wire.now)
    assert second is not None
    assert session.link is second


def test_what_an_interrupted_step_had_handed_over_is_taken_back_with_its_marks() -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.conversation
    assert session is not None
    probe.say(frames.frame(frames.DATA, b"one"))
    before = Arrival(session, [], session.receiving.arrived)
    into = Struck([before])
    with pytest.raises(Interrupted):
        wire.client.received(probe.link, frames.frame(frames.DATA, b"two"), wire.now, into)
    assert session.receiving.arrived == 1
    assert list(into) == [before]
    assert probe.link.closed


@pytest.mark.patches
def test_a_session_whose_closing_was_interrupted_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    session = wire.connect()
    client, link = wire.client, session.link

    def strike(*args: Any) -> None:
        raise Interrupted

    assert link is not None
    with monkeypatch.context() as patch:
        patch.setattr(client, "on_link_closed", strike)
        with pytest.raises(Interrupted):
            client.lost(link, ConnectionResetError("reset"), wire.now)
    client.rescue(wire.now)
    wire.advance(1.0)
    assert session.link is not None
    assert not session.link.closed


def test_who_had_not_introduced_itself_is_closed() -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    with pytest.raises(Interrupted):
        wire.server.received(probe.link, greeting(wire)[:4], wire.now, Struck())
    assert probe.link.closed
    assert not wire.server.admission.pending


def test_an_interrupted_conversation_of_asks_is_over() -> None:
    """An ask is never executed twice: there is no going on with half of one."""
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    ask = wire.ask(b"x", session)
    with pytest.raises(Interrupted):
        wire.client.received(probe.link, frames.encode_answer(ask.id, 0, b"y"), wire.now, Struck())
    assert isinstance(ask.error, PeerLost)
    assert "interrupted" in str(ask.error)


@pytest.mark.patches
def test_a_message_that_was_counted_as_sent_is_sent_though_something_struck() -> None:
    wire = Wire()
    session = wire.connect()
    link = session.link
    assert isinstance(link, LinkedLink)

    class Control(list[Any]):
        def append(self, item: Any) -> None:
            raise Interrupted

    link.control = Control()
    with pytest.raises(Interrupted):
        session.send(b"one")
    wire.client.rescue(wire.now)
    wire.settle()
    assert link.closed
    wire.advance(1.0)
    wire.send(wire.client, session, b"two")
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"one", b"two"]


def test_what_was_delivered_when_something_struck_is_not_delivered_again() -> None:
    wire = Wire()
    probe = probe_server(wire)
    wire.decodes = False
    probe.say(frames.frame(frames.DATA, b"one"))
    [(hub, arrival)] = wire.undecoded
    wire.undecoded.clear()
    for _ in range(2):
        hub.deliver(arrival, arrival.payloads, wire.now)
    assert wire.server.mailbox.take_all() == [b"one"]


def test_counts_of_bytes_are_right_again() -> None:
    wire = Wire(mailbox=BytesMailbox)
    probe = probe_server(wire)
    probe.say(frames.encode_batch([b"one", b"three"]), frames.frame(frames.DATA, b"x"))
    mailbox = wire.server.mailbox
    assert mailbox.take_count(2, None) == b"on"
    wire.server.interrupted(probe.link)
    assert (mailbox.count, mailbox.nbytes) == (3, 7)
    assert b"".join(mailbox.take_all()) == b"ethreex"
    assert (mailbox.count, mailbox.nbytes) == (0, 0)


def test_living_connections_are_left_alone_by_a_rescue() -> None:
    wire = Wire()
    session = wire.connect()
    link = session.link
    wire.client.rescue(wire.now)
    wire.advance(30)
    assert session.link is link
    assert len(wire.dialled) == 1
    waiting = wire.client.begin(wire.now)
    wire.client.rescue(wire.now)  # It is to be dialled anyway, once.
    assert wire.client.dialing.dials == [waiting]
