"""What the endpoints of P2M say through a broker: headers of messages, and orders to the network.

A client publishes to `Subjects.messages_of` its session; a stream of the broker keeps the messages until a
server has taken them. A message of the stream is one message of the client, and its body what the format has
made. Or it is a *pack* of several, because each message of the stream costs the broker a write to its disk.

=============== =======================================================================================
``Nats-Msg-Id``  ``session:number`` (of the last message of a pack): the broker drops what it has already
``Lb-Name``      the name of the client
``Lb-Parts``     the sizes of the messages in a pack, separated by ``,``; missing: it is no pack
``Lb-Again``     the client cannot know whether the broker has this already: it is marked as redelivered
``Lb-Taken``     the subject for notes of which messages were taken: ``first-last``, separated by spaces
=============== =======================================================================================
"""

from __future__ import annotations

from typing import Final, NamedTuple

ID: Final = "Nats-Msg-Id"
NAME: Final = "Lb-Name"
AGAIN: Final = "Lb-Again"
TAKEN: Final = "Lb-Taken"

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
WORKING: Final = b"+WPI"


class Publish(NamedTuple):
    """Order: publish a message or a pack to the stream. Report it with `StreamLink.on_stored`."""

    session: str
    first: int
    """The number of its first message on this session."""
    last: int
    headers: dict[str, str]
    body: bytes


class Stored(NamedTuple):
    """A message of the stream, as it has arrived at a server."""

    session: str
    name: str
    last: int
    """The number of its last message in the session of the client; 0: it is not of linkbox."""
    parts: list[bytes]
    is_again: bool
    """May the application have had it before?"""
    reply_to: str
    """Where it is acknowledged."""
    place: int
    """Its number in the stream."""
    taken_to: str
    """Where the client receives notes of what was taken; may be empty."""


class Acknowledge(NamedTuple):
    """Order: acknowledge a message of the stream, or give it back."""

    reply_to: str
    what: bytes


class Taken(NamedTuple):
    """Order: notify a client which of its messages were taken."""

    to: str
    ranges: str


def split_id(id: str) -> int:
    """The number in a ``Nats-Msg-Id``; 0 if it is none of linkbox."""
    number = id.rpartition(":")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def read_ranges(text: str) -> list[range]:
    """The numbers in a note of what was taken. What is no range is left out."""
    found = []
    for each in text.split():
        first, _, last = each.partition("-")
        if first.isascii() and first.isdigit() and last.isascii() and last.isdigit():
            found.append(range(int(first), int(last) + 1))
    return found
