"""One conversation with one peer: it outlives the connections that carry it.

How to think about it. Each direction is a sequence of *units*, numbered from 1 and never
renumbered. A unit is a message, or one piece of a message too large for a frame, or one piece of an
ask or an answer. Numbers are counted, never sent: the n-th unit on the wire is unit n, on both
sides. Three marks move along the sequence, each never backwards:

    taken  <=  acked  <=  sent            (sending; what the peer said, what it said, what we wrote)
    taken  <=  processed  <=  arrived     (receiving; by the application, by us, from the wire)

*Arrived* is where a resume goes on: it may be ahead of what is processed, because decoding (and, with
a store, the disk) takes time. What is sent and not acked is kept, in order, in ``unacked``; a resume
moves what the peer has not got back to the front of ``queue``. Nothing is ever sent again without one.

Credit is two cumulative limits per direction (bytes, units). A unit may start while the sum of the
units before it is below the limit, so one unit may overshoot it and no message is too large to start.
What has arrived, less what waits in the mailbox, plus the window: so a mailbox that is emptied grants
more, a full one stops granting, and pieces of a message that is not whole never wait for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from linkbox.core.mailbox import ENDLESS, Box, MailboxState, Source
from linkbox.core.sending import EARLY_BYTES, EARLY_UNITS, Sending
from linkbox.core.stream import Assembly, Pile
from linkbox.core.units import Delivery
from linkbox.errors import ProtocolViolation
from linkbox.events import Peer
from linkbox.limits import Limits

NEVER = float("inf")
ACK_SPACING = 0.001
"""Seconds from one acknowledgement that rides on a write to the next: each costs as much as a message."""
ACK_BYTES = 64 * 1024
"""Bytes after which the next one rides all the same: they are kept at the peer until then."""


class Session(Sending):
    """Both directions of one conversation. Knows no socket, no clock and no frame layout."""

    __slots__ = (
        "ack_owed",
        "arrived",
        "arrived_bytes",
        "began_at",
        "born",
        "box",
        "bytes_received",
        "bytes_regained",
        "connect_by",
        "drops",
        "due_at",
        "eager_until",
        "epoch",
        "error",
        "established",
        "failures",
        "first_failure",
        "grace_bytes",
        "grace_messages",
        "granted_bytes",
        "granted_messages",
        "hub",
        "id",
        "incarnation",
        "is_up",
        "last_failure",
        "limits",
        "link",
        "mailbox",
        "messages_received",
        "messages_regained",
        "peer",
        "processed_bytes",
        "progress",
        "raw",
        "receipts",
        "record",
        "refusals",
        "rejections",
        "reported_taken",
        "resumes",
        "rides_at",
        "rides_from",
        "source",
        "successor",
        "timer_at",
        "untold",
    )

    def __init__(
        self, id: str, peer: Peer, mailbox: MailboxState, limits: Limits, receipts: type[Delivery]
    ) -> None:
        self.id = id
        self.peer = peer
        self.mailbox = mailbox
        self.limits = limits
        self.receipts = receipts
        self.link: Any = None
        """The connection that carries it now, or None."""
        self.epoch = 0
        self.born = 1
        """The epoch in which the server began it."""
        self.incarnation = ""
        self.failures = 0
        self.last_failure: Exception | None = None
        """Connections in a row that came to nothing."""
        self.progress = 0
        """What it had achieved when its last connection broke."""
        self.began_at = 0.0
        self.connect_by = NEVER
        self.established = False
        """Was ever welcomed."""
        self.resumes = True
        """May it be carried on by another connection?"""
        self.is_up = False
        """Has a link, and callbacks were told so."""
        self.due_at = self.timer_at = NEVER
        """When the hub wants to look at it again, and when it will be called for that."""
        self.box = Box()
        self.successor: Session | None = None
        """The session that took over what this one could not send, if any."""
        self.error: Exception | None = None
        """Set when it is over for good; `EndOfData` for an orderly end."""
        self.first_failure: Exception | None = None
        """Why the first of its messages that failed did."""
        self.record: Any = None
        """What the store knows of it, or None (see record.py)."""
        self._begin_sending()
        self._begin_receiving()

    def _begin_receiving(self) -> None:
        self.source = Source(self.peer, self._on_taken)
        self.arrived = 0
        self.arrived_bytes = self.processed_bytes = 0
        self.granted_bytes = self.granted_messages = 0
        self.messages_regained = 0.0
        self.bytes_regained = 0.0
        """When so much has arrived and been taken, the peer gets back a quarter of its window."""
        self.grace_bytes = self.grace_messages = 0
        """How much more an earlier life of this end may have granted, that was not written down."""
        self.assembly: Assembly | None = None
        """The message that arrives in pieces now."""
        self.raw = Pile()
        """Over Raw: an ask, or an answer, that is whole when its stream ends."""
        self.messages_received = self.bytes_received = 0
        self.peer_end: int | None = None
        self.refusals: list[bytes] = []
        """The last thousand REJECT frames, to be said again after a drop: they may not have got there."""
        self.rejections = 0
        self.drops: list[tuple[int, int]] = []
        self.untold: list[tuple[int, int]] = []
        """Ranges of numbers that our full mailbox dropped after they were acknowledged; and those of
        them that the peer has not been told."""
        self.eager_until = 0
        self.reported_taken = 0
        self.ack_owed = 0
        """0: nothing new to tell. 1: tell with a write, or soon. 2: tell now."""
        self.rides_at = 0.0
        self.rides_from = 0
        """When, or after how many bytes, an acknowledgement rides on a write again."""
        self.hub: Any = None
        """Is told when an acknowledgement is owed, and when a delivery fails here."""

    def latest(self) -> Session:
        """The session that carries on, after any number of take-overs; often this one."""
        session = self
        while session.successor is not None:
            session = session.successor
        return session

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        return self.due_at if self.error is None else NEVER

    def handle_timer(self, now: float) -> None:
        """The hub wanted to look at it."""
        if now >= self.due_at:
            self.due_at = NEVER
            self.hub.on_session_due(self, now)

    # -- the channel's names for it (an adapter) ------------------------------------------------------

    @property
    def changed(self) -> Box:
        return self.box

    @property
    def is_ending(self) -> bool:
        return self.ending

    def was_connected(self) -> bool:
        # What a store has kept of an earlier life does not count.
        return self.established if self.record is None else self.is_up

    def send(self, payload: bytes) -> Delivery:
        receipt: Delivery = self.hub.send(self, payload)
        return receipt

    def send_later(self, payload: bytes) -> Delivery:
        return self.queue_one(payload)

    def send_many(self, payloads: list[bytes]) -> int:
        return self.send_all(payloads)

    def flush(self) -> None:
        self.hub.flush_soon(self)

    def end(self) -> None:
        self.hub.end(self)

    def request_ack(self) -> None:
        self.hub.acknowledge_now(self)

    def in_flight(self) -> int:
        return self.held

    def is_delivered(self) -> bool:
        return self.end_acked

    def close(self, error: Exception | None) -> None:
        self.hub.close_session(self, error)

    # -- receiving ----------------------------------------------------------------------------------

    def arrival_mark(self) -> tuple[int, int, Assembly | None, int]:
        """Where receiving stands, for `back_to`."""
        assembly = self.assembly
        return self.arrived, self.arrived_bytes, assembly, 0 if assembly is None else assembly.arrived

    def back_to(self, mark: tuple[int, int, Assembly | None, int]) -> None:
        """Forget what was received since that mark."""
        self.arrived, self.arrived_bytes, self.assembly, size = mark
        if self.assembly is not None:
            self.assembly.cut(size)

    def on_units(self, count: int, nbytes: int, last_size: int) -> None:
        """So many units have arrived together. ``last_size`` of the bytes belong to the last of them."""
        arrived, arrived_bytes = self.arrived + count, self.arrived_bytes + nbytes
        if arrived > self.granted_messages or arrived_bytes - last_size > self.granted_bytes:
            self._check_overdraft(arrived, arrived_bytes, last_size)
        self.arrived, self.arrived_bytes = arrived, arrived_bytes

    def _check_overdraft(self, arrived: int, arrived_bytes: int, last_size: int) -> None:
        """More than was granted: what came behind HELLO was sent before the sender knew its credit."""
        if arrived > max(self.granted_messages + self.grace_messages, EARLY_UNITS) or (
            arrived_bytes - last_size > max(self.granted_bytes + self.grace_bytes, EARLY_BYTES)
        ):
            raise ProtocolViolation(
                f"{self.peer} sent {arrived} units and {arrived_bytes} bytes, beyond its credit of "
                f"{self.granted_messages} and {self.granted_bytes}"
            )

    def credit(self) -> tuple[int, int]:
        """The limits (bytes, units) to grant now; remembered as granted."""
        limits, source, mailbox = self.limits, self.source, self.mailbox
        if self.endless_credit:
            return self._grant(ENDLESS, ENDLESS)
        if self.hub.pattern.asks and not self.has_room():
            return self.granted_bytes, self.granted_messages  # Who does not take answers asks no more.
        if mailbox.overflow != "block":
            window, waiting, waiting_bytes = max(limits.mailbox_bytes, EARLY_BYTES), 0, 0
        elif mailbox.nbytes < max(limits.mailbox_total, mailbox.wanted) or not source.waiting:
            window = max(limits.mailbox_bytes, mailbox.wanted)
            waiting, waiting_bytes = source.waiting, source.waiting_bytes
        else:  # All mailboxes together are full: no more for now.
            return self.granted_bytes, self.granted_messages
        if self.hub.pending_events >= limits.mailbox_messages:
            return self.granted_bytes, self.granted_messages  # A callback blocks: its events count too.
        messages = max(limits.mailbox_messages, min(mailbox.wanted, window))
        arrived, arrived_bytes = self._digested()
        return self._grant(
            max(self.granted_bytes, arrived_bytes - waiting_bytes + window),
            max(self.granted_messages, arrived - waiting + messages),
        )

    def _grant(self, nbytes: int, messages: int) -> tuple[int, int]:
        self.granted_bytes, self.granted_messages = nbytes, messages
        self.bytes_regained = nbytes - 0.75 * self.limits.mailbox_bytes
        self.messages_regained = messages - 0.75 * self.limits.mailbox_messages
        return nbytes, messages

    def _digested(self) -> tuple[int, int]:
        """What has arrived (units, bytes), less what is whole and waits to be decoded."""
        assembly = self.assembly
        pieces, nbytes = (0, 0) if assembly is None else (assembly.pieces, assembly.arrived)
        return self.source.processed + pieces, self.processed_bytes + nbytes

    def marks(self) -> tuple[int, int, int, int]:
        """What an ACK says. The caller must write it: it counts as told."""
        source = self.source
        is_stored = self.record is not None
        taken = source.known_taken if is_stored else source.taken
        self.ack_owed = 0
        self.hub.on_ack_told(self)
        self.reported_taken = taken
        if source.eager and taken >= self.eager_until and not is_stored:
            source.eager = False
        return (source.processed, taken, *self.credit())

    def tells_acks(self, now: float) -> bool:
        """Something is written now: does an acknowledgement that is owed go with it?"""
        if self.ack_owed < 2 and now < self.rides_at and self.arrived_bytes < self.rides_from:
            return False
        self.rides_at = now + ACK_SPACING
        self.rides_from = self.arrived_bytes + ACK_BYTES
        return True

    def on_ack_now(self) -> None:
        """The peer waits for receipts: acknowledge now, and each step up to here at once."""
        self.eager_until = self.arrived
        self.mailbox.settle_hand()
        self.source.eager = True
        self.owe_ack(2)

    def owe_ack(self, urgency: int) -> None:
        """There is something to acknowledge; urgent when it would open a good part of the window again.

        Not sooner: a sender that gets its credit in crumbs would send crumbs. Over a plain framing
        nothing is acknowledged; but a link that was not read because the mailbox was full may be read.
        """
        if self.is_plain:
            self.hub.read_again()
            return
        if self.ack_owed < 2:
            source = self.source
            # Would the peer get back a quarter of its window, or does it wait to hear of each message taken?
            if (
                self.arrived - source.waiting >= self.messages_regained
                or self.arrived_bytes - source.waiting_bytes >= self.bytes_regained
                or (source.eager and self._is_eager())
            ):
                urgency = 2
            if urgency > self.ack_owed:
                self.ack_owed = urgency
                self.hub.on_ack_owed(self)

    def _is_eager(self) -> bool:
        return self.record is None or self.eager_until > self.reported_taken

    def keep_refusals(self, frames: Iterable[bytes]) -> None:
        """REJECT frames that may have to be said again."""
        self.refusals += frames
        del self.refusals[:-1000]

    def is_worth_a_line(self) -> bool:
        """One more message was rejected: does the log say so? The 1st, 2nd, 4th, 8th, …: a flood must not
        fill it, nor take the time of others with it."""
        self.rejections += 1
        return self.rejections & (self.rejections - 1) == 0

    def _on_taken(self) -> None:
        record = self.source.record
        if record is None:
            self.owe_ack(1)
        else:
            record.on_taken(self.source)  # The peer hears of it when the disk knows.
