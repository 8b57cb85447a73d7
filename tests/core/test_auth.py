"""Who knows the secret: proofs both ways, and everything that somebody who does not know it may try."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from linkbox.core.handshake import ClientHandshake
from linkbox.core.linked_link import LinkedLink
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire.authentication import ClientSide, ServerSide
from linkbox.errors import AuthenticationFailed, ProtocolViolation, Refused
from tests.core.wire import Wire, encode_message, hello, probe_client, probe_server, welcome

SECRET = b"correct horse battery staple"


def knows(*secrets: bytes) -> Any:
    return lambda name: list(secrets)


def wire(server: Any = SECRET, client: Any = SECRET, **settings: Any) -> Wire:
    """A wire whose ends have these secrets: bytes, a lookup, or None."""

    def lookup(secret: Any) -> Any:
        return knows(secret) if isinstance(secret, bytes) else secret

    return Wire(P2P, server_secrets=lookup(server), client_secrets=lookup(client), **settings)


# --- the arithmetic -------------------------------------------------------------------------------


def test_what_is_said_is_hmac_sha256_over_everything() -> None:
    """Written out once more, by hand: this is what docs/protocol.md says."""
    parts = (b"{hello}", b"{challenge}", b"n" * 32)
    text = b"linkbox 1 client" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert auth.mac(SECRET, "client", *parts) == hmac.new(SECRET, text, sha256).digest()


@pytest.mark.parametrize("change", ["secret", "role", "hello", "challenge", "nonce", "border"])
def test_each_part_counts(change: str) -> None:
    parts: dict[str, Any] = {
        "secret": b"s",
        "role": "client",
        "hello": b"ab",
        "challenge": b"cd",
        "nonce": b"e",
    }
    before = auth.mac(**parts)
    if change == "border":  # the same bytes, parted otherwise
        parts |= {"hello": b"abc", "challenge": b"d"}
    else:
        parts[change] = "server" if change == "role" else b"other"
    assert auth.mac(**parts) != before


# --- two hubs that know it ------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [P2P, P2M, AR])
def test_who_knows_the_secret_is_welcome(pattern: Any) -> None:
    both = knows(SECRET)
    ends = Wire(pattern, server_secrets=both, client_secrets=both)
    session = ends.client.begin(ends.now)
    ends.settle()
    assert isinstance(session.link, LinkedLink)
    handshake = session.link.handshake
    assert isinstance(handshake, ClientHandshake)
    ends.run()
    assert session.generation.established
    assert handshake._auth is not None and handshake._auth.is_proven


def test_nothing_is_written_before_the_welcome() -> None:
    ends = wire()
    session = ends.client.begin(ends.now)
    session.send(b"not for strangers")
    ends.settle()
    server_end = ends.end_of(ends.server)
    assert b"strangers" not in bytes(server_end.incoming)
    ends.run()
    assert ends.server.mailbox.take() == b"not for strangers"


def test_a_list_accepts_any_of_them_and_the_client_uses_its_first() -> None:
    ends = wire(server=knows(b"new", b"old"), client=knows(b"old", b"older"))
    assert ends.connect().generation.established
    ends = wire(server=knows(b"new", b"old"), client=knows(b"other", b"old"))
    refused_at_once(ends)


def test_a_drop_is_resumed_with_a_new_proof() -> None:
    ends = wire()
    session = ends.connect()
    ends.send(ends.client, session, b"1")
    ends.drop_all()
    ends.send(ends.client, session, b"2")
    ends.advance(1.0)
    assert ends.server.mailbox.take_all() == [b"1", b"2"]
    assert session.generation.epoch == 2


def test_where_each_name_has_a_secret_the_name_is_an_identity() -> None:
    names: list[str] = []

    def of(name: str) -> list[bytes]:
        names.append(name)
        return [SECRET]

    ends = wire(server=of, identifies=True)
    session = ends.connect()
    [there] = ends.server.sessions.by_id.values()
    assert there.peer.identity == there.peer.name == names[0]
    ends.drop_all()
    ends.advance(1.0)
    assert session.link is not None, "the same client comes back"
    assert wire().connect().peer.identity is None, "a secret that all share says nothing of names"


def test_a_session_belongs_to_who_began_it() -> None:
    ends = wire(server=knows(SECRET), identifies=True)
    session = ends.connect()
    ends.drop_all()
    ends.client.context.settings.name = "somebody else"
    ends.advance(1.0)
    assert isinstance(session.error, Refused) and session.error.code == "session"


# --- somebody does not know it ---------------------------------------------------------------------


def refused_at_once(ends: Wire) -> None:
    session = ends.client.begin(ends.now)
    session.send(b"secret business")
    ends.run()
    assert isinstance(session.error, AuthenticationFailed)
    assert not ends.server.sessions.by_id or ends.server_secrets is None
    assert ends.server.mailbox.count == 0
    ends.advance(30.0)
    assert len(ends.dialled) == 1, "it does not try again"
    told = " ".join([str(session.error), repr(session.error), *ends.notes])
    assert "battery" not in told


@pytest.mark.parametrize(
    ("server", "client"),
    [
        (SECRET, b"wrong"),
        (SECRET, None),
        (None, SECRET),
        (lambda name: [], SECRET),  # the name is not known
        (SECRET, lambda name: []),
    ],
)
def test_who_does_not_know_it_is_turned_away_for_good(server: Any, client: Any) -> None:
    refused_at_once(wire(server, client))


def test_a_wrong_secret_and_an_unknown_name_get_the_same_answer() -> None:
    answers = []
    for lookup in (knows(SECRET), lambda name: []):
        ends = wire(server=lookup, client=b"wrong")
        session = ends.client.begin(ends.now)
        ends.run()
        answers.append(str(session.error))
    assert answers[0] == answers[1]


def test_nobodys_secret_lets_nobody_in() -> None:
    """The secret that stands in for an unknown name may be guessed: it opens nothing."""
    refused_at_once(wire(server=lambda name: [], client=auth._NOBODY))


# --- a stranger who speaks the protocol -------------------------------------------------------------


def challenged(ends: Wire) -> tuple[Any, bytes, bytes]:
    """A probe that has said HELLO: itself, the payload of its HELLO, and of the CHALLENGE."""
    probe = probe_server(ends)
    [(kind, challenge)] = probe.heard()
    assert kind == frames.CHALLENGE
    return probe, encode_message(hello(ends))[4:], challenge


def proof(mac: bytes, nonce: bytes = bytes(32)) -> bytes:
    return frames.frame(frames.PROOF, msgspec.json.encode({"mac": mac.hex(), "nonce": nonce.hex()}))


def test_a_right_proof_by_hand_opens_the_door() -> None:
    ends = wire()
    probe, said, challenge = challenged(ends)
    probe.say(proof(auth.mac(SECRET, "client", said, challenge, bytes(32))))
    assert probe.kinds() == ["PROOF", "WELCOME"]


def test_a_proof_cannot_be_replayed() -> None:
    ends = wire()
    probe, said, challenge = challenged(ends)
    good = proof(auth.mac(SECRET, "client", said, challenge, bytes(32)))
    second, _, other = challenged(ends)
    assert other != challenge
    second.say(good)
    assert second.kinds() == ["REFUSE"]
    assert second.is_closed or second.link.state is not None
    probe.say(good)
    assert "WELCOME" in probe.kinds()


def test_the_servers_own_proof_cannot_be_sent_back_to_it() -> None:
    ends = wire()
    probe, said, challenge = challenged(ends)
    probe.say(proof(auth.mac(SECRET, "server", said, challenge, bytes(32))))
    assert probe.kinds() == ["REFUSE"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"no json",
        b'{"mac": "zz", "nonce": ""}',
        b'{"mac": 5}',
        b"[" * 4000,
        b'{"mac": "00", "nonce": "0"}',
    ],
)
def test_a_damaged_proof_is_a_violation(payload: bytes) -> None:
    ends = wire()
    probe, _, _ = challenged(ends)
    probe.say(frames.frame(frames.PROOF, payload))
    assert probe.kinds() == ["REFUSE"]
    assert not ends.server.sessions.by_id


def test_a_proof_without_hello_or_where_none_is_asked() -> None:
    for ends in (wire(), wire(server=None, client=None)):
        probe = probe_server(ends, greets=False)
        probe.say(frames.preface(), proof(bytes(32)))
        assert probe.kinds() == ["REFUSE"]


def test_messages_before_the_proof_are_a_violation() -> None:
    ends = wire()
    probe, _, _ = challenged(ends)
    probe.say(frames.frame(frames.DATA, b"let me in"))
    assert probe.kinds() == ["REFUSE"]
    assert ends.server.mailbox.count == 0


def test_a_second_proof_is_a_violation() -> None:
    ends = wire(max_peers=1)
    ends.connect()
    probe, said, challenge = challenged(ends)
    good = proof(auth.mac(SECRET, "client", said, challenge, bytes(32)))
    ends.now += 3.0  # the peer is silent: whoever comes has to wait for its place
    probe.say(good)
    probe.say(good)
    assert "REFUSE" in probe.kinds()


def test_who_says_hello_and_no_more_is_not_waited_for() -> None:
    ends = wire()
    probe, _, _ = challenged(ends)
    ends.advance(6.0)
    assert probe.is_closed


# --- a server that only pretends --------------------------------------------------------------------


def client_probe(ends: Wire) -> tuple[Any, Any]:
    session = ends.client.begin(ends.now)
    probe = probe_client(ends, session, greets=False)
    probe.say(frames.preface())
    return session, probe


def challenge(nonce: str = "ab" * 32, name: str = "server") -> bytes:
    return frames.frame(frames.CHALLENGE, msgspec.json.encode({"nonce": nonce, "name": name}))


def test_a_server_that_cannot_prove_it_is_left() -> None:
    session, probe = client_probe(wire())
    probe.say(challenge(), proof(bytes(32)), welcome()[8:])
    assert isinstance(session.error, AuthenticationFailed)
    assert "does not know the secret" in str(session.error)


def test_a_server_that_welcomes_without_asking_is_left() -> None:
    session, probe = client_probe(wire())
    probe.say(welcome()[8:])
    assert isinstance(session.error, AuthenticationFailed)
    assert "did not ask" in str(session.error)


def test_a_server_that_sends_our_own_proof_back_is_left() -> None:
    session, probe = client_probe(wire())
    probe.heard()
    probe.say(challenge())
    [(kind, said)] = [each for each in probe.heard() if each[0] == frames.PROOF]
    assert kind == frames.PROOF
    probe.say(frames.frame(frames.PROOF, said), welcome()[8:])
    assert isinstance(session.error, AuthenticationFailed)


@pytest.mark.parametrize("nonce", ["", "ab", "zz" * 32, "ab" * 33])
def test_a_challenge_needs_a_nonce(nonce: str) -> None:
    session, probe = client_probe(wire())
    probe.say(challenge(nonce))
    assert session.link is None


def test_a_second_challenge_is_a_violation() -> None:
    session, probe = client_probe(wire())
    probe.say(challenge(), challenge("cd" * 32))
    assert session.link is None


def test_a_challenge_from_a_client_is_a_violation() -> None:
    ends = wire()
    probe, _, _ = challenged(ends)
    probe.say(challenge())
    assert probe.kinds() == ["REFUSE"]


def test_a_proof_before_the_challenge_proves_nothing() -> None:
    side = ClientSide(knows(SECRET), b"hello")
    assert not side.check(msgspec.json.encode({"mac": ""}))
    assert not side.is_proven
    with pytest.raises(ProtocolViolation):
        side.prove(b"{}", bytes(32))
    server = ServerSide(knows(SECRET), b"hello", bytes(32), "server")
    with pytest.raises(ProtocolViolation):
        server.check(b"\xff", "client")
