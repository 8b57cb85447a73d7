"""Client and server meet, lose each other, come back, and part: every decision, without a socket."""

from __future__ import annotations

import msgspec
import pytest

from linkbox import Framing, Lines, Linked
from linkbox.core.backoff import ONE_TRY
from linkbox.core.link import Link, State
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.pending_links import PendingLinks, stage_of
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.errors import ConnectFailed, DecodeError, EndOfData, PeerLost, Refused, SessionLost
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import (
    Probe,
    Wire,
    decode_message,
    encode_message,
    greeting,
    probe_client,
    probe_server,
)


def refusal(probe_heard: list[tuple[int, bytes]]) -> handshake.Refuse:
    [refuse] = [decode_message(kind, payload) for kind, payload in probe_heard if kind == frames.REFUSE]
    assert isinstance(refuse, handshake.Refuse)
    return refuse


# --- Connecting -------------------------------------------------------------------------------------


def test_a_client_tries_until_its_time_is_up() -> None:
    wire = Wire(connect_timeout=1.0)
    wire.is_reachable = False
    session = wire.connect()
    wire.advance(0.9)
    assert session.error is None
    assert len(wire.dialled) > 3
    wire.advance(0.2)
    assert isinstance(session.error, ConnectFailed)
    tries = len(wire.dialled)
    wire.advance(10)
    assert len(wire.dialled) == tries


