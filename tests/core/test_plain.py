"""Links over a plain framing: no handshake, no acks; FIN is the END, and a full mailbox stops reading."""

from __future__ import annotations

import pytest

from linkbox import Backoff, Dialogue, FixedSize, Lines, Raw
from linkbox.core.asks_client import Ask
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.paused_links import PausedLinks
from linkbox.core.statistics import statistics
from linkbox.errors import DecodeError, PeerLost, ProtocolViolation, TooLarge
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_client, probe_server


def paused_links(wire: Wire) -> PausedLinks:
    """The connections of the server that are not read."""
    paused = wire.server.context.paused_links
    assert paused is not None
    return paused


def test_messages_go_both_ways_and_sent_is_all_that_is_known() -> None:
    wire = Wire(framing=Lines())
    session = wire.connect()
    [delivery] = wire.send(wire.client, session, b"one")
    wire.run()
    assert delivery.stage is Stage.SENT
    assert wire.server.mailbox.take_all() == [b"one"]
    [far] = wire.server.sessions.by_id.values()
    wire.send(wire.server, far, b"two", b"three")
    wire.run()
    assert wire.client.mailbox.take_all() == [b"two", b"three"]


def test_fin_is_the_end_and_what_came_before_it_counts() -> None:
    wire = Wire(framing=Lines())
    session = wire.connect()
    wire.send(wire.client, session, b"last")
    session.end()
    wire.run()
    assert wire.server.mailbox.take_all() == [b"last"]
    assert wire.events(wire.server, EventKind.END)
    wire.advance(5)
    assert not wire.client.links.links and not wire.server.links.links


def test_a_last_line_without_its_newline_is_a_message() -> None:
    wire = Wire(P2M, framing=Lines())
    probe = probe_server(wire, greets=False)
    probe.say(b"one\ntw")
    probe.say(b"o")
    probe.eof()
    wire.settle()
    assert wire.server.mailbox.take_all() == [b"one", b"two"]


def test_a_framing_that_is_cut_off_is_an_error_by_name() -> None:
    wire = Wire(P2M, framing=FixedSize(4))
    probe = probe_server(wire, greets=False)
    probe.say(b"four123")
    probe.eof()
    wire.settle()
    assert wire.server.mailbox.take_all() == [b"four"]
    assert wire.events(wire.server, EventKind.ERROR)
    assert probe.is_closed


def test_too_long_a_line_closes_the_link_and_is_named() -> None:
    wire = Wire(P2M, framing=Lines(), limits=Limits(message=10))
    probe = probe_server(wire, greets=False)
    probe.say(b"short\n" + bytes(50))
    assert probe.is_closed
    [error] = [notice[2] for notice in wire.events(wire.server, EventKind.ERROR)]
    assert isinstance(error, TooLarge)
    assert isinstance(probe.link.error, ProtocolViolation)
    assert wire.server.mailbox.take_all() == [b"short"]
    probe.say(b"more\n")  # it is closed: nothing is heard
    probe.eof()
    assert wire.server.mailbox.count == 0


def test_a_bad_message_is_named_and_the_stream_goes_on() -> None:
    wire = Wire(P2M, framing=Lines())
    probe = probe_server(wire, greets=False)
    probe.say(b"one\nbad\ntwo\n")
    assert wire.server.mailbox.take_all() == [b"one", b"two"]
    [error] = [notice[2] for notice in wire.events(wire.server, EventKind.ERROR)]
    assert isinstance(error, DecodeError)
    assert not probe.is_closed


def test_a_full_mailbox_stops_reading_until_it_is_emptied() -> None:
    wire = Wire(P2M, framing=Lines(), limits=Limits(mailbox_messages=2))
    probe = probe_server(wire, greets=False)
    probe.say(b"1\n2\n3\n")
    assert probe.link.paused
    paused_links(wire).read_again()  # still full
    assert probe.link.paused
    assert wire.server.mailbox.take_all() == [b"1", b"2", b"3"]
    paused_links(wire).read_again()
    assert not probe.link.paused


def test_a_paused_link_that_breaks_is_forgotten() -> None:
    wire = Wire(P2M, framing=Lines(), limits=Limits(mailbox_messages=1))
    probe = probe_server(wire, greets=False)
    probe.say(b"1\n")
    wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    paused_links(wire).read_again()
    assert not paused_links(wire).paused


