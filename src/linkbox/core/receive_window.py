"""The receiving half of a session: what has arrived, what was granted, when to acknowledge.

Marks move along the sequence of units (see send_window.py), each never backwards::

    taken  <=  processed  <=  arrived        (by the application, by this end, from the wire)

*Arrived* is where a resumed session goes on: it may be ahead of what is processed, because decoding (and, with a
store, the disk) takes time.

Credit is two cumulative limits (bytes, units). A unit may start while the sum of the units before it is below the
limit, so one unit may overshoot it and no message is too large to start. The limit is what has arrived, less what
waits in the mailbox, plus the window: a mailbox that is emptied grants more, a full one stops granting, and the pieces
of an incomplete message never wait for themselves.
"""

from __future__ import annotations

from typing import Final

from linkbox.core.effects import ACK_DUE_NOW, ACK_DUE_SOON, Route
from linkbox.core.mailbox import Source
from linkbox.core.paused_links import PausedLinks
from linkbox.core.send_window import EARLY_BYTES, EARLY_UNITS
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire.decoder import Assembly
from linkbox.errors import ProtocolViolation
from linkbox.events import Peer
from linkbox.limits import Limits

ACK_SPACING: Final = 0.001
"""Seconds between two acknowledgements that go with a write: each costs as much as a message."""
ACK_BYTES: Final = 64 * 1024
"""Bytes after which the next one is sent all the same: the peer keeps them until then."""


