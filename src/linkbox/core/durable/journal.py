"""The journal: what must be written to disk, in order, and what to do once it is there. It does no I/O.

The core never waits for a disk. Something that must be on disk before it takes effect becomes an *entry*
(entries.py); when marks move, their record is *touched*. The front end's writer, which may wait, takes all of
it as one `Batch`, commits it in one transaction and calls `committed`. Then each entry is done, in order: its
message is put into the send queue or the mailbox. If the write fails, the writer calls `failed`: messages to
send are refused with an error, everything else is kept and tried again. While one batch is being written, the
next one gathers: many messages share a commit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from linkbox.core.channel import OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.durable.entries import Entry, Fetch, GiveUp, Inflow, JournalOwner, Online, Restart, Spool
from linkbox.core.durable.record import JournalHooks, Record
from linkbox.core.durable.rows import Row
from linkbox.core.durable.write_schedule import MARKS_WAIT, WriteSchedule
from linkbox.core.session import Session
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames
from linkbox.errors import StoreError
from linkbox.events import EventKind

RETRY = 1.0
"""Seconds after a failed write until the next attempt."""
SMALL = 64 * 1024
"""Bytes of received messages to write even if the last attempt found no room on the disk."""
FETCH_BYTES = 4 * 1024 * 1024
FETCH_COUNT = 10_000
"""Most messages read from the spool at a time."""


BEHIND = 2_000
"""Received messages that wait for the disk from which on a server accepts no connections."""


class Batch:
    """The entries and marks to write in one transaction."""

    def __init__(self, entries: list[Entry], rows: list[tuple[Record, Row]], knows_since: float) -> None:
        self.entries = entries
        self.rows = rows
        self.knows_since = knows_since
        """Seconds since the epoch; see generation.py."""
        self.is_all = True
        """Does the batch contain everything that was waiting?"""


def _step_back(row: Row, received: int, nbytes: int) -> None:
    """Reduce the received marks of a row to the messages that are in the batch."""
    row.received, row.received_bytes = received, nbytes
    last = received - row.in_base
    row.refusals = tuple(each for each in row.refusals if frames.decode_reject(each[4:])[0] <= last)


class Journal(JournalHooks):
    """The entries and marks that an endpoint must write to disk."""

    def __init__(
        self, context: Context, owner: JournalOwner, life: int, next_key: int, wake: Callable[[], None]
    ) -> None:
        self._context = context
        self._owner = owner
        self.life = life
        """See generation.py."""
        self._next_key = next_key
        self.schedule: WriteSchedule = WriteSchedule(context.effects, wake)
        self.entries: list[Entry] = []
        self.spooling: set[Record] = set()
        """Records that may have messages in the spool."""
        self.is_shared = False
        """Do several peers share the quota?"""
        self.error: StoreError | None = None
        """Why the last batch could not be written, or None."""
        self.arriving: int = 0
        """The number of received messages that are not on disk yet."""
        self._is_sparing = False
        """Leave received messages out of the next batch? Writing only marks may free room on the disk."""
        self._most = ENDLESS
        """Most bytes of received messages in a batch; reduced after a write that found no room."""
        self.in_flight: Batch | None = None

    @property
    def due(self) -> float:
        """When the next batch should be taken."""
        return self.schedule.due

    # -- for the core ----------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Add a record for a new session."""
        record = Record(self, self.schedule, self._next_key, session.peer, session.peer.id)
        self._next_key += 1
        record.attach(session)

    def spool(
        self, record: Record, payloads: list[bytes], messages: list[OutgoingMessage] | None, held: int
    ) -> Spool:
        """Spool messages to send: accepted once the entry is settled. `StoreError` beyond the quota.

        ``held`` is the result of `spooled`.
        """
        self._check_quota(record, sum(map(len, payloads)), held)
        self.spooling.add(record)
        entry = Spool(record, record.spool.promise(payloads), messages)
        for row, message in zip(entry.rows, messages or (), strict=False):
            message.stored_number = row[0]
            record.spool.absent[row[0]] = message
        self.add(entry)
        return entry

    def _check_quota(self, record: Record, wanted: int, held: int) -> None:
        """Raise `StoreError` unless the store has room for that many bytes more, and this peer may use it.

        A peer that is away takes nothing, so its messages pile up. It may have as much as is then left for
        all others: alone one half of the quota, like each of two one third.
        """
        quota, own = self._context.limits.store_bytes, record.spool.held_bytes()
        if held + wanted > quota:
            raise StoreError(
                f"the store holds {held} bytes of messages that are not delivered yet; with {wanted} more it "
                f"would pass its quota of {quota}: wait until some are, or raise Limits(store_bytes=...)"
            )
        if self.is_shared and own + wanted > quota - held - wanted:
            raise StoreError(
                f"the store holds {own} bytes of messages that {record.owner().peer} has not taken yet; with "
                f"{wanted} more it would have more of the quota of {quota} than is left for all other peers: "
                "wait until it takes some, disconnect() it, or raise Limits(store_bytes=...)"
            )

    def spooled(self) -> int:
        """Bytes of messages that are accepted and not acknowledged."""
        return sum(each.spool.held_bytes() for each in self.spooling)

    def add(self, entry: Entry) -> None:
        """Add an entry, to be written soon."""
        self.entries.append(entry)
        self.schedule.write_by(0.0)

    def is_behind(self) -> bool:
        """Do more than `BEHIND` received messages wait? Then clients had better wait in the kernel's queue.

        Each new session may bring a window of messages, and they are all taken before the next ones: the more
        arrive during one commit, the longer the next one takes. Not while the disk is full.
        """
        return self.arriving > BEHIND and not self.schedule.is_failing

    def go_online(self, record: Record, until: int) -> None:
        self.add(Online(record, until))

    def fetch_if_wanted(self, record: Record) -> None:
        if record.wants_more():
            self.add(Fetch(record, record.spool.loaded))

    def restart(
        self,
        record: Record,
        old: Session,
        new: Session,
        doubt: list[OutgoingMessage],
        unsent: list[OutgoingMessage],
    ) -> None:
        """The peer has forgotten the old session: let the new one take over the unsent messages."""
        spool = record.spool
        most = max(old.sending.sent, old.sending.most_sent) + spool.base
        until = spool.stub_most if spool.is_stub else most
        old.record, record.id = None, new.peer.id
        spool.waiting += len(doubt) + len(unsent)
        known = {each.stored_number: each for each in doubt}
        for each in unsent:
            each.channel, each.payload = new, None
            spool.absent[each.stored_number] = each
        spool.is_stub = True  # Messages that are not in doubt are loaded again, for the new session.
        record.inbox.restart()
        self.add(Restart(record, old, until, known))
        record.attach(new)

    def give_up(self, record: Record, error: Exception, known: list[OutgoingMessage]) -> None:
        """A session of a server is closed with messages in its spool: they are in doubt.

        ``known`` contains their receipts, as far as the application still has them.
        """
        record.finish()
        self.add(GiveUp(record, error, {each.stored_number: each for each in known}))

    # -- for the writer --------------------------------------------------------------------------------

    def take(self) -> Batch:
        """Take everything to write now. Call `committed` or `failed` afterwards."""
        touched = self.schedule.touched
        touched.update((entry.record, None) for entry in self.entries)
        entries, rest = self.entries, self._spared()
        if rest:
            spared = set(rest)
            entries = [each for each in entries if each not in spared]
        rows = [(record, record.row()) for record in touched if isinstance(record, Record)]
        before = {each.record: each.before for each in reversed(rest)}
        for record, row in rows:
            if record in before:
                received, nbytes = before[record]
                _step_back(row, received, nbytes)
        batch = Batch(entries, rows, self._context.wall_time(self._context.knows_since))
        batch.is_all = not rest
        self.entries = [*rest]
        self.schedule.taken()
        self.in_flight = batch
        return batch

    def _spared(self) -> list[Inflow]:
        """Received messages that are left out of this batch."""
        is_sparing, self._is_sparing = self._is_sparing, False
        most = 0 if is_sparing else self._most
        if most == ENDLESS or any(isinstance(each, Restart) for each in self.entries):
            return []
        inflows = [each for each in self.entries if isinstance(each, Inflow)]
        count = 0 if is_sparing else 1
        sizes = accumulate(each.nbytes for each in inflows)
        return inflows[max(count, sum(size <= most for size in sizes)) :]

    def committed(self, batch: Batch, now: float) -> None:
        """The batch is on disk. The driver must settle now."""
        effects = self._context.effects
        effects.now = now
        self.in_flight = None
        if self.error is not None and batch.is_all:
            self.error, self._most = None, ENDLESS
            self.schedule.is_failing = False
            effects.log("info", "the store works again", "store_works")
        for record, row in batch.rows:
            record.on_written(row)
            if row.over or not record.spool.held_bytes():
                self.spooling.discard(record)
        for entry in batch.entries:
            try:
                entry.done(self._owner)
            except BaseException as failure:  # the entries of others are on disk, too
                name = f"a {type(entry).__name__} entry of the store"
                effects.failures.append((entry.arrival if isinstance(entry, Inflow) else name, failure))
                entry.failed(self._owner, failure)
        self.arriving = sum(len(each.values) for each in self.entries if isinstance(each, Inflow))
        wanted = {entry.record for entry in self.entries}
        for record, row in batch.rows:
            self.fetch_if_wanted(record)
            if row.over and record not in wanted:
                record.release()
        if self.error is not None:
            has_more = self._most > SMALL or any(isinstance(each, Inflow) for each in batch.entries)
            self.schedule.retry_at(now if has_more else now + RETRY)
        elif self.entries or self.schedule.touched:
            self.schedule.write_by(0.0 if self.entries else now + MARKS_WAIT)

    def failed(self, batch: Batch, error: StoreError, now: float) -> None:
        """The batch could not be written, and no part of it took effect. The driver must settle now."""
        effects = self._context.effects
        effects.now = now
        self.in_flight = None
        if self.error is None:
            effects.log("warning", f"cannot write to the store: {error}", "store_failed")
            effects.emit(EventKind.ERROR, None, error)
        self.error = error
        self.schedule.is_failing = True
        entries = batch.entries + self.entries
        spools = [each for each in entries if isinstance(each, Spool)]
        self.entries = [each for each in entries if not isinstance(each, Spool)]
        for record, row in batch.rows:
            record.on_failed(row)
        for each in spools:
            each.refuse(self._owner, error)
        # Try again at once without received messages: perhaps only they find no room.
        arrived = [each.nbytes for each in batch.entries if isinstance(each, Inflow)]
        if arrived:
            self._is_sparing = True
            self._most = max(SMALL, sum(arrived) // 2) if len(arrived) > 1 else SMALL
        self.schedule.retry_at(now if spools or self._is_sparing else now + RETRY)

    def leave_inbox(self) -> None:
        """The endpoint stops: what was not taken stays on disk for the next start, and leaves the mailbox.

        What is taken or acknowledged from now on could not be written any more: it would come again.
        """
        mailbox = self._context.mailbox
        mailbox.settle_fast_queue()
        for source in mailbox.sources:
            source.on_taken()
        self.schedule.is_inbox_left = True
        mailbox.clear()

    def is_idle(self) -> bool:
        """Is everything on disk?"""
        return not (self.entries or self.schedule.touched or self.in_flight)