def test_an_attempt_that_nobody_answers_ends_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt is refused; of the second nothing is heard, not even that it failed."""
    wire = Wire(connect_timeout=1.0)
    wire.is_reachable = False
    session = wire.connect()
    monkeypatch.setattr(wire, "_dial", lambda hub, session: wire.dialled.append(wire.now))
    wire.advance(0.9)
    assert session.error is None and len(wire.dialled) == 2
    wire.advance(0.2)
    assert isinstance(session.error, ConnectFailed)


def test_stop_does_not_wait_for_a_server_that_has_not_answered() -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    wire.client.shutdown(wire.now)
    wire.settle()
    assert probe.is_closed and not wire.client.sessions.by_id


def test_a_server_that_starts_a_moment_later_is_no_error() -> None:
    wire = Wire()
    wire.is_reachable = False
    session = wire.connect()
    wire.advance(2)
    wire.is_reachable = True
    wire.advance(1)
    assert session.generation.established


def test_without_reconnect_the_first_failure_is_final() -> None:
    wire = Wire(reconnect=None)
    wire.is_reachable = False
    session = wire.connect()
    assert isinstance(session.error, ConnectFailed)
    assert len(wire.dialled) == 1


def test_without_reconnect_a_drop_is_final() -> None:
    wire = Wire(reconnect=None)
    session = wire.connect()
    wire.drop_all()
    wire.advance(1)
    assert isinstance(session.error, PeerLost)


def test_the_first_connection_may_have_one_try_only() -> None:
    """As the command line wants it: a failure is known at once, and a drop later is no failure."""
    wire = Wire(reconnect=ONE_TRY)
    wire.is_reachable = False
    session = wire.connect()
    assert isinstance(session.error, ConnectFailed)
    assert len(wire.dialled) == 1

    wire = Wire(reconnect=ONE_TRY)
    session = wire.connect()
    wire.is_reachable = False
    wire.drop_all()
    wire.advance(60)
    wire.is_reachable = True
    wire.advance(60)
    assert session.error is None and session.link is not None


def test_a_dead_server_is_given_up_after_so_many_attempts() -> None:
    wire = Wire()
    assert wire.client.dialing.reconnect is not None
    wire.client.dialing.reconnect = msgspec.structs.replace(wire.client.dialing.reconnect, attempts=3)
    session = wire.connect()
    wire.is_reachable = False
    wire.drop_all()
    wire.advance(5)
    assert isinstance(session.error, PeerLost)
    assert "not restored" in str(session.error)


def test_a_connection_that_comes_too_late_is_not_wanted() -> None:
    wire = Wire()
    session = wire.connect()
    client = wire.client
    client.sessions.close_session(session, None)
    assert client.connected(session, client.dialing.address, wire.now) is None
    client.connect_failed(session, ConnectFailed("late"), wire.now)
    assert not client.dialing.dials


def test_a_session_that_is_connecting_is_not_dialled_again() -> None:
    wire = Wire()
    probe_client(wire, greets=False)
    session = wire.client.conversation
    assert session is not None
    wire.client.sessions.session_due(session, wire.now)
    assert not wire.client.dialing.dials and session.link is not None


def test_a_session_has_one_connection_at_a_time() -> None:
    wire = Wire()
    session = wire.connect()
    client = wire.client
    first = session.link
    assert first is not None
    assert client.connected(session, client.dialing.address, wire.now) is None  # It was dialled twice.
    assert session.link is first
    client.lost(wire.end_of(client).link, ConnectionResetError("gone"), wire.now)
    assert session.link is None
    second = client.connected(session, client.dialing.address, wire.now)
    assert second is not None
    assert session.link is second


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"pattern": "ar"}, "pattern"), ({"format": "json"}, "format")],
)
def test_who_does_not_fit_is_refused_by_name(changes: dict[str, str], code: str) -> None:
    wire = Wire()
    probe = probe_server(wire, **changes)
    assert refusal(probe.heard()).code == code
    assert not wire.server.sessions.by_id


@pytest.mark.parametrize("code", ["format", "pattern", "version"])
def test_a_refusal_is_final(code: str) -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    session = wire.client.conversation
    assert session is not None
    probe.say(frames.preface(), encode_message(handshake.Refuse(code, "because")))
    wire.advance(1)
    assert isinstance(session.error, Refused)
    assert session.error.code == code
    assert not wire.dialled


def test_a_busy_server_is_tried_again() -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    session = wire.client.conversation
    assert session is not None
    probe.say(frames.preface(), encode_message(handshake.Refuse("busy", "because")))
    wire.advance(1)
    assert session.generation.established
    assert wire.dialled


# --- Places -----------------------------------------------------------------------------------------


def test_a_second_client_of_a_server_for_one_is_refused() -> None:
    wire = Wire()
    wire.connect()
    probe = probe_server(wire)
    assert refusal(probe.heard()).code == "busy"
    wire.server.admission.places.max_peers = 2
    assert "WELCOME" in probe_server(wire, session="cd" * 16).kinds()


def test_a_silent_peer_that_answers_keeps_its_place() -> None:
    wire = Wire()
    first = probe_server(wire)
    first.heard()
    wire.advance(3)
    second = probe_server(wire, session="cd" * 16)
    [(kind, payload)] = [each for each in first.heard() if each[0] == frames.PING]
    first.say(frames.frame(frames.PONG, payload))
    wire.advance(3)
    assert kind == frames.PING
    assert refusal(second.heard()).code == "busy"
    assert not first.is_closed


def test_a_silent_peer_that_does_not_answer_makes_room() -> None:
    wire = Wire()
    first = probe_server(wire)
    wire.advance(3)
    second = probe_server(wire, session="cd" * 16)
    assert "WELCOME" not in second.kinds()
    wire.advance(3)
    assert first.is_closed
    assert "WELCOME" in second.kinds()


def test_a_waiting_client_that_leaves_is_forgotten() -> None:
    wire = Wire()
    first = probe_server(wire)
    wire.advance(3)
    second = probe_server(wire, session="cd" * 16)
    assert wire.server.admission.waiting
    [applicant] = wire.server.admission.waiting.values()
    wire.server.lost(second.link, ConnectionResetError("gone"), wire.now)
    wire.settle()
    assert not wire.server.admission.waiting
    assert applicant.next_timer() == float("inf")
    wire.advance(3)
    assert not first.is_closed


def test_a_place_that_becomes_free_goes_to_who_waits() -> None:
    wire = Wire()
    first = probe_server(wire)
    wire.advance(3)
    second = probe_server(wire, session="cd" * 16)
    wire.server.lost(first.link, ConnectionResetError("gone"), wire.now)
    wire.settle()
    assert "WELCOME" in second.kinds()


def test_limits_on_who_has_not_introduced_itself() -> None:
    wire = Wire(limits=Limits(unwelcomed=3, unwelcomed_per_ip=2))
    server = wire.server
    first = server.accept("tcp://a", "10.0.0.1", wire.now)
    second = server.accept("tcp://a", "10.0.0.1", wire.now)
    assert first is not None and second is not None
    assert server.admission.is_crowded(wire.now), "both have just come"
    assert server.accept("tcp://a", "10.0.0.1", wire.now) is None
    wire.now += 1e-6
    assert not server.admission.is_crowded(wire.now)
    last = server.accept("tcp://b", "10.0.0.2", wire.now)
    assert server.admission.is_crowded(wire.now), "it has just come, and there are no more places"
    wire.now += 1e-6
    assert not server.admission.is_crowded(wire.now), "a silent one makes room"
    newest = server.accept("tcp://c", None, wire.now)
    assert newest is not None and last is not None
    assert first.closed and not (second.closed or last.closed), "the oldest, of the address with the most"
    assert server.context.counters.refused == 2
    for link in (second, last, newest):
        server.lost(link, ConnectionResetError("gone"), wire.now)
    pending = server.admission._pending
    assert not pending.is_share_full("10.0.0.1") and not pending.links
    assert not (pending._origins or pending._by_count or pending._new or pending._most), (
        "an address is forgotten with its last connection"
    )


def test_who_waits_for_a_decision_makes_no_room() -> None:
    wire = Wire(limits=Limits(unwelcomed=2), asks_first=True)
    server = wire.server
    waiting = [probe_server(wire, session=f"{number:032x}") for number in range(2)]
    assert server.admission.is_crowded(wire.now)
    assert server.accept("tcp://c", None, wire.now) is None
    wire.now += 1e-6
    assert server.admission.is_crowded(wire.now)
    server.decide(server.pending_accepts.take(), False, wire.now)
    assert not server.admission.is_crowded(wire.now)
    assert server.accept("tcp://c", None, wire.now) is not None, "the one that was refused is closed"
    assert not waiting[1].is_closed


def test_a_plain_server_turns_away_without_a_word() -> None:
    wire = Wire(framing=Lines())
    assert wire.server.accept("tcp://a", None, wire.now)
    assert wire.server.accept("tcp://b", None, wire.now) is None
    wire.settle()
    assert any("was rejected: all 1 peer slots are in use" in note for note in wire.notes)


# --- Losing each other, and coming back ---------------------------------------------------------------


def test_an_older_connection_of_a_session_is_refused() -> None:
    wire = Wire()
    probe_server(wire, epoch=5)
    late = probe_server(wire, epoch=4)
    assert refusal(late.heard()).code == "session"
    assert len(wire.server.sessions.by_id) == 1


def test_a_newer_connection_of_a_session_takes_over() -> None:
    wire = Wire()
    first = probe_server(wire, epoch=1)
    [peer] = wire.server.peers()
    second = probe_server(wire, epoch=2, born=1, name="renamed")
    assert wire.server.peers() == (peer,) and peer.name == "renamed"
    assert first.is_closed
    assert "WELCOME" in second.kinds()
    assert wire.events(wire.server, EventKind.RESUMED)


def test_a_session_that_nobody_comes_back_to_is_over() -> None:
    wire = Wire(limits=Limits(session=10.0))
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    wire.advance(9)
    assert session.error is None
    wire.advance(2)
    assert "did not come back in 10 s" in str(session.error)
    assert not wire.server.sessions.by_id


def test_only_so_many_lost_sessions_are_kept() -> None:
    wire = Wire(P2M, limits=Limits(sessions=1))
    probes = [probe_server(wire, session=f"{number:032x}") for number in range(3)]
    for probe in probes:
        wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    wire.settle()
    assert len(wire.server.sessions.by_id) == 1


def test_a_restarted_server_leaves_in_doubt_what_it_may_have_had() -> None:
    wire = Wire()
    old = wire.connect()
    sent, unsent = wire.send(wire.client, old, b"sent")[0], None
    wire.client.effects.events.events.clear()
    wire.drop_all()  # before it was acknowledged
    unsent = old.send(b"never sent")
    wire.restart_server()
    wire.advance(1)
    assert isinstance(old.error, SessionLost)
    assert list(old.error.in_doubt) == [sent]
    assert sent.stage is Stage.FAILED
    assert wire.server.mailbox.take_all() == [b"never sent"]
    wire.acks()
    assert unsent.stage >= Stage.RECEIVED
    about = [(notice[3], notice[2].in_doubt) for notice in wire.events(wire.client, EventKind.ERROR)]
    assert about == [(sent, ()), (None, (sent,))]  # one for each message in doubt, one for them all


def test_the_current_conversation_is_begun_when_there_is_none() -> None:
    wire = Wire()
    first = wire.client.conversations.current(wire.now)
    assert wire.client.conversations.current(wire.now) is first
    wire.client.sessions.close_session(first, None)
    assert wire.client.conversations.current(wire.now) is not first


# --- Parting ----------------------------------------------------------------------------------------


def test_a_stopping_server_of_p2m_lets_its_clients_keep_the_rest() -> None:
    wire = Wire(P2M)
    session = wire.connect()
    [done] = wire.send(wire.client, session, b"one")
    wire.run()
    wire.server.shutdown(wire.now)
    wire.run()
    assert done.stage >= Stage.RECEIVED
    assert session.error is not None
    assert not wire.server.links.links


def test_what_a_stopping_server_had_not_taken_goes_to_its_successor() -> None:
    wire = Wire(P2M)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    first, second = wire.send(wire.client, session, b"one", b"two")
    probe.say(frames.encode_number(frames.GOAWAY, 1))
    wire.advance(1)
    assert first.stage is Stage.RECEIVED
    assert second.error is None
    assert wire.server.mailbox.take_all() == [b"two"]


def test_without_reconnect_what_a_stopping_server_had_not_taken_fails() -> None:
    wire = Wire(P2M, reconnect=None)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    first, second = wire.send(wire.client, session, b"one", b"two")
    probe.say(frames.encode_number(frames.GOAWAY, 1))
    assert first.stage is Stage.RECEIVED
    assert isinstance(second.error, PeerLost)


def test_a_goaway_beyond_what_was_sent_is_a_violation() -> None:
    wire = Wire(P2M)
    probe = probe_client(wire)
    probe.say(frames.encode_number(frames.GOAWAY, 1))
    assert probe.is_closed
    assert "acknowledged 1" in str(probe.link.error)


def test_asks_of_a_stopping_server_move_whole_or_fail() -> None:
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    had, not_had = wire.ask(b"had", session), wire.ask(b"not had", session)
    probe.say(frames.encode_number(frames.GOAWAY, 1))
    wire.advance(1)
    assert isinstance(had.error, PeerLost)
    [request] = wire.requests()
    request.answer(request.data.upper())
    wire.run()
    assert not_had.value == b"NOT HAD"


def test_a_stopping_server_of_asks_answers_first() -> None:
    wire = Wire(AR)
    ask = wire.ask(b"x")
    wire.run()
    [request] = wire.requests()
    wire.server.shutdown(wire.now)
    wire.run()
    assert not ask.is_done and wire.server.links.links
    request.answer(b"y")
    wire.acks()
    assert ask.value == b"y"
    assert not wire.server.sessions.by_id


def test_a_stopping_server_refuses_newcomers_and_drops_strangers() -> None:
    wire = Wire(P2M)
    early, silent = probe_server(wire, greets=False), probe_server(wire, greets=False)
    wire.server.shutdown(wire.now)
    early.say(greeting(wire))
    assert refusal(early.heard()).code == "limit"
    wire.advance(0.3)
    assert silent.is_closed


def test_a_stopping_server_gives_up_lost_sessions() -> None:
    wire = Wire()
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    [delivery] = wire.send(wire.server, session, b"unheard")
    wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    wire.server.shutdown(wire.now)
    assert isinstance(delivery.error, PeerLost)
    assert not wire.server.sessions.by_id


def test_who_is_disconnected_does_not_come_back() -> None:
    wire = Wire()
    session = wire.connect()
    wire.server.disconnect(wire.other(session), "misbehaved", wire.now)
    wire.advance(5)
    assert isinstance(session.error, PeerLost)
    assert "misbehaved" in str(session.error)
    assert len(wire.dialled) == 1


def test_a_stopping_client_says_what_is_left_and_ends() -> None:
    wire = Wire()
    session = wire.connect()
    [delivery] = wire.send(wire.client, session, b"last")
    wire.client.shutdown(wire.now)
    wire.run()
    assert delivery.stage >= Stage.RECEIVED
    wire.acks()
    assert not wire.client.sessions.by_id and not wire.server.sessions.by_id


def test_an_unconnected_client_with_nothing_to_say_stops_at_once() -> None:
    wire = Wire()
    wire.is_reachable = False
    wire.connect()
    wire.client.shutdown(wire.now)
    assert not wire.client.sessions.by_id


@pytest.mark.parametrize("linger", [0.0, 2.0])
def test_an_idle_conversation_ends_after_its_linger(linger: float) -> None:
    wire = Wire(P2M)
    wire.client.side.linger = linger
    session = wire.connect()
    wire.send(wire.client, session, b"one")
    wire.advance(max(0.0, linger - 0.5))
    assert linger == 0.0 or session.error is None
    wire.advance(2)
    assert session.error is not None
    assert wire.server.mailbox.take_all() == [b"one"]
    assert not wire.client.sessions.by_id


def test_aborting_fails_what_is_not_acknowledged() -> None:
    wire = Wire()
    session = wire.connect()
    delivery = session.send(b"x")
    probe_server(wire, greets=False)
    for hub in (wire.client, wire.server):
        hub.abort()
        assert not hub.links.links
    assert isinstance(delivery.error, PeerLost)
    assert wire.client.context.pattern is P2P
    assert session.link is None or session.link.state is State.CLOSED


# --- Rare moments -----------------------------------------------------------------------------------


def ended(wire: Wire) -> Session:
    """A client's session in which both ENDs were said and confirmed, and the connection then broke."""
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    session.end()
    wire.settle()
    probe.say(frames.encode_number(frames.END_ACK, 0), frames.encode_number(frames.END, 0))
    wire.client.lost(probe.link, ConnectionResetError("gone"), wire.now)
    return session


