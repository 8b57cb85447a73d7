"""What a reconnect means: every combination against a table, and each verdict once between two ends."""

from __future__ import annotations

from itertools import product

import pytest

from linkbox.core.patterns import P2M, P2P
from linkbox.core.resumption import HelloVerdict, WelcomeVerdict, on_hello, on_welcome
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.errors import EndOfData, SessionLost
from linkbox.events import EventKind, Stage
from tests.core.wire import Probe, Wire, decode_message, greeting, probe_client, probe_server, welcome

HELLO = """
known  identity  newer  birth
  0        -       -      -     NEW
  1        0       -      -     NOT_ITS_OWN
  1        1       0      -     OUTDATED
  1        1       1      1     RESUME
  1        1       1      0     BEGUN_ANEW
"""
WELCOME = """
used  resumed  acked  store  new  finished
  -      1       -      -     -      -      RESUME
  0      0       -      1     -      -      RESUME
  0      0       -      0     -      -      FIRST
  1      0       -      -     -      1      CONFIRMED
  1      0       0      -     1      0      NOTHING_ARRIVED
  1      0       1      -     1      0      FORGOTTEN
  1      0       -      -     0      0      FORGOTTEN
"""


def rows(table: str) -> list[tuple[str, str]]:
    """The rows of a table: what each input must be (``-``: anything), and the verdict."""
    lines = table.strip().splitlines()[1:]
    return [("".join(line.split()[:-1]), line.split()[-1]) for line in lines]


def look_up(table: str, inputs: tuple[bool, ...]) -> str:
    """The verdict of the one row that these inputs match."""
    digits = "".join("1" if each else "0" for each in inputs)
    [verdict] = [
        verdict
        for pattern, verdict in rows(table)
        if all(wanted in ("-", digit) for wanted, digit in zip(pattern, digits, strict=True))
    ]
    return verdict


@pytest.mark.parametrize("inputs", list(product([False, True], repeat=4)))
def test_what_a_hello_means(inputs: tuple[bool, bool, bool, bool]) -> None:
    is_known, is_same_identity, is_newer, is_same_birth = inputs
    verdict = on_hello(
        is_known=is_known, is_same_identity=is_same_identity, is_newer=is_newer, is_same_birth=is_same_birth
    )
    assert verdict is HelloVerdict[look_up(HELLO, inputs)]


@pytest.mark.parametrize("inputs", list(product([False, True], repeat=6)))
def test_what_a_welcome_means(inputs: tuple[bool, bool, bool, bool, bool, bool]) -> None:
    was_used, is_resumed, is_acknowledged, has_store, is_new, is_finished = inputs
    verdict = on_welcome(
        was_used=was_used,
        is_resumed=is_resumed,
        is_acknowledged=is_acknowledged,
        has_store=has_store,
        is_new=is_new,
        is_finished=is_finished,
    )
    assert verdict is WelcomeVerdict[look_up(WELCOME, inputs)]


def test_each_verdict_is_in_a_table() -> None:
    assert {verdict for _, verdict in rows(HELLO)} == set(HelloVerdict.__members__)
    assert {verdict for _, verdict in rows(WELCOME)} == set(WelcomeVerdict.__members__)


# --- A server decides -------------------------------------------------------------------------------


def answer(probe: Probe) -> handshake.Hello | handshake.Welcome | handshake.Refuse:
    """The server's answer to a HELLO."""
    kind, payload = next(each for each in probe.heard() if each[0] in (frames.WELCOME, frames.REFUSE))
    return decode_message(kind, payload)


def test_a_session_that_is_not_known_is_admitted() -> None:
    wire = Wire()
    said = answer(probe_server(wire))
    assert isinstance(said, handshake.Welcome)
    assert (said.resumed, said.received, said.born) == (False, 0, 1)
    assert wire.kinds(wire.server) == [EventKind.CONNECTED]


