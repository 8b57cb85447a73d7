"""What TLS beneath a link, and ``accept=``, mean to the core: who waits for what, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox import Lines, Linked, Raw
from linkbox.core.link import State
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.errors import (
    AuthenticationFailed,
    ConnectFailed,
    EndOfData,
    PeerLost,
    ProtocolViolation,
    Refused,
)
from linkbox.events import EventKind, PeerInfo
from tests.core.wire import Wire, encode_message, hello, probe_client, probe_server

SECRET = b"correct horse battery staple"
BOTH = pytest.mark.parametrize("framing", [Linked(), Lines()], ids=["linked", "lines"])


def begin(wire: Wire) -> Any:
    """Connected, and nobody has shaken hands."""
    session = wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    return session


# --- TLS ----------------------------------------------------------------------------------------------


@BOTH
def test_nothing_is_said_and_nobody_is_there_before_hands_are_shaken(framing: Any) -> None:
    wire = Wire(framing=framing, secure=True)
    session = begin(wire)
    assert not session.generation.established
    assert not wire.server.peers()
    assert wire.kinds(wire.server) == wire.kinds(wire.client) == []
    wire.shake(identity="pump")
    assert session.generation.established
    [peer] = wire.server.peers()
    assert peer.identity == "pump"
    wire.send(wire.client, session, b"hello")
    wire.run()
    assert wire.server.mailbox.take_all() == [b"hello"]


@BOTH
def test_hands_are_shaken_in_time_or_not_at_all(framing: Any) -> None:
    wire = Wire(framing=framing, secure=True)
    session = begin(wire)
    wire.advance(wire.limits.handshake - 0.1)
    [link] = wire.server.links.links
    assert not link.closed
    wire.advance(0.2)
    assert link.closed
    assert link not in wire.server.admission.pending
    assert not session.generation.established


@BOTH
def test_whom_the_client_does_not_trust_it_does_not_call_again(framing: Any) -> None:
    wire = Wire(framing=framing, secure=True)
    session = begin(wire)
    error = AuthenticationFailed("its certificate is nobody's")
    wire.end_of(wire.client).link.insecure(error, wire.now)
    wire.run()
    assert session.error is error
    wire.advance(20)
    assert len(wire.dialled) == 1
    assert wire.client.context.counters.refused == 1


@BOTH
def test_other_failures_are_tried_again(framing: Any) -> None:
    wire = Wire(framing=framing, secure=True)
    session = begin(wire)
    error = ConnectFailed("it does not speak TLS")
    wire.end_of(wire.client).link.insecure(error, wire.now)
    wire.advance(1)
    assert session.error is None
    assert len(wire.dialled) == 2
    wire.advance(20)
    assert session.error is not None


@BOTH
def test_a_link_of_a_session_that_is_over(framing: Any) -> None:
    """Its application has given up meanwhile: that is the answer, and TLS comes too late."""
    wire = Wire(framing=framing, secure=True)
    session = begin(wire)
    end = wire.end_of(wire.client)
    link = end.link
    wire.client.sessions.close_session(session, None)
    link.insecure(ConnectFailed("too late"), wire.now)
    wire.run()
    assert isinstance(session.error, EndOfData)


def test_what_was_written_behind_a_hello_that_no_server_looked_at_has_not_been_sent() -> None:
    """TLS 1.3: the server says what it thinks of the client's certificate after the first messages."""
    wire = Wire(P2M, secure=True)
    session = wire.client.begin(wire.now)
    [receipt] = wire.send(wire.client, session, b"early")
    wire.run()
    end = wire.end_of(wire.client)
    wire.shake(end)
    assert session.sending.sent == 1
    end.link.insecure(AuthenticationFailed("no certificate"), wire.now)
    wire.run()
    assert session.sending.sent == 0
    assert isinstance(receipt.error, AuthenticationFailed)


@BOTH
def test_a_server_names_who_fails_and_lets_the_last_bytes_arrive(framing: Any) -> None:
    wire = Wire(framing=framing, secure=True)
    begin(wire)
    end = wire.end_of(wire.server)
    end.link.insecure(ProtocolViolation("it does not speak TLS"), wire.now)
    wire.settle()
    assert end.link.state is State.CLOSING
    assert wire.notes == ["tcp://client was rejected: it does not speak TLS"]
    assert wire.server.context.counters.refused == 1
    assert end.other.fin
    end.incoming += b"x" * 100  # what is still said is drained
    end.fin = True
    wire.run()
    assert end.link.closed


