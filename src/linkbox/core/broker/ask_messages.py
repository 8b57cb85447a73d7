"""What clients and servers of requests say through a broker: headers of messages, and orders to the network.

A request is one message to `Subjects.requests`, whose body is what the format has made and nothing else, so
that any client of the broker can ask. Its reply goes to the subject that the client has named. Headers:

======== ==============================================================================================
request  ``Lb-Client``: the same text in all requests of a client; ``Lb-Name``: its name; ``Lb-Format``: its
         format; ``Lb-Left``: milliseconds until it gives up; ``Lb-Parts``: the sizes of the messages that
         the body consists of, separated by ``,`` (unless it is one message). All may be missing.
reply    ``Lb-Status``: ``ok`` (also if it is missing), ``fail`` (``Lb-Type``, and the text as body),
         ``refused`` (``Lb-Code``, and the text as body), ``gone`` (the server stops, and has not begun it),
         or ``here``, which is no answer: the server ``Lb-Server`` is at work. When nobody receives a
         request, the broker replies with ``Status: 503``.
======== ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

CLIENT: Final = "Lb-Client"
NAME: Final = "Lb-Name"
FORMAT: Final = "Lb-Format"
LEFT: Final = "Lb-Left"
PARTS: Final = "Lb-Parts"
STATUS: Final = "Lb-Status"
TYPE: Final = "Lb-Type"
CODE: Final = "Lb-Code"
SERVER: Final = "Lb-Server"

OK: Final = "ok"
FAIL: Final = "fail"
REFUSED: Final = "refused"
GONE: Final = "gone"
HERE: Final = "here"
NOBODY: Final = "503"
"""The status that the broker itself sets."""

MOST_PARTS: Final = 10_000
"""Most messages in a request or a pack."""
HEADER_BYTES: Final = 2048
"""Bytes of a message that are kept free for headers."""


class Request(NamedTuple):
    """Order: publish a request."""

    id: int
    headers: dict[str, str]
    body: bytes


class Cancel(NamedTuple):
    """Order: notify the server (or all, if it is not known) that the client no longer waits."""

    id: int
    server: str


class Probe(NamedTuple):
    """Order: ask the server (or all) whether it has the request. Report it with `AskLink.on_probed`."""

    id: int
    server: str


class Reply(NamedTuple):
    """Order: publish a reply."""

    to: str
    headers: dict[str, str]
    body: bytes


def split_parts(body: bytes, headers: Mapping[str, str]) -> list[bytes] | None:
    """The messages of a request. None: one message, which is the body. ValueError if they do not fit."""
    sizes = headers.get(PARTS)
    if sizes is None:
        return None
    parts, at = [], 0
    if sizes.count(",") >= MOST_PARTS:
        raise ValueError(f"{PARTS}: more than {MOST_PARTS} messages")
    for text in filter(None, sizes.split(",")):
        size = int(text)
        if size < 0 or at + size > len(body):
            raise ValueError(f"{PARTS}: {sizes!r:.80} does not fit {len(body)} bytes")
        parts.append(body[at : at + size])
        at += size
    if at != len(body):
        raise ValueError(f"{PARTS}: {sizes!r:.80} does not fit {len(body)} bytes")
    return parts