def test_a_finished_client_that_finds_nobody_any_more_is_done() -> None:
    wire = Wire()
    wire.is_reachable = False
    session = ended(wire)
    wire.advance(1)
    assert isinstance(session.error, EndOfData)
    assert not wire.client.sessions.by_id


def test_a_finished_client_that_is_not_known_any_more_is_done() -> None:
    wire = Wire()
    session = ended(wire)
    wire.advance(1)
    assert wire.dialled
    assert isinstance(session.error, EndOfData)
    assert not wire.client.sessions.by_id and not wire.events(wire.client, EventKind.ERROR)


def test_a_server_that_accepts_and_says_nothing() -> None:
    wire = Wire(connect_timeout=1.0)
    probe_client(wire, greets=False)
    session = wire.client.conversation
    assert session is not None
    wire.advance(0.9)
    assert session.error is None
    wire.advance(0.2)
    assert isinstance(session.error, ConnectFailed)
    assert "no welcome" in str(session.error)


def test_a_linger_that_is_over_waits_for_what_was_sent_meanwhile() -> None:
    wire = Wire(P2M)
    wire.client.side.linger = 2.0
    session = wire.connect()
    wire.send(wire.client, session, b"one")
    wire.acks()
    session.send(b"two")
    wire.now += 3
    wire.client.handle_timers(wire.now)
    assert not session.is_ending
    wire.advance(5)
    assert session.error is not None
    assert wire.server.mailbox.take_all() == [b"one", b"two"]