def test_a_session_of_another_identity_is_refused() -> None:
    wire = Wire(secure=True)
    for name in ("pump", "valve"):
        probe = probe_server(wire, greets=False)
        probe.end.shakes = False
        probe.link.secured(name, b"", wire.now)
        probe.say(greeting(wire, epoch=1 if name == "pump" else 2))
    said = answer(probe)
    assert isinstance(said, handshake.Refuse)
    assert said.code == "session" and "another client's" in said.reason
    assert [peer.identity for peer in wire.server.peers()] == ["pump"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_outdated_connection_is_refused(epoch: int) -> None:
    wire = Wire()
    first = probe_server(wire, epoch=2)
    said = answer(probe_server(wire, epoch=epoch, born=epoch))
    assert isinstance(said, handshake.Refuse)
    assert said.code == "session" and "newer connection" in said.reason
    assert not first.is_closed


def test_a_session_is_resumed_after_what_each_side_has_received() -> None:
    wire = Wire()
    first = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    first.say(frames.frame(frames.DATA, b"a"))
    receipts = wire.send(wire.server, session, b"1", b"2")
    second = probe_server(wire, greets=False)
    second.say(greeting(wire, epoch=2, received=1))
    heard = second.heard()
    said = decode_message(*heard[0])
    assert isinstance(said, handshake.Welcome)
    assert (said.resumed, said.received) == (True, 1)
    assert [payload for kind, payload in heard if kind == frames.DATA] == [b"2"]
    assert first.is_closed and [receipt.number for receipt in receipts] == [1, 2]
    assert wire.kinds(wire.server).count(EventKind.RESUMED) == 1


def test_a_session_that_the_server_began_without_the_client_knowing_starts_at_its_first_unit() -> None:
    """It began anew in epoch 2, that welcome was lost, and the client still means the old session."""
    wire = Wire()
    probe_server(wire, epoch=2)
    [session] = wire.server.sessions.by_id.values()
    wire.send(wire.server, session, b"1", b"2")
    probe = probe_server(wire, greets=False)
    probe.say(greeting(wire, epoch=3, born=1, received=2))
    heard = probe.heard()
    said = decode_message(*heard[0])
    assert isinstance(said, handshake.Welcome)
    assert (said.resumed, said.born) == (False, 2)
    assert frames.BATCH in [kind for kind, _ in heard], "the client has nothing of it"
    assert wire.kinds(wire.server).count(EventKind.CONNECTED) == 2


@pytest.mark.parametrize("asks_first", [False, True])
def test_a_resume_at_a_unit_that_was_never_sent_is_refused(asks_first: bool) -> None:
    wire = Wire(asks_first=asks_first)
    first = probe_server(wire)
    if asks_first:
        wire.decide(True)
    probe = probe_server(wire, epoch=2, received=1)
    if asks_first:
        wire.decide(True)
    said = answer(probe)
    assert isinstance(said, handshake.Refuse)
    assert said.code == "protocol" and "resumes at unit 1; 0 to 0 are possible" in said.reason
    assert not first.is_closed and len(wire.server.peers()) == 1


# --- A client decides -------------------------------------------------------------------------------


def again(wire: Wire, probe: Probe) -> Probe:
    """The connection breaks, and the client dials again."""
    session = wire.client.conversation
    assert session is not None
    wire.client.lost(probe.link, ConnectionResetError("cut"), wire.now)
    wire.client.handle_timers(wire.now)
    return probe_client(wire, session, greets=False)


def sent(probe: Probe) -> list[bytes]:
    return [payload for kind, payload in probe.heard() if kind == frames.DATA]


def test_a_first_welcome_just_begins() -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    [receipt] = wire.send(wire.client, wire.client.conversations.current(wire.now), b"early")
    assert sent(probe) == [b"early"]
    probe.say(welcome())
    assert sent(probe) == [] and receipt.stage is Stage.SENT
    assert wire.kinds(wire.client) == [EventKind.CONNECTED]


def test_a_resume_sends_what_the_server_has_not_received() -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.conversations.current(wire.now)
    wire.send(wire.client, session, b"1", b"2", b"3")
    probe = again(wire, probe)
    probe.say(welcome(resumed=True, received=2))
    assert sent(probe) == [b"3"]
    assert wire.kinds(wire.client).count(EventKind.RESUMED) == 1


def test_where_nothing_arrived_everything_is_sent_again_in_the_same_session() -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.conversations.current(wire.now)
    [receipt] = wire.send(wire.client, session, b"1")
    probe = again(wire, probe)
    probe.say(welcome(is_new=True))
    assert sent(probe) == [b"1"] and receipt.error is None
    assert wire.client.conversations.current(wire.now) is session and session.error is None


def test_a_finished_session_that_is_forgotten_is_confirmed() -> None:
    wire = Wire(P2P)
    probe = probe_client(wire)
    session = wire.client.conversations.current(wire.now)
    session.end()
    wire.settle()
    probe.say(frames.encode_number(frames.END_ACK, 0), frames.encode_number(frames.END, 0))
    probe = again(wire, probe)
    probe.say(welcome())
    assert isinstance(session.error, EndOfData) and probe.is_closed
    assert not wire.events(wire.client, EventKind.ERROR)


@pytest.mark.parametrize("is_new", [False, True])
def test_what_a_server_that_has_forgotten_may_have_had_is_in_doubt(is_new: bool) -> None:
    """Also where it says that it never had the session: it has acknowledged something of it."""
    wire = Wire(P2M)
    probe = probe_client(wire)
    session = wire.client.conversations.current(wire.now)
    acked, lost = wire.send(wire.client, session, b"1", b"2")
    probe.say(frames.encode_ack(1, 1, 1 << 30, 1 << 30))
    probe = again(wire, probe)
    [unsent] = wire.send(wire.client, session, b"3")
    probe.say(welcome(is_new=is_new))
    assert isinstance(session.error, SessionLost) and session.error.in_doubt == (lost,)
    assert acked.stage is Stage.TAKEN and lost.stage is Stage.FAILED
    assert sent(probe) == [b"3"] and unsent.channel is session.latest() is not session
