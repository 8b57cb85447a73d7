"""What a front end asks of a hub, and what it is told: sending, waiting, refusals, events."""

from __future__ import annotations

import pytest

from linkbox import Lines
from linkbox.core.arrival import Arrival
from linkbox.core.decoding import decode_all
from linkbox.core.link import State
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire import frames
from linkbox.errors import DecodeError, EndOfData, MailboxFull, PeerLost, StateError, TooLarge
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_client, probe_server, welcome


def test_nothing_is_sent_after_the_end_or_beyond_what_the_peer_takes() -> None:
    wire = Wire(limits=Limits(message=10))
    session = wire.connect()
    with pytest.raises(TooLarge, match="at most 10 bytes, not 11"):
        session.send(bytes(11))
    session.end()
    with pytest.raises(StateError, match="has ended"):
        session.send(b"x")


def test_what_was_queued_before_the_peers_limit_was_known_fails_by_name() -> None:
    wire = Wire(limits=Limits(message=10), client_limits=Limits())
    session = wire.client.conversation = wire.client.begin(wire.now)
    large, small = session.send(bytes(100_000)), session.send(b"small")
    wire.run()
    assert isinstance(large.error, TooLarge)
    assert wire.server.mailbox.take_all() == [b"small"]
    wire.acks()
    assert small.stage >= Stage.RECEIVED


@pytest.mark.parametrize("is_ask", [True, False])
def test_an_ask_or_an_answer_that_is_more_than_the_other_takes_fails_the_ask(is_ask: bool) -> None:
    small, large = Limits(message=10), Limits()
    wire = Wire(AR, limits=small if is_ask else large, client_limits=large if is_ask else small)
    ask = wire.ask(bytes(100_000) if is_ask else b"x")
    wire.run()
    for request in wire.requests():
        request.answer(bytes(100_000))
    wire.run()
    assert isinstance(ask.error, TooLarge)


def test_who_waits_for_more_than_the_mailbox_holds_gets_it() -> None:
    wire = Wire(limits=Limits(mailbox_messages=2))
    session = wire.connect()
    wire.send(wire.client, session, *(b"%d" % number for number in range(5)))
    wire.acks()
    assert wire.server.mailbox.count == 2
    wire.server.raise_limit(5)
    wire.server.raise_limit(4)  # never back
    wire.acks()
    assert wire.server.mailbox.count == 5


def test_waiters_are_told_what_they_wait_for() -> None:
    wire = Wire()
    session = wire.connect()
    session.changed.waiters[object()] = None
    wire.server.mailbox.changed.waiters[object()] = None
    delivery = session.send(b"x")
    wire.drop_all()  # before it was written
    wire.run()
    wire.acks()
    assert delivery.stage >= Stage.RECEIVED


def test_who_waits_for_a_receipt_asks_again_after_a_drop() -> None:
    wire = Wire()
    session = wire.client.conversation = wire.client.begin(wire.now)
    first = probe_client(wire, session)
    wire.send(wire.client, session, b"x")
    first.say(frames.frame(frames.PONG, bytes(8)))
    session.changed.waiters[object()] = None
    wire.client.lost(first.link, ConnectionResetError("gone"), wire.now)
    wire.client.handle_timers(wire.now)
    second = probe_client(wire, session, greets=False)
    second.say(welcome(resumed=True, received=0))
    assert "ACK_NOW" in second.kinds()


def test_peers_are_those_who_are_connected() -> None:
    wire = Wire(P2M)
    session = wire.connect()
    assert [peer.name for peer in wire.server.peers()] == ["client 1"]
    assert [peer.name for peer in wire.client.peers()] == ["server"]
    wire.is_reachable = False
    wire.drop_all()
    assert wire.server.peers() == wire.client.peers() == ()
    assert session.error is None


def test_events_of_any_kind_that_wait_count_against_the_mailbox() -> None:
    """A callback blocks, and a peer goes on sending what rings no DATA bell: that must end somewhere."""
    wire = Wire(limits=Limits(mailbox_messages=5000))
    wire.calls_back = False
    probe = probe_server(wire)
    bad = frames.frame(frames.DATA, b"bad")
    for _ in range(3):
        probe.say(bad * 4000)
    assert "beyond its credit" in str(probe.link.error)
    assert len(wire.server.effects.events.events) < 13_000


