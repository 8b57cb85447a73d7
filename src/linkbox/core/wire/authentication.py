"""Mutual authentication with a shared secret: a challenge and two proofs, between HELLO and WELCOME.

How to think about it. Both sides know a secret, which is never sent. The server responds to HELLO with a
nonce (CHALLENGE). The client proves first that it knows the secret: it sends its own nonce and a MAC
(HMAC-SHA256) over all handshake messages so far, with the label "client". Only then does the server send its
MAC, with the label "server". There is one algorithm and nothing to negotiate. A proof cannot be replayed,
because nonces are fresh; nor reflected to its sender, because the labels differ; nor used for another
conversation, because it covers HELLO with the session id.

This authenticates the peer but does not protect the bytes that follow; use TLS for that. With TLS the MAC
also covers the server's certificate: a man in the middle has a different certificate, so the MACs do not
match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from linkbox.core.wire import frames
from linkbox.errors import ProtocolViolation
from linkbox.text import shown

NONCE = 32
"""Bytes of a nonce, and of a MAC."""
NO_SECRET = "it wants to know a secret, and this client has none: give it secret=…"
NOT_ASKED = "it did not ask for the secret that this client has: it may be somebody else"
NOT_PROVEN = "it does not know the secret"
WRONG = "the secret is wrong, or this name is not known"

M = TypeVar("M")
Lookup = Callable[[str], Sequence[bytes]]
"""Returns the secrets that are accepted from a peer of this name, the preferred one first."""


class Challenge(msgspec.Struct, frozen=True):
    """The server's nonce, and its name."""

    nonce: str
    name: str


class Proof(msgspec.Struct, frozen=True):
    """A MAC, in the client's proof together with its nonce."""

    mac: str
    nonce: str = ""


_encoder = msgspec.json.Encoder()


def mac(
    secret: bytes, role: str, hello: bytes, challenge: bytes, nonce: bytes, certificate: bytes = b""
) -> bytes:
    """The MAC that ``role`` ("client" or "server") must send after this HELLO and this CHALLENGE.

    ``certificate``: with TLS, the SHA-256 of the server's certificate.
    """
    import hmac  # with OpenSSL: only where there is a secret

    digest = hmac.new(secret, f"linkbox {frames.VERSION} {role}".encode(), "sha256")
    for part in (hello, challenge, nonce, *([certificate] if certificate else [])):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


class ServerSide:
    """The server's side of one authentication."""

    def __init__(
        self, lookup: Lookup, hello: bytes, nonce: bytes, name: str, certificate: bytes = b""
    ) -> None:
        self._lookup = lookup
        self._certificate = certificate
        self._hello = hello
        self._challenge = _encoder.encode(Challenge(nonce.hex(), name))

    def challenge(self) -> bytes:
        """The frame to send."""
        return frames.frame(frames.CHALLENGE, self._challenge)

    def check(self, payload: bytes, name: str) -> bytes | None:
        """Check the client's PROOF. Return the server's PROOF if it is correct, else None."""
        proof = _decode(Proof, payload)
        nonce, claimed = _bytes(proof.nonce), _bytes(proof.mac)
        right: bytes | None = None
        # An unknown name must take as long as a wrong secret.
        for secret in self._lookup(name) or (_NOBODY,):
            said = mac(secret, "client", self._hello, self._challenge, nonce, self._certificate)
            if _is_same(said, claimed) and secret is not _NOBODY:
                right = secret
        if right is None:
            return None
        ours = mac(right, "server", self._hello, self._challenge, nonce, self._certificate)
        return frames.frame(frames.PROOF, _encoder.encode(Proof(ours.hex())))


class ClientSide:
    """The client's side of one authentication."""

    def __init__(self, lookup: Lookup, hello: bytes) -> None:
        self._lookup = lookup
        self._hello = hello
        self._expected = b""
        self.is_proven: bool = False
        """Has the server proven that it knows the secret?"""

    def prove(self, challenge: bytes, nonce: bytes, certificate: bytes = b"") -> bytes | None:
        """The PROOF for a CHALLENGE; None if there is no secret for a server of that name."""
        server = _decode(Challenge, challenge)
        if len(_bytes(server.nonce)) != NONCE or self._expected:
            raise ProtocolViolation("a CHALLENGE that is out of place, or has no nonce")
        secrets = self._lookup(server.name)
        if not secrets:
            return None
        said = mac(secrets[0], "client", self._hello, challenge, nonce, certificate)
        self._expected = mac(secrets[0], "server", self._hello, challenge, nonce, certificate)
        return frames.frame(frames.PROOF, _encoder.encode(Proof(said.hex(), nonce.hex())))

    def check(self, payload: bytes) -> bool:
        """Is the server's PROOF correct?"""
        claimed = _bytes(_decode(Proof, payload).mac)
        self.is_proven = bool(self._expected) and _is_same(self._expected, claimed)
        return self.is_proven


_NOBODY = b"\0" * NONCE


def _is_same(ours: bytes, theirs: bytes) -> bool:
    """Compare in a time that depends on nothing but the length."""
    from hmac import compare_digest

    return compare_digest(ours, theirs)


def _decode(kind: type[M], payload: bytes) -> M:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"CHALLENGE or PROOF: {error}") from shown(error)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ProtocolViolation("CHALLENGE or PROOF: no hexadecimal digits") from error