def test_what_has_ended_is_kept_for_a_minute_also_if_its_end_is_understood_late() -> None:
    wire = Wire()
    probe = probe_server(wire)
    wire.decodes = False
    probe.say(frames.frame(frames.DATA, b"last"), frames.encode_number(frames.END, 1))
    wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    wire.settle()
    [session] = wire.server.sessions.by_id.values()
    wire.decodes = True
    wire.decode_all()
    wire.advance(59)
    assert session.error is None
    wire.advance(2)
    assert session.error is not None
    assert wire.server.mailbox.take_all() == [b"last"]


def test_closing_twice_is_closing_once() -> None:
    wire = Wire()
    session = wire.connect()
    for hub, each in ((wire.client, session), (wire.server, wire.other(session))):
        hub.sessions.close_session(each, PeerLost("gone"))
        hub.sessions.close_session(each, PeerLost("gone again"))
        assert str(each.error) == "gone"
    wire.settle()
    assert len(wire.events(wire.client, EventKind.ERROR)) == 1


def test_a_message_that_failed_already_fails_once() -> None:
    wire = Wire()
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    [delivery] = wire.send(wire.server, session, b"x")
    probe.say(frames.encode_reject(1, "decode", "because"))
    first = delivery.error
    assert isinstance(first, DecodeError)
    wire.server.abort()
    wire.settle()
    assert delivery.error is first
    errors = [notice for notice in wire.events(wire.server, EventKind.ERROR) if notice[3] is delivery]
    assert len(errors) == 1


