"""Who does not know the secret does not get in, whatever it has overheard."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from linkbox import AuthenticationFailed
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, hello
from tests.faults.place import AT_ONCE, Place
from tests.threaded.helpers import wait_until

SECRET = "a long text that nobody guesses"


def test_a_wrong_secret(place: Place) -> None:
    """Final: the client does not try again. A client without one, or a server without one, is no better."""
    with place.serving(secret=SECRET) as server:
        for secret in ("a guess", None):
            with pytest.raises(AuthenticationFailed):
                place.client("P2P", server.address, secret=secret, reconnect=AT_ONCE).start()
        assert [peer.name for peer in server.peers()] == ["regular"]
    with place.serving() as server, pytest.raises(AuthenticationFailed):
        place.client("P2P", server.address, secret=SECRET, reconnect=AT_ONCE).start()


def _challenged(bare: Bare, said: bytes) -> bytes:
    """Say HELLO; returns the payload of the CHALLENGE."""
    bare.say(frames.preface(), said)
    return bare.until(frames.CHALLENGE)


def _proof(said: bytes, challenge: bytes, role: str = "client") -> bytes:
    nonce = bytes(auth.NONCE)
    mac = auth.mac(SECRET.encode(), role, said[4:], challenge, nonce)
    return frames.frame(frames.PROOF, msgspec.json.encode({"mac": mac.hex(), "nonce": nonce.hex()}))


def _turned_away(bare: Bare) -> None:
    assert bare.refusal().code == "authentication"
    bare.ended()


def test_a_replayed_proof(place: Place) -> None:
    """Somebody has written down a good conversation, and says the client's part again."""
    with place.serving(secret=SECRET) as server:
        said = hello()
        with Bare(place, server.address) as bare:
            proof = _proof(said, _challenged(bare, said))
            bare.say(proof)
            bare.welcome()  # So it is a good one.
        wait_until(lambda: len(server.peers()) == 1, "it has left")
        for again in (said, hello(epoch=2), hello(session=2)):
            with Bare(place, server.address) as bare:
                _challenged(bare, again)
                bare.say(proof)
                _turned_away(bare)


def test_a_reflected_proof(place: Place) -> None:
    """The challenge sent back as one's own, the server's own role, an empty proof: none of them proves."""
    with place.serving(secret=SECRET) as server:
        said = hello()

        def reflected(challenge: bytes) -> bytes:
            nonce = msgspec.json.decode(challenge)["nonce"]
            return frames.frame(frames.PROOF, msgspec.json.encode({"mac": nonce, "nonce": nonce}))

        for make in (reflected, lambda challenge: _proof(said, challenge, "server"), _empty):
            with Bare(place, server.address) as bare:
                bare.say(make(_challenged(bare, said)))
                _turned_away(bare)


def _empty(challenge: bytes) -> bytes:
    return frames.frame(frames.PROOF, b'{"mac":"","nonce":""}')


def test_messages_before_the_proof(place: Place) -> None:
    """Nothing of a stranger is taken in: no early data where there is a secret."""
    with place.serving(secret=SECRET) as server:
        for early in (data(b"let me in"), frames.encode_number(frames.PING, 1)):
            with Bare(place, server.address) as bare:
                bare.say(frames.preface(), hello(), early)
                _outcome(bare)
        assert [peer.name for peer in server.peers()] == ["regular"]


def _outcome(bare: Bare) -> None:
    """It never sees a WELCOME."""
    seen: list[Any] = []
    try:
        while True:
            seen.append(bare.frame()[0])
            assert frames.WELCOME not in seen
            if seen[-1] == frames.CHALLENGE:
                bare.say(frames.frame(frames.PROOF, b'{"mac":"00","nonce":"00"}'))
    except EOFError:
        assert seen[-1] == frames.REFUSE
