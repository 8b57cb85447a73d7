"""The interface of a connection for the network below and the session above.

For each of its connections a network does this, and nothing else:

- bytes arrived: give them to the core (`EndpointCore.received`);
- the peer closed its half: `EndpointCore.ended`;
- the connection is in ``Effects.to_write``, so the driver calls `Carrier.flush`: write what `data_to_send`
  returns until it returns nothing, then act on ``half_close`` and ``closed``; read only if neither ``paused``
  nor ``is_behind``.

`Link` (link.py) is the implementation.
"""

from __future__ import annotations

from linkbox.native import mypyc_attr

Buffer = bytes | memoryview


@mypyc_attr(allow_interpreted_subclasses=True)
class Listening:
    """The listening socket of a server, or its equivalent."""

    is_open = True
    """Are clients accepted? A network that must ask first sets it later, or `error`."""
    error: Exception | None = None
    """Why the server cannot listen."""

    def close(self) -> None:
        """Listen no more."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Carrier:
    """What carries the bytes of a connection: the network's own object for it."""

    __slots__ = ()

    def flush(self) -> None:
        """Write what the connection has to write; then half-close, close, pause or resume reading, as it
        requires."""
        raise NotImplementedError


class Connection:
    """A link, as the network below it and the session above it see it."""

    __slots__ = (
        "address",
        "carrier",
        "closed",
        "eof",
        "eof_waits",
        "half_close",
        "has_begun",
        "has_more",
        "is_abortive",
        "is_behind",
        "output",
        "paused",
        "shut",
    )

    def __init__(self, address: str) -> None:
        self.address: str = address
        """The peer's, as a URL."""
        self.carrier: Carrier | None = None
        """Set by the network; None before it has a socket, and once that is closed."""
        self.has_begun: bool = False
        """Has the peer sent anything? Kept during the handshake only, its TLS included."""
        self.closed: bool = False
        """Close the socket now."""
        self.half_close: bool = False
        """Shut down the writing half, once everything is written."""
        self.shut: bool = False
        """The writing half has been shut down."""
        self.is_abortive: bool = False
        """Close with a reset: a FIN would mean that this side has received everything."""
        self.eof: bool = False
        """The peer has shut down its writing half."""
        self.eof_waits: bool = False
        """The same, but there are frames before it that are processed in later turns."""
        self.output: list[Buffer] | None = None
        """Where the session puts a frame that is written at once; None while that is not possible."""
        self.paused: bool = False
        """Do not read: the mailbox is full (plain framings)."""
        self.is_behind: bool = False
        """Do not read: the link is in ``Effects.to_read``, with frames that it processes in later turns."""
        self.has_more: bool = True
        """May there be more to write than the last `data_to_send` returned?"""

    # For the network.

    def data_to_send(self, now: float) -> list[Buffer]:
        """Return what to write now, in order; call again once it is written. Empty: nothing for now."""
        raise NotImplementedError

    def finish_writing(self) -> None:
        """The writing half has been shut down."""
        raise NotImplementedError

    def write_stalled(self, now: float) -> None:
        """The kernel's send buffer is full. Call `write_moved` when it accepts bytes again."""
        raise NotImplementedError

    def write_moved(self) -> None:
        """The kernel has accepted bytes."""
        raise NotImplementedError

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        """The TLS handshake is complete, so data can be sent.

        ``identity`` is the name in the peer's verified certificate, ``certificate`` the SHA-256 of the
        server's.
        """
        raise NotImplementedError

    def insecure(self, error: Exception, now: float) -> None:
        """The TLS handshake has failed."""
        raise NotImplementedError

    # For the session.

    def send_control(self, frame: bytes) -> None:
        """Write a control frame soon."""
        raise NotImplementedError

    def abort(self, error: Exception | None) -> None:
        """Close the connection now."""
        raise NotImplementedError

    def close_soon(self, now: float) -> None:
        """Write what is left, then close gracefully."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Is the handshake complete, and the connection not closing?"""
        raise NotImplementedError

    def round_trip_time(self) -> float | None:
        """The round-trip time of the last heartbeat in seconds; None before the first one."""
        raise NotImplementedError

    def silence(self, now: float) -> float:
        """Seconds since anything arrived."""
        raise NotImplementedError

    def settle_eof(self, now: float) -> None:
        """Everything that came before the peer's FIN has been processed."""
        raise NotImplementedError

    def process_late(self) -> None:
        """The messages of a stored session are in memory: process the frames that refer to them."""
        raise NotImplementedError