def test_a_rejected_message_does_not_move_to_the_successor() -> None:
    wire = Wire(P2M)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    bad, good = wire.send(wire.client, session, b"bad", b"good")
    probe.say(frames.encode_reject(1, "decode", "because"), frames.encode_number(frames.GOAWAY, 0))
    wire.advance(1)
    assert isinstance(bad.error, DecodeError)
    assert wire.server.mailbox.take_all() == [b"good"]
    assert good.error is None


def test_what_an_applicant_said_early_is_heard_when_it_gets_its_place() -> None:
    wire = Wire(P2M, max_peers=1)
    first = probe_server(wire)
    wire.advance(3)
    second = probe_server(wire, greets=False)
    second.say(greeting(wire, session="cd" * 16), frames.frame(frames.DATA, b"early"))
    assert wire.server.mailbox.count == 0
    wire.server.lost(first.link, ConnectionResetError("gone"), wire.now)
    wire.settle()
    assert wire.server.mailbox.take_all() == [b"early"]


def test_an_applicant_whose_time_is_up_gets_no_place() -> None:
    wire = Wire(limits=Limits(handshake=2.0))
    first = probe_server(wire)
    wire.advance(3)
    second = probe_server(wire, session="cd" * 16)
    [applicant] = wire.server.admission.waiting.values()
    second.link.close_soon(wire.now)
    wire.server.admission.settle_waiting(applicant, wire.now)
    assert not first.is_closed
    assert "WELCOME" not in second.kinds()
    assert not wire.server.admission.waiting


