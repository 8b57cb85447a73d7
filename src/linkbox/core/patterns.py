"""The three communication patterns as one table: which side sends, how many peers, how a server stops."""

from __future__ import annotations

import msgspec


class Pattern(msgspec.Struct, frozen=True):
    """One row of the table. ``name`` is sent in the handshake; both sides must use the same pattern."""

    name: str
    server_sends: bool
    """The server's application may send messages."""
    client_sends: bool
    asks: bool
    """Requests and responses instead of messages."""
    stop_ends: bool
    """A stopping server ends the conversation (END). If false, it sends GOAWAY, and clients keep what they
    have not sent until they reach the server again."""
    slow_ack: bool
    """No receipt waits for the acknowledgement of a single frame, so it may wait for the next write."""


P2P = Pattern("p2p", server_sends=True, client_sends=True, asks=False, stop_ends=True, slow_ack=False)
P2M = Pattern("p2m", server_sends=False, client_sends=True, asks=False, stop_ends=False, slow_ack=False)
AR = Pattern("ar", server_sends=False, client_sends=False, asks=True, stop_ends=False, slow_ack=True)
