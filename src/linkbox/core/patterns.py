"""The three patterns as one table: who may send what, how many peers, who may come back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pattern:
    """One row of the table. ``name`` travels in the handshake; both ends must have the same."""

    name: str
    server_sends: bool
    """The server's application may send messages."""
    client_sends: bool
    asks: bool
    """Asks and answers instead of messages."""
    many: bool
    """The server takes any number of clients unless told otherwise."""
    stop_ends: bool
    """A stopping server ends the conversation (END); else it only goes away (GOAWAY), and clients
    keep what they still have to say for when it is back."""
    slow_ack: bool
    """Nobody looks at receipts of single frames: an acknowledgement may wait for the next write."""


P2P = Pattern(
    "p2p", server_sends=True, client_sends=True, asks=False, many=False, stop_ends=True, slow_ack=False
)
P2M = Pattern(
    "p2m", server_sends=False, client_sends=True, asks=False, many=True, stop_ends=False, slow_ack=False
)
AR = Pattern(
    "ar", server_sends=False, client_sends=False, asks=True, many=True, stop_ends=False, slow_ack=True
)