def test_applicants_that_come_and_go_are_forgotten_at_once() -> None:
    wire = Wire(max_peers=1)
    probe_server(wire)
    wire.advance(3)
    first = probe_server(wire, session="cd" * 16)  # it goes on waiting, before all the others
    admission, timers = wire.server.admission, wire.server.effects.timers
    before = len(timers._heap)
    for number in range(200):
        probe = probe_server(wire, session=f"{number:032x}")
        assert [*admission.waiting] == [first.link, probe.link]
        wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
        wire.settle()
        assert [*admission.waiting] == [first.link]
    assert len(timers._heap) < before + 200


def test_whoever_has_just_answered_is_not_taken_for_dead() -> None:
    wire = Wire(P2M, max_peers=2)
    living, dead = probe_server(wire), probe_server(wire, session="aa" * 16)
    wire.advance(3)
    first = probe_server(wire, session="cd" * 16)
    living.say(frames.encode_number(frames.PONG, 0))
    wire.server.lost(first.link, ConnectionResetError("gone"), wire.now)
    wire.advance(1)
    living.heard()
    second = probe_server(wire, session="ef" * 16)
    assert living.kinds() == []  # It was heard a second ago, so it is not pinged, and need not answer.
    wire.advance(3)
    assert dead.is_closed and not living.is_closed
    assert "WELCOME" in second.kinds()


def test_who_is_away_can_be_disconnected_too() -> None:
    wire = Wire()
    session = wire.connect()
    far = wire.other(session)
    wire.is_reachable = False
    wire.drop_all()
    wire.server.disconnect(far, "enough", wire.now)
    assert not wire.server.sessions.by_id
    assert isinstance(far.error, PeerLost)


def test_a_device_can_be_disconnected() -> None:
    wire = Wire(P2M, framing=Lines())
    probe = probe_server(wire, greets=False)
    [session] = wire.server.sessions.by_id.values()
    wire.server.disconnect(session, "enough", wire.now)
    wire.settle()
    assert probe.sink.fin and not probe.raw()
    probe.say(b"more\n")
    probe.eof()
    wire.settle()
    assert probe.is_closed
    assert wire.server.mailbox.count == 0


def test_dropping_what_a_peer_left_behind_tells_nobody() -> None:
    wire = Wire(P2M, overflow="drop_oldest", limits=Limits(mailbox_total=10, mailbox_bytes=10, message=10))
    first = probe_server(wire)
    first.say(frames.frame(frames.DATA, bytes(10)))
    [session] = wire.server.sessions.by_id.values()
    wire.server.sessions.close_session(session, None)
    second = probe_server(wire, session="cd" * 16)
    second.say(frames.frame(frames.DATA, b"new one"))
    assert wire.server.mailbox.take_all() == [b"new one"]
    assert "DROPPED" not in second.kinds()
    assert wire.events(wire.server, EventKind.OVERFLOW)


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_only_back_pressure_stops_reading(overflow: str) -> None:
    wire = Wire(P2M, framing=Lines(), overflow=overflow, limits=Limits(mailbox_messages=1))
    probe = probe_server(wire, greets=False)
    wire.decodes = False
    probe.say(b"1\n")
    probe.say(b"2\n")
    wire.decode_all()
    assert probe.link.paused is (overflow == "block")
    paused, session = wire.server.context.paused_links, probe.link.session
    assert paused is not None and session is not None
    assert list(paused.paused) == ([session.receiving] if overflow == "block" else [])


@pytest.mark.parametrize("framing", [Linked(), Lines()])
def test_a_closed_writing_half_says_nothing(framing: Framing) -> None:
    wire = Wire(framing=framing)
    session = wire.connect()
    link = session.link
    assert link is not None
    link.shut = True
    session.send(b"x")
    assert link.data_to_send(wire.now) == []


def test_a_plain_link_whose_writing_failed_ends_without_an_end() -> None:
    wire = Wire(framing=Lines())
    session = wire.connect()
    assert session.link is not None
    session.link.finish_writing()
    assert not session.ending.is_acked


def test_a_conversation_that_is_not_the_current_one_is_forgotten_too() -> None:
    wire = Wire(P2M)
    session = wire.client.begin(wire.now)
    current = wire.client.conversations.current(wire.now)
    wire.run()
    wire.restart_server()
    wire.advance(1)
    assert isinstance(session.error, SessionLost)
    assert wire.client.conversation is not session
    assert isinstance(current.error, SessionLost)
    assert wire.client.conversation is not current


# --- The mailbox is full ------------------------------------------------------------------------------


