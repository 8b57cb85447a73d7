"""One connection as the network and the session see it: what to write, whether to read, when to close.

A network does this for each of its connections, and nothing else:

- bytes arrived: give them to the core (`EndpointCore.received`);
- the peer closed its half: `EndpointCore.ended`;
- the connection is named in ``Effects.to_write``: write what `data_to_send` returns until it returns nothing, then
  do what ``half_close`` and ``closed`` say, and read only if not ``paused``.

`Link` (link.py) is the implementation.
"""

from __future__ import annotations

from linkbox.core.channel import OutgoingMessage

Buffer = bytes | memoryview


class Listening:
    """What a server listens with."""

    def close(self) -> None:
        """Listen no more."""
        raise NotImplementedError


class Connection:
    """What a link shows to the network below it and to the session above it."""

    __slots__ = (
        "address",
        "closed",
        "eof",
        "half_close",
        "handle",
        "has_more",
        "is_abortive",
        "paused",
        "shut",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        """The peer's, as a URL."""
        self.handle: object = None
        """The network's own object for this connection."""
        self.closed = False
        """Close the socket now."""
        self.half_close = False
        """Shut down the writing half, once everything is written."""
        self.shut = False
        """The writing half has been shut down."""
        self.is_abortive = False
        """Close with a reset: a FIN would say that this end has received everything."""
        self.eof = False
        """The peer has shut down its writing half."""
        self.paused = False
        """Do not read for now: the mailbox is full (plain framings)."""
        self.has_more = True
        """Is there perhaps more to write than `data_to_send` has just returned?"""

    # For the network.

    def data_to_send(self, now: float) -> list[Buffer]:
        """What to write now, in order; call again once it is written. Empty: nothing for now."""
        raise NotImplementedError

    def finish_writing(self) -> None:
        """The writing half has been shut down."""
        raise NotImplementedError

    def write_stalled(self, now: float) -> None:
        """The kernel did not take everything. Call `write_moved` when it takes something again."""
        raise NotImplementedError

    def write_moved(self) -> None:
        """The kernel took something."""
        raise NotImplementedError

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        """The TLS handshake is complete: only now can anything be sent.

        ``identity`` is the name in the peer's verified certificate; ``certificate`` the SHA-256 of the server's.
        """
        raise NotImplementedError

    def insecure(self, error: Exception, now: float) -> None:
        """The TLS handshake has failed."""
        raise NotImplementedError

    # For the session.

    def send_at_once(self, message: OutgoingMessage, now: float) -> bool:
        """Write a small message without queueing it, if nothing waits before it and credit allows it."""
        return False

    def send_control(self, frame: bytes) -> None:
        """Write a control frame soon."""
        raise NotImplementedError

    def abort(self, error: Exception | None) -> None:
        """Close the connection now."""
        raise NotImplementedError

    def close_soon(self, now: float) -> None:
        """Close the connection in order, after what is still to be written."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Is the handshake complete, and the connection not closing?"""
        raise NotImplementedError

    def round_trip_time(self) -> float | None:
        """Seconds, of the last heartbeat; None if there was none yet."""
        raise NotImplementedError

    def settle_eof(self, now: float) -> None:
        """Everything that came before the peer's FIN has been processed."""
        raise NotImplementedError

    def process_late(self) -> None:
        """The messages of a stored session are in memory: process what the peer has said of them."""
        raise NotImplementedError