def test_a_stopping_end_does_not_wait_for_ever_for_the_other() -> None:
    wire = Wire(P2P, framing=Lines())
    probe = probe_server(wire, greets=False)
    [session] = wire.server.sessions.by_id.values()
    wire.send(wire.server, session, b"bye")
    wire.server.shutdown(wire.now)
    wire.settle()
    assert probe.raw() == b"bye\n"
    assert probe.sink.fin
    wire.advance(60)
    assert probe.is_closed


def test_who_never_got_a_word_is_not_waited_for() -> None:
    wire = Wire(P2P, framing=Lines())
    probe = probe_server(wire, greets=False)
    wire.server.shutdown(wire.now)
    wire.advance(0.1)
    assert probe.is_closed


def test_an_idle_connection_of_asks_is_used_again() -> None:
    wire = Wire(AR, framing=Lines())
    assert wire.client.conversations.idle() is None
    session = wire.connect()
    assert wire.client.conversations.idle() is session
    ask = wire.ask(b"x", session)
    assert wire.client.conversations.idle() is None
    wire.run()
    [request] = wire.requests()
    request.answer(b"y")
    wire.run()
    assert ask.value == b"y"


def test_requests_share_connections_once_there_are_as_many_as_allowed() -> None:
    wire = Wire(AR, framing=Lines())
    wire.client.context.settings.connections = 2
    conversations = wire.client.conversations
    first = wire.connect()
    assert conversations.least_busy(wire.now) is first, "it is idle"
    wire.ask(b"1", first)
    wire.ask(b"2", first)
    second = conversations.least_busy(wire.now)
    assert second is not first, "another connection is allowed"
    wire.ask(b"3", second)
    assert conversations.least_busy(wire.now) is second, "the other one has more to do"


def test_a_conversation_that_is_closed_before_its_turn_never_connects() -> None:
    wire = Wire(AR, framing=Lines())
    wire.client.context.settings.connections = 1
    first = wire.connect()
    second, third = wire.client.begin(wire.now), wire.client.begin(wire.now)
    assert not wire.client.dialing.dials
    second.close(None)
    first.close(None)
    assert wire.client.dialing.dials == [third]


def test_an_answer_over_lines_that_lands_in_the_mailbox() -> None:
    wire = Wire(AR, framing=Lines())
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    asks = wire.client.asks
    ask = Ask(session, True)
    asks.add(ask, b"x", False, None)
    wire.settle()
    assert probe.raw() == b"x\n"
    probe.say(b"y\n")
    [answer] = wire.client.mailbox.take_all()
    assert answer.value == b"y"
    assert wire.events(wire.client, EventKind.DATA)


def test_an_answer_over_lines_too_late_closes_the_connection() -> None:
    wire = Wire(AR, framing=Lines())
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"x", session)
    assert wire.client.asks.cancel(ask, "enough"), "only closing the connection can say so"
    assert ask.id not in wire.client.asks.waiting
    session.close(PeerLost("the asker gave up"))
    wire.settle()
    assert probe.is_closed
    assert not wire.client.asks.cancel(ask, "again")


# --- Statistics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_up", [True, False])
def test_statistics_add_up_over_connections(is_up: bool) -> None:
    wire = Wire(P2M)
    session = wire.connect()
    wire.send(wire.client, session, b"one", b"three")
    wire.run()
    if not is_up:
        wire.server.disconnect(wire.other(session), "enough", wire.now)
        wire.settle()
    server = wire.server
    found = statistics(list(server.sessions.by_id.values()), server.context.counters, server.mailbox)
    assert (found.messages_received, found.bytes_received, found.waiting) == (2, 8, 2)
    assert found.connections == len(found.peers) == (1 if is_up else 0)
    assert found.connections_total == 1
    for each in found.peers.values():
        assert (each.messages_received, each.waiting, each.unacknowledged) == (2, 2, 0)
    stopped = statistics([], server.context.counters, server.mailbox)
    assert stopped.connections == 0
    assert stopped.messages_received == (0 if is_up else 2)


def test_a_server_that_breaks_the_framing_is_an_error_of_the_client() -> None:
    wire = Wire(framing=Lines(), limits=Limits(message=10))
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    probe.say(bytes(100))
    assert probe.is_closed and wire.client.context.counters.rejected == 1
    error, *_ = wire.events(wire.client, EventKind.ERROR)
    assert isinstance(error.error, TooLarge) and error.peer is session.peer


