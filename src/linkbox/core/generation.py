"""Which life of which end a session belongs to.

Connections break, and either end may be restarted. Six ideas tell apart what belongs together:

============ ================================ =====================================================================
idea         where it is                      what it means
============ ================================ =====================================================================
incarnation  `Context.incarnation`; WELCOME;  A random name of one life of a server. Without a store it is new at
             `Generation.incarnation`         each start; with one it stays. A client remembers the one that
                                              welcomed its session.
epoch        HELLO; `Generation.epoch`        Counts the connections of one session. The newest wins: a HELLO with
                                              an older epoch is refused. With a store, a client's epochs begin at
                                              its life × 2^20.
born         HELLO, WELCOME;                  The epoch in which the server's session began. If the server had to
             `Generation.born`                begin anew and that welcome was lost, the client still names the old
                                              ``born``, and nothing is resumed that the server never had.
began_at,    `Generation.began_at`;           When the first unit may have been written, on this end's clock. HELLO
age          HELLO (``age``)                  tells it as seconds before the connection.
knows_since  `SessionTable.knows_since`       Server: since then it has forgotten no session whose peer may not
                                              know. So a session that began after it, and that the server does not
                                              know, never had anything here: nothing is in doubt
                                              (``Welcome.is_new``).
life         `Journal.life`                   Counts the starts of an endpoint with a store.
============ ================================ =====================================================================
"""

from __future__ import annotations


class Generation:
    """Which connection of a session this is, and which life of the server it knows."""

    __slots__ = ("began_at", "born", "epoch", "established", "incarnation")

    def __init__(self) -> None:
        self.epoch = 0
        self.born = 1
        self.incarnation = ""
        self.began_at = 0.0
        """0: nothing was ever written."""
        self.established = False
        """Was the session ever welcomed?"""

    def follow(self, other: Generation) -> None:
        """Count connections on from the session that this one takes over from."""
        self.epoch = other.epoch
