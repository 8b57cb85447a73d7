"""Identifies the session, the connection and the run of an endpoint that units belong to.

Connections break, and either endpoint may be restarted. Six terms distinguish the cases:

============ ================================ ================================================================
term         where it is                      meaning
============ ================================ ================================================================
incarnation  `Context.incarnation`; WELCOME;  A random name for one run of a server. Without a store it is new
             `Generation.incarnation`         at each start, with a store it stays the same. A client
                                              remembers the one that welcomed its session.
epoch        HELLO; `Generation.epoch`        The number of the connection within its session. The newest
                                              wins: a HELLO with an older epoch is refused. With a store, a
                                              client's epochs begin at its life × 2^20.
born         HELLO, WELCOME;                  The epoch in which the server began the session. If the server
             `Generation.born`                had to begin it anew and that WELCOME was lost, the client still
                                              names the old ``born``. Then nothing is resumed that the server
                                              never had.
began_at,    `Generation.began_at`;           When the first unit may have been written, on the client's
age          HELLO (``age``)                  clock. HELLO contains it as an age, in seconds before the
                                              connection.
knows_since  `Context.knows_since`            Server: since this time it has forgotten no session without the
                                              peer knowing. So if a session began later and the server does
                                              not know it, the server never had any of it, and nothing is in
                                              doubt (``Welcome.is_new``).
life         `Journal.life`                   The number of starts of an endpoint with a store.
============ ================================ ================================================================

In a store, these times survive changes of the wall clock: see store/clock.py.
"""

from __future__ import annotations


class Generation:
    """The current connection of a session, and the run of the server that it belongs to."""

    __slots__ = ("began_at", "born", "epoch", "established", "incarnation")

    def __init__(self) -> None:
        self.epoch: int = 0
        self.born: int = 1
        self.incarnation: str = ""
        self.began_at: float = 0.0
        """0 if nothing was written yet."""
        self.established: bool = False
        """Was the session ever welcomed?"""

    def follow(self, other: Generation) -> None:
        """Continue the epochs of the session that this one takes over from."""
        self.epoch = other.epoch
