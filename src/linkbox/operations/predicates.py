"""The conditions that operations wait for, as small objects that are evaluated under the lock."""

from __future__ import annotations

from linkbox.core.durable.entries import Spool
from linkbox.core.endpoint import (
    Channel,
    ClientAsks,
    EndpointCore,
    Mailbox,
    OutgoingMessage,
    SeparatorSearch,
    Source,
)
from linkbox.core.values import Value
from linkbox.core.wait_queue import NOTHING, Predicate
from linkbox.events import Stage


class HasMessage(Predicate):
    """There is a message to take, or none can arrive any more."""

    __slots__ = ("mailbox", "source")

    def __init__(self, mailbox: Mailbox, source: Source | None) -> None:
        self.mailbox: Mailbox = mailbox
        self.source: Source | None = source

    def holds(self) -> bool:
        return self.mailbox.is_ready(self.source)


class HasCount(Predicate):
    """There is as much as a call wants to take, or not enough can arrive any more."""

    __slots__ = ("count", "mailbox", "source")

    def __init__(self, mailbox: Mailbox, source: Source | None, count: int) -> None:
        self.mailbox: Mailbox = mailbox
        self.source: Source | None = source
        self.count: int = count

    def holds(self) -> bool:
        return self.mailbox.is_ready(self.source, self.count)


class HasSeparator(Predicate):
    """There is a separator to take bytes up to, or none can arrive any more, or there is no room for more."""

    __slots__ = ("mailbox", "most", "search", "source")

    def __init__(self, mailbox: Mailbox, source: Source | None, search: SeparatorSearch) -> None:
        self.mailbox: Mailbox = mailbox
        self.source: Source | None = source
        self.search: SeparatorSearch = search
        self.most: int = mailbox.count_limit()

    def holds(self) -> bool:
        mailbox, source = self.mailbox, self.source
        if self.search.is_done() or mailbox.is_full_for(source) or mailbox.available(source) >= self.most:
            return True
        return mailbox.end_reason is not None or (source is not None and source.end_reason is not None)


class HasRequest(Predicate):
    """There is a request to handle."""

    __slots__ = ("mailbox",)

    is_relayed = True

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox: Mailbox = mailbox

    def holds(self) -> bool:
        return self.mailbox.count > 0

    def claim(self) -> Value:
        return True if self.mailbox.count > 0 else NOTHING  # without a call of `holds`


class HasRoom(Predicate):
    """The send window has room, or nothing can be sent any more."""

    __slots__ = ("channel",)

    def __init__(self, channel: Channel) -> None:
        self.channel: Channel = channel

    def holds(self) -> bool:
        channel = self.channel
        return channel.has_room() or channel.error is not None or channel.is_ending


class IsDelivered(Predicate):
    """The peer has everything, or the conversation is closed."""

    __slots__ = ("channel", "with_end")

    def __init__(self, channel: Channel, with_end: bool) -> None:
        self.channel: Channel = channel
        self.with_end: bool = with_end
        """Must the END mark be acknowledged too?"""

    def holds(self) -> bool:
        channel = self.channel
        if channel.error is not None:
            return True
        return channel.is_delivered() if self.with_end else not channel.in_flight()


class ReceiptSettled(Predicate):
    """A message has reached a stage, or cannot on this channel, and may have moved to another one."""

    __slots__ = ("channel", "receipt", "stage")

    def __init__(self, receipt: OutgoingMessage, channel: Channel, stage: Stage) -> None:
        self.receipt: OutgoingMessage = receipt
        self.channel: Channel = channel
        self.stage: Stage = stage

    def holds(self) -> bool:
        receipt, channel = self.receipt, self.channel
        return (
            receipt.error is not None
            or receipt.channel is not channel
            or channel.error is not None
            or receipt.stage >= self.stage
            or receipt.stage is Stage.FAILED
        )


class HasSlot(Predicate):
    """Fewer requests wait for their responses than `Limits.asks`."""

    __slots__ = ("asks",)

    def __init__(self, asks: ClientAsks) -> None:
        self.asks: ClientAsks = asks

    def holds(self) -> bool:
        return self.asks.free_slots() > 0


class IsOnDisk(Predicate):
    """Messages are in the store, or could not be written to it."""

    __slots__ = ("entry",)

    def __init__(self, entry: Spool) -> None:
        self.entry: Spool = entry

    def holds(self) -> bool:
        return self.entry.is_settled


class IsIdle(Predicate):
    """Every conversation and every connection is closed."""

    __slots__ = ("core",)

    def __init__(self, core: EndpointCore) -> None:
        self.core: EndpointCore = core

    def holds(self) -> bool:
        return self.core.is_idle()