def test_newcomers_wait_until_the_mailbox_has_room() -> None:
    """What comes behind HELLO needs no credit: short lives, one after the other, must not add up."""
    wire = Wire(P2M, limits=Limits(mailbox_total=5))
    first = wire.connect()
    wire.send(wire.client, first, b"12345")
    wire.run()
    other = wire.make_client()
    late = wire.connect(other)
    [receipt] = wire.send(other, late, b"6")
    wire.advance(1)
    assert not late.generation.established and wire.server.context.counters.refused > 1
    assert "the mailbox is full" in str(late.attempts.last_failure)
    assert wire.server.mailbox.nbytes == 5
    wire.server.mailbox.take()
    wire.advance(1)
    assert late.generation.established and receipt.stage is Stage.RECEIVED


def test_who_drops_what_is_too_much_refuses_nobody_for_it() -> None:
    wire = Wire(P2M, limits=Limits(mailbox_total=5), overflow="drop_oldest")
    for session in (wire.connect(), wire.connect(wire.make_client())):
        wire.run()
        assert session.generation.established
        wire.send(wire.client, session, b"12345")
        wire.run()
    assert wire.server.context.counters.refused == 0


def test_a_plain_newcomer_is_not_read_until_the_mailbox_has_room() -> None:
    wire = Wire(P2M, framing=Lines(), limits=Limits(mailbox_total=5))
    for _ in range(2):
        wire.server.accept("tcp://x", None, wire.now)
    one, two = wire.server.links.links
    assert not one.paused and not two.paused
    probe = Probe(wire, wire.server, one)
    probe.say(b"12345\n")
    late = wire.server.accept("tcp://late", None, wire.now)
    assert late is not None and late.paused
    wire.server.mailbox.take()
    wire.settle()
    wire.advance(1)
    assert not late.paused


def test_halves_of_messages_are_kept_for_who_comes_back_but_not_any_number_of_them() -> None:
    wire = Wire(max_peers=9, limits=Limits(mailbox_total=1000))
    for number in range(3):
        probe = probe_server(wire, session=f"{number:032x}")
        probe.say(frames.encode_first_part(2000, bytes(1001)))
        wire.server.lost(probe.link, ConnectionResetError("cut"), wire.now)
    assert [id[-1] for id in wire.server.sessions.by_id] == ["0"], "one is kept, however large"
    probe = probe_server(wire, session=f"{3:032x}")
    wire.server.lost(probe.link, ConnectionResetError("cut"), wire.now)
    assert len(wire.server.sessions.by_id) == 2, "who left nothing behind is kept"


def test_a_flood_of_strangers_does_not_fill_the_log() -> None:
    wire = Wire(max_peers=1_000)

    def knock(count: int) -> None:
        for _ in range(count):
            probe_server(wire, greets=False).say(b"GET / HTTP/1.1\r\n\r\n")

    knock(250)
    assert len(wire.notes) == 10
    wire.advance(30.0)
    knock(5)
    assert len(wire.notes) == 10
    wire.advance(30.0)
    knock(3)
    [more, *others] = wire.notes[10:]
    assert more.startswith("245 more connections were not admitted")
    assert len(others) == 3
    wire.advance(60.0)
    wire.notes.clear()
    probe_server(wire, format="json")
    assert len(wire.notes) == 1, "nothing was left out in the minute before"


def test_a_peer_that_is_back_before_its_connection_broke_was_lost() -> None:
    """The new connection may arrive first: DISCONNECTED has a reason, as if the server had seen the RST."""
    wire = Wire()
    first = probe_server(wire, epoch=1)
    probe_server(wire, epoch=2, born=1)
    assert first.is_closed
    error = wire.events(wire.server, EventKind.DISCONNECTED)[0][2]
    assert isinstance(error, PeerLost)
    assert "came back on another connection" in str(error)


def test_a_peer_that_is_back_after_its_end_has_left_in_order() -> None:
    wire = Wire()
    first = probe_server(wire, epoch=1)
    first.say(frames.encode_number(frames.END, 0))
    probe_server(wire, epoch=2, born=1)
    assert wire.events(wire.server, EventKind.DISCONNECTED)[0][2] is None


def test_who_has_left_does_not_wait_for_the_application() -> None:
    wire = Wire(P2M, limits=Limits(unwelcomed=2), asks_first=True)
    for number in range(20):
        probe = probe_server(wire, session=f"{number:032x}")
        wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    assert not wire.server.pending_accepts


