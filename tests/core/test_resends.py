"""What a resume costs: a peer that only comes back again and again is sent little each time."""

from __future__ import annotations

from linkbox.core.patterns import P2P
from linkbox.core.send_window import FIRST_AGAIN
from linkbox.core.session import Session
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames
from tests.core.test_session import make, pull_all
from tests.core.wire import Probe, Wire, probe_server

MANY = 4000
MOST = ENDLESS


def messages(probe: Probe) -> list[bytes]:
    """The messages that were written since the last look."""
    found: list[bytes] = []
    for kind, payload in probe.heard():
        if kind == frames.DATA:
            found.append(payload)
        elif kind == frames.BATCH:
            found += frames.decode_batch(payload)
    return found


def come_back(wire: Wire, probe: Probe, epoch: int, received: int = 0) -> Probe:
    wire.server.lost(probe.link, ConnectionResetError("reset"), wire.now)
    wire.settle()
    return probe_server(wire, epoch=epoch, born=1, received=received)


def ack(probe: Probe, count: int) -> None:
    probe.say(frames.encode_ack(count, count, MOST, MOST))


def test_a_peer_that_resumes_again_and_again_is_sent_little_until_it_acknowledges() -> None:
    wire = Wire(P2P)
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    sent = [b"%d" % number for number in range(MANY)]
    wire.send(wire.server, session, *sent)
    assert messages(probe) == sent
    for epoch in range(2, 10):
        probe = come_back(wire, probe, epoch)
        assert messages(probe) == sent[:FIRST_AGAIN]
        assert session.sending.sent == FIRST_AGAIN  # the next resume has no more to take back
    probe = come_back(wire, probe, 10, received=FIRST_AGAIN)
    assert messages(probe) == sent[FIRST_AGAIN : 2 * FIRST_AGAIN]
    count = size = 2 * FIRST_AGAIN
    ack(probe, count)
    while count < MANY:
        again = messages(probe)
        assert again == sent[count : count + len(again)]
        assert len(again) >= min(size, MANY - count)  # each time more
        count, size = count + len(again), len(again)
        ack(probe, count)
    assert not session.in_flight()
    wire.send(wire.server, session, *sent)
    assert messages(probe) == sent  # all of the credit again


def resumed(session: Session) -> None:
    """The session resumes, and may send two units before an acknowledgement."""
    session.rewind(0)
    session.sending.welcome((MOST, MOST), ENDLESS, True)
    assert session.sending.full_units == MOST
    session.sending.peer_units = 2


def test_the_pieces_of_a_message_are_sent_again_without_an_acknowledgement() -> None:
    """The peer acknowledges none before it has all of them."""
    session = make()
    session.send(bytes(3 * frames.MAX_PIECE))
    session.send(b"last")
    pull_all(session)
    resumed(session)
    while session.sending.queue and session.sending.has_credit():
        session.sending.pull(MOST)
    assert session.sending.sent == 3
    session.sending.on_ack(3, 3, MOST, MOST)
    assert session.sending.has_credit() and not session.sending.full_units


def test_what_was_never_sent_before_does_not_wait() -> None:
    session = make()
    session.send(bytes(3 * frames.MAX_PIECE))
    pull_all(session)
    resumed(session)
    session.send(b"new")
    while session.sending.queue and session.sending.has_credit():
        session.sending.pull(MOST)
    assert (session.sending.sent, session.sending.peer_units) == (4, MOST)
    session.sending.peer_bytes = 0
    assert not session.sending.has_credit()


def test_the_real_credit_counts_meanwhile() -> None:
    session = make()
    session.send(bytes(3 * frames.MAX_PIECE))
    pull_all(session)
    session.rewind(0)
    session.sending.welcome((MOST, 1), ENDLESS, False)
    session.sending.pull(MOST)
    assert not session.sending.has_credit()
    session.sending.on_ack(1, 0, MOST, 2)
    assert session.sending.has_credit()