def test_a_plain_place_may_be_taken_while_hands_are_shaken() -> None:
    wire = Wire(framing=Lines(), secure=True, max_peers=1)
    first = wire.connect()
    other = wire.make_client()
    other.conversation = other.begin(wire.now)
    wire.run()
    slow, quick = [end for end in wire.ends if end.hub is wire.server]
    wire.shake(quick)
    wire.shake(slow)
    assert len(wire.server.sessions.by_id) == 1
    assert slow.link.closed
    assert "all 1 peer slots are in use" in wire.notes[-1]
    assert not first.generation.established


# --- the secret is bound to the certificate -------------------------------------------------------------


@pytest.mark.parametrize("pattern", [P2P, P2M, AR])
def test_both_ends_see_the_same_certificate(pattern: Any) -> None:
    knows = lambda name: [SECRET]  # noqa: E731
    wire = Wire(pattern, server_secrets=knows, client_secrets=knows, secure=True)
    session = begin(wire)
    wire.shake(certificate=b"c" * 32)
    assert session.generation.established


def test_somebody_in_between_has_another_certificate() -> None:
    knows = lambda name: [SECRET]  # noqa: E731
    wire = Wire(server_secrets=knows, client_secrets=knows, secure=True)
    session = begin(wire)
    near, far = wire.end_of(wire.client), wire.end_of(wire.server)
    wire.shake(far, certificate=b"theirs" * 5)
    wire.shake(near, certificate=b"between" * 5)
    assert isinstance(session.error, AuthenticationFailed)
    assert not wire.server.peers()


def test_the_certificate_is_one_more_part() -> None:
    parts = (b"{hello}", b"{challenge}", b"n" * 32)
    plain = auth.mac(SECRET, "client", *parts)
    assert auth.mac(SECRET, "client", *parts, b"") == plain
    assert auth.mac(SECRET, "client", *parts, b"c" * 32) != plain
    assert auth.mac(SECRET, "client", *parts[:2], b"n" * 32 + b"c" * 32) != auth.mac(
        SECRET, "client", *parts, b"c" * 32
    )


def test_the_identity_is_the_certificates_before_the_secrets() -> None:
    wire = Wire(
        server_secrets=lambda name: [SECRET],
        client_secrets=lambda name: [SECRET],
        identifies=True,
        secure=True,
    )
    begin(wire)
    wire.shake(identity="pump")
    assert [peer.identity for peer in wire.server.peers()] == ["pump"]


def test_nobody_resumes_the_session_of_another_certificate() -> None:
    wire = Wire(secure=True)
    session = begin(wire)
    wire.shake(identity="pump")
    wire.drop_all()
    probe = probe_server(wire, greets=False)
    probe.end.shakes = False
    probe.link.secured("valve", b"", wire.now)
    greeting = encode_message(hello(wire, session=session.peer.id, epoch=9, name="client"))
    probe.say(frames.preface(), greeting)
    assert "REFUSE" in probe.kinds()
    assert "another client's" in wire.notes[-1]


# --- accept= ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("secure", [False, True])
def test_nobody_is_there_before_the_application_has_said_yes(framing: Any, secure: bool) -> None:
    wire = Wire(framing=framing, secure=secure, asks_first=True)
    session = begin(wire)
    if secure:
        assert not wire.server.admission.pending_accepts
        wire.shake(identity="pump")
    newcomer = wire.server.pending_accepts.take()
    name = wire.client.context.settings.name if framing.linked else "tcp://client"
    assert newcomer.info == PeerInfo("tcp://client", name, "pump" if secure else None)
    assert not wire.server.peers()
    wire.server.decide(newcomer, True, wire.now)
    wire.run()
    assert session.generation.established
    assert len(wire.server.peers()) == 1
    assert wire.kinds(wire.server) == [EventKind.CONNECTED]


def test_a_no_is_a_refusal_and_final() -> None:
    wire = Wire(asks_first=True)
    session = begin(wire)
    wire.decide(False)
    assert isinstance(session.error, Refused)
    assert session.error.code == "denied"
    assert wire.server.context.counters.refused == 1
    wire.advance(20)
    assert len(wire.dialled) == 1


def test_a_no_over_a_plain_framing_closes() -> None:
    wire = Wire(framing=Lines(), asks_first=True)
    begin(wire)
    wire.decide(False)
    assert not wire.server.links.links
    assert "accept= returned False" in wire.notes[-1]
    assert wire.server.context.counters.refused == 1


