"""The rows of a store. Message numbers are those on disk, see record.py."""

from __future__ import annotations

import msgspec

from linkbox.core.wire import frames

REJECTIONS = 100
"""Most REJECT frames that are kept on disk."""
UNKNOWN = -1
"""A value of `Row.sent_most`: all messages may have been sent."""

LONG_AGO = -1.0
"""A value of `Row.began`: before all times that can be compared with it."""

Stored = tuple[int, int, bytes]
"""A message in the spool: its number, the bytes of all messages up to it, its payload."""


class Row(msgspec.Struct):
    """A record as it is on disk."""

    key: int
    id: str
    name: str
    address: str
    identity: str | None
    connected_at: float
    epoch: int = 0
    born: int = 1
    incarnation: str = ""
    ending: bool = False
    """The application has ended the conversation."""
    over: bool = False
    """The conversation is closed; the row is kept while messages of it are unread."""
    sent_most: int = 0
    """Nothing beyond this was ever sent, or `UNKNOWN`."""
    base: int = 0
    base_total: int = 0
    next: int = 0
    total: int = 0
    """Bytes of all messages ever spooled."""
    acked: int = 0
    """Spooled messages up to this one were acknowledged and deleted."""
    in_base: int = 0
    received: int = 0
    received_bytes: int = 0
    """Bytes received on the wire, up to ``received``."""
    given: int = 0
    """Received messages up to this one were taken and deleted, except those in ``kept``."""
    start: int = 0
    """Bytes taken of the message after ``given``."""
    kept: tuple[int, ...] = ()
    began: float = 0.0
    """Client: when the first unit may have been written, in seconds since the epoch; 0: never; or `LONG_AGO`.
    """
    refusals: tuple[bytes, ...] = ()
    """REJECT frames that the peer may not have seen."""
    freed: tuple[int, ...] = ()
    """Messages that were kept and can be deleted now."""


def units_of(size: int) -> int:
    """The number of units of a message with ``size`` bytes."""
    return max(1, -(-size // frames.MAX_PIECE))