def test_addresses_take_turns_to_be_decided() -> None:
    """The oldest of each; one whose turn it was waits for those that came in the meantime."""
    wire = Wire(P2M, asks_first=True)
    server = wire.server

    def come(ip: str | None, name: str) -> Link:
        wire.ip = ip
        link = probe_server(wire, session=name.encode().hex().zfill(32), name=name).link
        assert isinstance(link, Link)
        return link

    def decide() -> str:
        pending = server.pending_accepts.take()
        server.decide(pending, True, wire.now)
        return pending.info.name

    links = [come("10.0.0.1", f"flood {number}") for number in range(5)]
    assert decide() == "flood 0"
    come("10.0.0.2", "b 1")
    come(None, "local")
    come("10.0.0.2", "b 2")
    server.lost(links[1], ConnectionResetError("gone"), wire.now)
    assert len(server.pending_accepts) == 6
    turns = [decide() for _ in range(4)]
    assert turns == ["b 1", "local", "flood 2", "b 2"]
    assert decide() == "flood 3"
    come("10.0.0.1", "flood 5")
    come("10.0.0.2", "b 3")
    assert [decide() for _ in range(3)] == ["b 3", "flood 4", "flood 5"]
    assert not server.pending_accepts


def test_a_decision_for_a_connection_that_is_gone_changes_nothing() -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    wire.server.lost(probe.link, ConnectionResetError("gone"), wire.now)
    pending = PendingLinks(Limits())
    assert isinstance(probe.link, Link)
    pending.decided(probe.link)
    assert pending.least_worthy(wire.now) is None


def test_in_one_turn_new_connections_take_a_quarter_of_the_places() -> None:
    wire = Wire(limits=Limits(unwelcomed=8))
    server = wire.server
    begun = [probe_server(wire, greets=False) for _ in range(8)]
    for probe in begun:
        probe.say(frames.preface())
    for _ in range(5):
        wire.now += 1e-6
        count = 0
        while not server.admission.is_crowded(wire.now):
            assert server.accept("tcp://c", None, wire.now) is not None
            count += 1
        assert count == 3
        assert sum(not each.link.closed for each in begun) == 5, "silent ones make room before them"
        assert len(server.admission.pending) == 8


def test_which_handshake_has_come_least_far() -> None:
    wire = Wire(server_secrets=lambda name: [b"secret"], limits=Limits(unwelcomed=4))
    server = wire.server
    said = {"HELLO": greeting(wire), "preface": frames.preface(), "a byte": frames.preface()[:1], "": b""}
    probes = {name: probe_server(wire, greets=False) for name in said}
    for name in ("HELLO", "preface", "a byte"):
        probes[name].say(said[name])
    closed: list[str] = []
    for _ in probes:
        wire.now += 1e-6
        probe_server(wire)
        closed += [name for name, probe in probes.items() if probe.is_closed and name not in closed]
    assert closed == ["", "a byte", "preface", "HELLO"]
    assert len(server.admission.pending) == 4


def test_two_addresses_with_as_many_handshakes() -> None:
    wire = Wire(limits=Limits(unwelcomed=4))
    server = wire.server
    links = [server.accept("tcp://c", origin, wire.now) for origin in ("a", "b", "b", "a")]
    gone = []
    for _ in links:
        wire.now += 1e-6
        assert server.accept("tcp://c", "d", wire.now) is not None
        gone.append([number for number, link in enumerate(links) if link is not None and link.closed])
    assert [len(each) for each in gone] == [1, 2, 2, 2], "then one of d makes room"


def test_a_handshake_of_tls_alone() -> None:
    link = Wire(framing=Lines(), asks_first=True).server.accept("tcp://c", None, 0.0)
    assert link is not None and stage_of(link) == 0
    link.has_begun = True
    assert stage_of(link) == 1


def test_accept_may_reject_for_now() -> None:
    wire = Wire(P2P, asks_first=True)
    session = wire.client.begin(wire.now)
    for verdict in ("later", True):
        wire.run()
        wire.server.decide(wire.server.pending_accepts.take(), verdict, wire.now)
        wire.run()
        if verdict == "later":
            assert isinstance(session.last_failure, Refused) and session.last_failure.code == "later"
            wire.advance(0.2)
    assert session.established


def test_a_server_that_goes_away_lets_its_clients_come_back() -> None:
    """Once everything is confirmed; a conversation that has ended on its own ends."""
    for is_ending in (False, True):
        wire = Wire(P2P)
        session = wire.connect()
        other = wire.other(session)
        wire.send(wire.server, other, b"a")
        if is_ending:
            other.end()
        wire.server.side.ends_conversations = False
        wire.server.shutdown(wire.now)
        wire.run()
        assert (session.error is not None) is is_ending
        assert wire.client.mailbox.count == 1
