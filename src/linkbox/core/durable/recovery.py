"""Restores an endpoint from its store after a restart: sessions, and unread messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.decoding import Decoding
from linkbox.core.durable.journal import Journal
from linkbox.core.durable.record import Record
from linkbox.core.durable.rows import Row
from linkbox.core.endpoint_core import ClientCore, ServerCore
from linkbox.core.mailbox import Mailbox
from linkbox.core.session import Session
from linkbox.core.source import Source
from linkbox.core.timers import NEVER
from linkbox.core.values import Value
from linkbox.errors import StoreError
from linkbox.events import Peer


class Unread(NamedTuple):
    """A received message that was not taken."""

    key: int
    number: int
    received_at: float
    start: int
    """Bytes of it that were taken already."""
    payload: bytes


class Left(NamedTuple):
    """The content of a store when it is opened."""

    life: int
    """The number of starts, including this one."""
    incarnation: str
    knows_since: float
    """Seconds since the epoch: see generation.py."""
    rows: list[tuple[Row, int, int]]
    """The sessions, each with the number and the bytes of the messages in its spool."""
    unread: list[Unread]
    """In the order of their arrival."""


class _Sources(NamedTuple):
    """The mailbox sources for the unread messages of one record."""

    record: Record
    earlier: Source
    """For messages of an earlier conversation."""
    session: Session | None
    """Holds the source for messages of this conversation; None: it is closed."""


def restore(
    core: ClientCore | ServerCore, left: Left, decoding: Decoding | None, wake: Callable[[], None], now: float
) -> Journal:
    """Give the core its journal and sessions, and put the unread messages into its mailbox.

    Raises `StoreError` for a message that the format cannot decode.
    """
    core.effects.now = now
    core.context.incarnation = left.incarnation
    core.context.knows_since = left.knows_since - core.context.settings.wall
    next_key = max((row.key for row, _, _ in left.rows), default=0) + 1
    journal = core.open_journal(left.life, next_key, wake)
    sources: dict[int, _Sources] = {}
    for row, waiting, nbytes in left.rows:
        sources[row.key] = _restore_session(core, journal, row, waiting, nbytes, now)
    _restore_mailbox(core.mailbox, sources, left.unread, decoding)
    for each in sources.values():
        if each.session is not None:
            each.session.receiving.processed = each.record.received()
    return journal


def _restore_session(
    core: ClientCore | ServerCore, journal: Journal, row: Row, waiting: int, nbytes: int, now: float
) -> _Sources:
    peer = Peer(row.name, row.address, row.id, row.connected_at, row.identity)
    record = Record(journal, journal.schedule, row.key, peer, row.id)
    record.restore(row, waiting, nbytes)
    earlier = Source(peer)
    earlier.inbox, earlier.ack_each = record.inbox, True
    if core.context.is_plain and not row.over:  # Its connection is gone, and it cannot be resumed.
        record.finish()
    if record.is_over:
        return _Sources(record, earlier, None)
    session = core.sessions.add(peer)
    session.moved_at = NEVER
    record.attach(session)
    journal.spooling.add(record)
    generation = session.generation
    generation.born, generation.incarnation = row.born, row.incarnation
    generation.epoch = journal.life << 20 if core.context.is_client else row.epoch
    generation.began_at = row.began and row.began - core.context.settings.wall
    session.sending.restore(row.acked - row.base)
    session.receiving.restore(row.received - row.in_base, row.received_bytes, max(0, row.given - row.in_base))
    session.rejections.keep(row.refusals)
    core.restore_session(session, row.ending, now)
    return _Sources(record, earlier, session)


def _restore_mailbox(
    mailbox: Mailbox, sources: dict[int, _Sources], unread: Iterable[Unread], decoding: Decoding | None
) -> None:
    def run_of(item: tuple[int, Unread]) -> tuple[int, int, bool]:
        """A key that is equal for consecutive messages; one taken in part begins a new run."""
        position, each = item
        found = sources[each.key]
        is_current = found.session is not None and each.number > found.record.inbox.base
        return each.key, each.number - position, is_current

    for (key, _, is_current), run in groupby(enumerate(unread), run_of):
        messages = [each for _, each in run]
        record, earlier, session = sources[key]
        source: Source = session.receiving if is_current and session is not None else earlier
        record.inbox.given = min(record.inbox.given, messages[0].number - 1)
        values = [_value(each, decoding, mailbox) for each in messages]
        if decoding is None or isinstance(mailbox, BytesMailbox):
            nbytes = sum(len(each.payload) - each.start for each in messages)
        else:
            nbytes = decoding.memory_of([each.payload for each in messages])
        # Messages of an earlier conversation keep their numbers on disk.
        last = messages[-1].number - source.base
        batch = mailbox.put(source, values, last, nbytes, messages[0].received_at)
        batch.redelivered = True


def _value(message: Unread, decoding: Decoding | None, mailbox: Mailbox) -> Value:
    try:
        value = message.payload if decoding is None else decoding.decode(message.payload)
    except Exception as error:
        raise StoreError(
            f"message {message.number} in the store cannot be decoded any more: {error}; "
            "was it made with another format?"
        ) from error
    is_begun = message.start and isinstance(mailbox, BytesMailbox)
    return memoryview(value)[message.start :] if is_begun else value
