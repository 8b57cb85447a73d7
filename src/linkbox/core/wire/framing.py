"""The base classes of framings and of their decoders, and our own protocol as a framing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Protocol

from linkbox.errors import DecodeError, ProtocolViolation, TooLarge

EXCERPT: Final = 40
"""Bytes of a message or frame in an error message."""
_MOST_REJECTED: Final = 100
"""Bad frames of one read of which each is reported."""


class Decoder(Protocol):
    """What ``decoder()`` of a `Framing` returns: it finds the messages in the stream of one connection.

    Two attributes are optional. ``pending``: the number of bytes held of an incomplete message; with it, a
    server closes a connection whose message is not complete within ``Limits(progress=…)``. ``error``: an
    exception, after which nothing more is asked of the decoder, as if it had been raised.
    """

    def feed(self, data: bytes, /) -> Iterable[bytes | DecodeError]:
        """Return the messages that are complete now, in order; keep the rest for the next call.

        A `DecodeError` between them is a bad frame: it is reported as an event, and the stream goes on.
        An exception means that the rest of the stream cannot be understood: it closes the connection.
        In a generator, the messages before the exception count.
        """
        ...

    def eof(self) -> Iterable[bytes | DecodeError]:
        """The stream has ended: return what counts as a message now; raise if something is missing."""
        ...


class Framing(ABC):
    """How messages are separated in a stream of bytes. The base class for framings of your own.

    A framing of yours has two methods, and a decoder for each connection::

        class Semicolons(Framing):
            def encode(self, payload):
                return payload + b";"

            def decoder(self, limit):
                return SemicolonDecoder()

        class SemicolonDecoder:
            rest = b""

            def feed(self, data):
                *messages, self.rest = (self.rest + data).split(b";")
                return messages

            def eof(self):
                return []

    Both are called while the endpoint serves its connections: they must not wait, and not call the endpoint.
    Equal messages must be encoded equally, because a message may be encoded more than once.

    A decoder that raises closes its own connection only, and ``ERROR`` is emitted; the messages before are
    kept. It may hold about twice the limit in incomplete messages, then its connection is closed too.
    """

    name: ClassVar[str] = ""
    """For logs and errors; by default the name of the class."""
    linked: ClassVar[bool] = False
    """Is it our own protocol?"""

    @abstractmethod
    def encode(self, payload: bytes) -> bytes:
        """Return the bytes to write for one message. Raise `FormatError` if it cannot be carried."""

    @abstractmethod
    def decoder(self, limit: int) -> Decoder:
        """Return a new decoder for one connection. No message may have more than ``limit`` bytes."""


class Linked(Framing):
    """Our own protocol, the default: acknowledged, resumable, with heartbeats and an END mark."""

    name: ClassVar[str] = "linked"
    linked: ClassVar[bool] = True

    def encode(self, payload: bytes) -> bytes:
        """Not available: what is written depends on the whole conversation."""
        raise TypeError("Linked() encodes whole conversations, not single messages")

    def decoder(self, limit: int) -> Decoder:
        """Not available, see `encode`."""
        raise TypeError("Linked() decodes whole conversations, not single messages")

    def __eq__(self, other: object) -> bool:
        return other.__class__ is self.__class__

    def __hash__(self) -> int:
        return hash(self.__class__)

    def __repr__(self) -> str:
        return "Linked()"


class PlainDecoder(ABC):
    """Finds messages in the stream of one connection.

    ``error`` is None, or the error that follows the messages returned so far (`TooLarge` or
    `ProtocolViolation`): check it after handling them. From then on nothing is returned. ``rejected`` has
    the errors of bad frames that were left out, for the caller to report and clear: the messages behind
    them are good. Of many it has the first, and ``more_rejected`` counts the others.
    """

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self.error: TooLarge | ProtocolViolation | None = None
        self.rejected: list[DecodeError] = []
        self.more_rejected: int = 0

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete now, in order; keep the rest. Never raises."""

    def eof(self) -> list[bytes]:
        """The stream has ended: return the message that this completes, if any. Then check ``error``."""
        return []

    @property
    def pending(self) -> int:
        """Bytes held: the beginning of an incomplete message."""
        return 0

    def _reject(self, error: DecodeError) -> None:
        """A bad frame."""
        if len(self.rejected) < _MOST_REJECTED:
            self.rejected.append(error)
        else:
            self.more_rejected += 1

    def _too_large(self, size: str) -> None:
        self.error = TooLarge(
            f"the peer sent a message of {size} bytes, the limit is {self.max_message}; "
            "raise Limits(message=…) to allow it"
        )


class PlainFraming(Framing, ABC):
    """Base of the framings of linkbox without our protocol. All methods may be called from any thread."""

    @abstractmethod
    def check(self, payload: bytes) -> None:
        """Raise `FormatError` with the reason and the remedy if this framing cannot carry the message."""

    @abstractmethod
    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        """The bytes to write for all these messages. `FormatError` if one of them cannot be carried."""

    @abstractmethod
    def decoder(self, limit: int) -> PlainDecoder:
        """A decoder for one connection, which accepts messages of up to ``limit`` bytes."""

    def check_limit(self, limit: int) -> None:
        """Raise what `decoder` would raise for this limit on every connection."""
        self.decoder(limit)

    def encode(self, payload: bytes) -> bytes:
        """The bytes to write for one message. `FormatError` if it cannot be carried."""
        return self.encode_many((payload,))

    def _check_all(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.check(payload)


def excerpt(data: bytes, size: int = -1) -> str:
    """The beginning of some bytes, for an error message. ``data`` may be the first of ``size`` bytes."""
    if size < 0:
        size = len(data)
    more = "…" if size > EXCERPT else ""
    return f"{bytes(data[:EXCERPT])!r}{more} ({size} bytes)"
