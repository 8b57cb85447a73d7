"""A new life of an endpoint takes up what the last one left in its store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from linkbox.core.journal import Journal
from linkbox.core.mailbox import Batch, BytesMailbox, MailboxState, Source
from linkbox.core.record import Record, Row
from linkbox.errors import StoreError
from linkbox.events import Peer

if TYPE_CHECKING:
    from linkbox.core.client import ClientHub
    from linkbox.core.server import ServerHub


class Unread(NamedTuple):
    """A message of the inbox that was not taken."""

    key: int
    number: int
    received_at: float
    start: int
    """Bytes of it that were taken."""
    payload: bytes


class Left(NamedTuple):
    """What an earlier life has left."""

    life: int
    """Counts the lives, this one included."""
    incarnation: str
    knows_since: float
    """Seconds since the epoch: see `ServerHub.knows_since`."""
    rows: list[tuple[Row, int, int]]
    """The sessions, each with the number and the bytes of the messages in its spool."""
    unread: list[Unread]
    """In the order of their arrival."""


def restore(
    hub: ClientHub | ServerHub,
    left: Left,
    decode: Callable[[bytes], Any] | None,
    wake: Callable[[], None],
    now: float,
) -> Journal:
    """Give the hub its journal, its sessions, and what is unread in its mailbox.

    Raises `StoreError` for a message that the format cannot decode any more.
    """
    hub.now = now
    hub.incarnation = left.incarnation
    hub.knows_since = left.knows_since - hub.settings.wall
    next_key = max((row.key for row, _, _ in left.rows), default=0) + 1
    journal = hub.journal = Journal(hub, left.life, next_key, wake)
    sources: dict[int, tuple[Source, Source | None]] = {}
    for row, waiting, nbytes in left.rows:
        sources[row.key] = _restore_session(hub, journal, row, waiting, nbytes, now)
    _restore_mailbox(hub.mailbox, sources, left.unread, decode)
    for _, current in sources.values():
        if current is not None:
            current.processed = current.record.received - current.base
    return journal


def _restore_session(
    hub: ClientHub | ServerHub, journal: Journal, row: Row, waiting: int, nbytes: int, now: float
) -> tuple[Source, Source | None]:
    """Returns where unread messages go: those of an earlier conversation, and those of this one."""
    peer = Peer(row.name, row.address, row.id, row.connected_at, row.identity)
    record = Record(journal, row.key, peer, row.id)
    record.restore(row, waiting, nbytes)
    earlier = Source(peer, lambda: record.on_taken(earlier))
    earlier.record, earlier.eager = record, True
    if row.over:
        return earlier, None
    session = hub.new_session(row.id, peer)
    record.attach(session)
    journal.records.add(record)
    session.born, session.incarnation = row.born, row.incarnation
    session.epoch = journal.life << 20 if hub.is_client else row.epoch
    session.sent = session.acked = row.acked - row.base
    session.arrived = row.received - row.in_base
    session.arrived_bytes = session.processed_bytes = row.received_bytes
    # It granted a window beyond what had arrived; and of that a window may not have been on disk yet.
    limits = hub.limits
    session.grace_bytes = 2 * limits.mailbox_bytes + limits.message
    session.grace_messages = 2 * limits.mailbox_messages
    session.began_at = row.began and row.began - hub.settings.wall
    session.keep_refusals(row.refusals)
    session.source.known_taken = max(0, row.given - row.in_base)
    hub.restore(session, row, now)
    return earlier, session.source


def _restore_mailbox(
    mailbox: MailboxState,
    sources: dict[int, tuple[Source, Source | None]],
    unread: Iterable[Unread],
    decode: Callable[[bytes], Any] | None,
) -> None:
    def run_of(item: tuple[int, Unread]) -> tuple[int, int, bool]:
        """The same for messages that follow each other; one that was begun is the first of its run."""
        position, each = item
        _, current = sources[each.key]
        return each.key, each.number - position, current is not None and each.number > current.base

    for (key, _, is_current), run in groupby(enumerate(unread), run_of):
        messages = [each for _, each in run]
        earlier, current = sources[key]
        source = current if is_current and current is not None else earlier
        source.record.given = min(source.record.given, messages[0].number - 1)
        values = [_value(each, decode, mailbox) for each in messages]
        nbytes = sum(len(each.payload) - each.start for each in messages)
        last = messages[-1].number - source.base
        batch: Batch = mailbox.put(source, values, last, nbytes, messages[0].received_at)
        batch.redelivered = True


def _value(message: Unread, decode: Callable[[bytes], Any] | None, mailbox: MailboxState) -> Any:
    try:
        value = message.payload if decode is None else decode(message.payload)
    except Exception as error:
        raise StoreError(
            f"message {message.number} in the store cannot be decoded any more: {error}; "
            "was it made with another format?"
        ) from error
    begun = message.start and isinstance(mailbox, BytesMailbox)
    return memoryview(value)[message.start :] if begun else value