def test_a_flood_of_rejections_does_not_fill_the_log() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(frames.frame(frames.DATA, b"bad") * 100)
    assert wire.server.context.counters.rejected == 100
    assert len([text for text in wire.notes if "was rejected" in text]) == 10
    wire.advance(60.0)
    assert wire.notes[-1] == "90 more messages were rejected in that minute"


def test_many_peers_with_one_bad_message_each_do_not_fill_the_log() -> None:
    wire = Wire(max_peers=1_000)
    for number in range(100):
        probe = probe_server(wire, session=f"{number:032x}")
        probe.say(frames.frame(frames.DATA, b"bad"))
    assert wire.server.context.counters.rejected == 100
    assert len(wire.notes) == 10
    wire.server.abort()
    wire.settle()
    assert wire.notes[10:] == ["90 more messages were rejected in that minute"]


def test_events_nobody_listens_to_any_more_are_forgotten() -> None:
    wire = Wire()
    wire.calls_back = False
    session = wire.connect()
    wire.send(wire.client, session, b"one", b"two")
    wire.run()
    assert wire.server.effects.events.pending == 3
    wire.server.forget_data_events()
    assert wire.server.effects.events.pending == 1
    assert EventKind.DATA not in {event[0] for event in wire.server.effects.events.events}
    assert EventKind.CONNECTED in {event[0] for event in wire.server.effects.events.events}


def test_what_arrives_for_a_session_that_is_over_is_not_stored() -> None:
    wire = Wire()
    probe = probe_server(wire)
    wire.decodes = False
    probe.say(frames.frame(frames.DATA, b"x"))
    [session] = wire.server.sessions.by_id.values()
    wire.server.sessions.close_session(session, PeerLost("gone"))
    wire.decode_all()
    assert wire.server.mailbox.count == 0


def test_a_format_of_the_users_that_raises_anything_names_it() -> None:
    wire = Wire()
    session = wire.connect()

    def decode(payload: bytes) -> bytes:
        if payload == b"ill":
            raise KeyError("ill")
        return payload

    arrival = Arrival(session, [b"ill", b"good", TooLarge("too large")], 3)
    bad, good, large = decode_all(decode, arrival)
    assert good == b"good" and isinstance(large, TooLarge)
    assert isinstance(bad, DecodeError)
    assert "KeyError" in str(bad)


# --- FIN, and what is still being decoded -------------------------------------------------------------


def test_fin_waits_for_what_is_being_decoded() -> None:
    wire = Wire()
    session = wire.connect()
    far = wire.end_of(wire.server)
    wire.decodes = False
    wire.send(wire.client, session, b"last")
    session.end()
    wire.run()
    far.link.eof = True
    far.link.settle_eof(wire.now)
    assert not far.link.closed
    wire.decodes = True
    wire.decode_all()
    assert wire.server.mailbox.take_all() == [b"last"]


def test_who_never_comes_back_closes_without_a_confirmation() -> None:
    wire = Wire(P2M, resumes=False)
    session = wire.connect()
    wire.send(wire.client, session, b"x")
    session.end()
    wire.run()
    assert wire.server.mailbox.take_all() == [b"x"]
    wire.acks()
    assert not wire.client.links.links and not wire.server.links.links


def test_without_resuming_a_drop_is_the_end() -> None:
    wire = Wire(resumes=False)
    session = wire.connect()
    wire.drop_all()
    wire.run()
    assert isinstance(session.error, PeerLost)
    assert not wire.server.sessions.by_id


def test_a_connection_over_lines_that_was_for_one_ask_ends_with_its_answer() -> None:
    wire = Wire(AR, framing=Lines())
    session = wire.client.begin(wire.now)
    ask = wire.ask(b"x", session)
    wire.run()
    session.end()  # it says FIN; the answer is still to come
    wire.run()
    [request] = wire.requests()
    request.answer(b"y")
    wire.run()
    assert ask.value == b"y"
    wire.advance(5)
    assert not wire.client.links.links and not wire.server.links.links
    assert isinstance(session.error, EndOfData)