@BOTH
def test_who_has_gone_meanwhile_is_not_let_in(framing: Any) -> None:
    wire = Wire(framing=framing, asks_first=True)
    begin(wire)
    newcomer = wire.server.pending_accepts.take()
    wire.drop_all()
    wire.server.decide(newcomer, True, wire.now)
    assert not wire.server.peers()


@BOTH
def test_an_application_that_does_not_answer_has_the_time_of_a_handshake(framing: Any) -> None:
    wire = Wire(framing=framing, asks_first=True)
    begin(wire)
    newcomer = wire.server.pending_accepts.take()
    wire.advance(wire.limits.handshake + 0.1)
    assert newcomer.link.closed
    wire.server.decide(newcomer, True, wire.now)
    assert not wire.server.peers()


def test_a_yes_does_not_help_where_the_server_stops() -> None:
    wire = Wire(asks_first=True)
    session = begin(wire)
    wire.server.shutdown(wire.now)
    wire.decide(True)
    assert not wire.server.peers()
    assert not session.generation.established


def test_a_yes_does_not_make_a_place() -> None:
    wire = Wire(framing=Lines(), asks_first=True, max_peers=1)
    begin(wire)
    other = wire.make_client()
    other.conversation = other.begin(wire.now)
    wire.run()
    wire.decide(True)
    wire.decide(True)
    assert len(wire.server.peers()) == 1
    assert "all 1 peer slots are in use" in wire.notes[-1]


def test_early_messages_wait_for_the_yes() -> None:
    wire = Wire(P2M, asks_first=True)
    session = wire.client.begin(wire.now)
    [receipt] = wire.send(wire.client, session, b"early")
    session.end()
    wire.run()
    assert wire.server.mailbox.take_all() == []
    wire.decide(True)
    assert wire.server.mailbox.take_all() == [b"early"]
    assert receipt.error is None
    assert session.ending.is_acked


@pytest.mark.parametrize("framing", [Lines(), Raw()], ids=["lines", "raw"])
@pytest.mark.parametrize("has_ended", [False, True])
def test_what_a_plain_peer_says_meanwhile_is_held(framing: Any, has_ended: bool) -> None:
    """Under TLS it may come in one piece with the end of the handshake."""
    wire = Wire(framing=framing, secure=True, asks_first=True)
    probe = probe_server(wire, greets=False)
    probe.end.shakes = False
    probe.link.secured(None, b"", wire.now)
    probe.say(b"one\n", b"two\n")
    if has_ended:
        probe.eof()
    assert probe.link.paused
    wire.decide(True)
    assert not probe.link.paused
    assert b"".join(wire.server.mailbox.take_all()) == (
        b"onetwo" if framing.name == "lines" else b"one\ntwo\n"
    )
    ends = [EventKind.END] * has_ended
    assert [kind for kind in wire.kinds(wire.server) if kind is EventKind.END] == ends


def test_what_is_held_of_somebody_who_has_gone_is_forgotten() -> None:
    wire = Wire(framing=Lines(), asks_first=True)
    probe = probe_server(wire, greets=False)
    probe.say(bytes(1000))
    assert probe.link._held == bytes(1000)  # type: ignore[attr-defined]
    wire.server.lost(probe.link, ConnectionResetError("cut"), wire.now)
    assert probe.link._held == b""  # type: ignore[attr-defined]


def test_what_breaks_the_framing_while_it_is_held_breaks_it_then() -> None:
    wire = Wire(framing=Lines(), secure=True, asks_first=True)
    probe = probe_server(wire, greets=False)
    probe.link.secured(None, b"", wire.now)
    probe.say(b"x" * (wire.limits.message + 10))
    probe.eof()
    wire.decide(True)
    assert probe.link.closed


def test_a_client_that_tries_in_vain_over_tls_says_why_at_last() -> None:
    wire = Wire(secure=True, connect_timeout=1.0)
    session = wire.client.conversation = wire.client.begin(wire.now)
    for _ in range(20):
        if session in wire.client.dialing.dials:
            probe = probe_client(wire, session, greets=False)
            probe.link.insecure(ConnectFailed("it does not speak TLS"), wire.now)
        wire.settle()
        wire.now += 0.1
        wire.client.handle_timers(wire.now)
    assert isinstance(session.error, (ConnectFailed, PeerLost))
    assert "does not speak TLS" in str(session.error)