def test_a_peer_that_does_not_close_its_half_has_a_deadline_from_its_last_message() -> None:
    wire = Wire(P2P, framing=Lines(), limits=Limits(close=5.0, mailbox_messages=1))
    probe = probe_server(wire, greets=False)
    [session] = wire.server.sessions.by_id.values()
    session.end()
    wire.settle()
    assert probe.sink.fin
    wire.advance(4)
    probe.say(b"1\n2\n")
    assert probe.link.paused
    wire.advance(60)
    assert not probe.is_closed, "it is this side that does not read"
    wire.server.mailbox.take_all()
    paused_links(wire).read_again()
    wire.advance(6)
    assert probe.is_closed
    assert isinstance(wire.events(wire.server, EventKind.DISCONNECTED)[0][2], PeerLost)


def test_a_request_whose_end_is_fin_waits_for_its_response() -> None:
    wire = Wire(AR, framing=Raw(), limits=Limits(close=5.0))
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"how much?", session)
    session.end()
    wire.settle()
    assert probe.raw() == b"how much?" and probe.sink.fin
    wire.advance(60)
    assert not probe.is_closed
    probe.say(b"much")
    probe.eof()
    assert ask.value == b"much"


# --- Turns, and clients that come back ----------------------------------------------------------------


def test_a_response_without_an_end_is_limited() -> None:
    wire = Wire(AR, framing=Lines(), limits=Limits(mailbox_bytes=1000))
    plain = wire.client.asks._plain
    assert plain is not None
    plain._dialogue = Dialogue(answer=lambda line: line == b"OK")
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"list", session)
    wire.settle()
    probe.say(b"x" * 99 + b"\n")
    assert not ask.is_done
    probe.say((b"x" * 99 + b"\n") * 20)
    assert probe.is_closed
    assert "a response of more than 1000 bytes" in str(ask.error)


@pytest.mark.parametrize("is_asked", [True, False])
def test_what_a_server_sends_counts_as_what_it_takes(is_asked: bool) -> None:
    """A line of some bytes may be a thousand objects: of a response, or of what nobody has asked for."""
    wire = Wire(AR, framing=Lines(), limits=Limits(mailbox_bytes=1000))
    plain = wire.client.asks._plain
    assert plain is not None
    plain._dialogue = Dialogue(answer=lambda line: line == b"OK")
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"list", session) if is_asked else None
    wire.decodes = False
    probe.say(b"x\n" * 5)
    for _, arrival in wire.undecoded:
        arrival.memory = 400
    wire.decode_all()
    assert probe.is_closed is is_asked
    if ask is None:
        assert wire.client.mailbox.count == 3 and wire.client.mailbox.nbytes == 1200
    else:
        assert "a response of more than 1000 bytes" in str(ask.error)


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_client_that_comes_back_gives_up_as_its_backoff_says(attempts: int) -> None:
    backoff = Backoff(initial=1.0, maximum=1.0, jitter=0.0, attempts=attempts)
    wire = Wire(P2P, framing=Lines(), reconnect=backoff)
    client = wire.client
    client.context.settings.comes_back = True
    client.conversation = client.begin(wire.now)
    probe = probe_client(wire, client.conversation, greets=False)
    assert client.conversations.seconds_to_attempt(wire.now) is None
    probe.eof()  # Nothing was sent or received: it counts as a failed attempt.
    if attempts == 1:
        assert client.mailbox.end_reason is not None
        return
    assert client.mailbox.end_reason is None
    assert client.conversations.seconds_to_attempt(wire.now) == 1.0


@pytest.mark.parametrize(("lasted", "wait"), [(0.0, 1.0), (0.9, 1.0), (1.0, 0.0), (100.0, 0.0)])
def test_a_connection_that_was_used_is_followed_at_once_unless_it_was_short(
    lasted: float, wait: float
) -> None:
    """Else a gateway that accepts, writes an error and closes costs thousands of connections a second."""
    wire = Wire(P2P, framing=Lines(), reconnect=Backoff(initial=1.0, maximum=60.0, jitter=0.0))
    client = wire.client
    client.context.settings.comes_back = True
    for _ in range(3):  # nor does it wait longer each time
        client.conversation = client.begin(wire.now)
        probe = probe_client(wire, client.conversation, greets=False)
        probe.say(b"device open failure\n")
        wire.now += lasted
        probe.eof()
        assert client.conversations.seconds_to_attempt(wire.now) == wait