# --- One round trip for a short life --------------------------------------------------------------------


def test_early_messages_of_a_connection_that_died_unanswered_go_again_to_a_server_that_knows_nothing() -> (
    None
):
    wire = Wire(P2M)
    session = wire.client.conversation = wire.client.begin(wire.now)
    session.send(b"early")
    first = probe_client(wire, session, greets=False)
    assert first.kinds() == ["HELLO", "DATA"]
    wire.now += 1
    wire.client.lost(first.link, ConnectionResetError("gone"), wire.now)
    wire.advance(1)
    assert session.error is None
    assert session.link is not None and session.link.state is State.OPEN
    assert wire.server.mailbox.take_all() == [b"early"]


def test_asks_move_from_a_session_that_is_not_the_current_one() -> None:
    wire = Wire(AR)
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    ask = wire.ask(b"x", session)
    probe.say(frames.encode_number(frames.GOAWAY, 0))
    wire.advance(1)
    [request] = wire.requests()
    request.answer(b"y")
    wire.run()
    assert ask.value == b"y"
    assert wire.client.conversation is None


def test_a_full_mailbox_that_refuses_says_so() -> None:
    wire = Wire(overflow="error", limits=Limits(mailbox_messages=1))
    session = wire.connect()
    first, second = wire.send(wire.client, session, b"1", b"2")
    wire.run()
    wire.acks()
    assert first.stage is Stage.RECEIVED
    assert isinstance(second.error, MailboxFull)


def test_one_acknowledgement_told_leaves_the_others_owing() -> None:
    wire = Wire(P2M)
    first, second = wire.connect(), wire.connect(wire.make_client())
    for session in (first, second):
        wire.send(wire.client, session, b"message")
    wire.run()
    there, effects = [wire.other(first), wire.other(second)], wire.server.effects
    assert set(effects.acks_due) == {each.route for each in there}
    due = effects.acks_due_at
    there[0].receiving.marks()
    assert (list(effects.acks_due), effects.acks_due_at) == ([there[1].route], due)
    there[1].receiving.marks()
    assert (list(effects.acks_due), effects.acks_due_at) == ([], float("inf"))


def test_the_time_for_one_address_is_a_share_of_what_is_left() -> None:
    wire = Wire(P2P, connect_timeout=9.0)
    session = wire.client.begin(wire.now)
    assert wire.client.dialing.patience(session, 0, wire.now) == 9.0
    assert wire.client.dialing.patience(session, 2, wire.now) == 3.0
    assert wire.client.dialing.patience(session, 0, wire.now + 8.0) == 1.0
    assert wire.client.dialing.patience(session, 0, wire.now + 20.0) == 0.05
    session.generation.established = True
    assert wire.client.dialing.patience(session, 0, wire.now + 20.0) == 9.0


def test_nobody_listens() -> None:
    wire = Wire(listening=set())
    session = wire.connect()
    wire.send(wire.client, session, b"bad", b"good")
    wire.run()
    wire.acks()
    assert wire.server.mailbox.take_all() == [b"good"]
    assert not wire.notices[wire.server] and not wire.notices[wire.client]
    assert wire.server.effects.events.pending == 0


def test_what_is_rejected_after_a_drop_is_said_with_the_resume() -> None:
    wire = Wire()
    session = wire.connect()
    wire.decodes = False
    [receipt] = wire.send(wire.client, session, b"bad")
    wire.run()
    wire.drop_all()
    session.request_ack()  # nobody is there to be asked
    wire.decodes = True
    wire.decode_all()
    assert wire.server.context.counters.rejected == 1 and receipt.error is None
    wire.advance(1)
    assert isinstance(receipt.error, DecodeError)


def test_a_rejection_that_is_said_twice_is_told_once() -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.conversation
    assert session is not None
    [receipt] = wire.send(wire.client, session, b"1")
    probe.say(frames.encode_reject(1, "decode", "first"), frames.encode_reject(1, "decode", "second"))
    assert "first" in str(receipt.error)
    assert wire.kinds(wire.client).count(EventKind.ERROR) == 1
