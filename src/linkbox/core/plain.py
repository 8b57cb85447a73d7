"""One connection over a plain framing: messages, and FIN as the only END.

Nothing is acknowledged and nothing is resumed: what is handed to the kernel is forgotten, and a
connection that drops takes with it what was on the way. The pages of link.py hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linkbox.core.framings import PlainFraming
from linkbox.core.link import WRITE_BUDGET, Arrival, Buffer, Link, State
from linkbox.errors import LinkboxError, LinkError, ProtocolViolation
from linkbox.limits import Limits

_LAST_READ = 1.0
"""Seconds that a peer gets to read the last of what a stopping endpoint has sent."""


class PlainLink(Link):
    """A connection whose messages are told apart by a plain framing. FIN is its only END."""

    __slots__ = (
        "decoder",
        "framing",
        "held",
    )

    def __init__(self, hub: Any, address: str, limits: Limits, now: float, framing: PlainFraming) -> None:
        super().__init__(hub, address, limits, now)
        self.framing = framing
        self.decoder = framing.decoder(limits.message)
        settings = hub.settings
        self.state = State.GREETING if settings.secure or settings.asks_first else State.OPEN
        self.held = b""
        """What came while the application still thought about this peer (``accept=``)."""

    def receive_data(self, data: bytes, now: float) -> list[Arrival]:
        """Bytes from the peer. Decode what is returned, then call ``hub.deliver`` for each."""
        self.heard_at = now
        if self.state is State.GREETING:
            self.held += data
            return []
        if self.state is not State.OPEN or self.session is None:
            return []
        data, self.held = self.held + data, b""
        payloads = self.decoder.receive(data)
        arrivals = self._arrived(payloads)
        if self.decoder.error is not None:
            self._violated(self.decoder.error)
        self._fed(self.decoder.pending, bool(payloads), now)
        if self.eof and not self.closed:  # that came early, too
            arrivals += self.receive_eof(now)
        return arrivals

    def _violated(self, error: LinkboxError) -> None:
        text = f"{self.address} broke the framing {self.framing.name}: {error}"
        self.hub.on_plain_error(self, type(error)(text))
        self.abort(error if isinstance(error, LinkError) else ProtocolViolation(text))

    def _arrived(self, payloads: Sequence[bytes]) -> list[Arrival]:
        session = self.session
        if not payloads or session is None:
            return []
        session.arrived += len(payloads)
        session.arrived_bytes += sum(map(len, payloads))
        arrivals: list[Arrival] = self.hub.plain_arrivals(session, list(payloads))
        return arrivals

    def _forget_input(self) -> None:
        self.decoder, self.held = self.framing.decoder(self.limits.message), b""

    def receive_eof(self, now: float) -> list[Arrival]:
        """The peer will send nothing more: its END. A last message may have ended with it."""
        self.eof = True
        if self.state is State.GREETING:
            return []  # in its turn
        if self.state is not State.OPEN or self.session is None:
            self.abort(None)
            return []
        arrivals = self._arrived(self.decoder.eof())
        if self.decoder.error is not None:
            self._violated(self.decoder.error)
            return arrivals
        session = self.session
        session.peer_end = session.arrived
        arrivals += self.hub.plain_rest(session)
        arrivals.append(Arrival(session, [], session.arrived))  # the END, in its turn
        return arrivals

    def data_to_send(self, now: float) -> list[Buffer]:
        """What to write now; call again once it is written. Empty: nothing for now."""
        session = self.session
        if session is None or session.link is not self:
            return []
        if session.queue and not self.shut:
            units = session.pull_plain(WRITE_BUDGET)
            self.hub.on_acked(session, [])  # There is room again, and SENT is all that is ever known.
            return [self.framing.encode_many([unit.payload for unit in units])]
        if session.wants_end():
            session.end_sent = True
            self.half_close = True
        if session.end_sent and session.source.ended is not None:
            self.close_soon(now)
        return []

    def settle_eof(self, now: float) -> None:
        session = self.session
        if self.shut and session is not None and session.end_sent:
            self.close_soon(now)

    def finish_writing(self) -> None:
        if self.session is not None and self.half_close:
            self.session.end_acked = True  # All there will ever be known.
            self.hub.on_end_acked(self.session, [])
        super().finish_writing()
        if self.hub.stopping and self.state is State.OPEN:
            # The peer may stay for as long as it likes. Let it read what it was sent, then close.
            self.close_soon(self.hub.now)
            was_silent = self.session is None or not self.session.sent
            self.closing_at = self.hub.now + (0.0 if was_silent else _LAST_READ)
            self.hub.schedule(self, self.closing_at)
