"""The handshake of a name: servers answer what they are, so that a wrong client or server is refused.

A client asks once for each connection to the broker, on `Subjects.hello`; a server asks before it serves a
name. One server of the name answers.
"""

from __future__ import annotations

from typing import Final

import msgspec

from linkbox.errors import Refused
from linkbox.text import printable

VERSION: Final = 1
"""The version of everything that linkbox says through a broker."""


class BrokerHello(msgspec.Struct, frozen=True):
    """What serves a name. Fields that a later version adds are ignored."""

    pattern: str
    format: str
    version: int = VERSION
    name: str = ""


_decoder = msgspec.json.Decoder(BrokerHello)
_encoder = msgspec.json.Encoder()


def encode_hello(hello: BrokerHello) -> bytes:
    """The bytes of a hello."""
    return _encoder.encode(hello)


def check_hello(where: str, mine: BrokerHello, data: bytes) -> Refused | None:
    """Why this end does not fit the server that has answered; None if it does."""
    try:
        theirs = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refused(f"{where}: what serves this name is no linkbox", "protocol")
    return mismatch(where, mine, theirs)


def mismatch(where: str, mine: BrokerHello, theirs: BrokerHello) -> Refused | None:
    """Why this end does not fit the server; None if it does."""
    if theirs.version != mine.version:
        return Refused(
            f"{where}: version mismatch: the server speaks version {theirs.version}, this end {mine.version}",
            "version",
        )
    if theirs.pattern != mine.pattern:
        shown = printable(theirs.pattern, 40)
        return Refused(
            f"{where}: pattern mismatch: this name is served as {shown}, this end is for {mine.pattern}",
            "pattern",
        )
    if theirs.format != mine.format:
        shown = printable(theirs.format, 40)
        return Refused(
            f"{where}: format mismatch: the server uses {shown}, this end uses {mine.format}", "format"
        )
    return None