class ReceiveWindow(Source):
    """One peer's side of the mailbox, which acknowledges what it has received."""

    __slots__ = (
        "_ride_at",
        "_ride_from",
        "ack_each_until",
        "arrived",
        "arrived_bytes",
        "assembly",
        "bytes_received",
        "bytes_regained",
        "grace_bytes",
        "grace_units",
        "granted_bytes",
        "granted_units",
        "limits",
        "messages_received",
        "paused_links",
        "processed_bytes",
        "reported_taken",
        "route",
        "units_regained",
    )

    def __init__(self, peer: Peer, route: Route, limits: Limits, paused_links: PausedLinks | None) -> None:
        super().__init__(peer)
        self.route = route
        self.limits = limits
        self.paused_links = paused_links
        """Over a plain framing, where nothing is acknowledged."""
        self.arrived = 0
        self.arrived_bytes = 0
        self.processed_bytes = 0
        self.granted_bytes = 0
        self.granted_units = 0
        self.units_regained = 0.0
        self.bytes_regained = 0.0
        """When that much has arrived and been taken, the peer gets back a quarter of its window."""
        self.grace_bytes = 0
        self.grace_units = 0
        """How much more an earlier life of this end may have granted, that was not written down."""
        self.assembly: Assembly | None = None
        """The message that is arriving in pieces."""
        self.messages_received = 0
        self.bytes_received = 0
        self.ack_each_until = 0
        self.reported_taken = 0
        self._ride_at = 0.0
        self._ride_from = 0
        """From when, or after how many bytes, an acknowledgement goes with a write again."""

    # -- arriving --------------------------------------------------------------------------------------

    def add_units(self, count: int, nbytes: int, last_size: int) -> None:
        """Units have arrived together. ``last_size`` of the bytes belong to the last of them."""
        arrived, arrived_bytes = self.arrived + count, self.arrived_bytes + nbytes
        if arrived > self.granted_units or arrived_bytes - last_size > self.granted_bytes:
            self._check_overdraft(arrived, arrived_bytes, last_size)
        self.arrived, self.arrived_bytes = arrived, arrived_bytes

    def _check_overdraft(self, arrived: int, arrived_bytes: int, last_size: int) -> None:
        """More than was granted: what came behind HELLO was sent before the sender knew its credit."""
        if arrived > max(self.granted_units + self.grace_units, EARLY_UNITS) or (
            arrived_bytes - last_size > max(self.granted_bytes + self.grace_bytes, EARLY_BYTES)
        ):
            raise ProtocolViolation(
                f"{self.peer} sent {arrived} units and {arrived_bytes} bytes, beyond its credit of "
                f"{self.granted_units} and {self.granted_bytes}"
            )

    def add_plain(self, payloads: list[bytes]) -> None:
        """Messages have arrived over a plain framing, which knows no credit."""
        self.arrived += len(payloads)
        self.arrived_bytes += sum(map(len, payloads))

    def add_piece(self, total: int, body: bytes) -> None:
        """A piece of a message of ``total`` bytes has arrived; others follow."""
        self.add_units(1, len(body), len(body))
        if self.assembly is None:
            self.assembly = Assembly(total, self.limits.message)
        self.assembly.put(body)

    def count_messages(self, count: int, nbytes: int) -> None:
        """Messages were accepted, for the statistics."""
        self.messages_received += count
        self.bytes_received += nbytes

    def restore(self, arrived: int, arrived_bytes: int, taken: int) -> None:
        """Go on where an earlier life of this end has stopped.

        It granted a window beyond what had arrived, and of that a window may not have been on disk yet.
        """
        self.arrived = arrived
        self.arrived_bytes = self.processed_bytes = arrived_bytes
        self.grace_bytes = 2 * self.limits.mailbox_bytes + self.limits.message
        self.grace_units = 2 * self.limits.mailbox_messages
        assert self.inbox is not None
        self.inbox.known_taken = taken

    # -- granting --------------------------------------------------------------------------------------

    def grant_endless(self) -> None:
        """The peer needs no credit."""
        self._grant(ENDLESS, ENDLESS)

    def grant(self, waiting: int, waiting_bytes: int, window_units: int, window_bytes: int) -> None:
        """Raise the credit to a window beyond what has arrived and does not wait."""
        assembly = self.assembly
        pieces, nbytes = (0, 0) if assembly is None else (assembly.pieces, assembly.arrived)
        units, size = self.processed + pieces, self.processed_bytes + nbytes
        self._grant(
            max(self.granted_bytes, size - waiting_bytes + window_bytes),
            max(self.granted_units, units - waiting + window_units),
        )

    def _grant(self, nbytes: int, units: int) -> None:
        self.granted_bytes, self.granted_units = nbytes, units
        self.bytes_regained = nbytes - 0.75 * self.limits.mailbox_bytes
        self.units_regained = units - 0.75 * self.limits.mailbox_messages

    # -- acknowledging ---------------------------------------------------------------------------------

    def on_taken(self) -> None:
        if self.inbox is None:
            self.request_ack(ACK_DUE_SOON)
        else:
            self.inbox.on_taken(self.given + self.base, self.cut)  # The peer is told when it is on disk.

    def request_ack(self, urgency: int) -> None:
        """There is something to acknowledge; it is urgent when it would open a good part of the window again.

        Not sooner: a sender that gets its credit in small portions would send small portions. Over a plain framing
        there may be room to read again.
        """
        if self.paused_links is not None:
            self.paused_links.read_again()
            return
        route = self.route
        if route.ack_due == ACK_DUE_NOW:
            return
        if (
            self.arrived - self.waiting >= self.units_regained
            or self.arrived_bytes - self.waiting_bytes >= self.bytes_regained
            or (self.ack_each and (self.inbox is None or self.ack_each_until > self.reported_taken))
        ):
            urgency = ACK_DUE_NOW
        if urgency > route.ack_due:
            route.request_ack(urgency)

    def ack_goes_with_write(self, now: float) -> bool:
        """Something is written now: does the acknowledgement that is due go with it?"""
        if self.route.ack_due < ACK_DUE_NOW and now < self._ride_at and self.arrived_bytes < self._ride_from:
            return False
        self._ride_at = now + ACK_SPACING
        self._ride_from = self.arrived_bytes + ACK_BYTES
        return True

    def marks(self) -> tuple[int, int]:
        """What an ACK says has been processed and taken. The caller must write it: it counts as acknowledged."""
        if self.inbox is not None:
            taken = self.inbox.known_taken
        else:
            taken = self.taken
            if self.ack_each and taken >= self.ack_each_until:
                self.ack_each = False
        self.reported_taken = taken
        self.route.ack_written()
        return self.processed, taken

    def acknowledge_each(self) -> None:
        """The peer waits for receipts: acknowledge now, and each message up to here as it is taken.

        Settle the mailbox's fast queue before: it takes without reporting.
        """
        self.ack_each_until = self.arrived
        self.ack_each = True
        self.request_ack(ACK_DUE_NOW)
