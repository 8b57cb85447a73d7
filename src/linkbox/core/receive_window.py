"""The receiving half of a session: what has arrived, the credit granted, and when to acknowledge.

Marks move along the sequence of units (see send_window.py), each never backwards::

    taken  <=  processed  <=  arrived        (by the application, by this end, from the wire)

A resumed session continues after *arrived*. This mark may be ahead of *processed*, because decoding (and,
with a store, the disk) takes time.

Credit is two cumulative limits (bytes, units). A unit may start while the sum of the units before it is below
the limit, so one unit may exceed it and no message is too large to start. The limit is what was processed,
minus what is waiting in the mailbox, plus the window. So taking messages grants credit, and a full mailbox
grants none; what has arrived and is not processed grants none either. The pieces of an incomplete message
count as processed and taken, or the message could never be completed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from linkbox.core.context import Context
from linkbox.core.effects import ACK_DUE_NOW, ACK_DUE_SOON, Route
from linkbox.core.send_window import EARLY_BYTES, EARLY_UNITS
from linkbox.core.source import MESSAGE_COST, Source
from linkbox.core.values import Value
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire.decoder import Assembly
from linkbox.errors import ProtocolViolation
from linkbox.events import EventKind, Peer

DATA: Final = EventKind.DATA
ACK_BYTES: Final = 64 * 1024
"""After this many bytes, an acknowledgement is added to a write that is made earlier than
`Context.ack_spacing` allows: the peer keeps its messages until they are acknowledged."""


class ReceiveWindow(Source):
    """One peer's part of the mailbox, with the credit granted to it and the acknowledgements due to it."""

    __slots__ = (
        "ack_each_until",
        "arrived",
        "arrived_bytes",
        "assembly",
        "bytes_received",
        "bytes_regained",
        "context",
        "grace_bytes",
        "grace_units",
        "granted_bytes",
        "granted_units",
        "messages_received",
        "processed_bytes",
        "reported_taken",
        "ride_at",
        "ride_from",
        "route",
        "units_regained",
    )

    def __init__(self, peer: Peer, route: Route, context: Context) -> None:
        super().__init__(peer)
        self.route: Route = route
        self.context: Context = context
        self.arrived: int = 0
        self.arrived_bytes: int = 0
        self.processed_bytes: int = 0
        self.granted_bytes: int = 0
        self.granted_units: int = 0
        self.units_regained: float = 0.0
        self.bytes_regained: float = 0.0
        """When this much has arrived and been taken, a quarter of the window can be granted again."""
        self.grace_bytes: int = 0
        self.grace_units: int = 0
        """Credit that this endpoint may have granted before a restart without having stored it."""
        self.assembly: Assembly | None = None
        """The message that is arriving in pieces, if any."""
        self.messages_received: int = 0
        self.bytes_received: int = 0
        self.ack_each_until: int = 0
        self.reported_taken: int = 0
        self.ride_at: float = 0.0
        self.ride_from: int = 0
        """From this time on, or after this many bytes, an acknowledgement is added to a write again."""

    # -- arriving --------------------------------------------------------------------------------------

    def add_units(self, count: int, nbytes: int, last_size: int) -> None:
        """Count units that arrived together. ``last_size`` of the bytes belong to the last one."""
        arrived, arrived_bytes = self.arrived + count, self.arrived_bytes + nbytes
        if arrived > self.granted_units or arrived_bytes - last_size > self.granted_bytes:
            self._check_overdraft(arrived, arrived_bytes, last_size)
        self.arrived, self.arrived_bytes = arrived, arrived_bytes

    def _check_overdraft(self, arrived: int, arrived_bytes: int, last_size: int) -> None:
        """Beyond the credit, allow only what may be sent with HELLO, before the credit is known."""
        if arrived > max(self.granted_units + self.grace_units, EARLY_UNITS) or (
            arrived_bytes - last_size > max(self.granted_bytes + self.grace_bytes, EARLY_BYTES)
        ):
            raise ProtocolViolation(
                f"{self.peer} sent {arrived} units and {arrived_bytes} bytes, beyond its credit of "
                f"{self.granted_units} and {self.granted_bytes}"
            )

    def add_plain(self, payloads: list[bytes]) -> None:
        """Count messages that arrived with a plain framing, which has no credit."""
        self.arrived += len(payloads)
        self.arrived_bytes += sum(map(len, payloads))

    def add_piece(self, total: int, body: bytes) -> None:
        """Add a piece, not the last one, of a message of ``total`` bytes."""
        self.add_units(1, len(body), len(body))
        if self.assembly is None:
            self.assembly = Assembly(total, self.context.limits.message)
        self.assembly.put(body)

    def count_messages(self, count: int, nbytes: int) -> None:
        """Count accepted messages, for the statistics."""
        self.messages_received += count
        self.bytes_received += nbytes

    # -- storing ---------------------------------------------------------------------------------------

    def store(self, values: Sequence[Value], last: int, nbytes: int, at: float, memory: int = -1) -> None:
        """Put messages into the mailbox; with that, everything up to ``last`` is processed.

        There may be none, if all of it was rejected, or complete no message. ``memory`` is what the values
        take, if that is not ``nbytes``.
        """
        context = self.context
        mailbox, effects = context.mailbox, context.effects
        if values:
            count = len(values)
            self.messages_received += count
            self.bytes_received += nbytes
            mailbox.put(self, values, last, nbytes if memory < 0 else memory, at)
            if mailbox.changed.waiters:
                effects.to_wake.append(mailbox.changed)
            if DATA in effects.events.listening and not (
                context.is_plain and effects.events.takes_over(self.peer, count)
            ):
                effects.emit(DATA, self.peer, count=count)
        else:
            self.processed = last
        if context.paused_links is not None:
            if mailbox.is_full(self):
                context.paused_links.pause(self, self.route)
                context.full_mailbox.watch(self)
            elif context.paused_links.paused:
                context.paused_links.read_again()
        elif not self.route.ack_due or self.ack_each:
            self.request_ack(ACK_DUE_SOON)

    def restore(self, arrived: int, arrived_bytes: int, taken: int) -> None:
        """Continue after a restart of this endpoint.

        Before it, a window was granted beyond what had arrived; and up to a window of what had arrived may
        not have been on disk.
        """
        self.arrived = arrived
        self.arrived_bytes = self.processed_bytes = arrived_bytes
        self.grace_bytes = 2 * self.context.limits.mailbox_bytes + self.context.limits.message
        self.grace_units = 2 * self.context.limits.mailbox_messages
        assert self.inbox is not None
        self.inbox.known_taken = taken

    def undecoded(self) -> int:
        return self.arrived_bytes - self.processed_bytes

    # -- granting --------------------------------------------------------------------------------------

    def grant_endless(self) -> None:
        """Grant unlimited credit. Acknowledge as often as if it were limited: the peer keeps what it sent."""
        self.granted_bytes = self.granted_units = ENDLESS
        self.bytes_regained = self.arrived_bytes + self.context.limits.mailbox_bytes / 4
        self.units_regained = self.arrived + self.context.limits.asks / 4

    def grant(self, waiting: int, cost: int, window_units: int, window_bytes: int) -> None:
        """Raise the credit to one window beyond what was processed and is not waiting (``cost`` in bytes)."""
        assembly = self.assembly
        pieces, nbytes = (0, 0) if assembly is None else (assembly.pieces, assembly.arrived)
        units, size = self.processed + pieces, self.processed_bytes + nbytes
        self.granted_bytes = max(self.granted_bytes, size - cost + window_bytes)
        self.granted_units = max(self.granted_units, units - waiting + window_units)
        self.bytes_regained = self.granted_bytes - 0.75 * window_bytes
        self.units_regained = self.granted_units - 0.75 * window_units

    # -- acknowledging ---------------------------------------------------------------------------------

    def request_ack(self, urgency: int) -> None:
        """Request an acknowledgement. It is sent at once if it grants a large part of the window.

        Small grants wait: they would make the sender send in small portions. With a plain framing, check
        instead whether there is room to read again.
        """
        effects = self.route.effects
        if effects.is_blocked:
            effects.room_again()
        if self.context.paused_links is not None:
            self.context.paused_links.read_again()
            return
        route = self.route
        if route.ack_due == ACK_DUE_NOW:
            return
        if (
            self.arrived - self.waiting >= self.units_regained
            or self.arrived_bytes - self.waiting_bytes - MESSAGE_COST * self.waiting >= self.bytes_regained
            or (self.ack_each and (self.inbox is None or self.ack_each_until > self.reported_taken))
        ):
            urgency = ACK_DUE_NOW
        if urgency > route.ack_due:
            route.request_ack(urgency)

    def marks(self) -> tuple[int, int]:
        """The marks (processed, taken) for an ACK. The caller must write it: they count as acknowledged."""
        if self.inbox is not None:
            taken = self.inbox.known_taken
        else:
            taken = self.taken
            if self.ack_each and taken >= self.ack_each_until:
                self.ack_each: bool = False
        self.reported_taken = taken
        self.ride_at = self.context.effects.now + self.context.ack_spacing
        self.ride_from = self.arrived_bytes + ACK_BYTES
        self.route.ack_written()
        return self.processed, taken

    def acknowledge_each(self) -> None:
        """The peer is waiting for receipts: acknowledge now, and each message up to here as it is taken.

        Settle the mailbox's fast queue first: messages taken from it are not reported one by one.
        """
        self.ack_each_until = self.arrived
        self.ack_each = True
        self.request_ack(ACK_DUE_NOW)
