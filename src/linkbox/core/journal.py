"""What is to be written to the disk, in order, and what happens once it is there: stores without a disk.

How to think about it. The hub never waits for a disk. Whatever must be on disk before it counts becomes an
*entry*; marks that have moved are noted by *touching* their record. The front end's writer, which may wait,
takes all of it as one `Batch`, commits it as one transaction, and comes back with `committed`: then each
entry is done, in order: the message stands in the send queue, or in the mailbox. If the disk refuses,
`failed`: what was to be sent was not accepted, and its sender is told; everything else stays, and is tried
again. So while one batch is being written the next one gathers: many messages, one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from linkbox.core import frames
from linkbox.core.decoding import is_error
from linkbox.core.link import Arrival
from linkbox.core.mailbox import ENDLESS, Box
from linkbox.core.record import Record, Row, Stored
from linkbox.core.refusals import refusal_of
from linkbox.core.session import NEVER, Session
from linkbox.errors import SessionLost, StoreError, TooLarge
from linkbox.events import EventKind

if TYPE_CHECKING:
    from linkbox.core.hub import Hub

MARKS_WAIT = 0.005
"""Seconds that marks may wait for company; messages do not wait."""
RETRY = 1.0
"""Seconds until a disk that refused is tried again."""
SMALL = 64 * 1024
"""Bytes of what has arrived that are tried even on a disk that has no room for more."""
FETCH_BYTES = 4 * 1024 * 1024
FETCH_COUNT = 10_000
"""Most that is read from the spool at a time."""


class Entry:
    """Something that happens once it is on disk."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def done(self, hub: Hub) -> None:
        """It is on disk."""


class Spool(Entry):
    """Messages to be sent. ``box`` changes when they are on disk, or refused with ``error``."""

    def __init__(self, record: Record, rows: list[Stored], deliveries: list[Any] | None) -> None:
        super().__init__(record)
        self.rows = rows
        self.deliveries = deliveries
        self.box = Box()
        self.is_settled = False
        self.error: StoreError | None = None

    def done(self, hub: Hub) -> None:
        record = self.record
        record.queue(self.rows, self.deliveries)
        session = record.owner()
        if record.is_over:  # there is nobody any more to send it to
            assert session.error is not None
            for delivery in self.deliveries or ():
                hub.fail_delivery(session, delivery, session.error)
        hub.flush_soon(session)
        self._settle(hub)

    def refuse(self, hub: Hub, error: StoreError) -> None:
        """It is not on disk, and is not going to be."""
        self.error = error
        self.record.break_promises(len(self.rows))
        self._settle(hub)

    def _settle(self, hub: Hub) -> None:
        self.is_settled = True
        hub.changed.append(self.box)


class Inflow(Entry):
    """Messages that have arrived; what could not be decoded stands among the values as an error."""

    def __init__(self, record: Record, arrival: Arrival, values: Sequence[Any], at: float) -> None:
        super().__init__(record)
        self.arrival = arrival
        self.values = values
        self.at = at
        self.base = record.in_base
        self.before = record.received, record.received_bytes
        """What had been received before that."""
        self.nbytes = sum(len(each) for each in arrival.payloads if each.__class__ is not TooLarge)
        record.received = arrival.last + self.base
        record.received_bytes = arrival.mark
        if arrival.has_errors:
            first = arrival.last - len(values) + 1
            arrival.session.keep_refusals(
                refusal_of(number, value) for number, value in enumerate(values, first) if is_error(value)
            )

    def rows(self) -> list[tuple[int, bytes]]:
        """What is to be kept: the stored number of each message, and its payload."""
        payloads = self.arrival.payloads
        rows = enumerate(payloads, self.arrival.last - len(payloads) + 1 + self.base)
        if not self.arrival.has_errors:
            return list(rows)
        return [row for row, value in zip(rows, self.values, strict=True) if not is_error(value)]

    def done(self, hub: Hub) -> None:
        hub.deliver_all(self.arrival, self.values, self.at)


class Online(Entry):
    """The session has a connection. Until that is on disk nothing is written to it.

    For a stub, what is spooled is read along with it, into ``rows``: all up to ``until``, and some more.
    """

    def __init__(self, record: Record, until: int) -> None:
        super().__init__(record)
        self.is_needed = record.is_stub
        self.after = record.acked
        self.until = until
        self.rows: list[Stored] = []
        record.gates += 1
        record.owner().is_gated = True

    def done(self, hub: Hub) -> None:
        record, session = self.record, self.record.owner()
        record.gates -= 1
        is_off = record.restarts or session.error is not None  # it begins anew, or has ended, meanwhile
        if record.is_stub and not is_off:
            record.begin(self.rows)
        session.is_gated = record.gates > 0
        hub.flush_soon(session)


class Fetch(Entry):
    """More of the spool is wanted: what stands behind ``after`` is read into ``rows``."""

    def __init__(self, record: Record, after: int) -> None:
        super().__init__(record)
        self.after = after
        self.rows: list[Stored] = []
        record.is_fetching = True

    def done(self, hub: Hub) -> None:
        record = self.record
        record.is_fetching = False
        if not record.is_stub:  # else it begins anew, and these are read again
            record.load(self.rows)
            hub.flush_soon(record.owner())


class Restart(Entry):
    """The peer has forgotten the session. What may have been sent is in doubt, and leaves the spool.

    The store moves the messages up to ``until`` aside, returns them in ``doubtful``, and begins the rest
    anew: ``base`` and ``base_total``. ``known``: their receipts, as far as anybody has one.
    """

    def __init__(self, record: Record, old: Session, until: int, known: dict[int, Any]) -> None:
        super().__init__(record)
        self.old = old
        self.until = until
        self.known = known
        self.doubtful: list[Stored] = []
        self.base = self.base_total = 0
        record.gates += 1
        record.restarts += 1

    def done(self, hub: Hub) -> None:
        record = self.record
        record.base, record.base_total = self.base, self.base_total
        record.waiting -= len(self.doubtful)
        record.acked, record.acked_total = self.base, self.base_total
        record.sent_most = record.stub_most = self.base
        record.gates -= 1
        record.restarts -= 1
        self._tell(hub)
        if record.owner().link is not None:
            record.resume(0)

    def _tell(self, hub: Hub) -> None:
        """Report what is in doubt, and never send it again."""
        old, receipts = self.old, []
        for number, _, payload in self.doubtful:
            receipts.append(self.known.get(number) or old.receipts(old, payload, id=number))
        if receipts:
            error = in_doubt(old, receipts)
            for receipt in receipts:
                hub.fail_delivery(old, receipt, error)
            hub.emit(EventKind.ERROR, old.peer, error)


def in_doubt(session: Session, deliveries: list[Any]) -> SessionLost:
    """Nobody knows whether these got there."""
    count = len(deliveries)
    text = f"{session.peer} has forgotten the session (it was restarted); {count} messages are in doubt"
    return SessionLost(text, tuple(deliveries))


class Batch:
    """What is written to the disk at once."""

    def __init__(self, entries: list[Entry], rows: list[tuple[Record, Row]], knows_since: float) -> None:
        self.entries = entries
        self.rows = rows
        self.knows_since = knows_since
        """Seconds since the epoch; see `ServerHub.knows_since`."""
        self.is_all = True
        """Is nothing left out that waits?"""


def _step_back(row: Row, received: int, nbytes: int) -> None:
    """Only so much has been received, as far as the disk is concerned."""
    row.received, row.received_bytes = received, nbytes
    last = received - row.in_base
    row.refusals = tuple(each for each in row.refusals if frames.decode_reject(each[4:])[0] <= last)


class Journal:
    """What a hub wants on disk."""

    def __init__(self, hub: Hub, life: int, next_key: int, wake: Callable[[], None]) -> None:
        self.hub = hub
        self.life = life
        """Counts the starts of the endpoint: connections of a later one are newer."""
        self.next_key = next_key
        self.wake = wake
        """Told when `due` has become earlier."""
        self.due = NEVER
        """When a batch should be taken."""
        self.entries: list[Entry] = []
        self.touched: dict[Record, None] = {}
        self.records: set[Record] = set()
        """Those that may have something in the spool."""
        self.error: StoreError | None = None
        """Why the disk refused the last batch, or None."""
        self.is_sparing = False
        """What has arrived is left out of the next batch: marks alone may be what makes room for it."""
        self.most = ENDLESS
        """Bytes of what has arrived that go into a batch: less, where all of it found no room."""
        self.in_flight: Batch | None = None

    # -- for the hub ------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """A new session begins."""
        record = Record(self, self.next_key, session.peer, session.id)
        self.next_key += 1
        self.records.add(record)
        record.attach(session)

    def spool(self, record: Record, payloads: list[bytes], deliveries: list[Any] | None) -> Spool:
        """Messages are to be sent: accepted once this is settled. `StoreError` beyond the quota."""
        quota, held = self.hub.limits.store_bytes, self.spooled()
        wanted = sum(map(len, payloads))
        if held + wanted > quota:
            raise StoreError(
                f"the store holds {held} bytes of messages that are not delivered yet; with {wanted} more it "
                f"would pass its quota of {quota}: wait until some are, or raise Limits(store_bytes=...)"
            )
        entry = Spool(record, record.promise(payloads), deliveries)
        for row, delivery in zip(entry.rows, deliveries or (), strict=False):
            delivery.id = row[0]
            record.absent[row[0]] = delivery
        self.add(entry)
        return entry

    def spooled(self) -> int:
        """Bytes of messages that are accepted and not acknowledged yet."""
        return sum(each.total - each.acked_total for each in self.records)

    def add(self, entry: Entry) -> None:
        """This is to be on disk, soon."""
        self.entries.append(entry)
        self._hurry(0.0)

    def touch(self, record: Record, is_urgent: bool) -> None:
        """Marks of this record have moved."""
        self.touched[record] = None
        self._hurry(0.0 if is_urgent else self.hub.now + MARKS_WAIT)

    def _hurry(self, when: float) -> None:
        if self.error is None and when < self.due:
            self.due = when
            self.wake()

    def go_online(self, record: Record, until: int) -> None:
        """Let nothing be written before this is on disk."""
        self.add(Online(record, until))

    def fetch_if_wanted(self, record: Record) -> None:
        """Read on in the spool, if there is room for more of it."""
        if record.wants_more():
            self.add(Fetch(record, record.loaded))

    def restart(self, old: Session, new: Session, doubt: list[Any], unsent: list[Any]) -> None:
        """The peer has forgotten the old session; the new one takes over what was not sent."""
        record = old.record
        most = max(old.sent, old.most_sent) + record.base
        until = record.stub_most if record.is_stub else most
        old.record, record.id = None, new.id
        record.waiting += len(doubt) + len(unsent)
        known = {each.id: each for each in doubt}
        for each in unsent:
            each.session, each.payload = new, None
            record.absent[each.id] = each
        record.is_stub = True  # what is not in doubt is loaded again, for the new session
        record.in_base = record.received
        record.received_bytes = 0
        self.add(Restart(record, old, until, known))
        record.attach(new)

    # -- for the writer -----------------------------------------------------------------------------------

    def take(self) -> Batch:
        """Everything that is to be written now. Then call `committed` or `failed`."""
        touched = self.touched
        touched.update((entry.record, None) for entry in self.entries)
        entries, rest = self.entries, self._spared()
        if rest:
            spared = set(rest)
            entries = [each for each in entries if each not in spared]
        rows = [(record, record.row()) for record in touched]
        before = {each.record: each.before for each in reversed(rest)}
        for record, row in rows:
            if record in before:
                _step_back(row, *before[record])
        hub = self.hub
        batch = Batch(entries, rows, hub.knows_since + hub.settings.wall)
        batch.is_all = not rest
        self.entries, self.touched, self.due = list(rest), {}, NEVER
        self.in_flight = batch
        return batch

    def _spared(self) -> list[Inflow]:
        """What has arrived, and is left out this time."""
        is_sparing, self.is_sparing = self.is_sparing, False
        most = 0 if is_sparing else self.most
        if most == ENDLESS or any(isinstance(each, Restart) for each in self.entries):
            return []
        inflows = [each for each in self.entries if isinstance(each, Inflow)]
        count = 0 if is_sparing else 1
        sizes = accumulate(each.nbytes for each in inflows)
        return inflows[max(count, sum(size <= most for size in sizes)) :]

    def committed(self, batch: Batch, now: float) -> None:
        """It is on disk. The front end must settle now."""
        hub, self.in_flight = self.hub, None
        hub.now = now
        if self.error is not None and batch.is_all:
            self.error, self.most = None, ENDLESS
            hub.note("info", "the store works again")
        for record, row in batch.rows:
            record.on_written(row)
            if row.over and record.acked >= record.next:
                self.records.discard(record)
        for entry in batch.entries:
            entry.done(hub)
        for record, _ in batch.rows:
            self.fetch_if_wanted(record)
        if self.error is not None:
            has_more = self.most > SMALL or any(isinstance(each, Inflow) for each in batch.entries)
            self.due = now if has_more else now + RETRY
            self.wake()
        elif self.entries or self.touched:
            self._hurry(0.0 if self.entries else now + MARKS_WAIT)

    def failed(self, batch: Batch, error: StoreError, now: float) -> None:
        """It is not on disk: nothing of it has happened. The front end must settle now."""
        hub, self.in_flight = self.hub, None
        hub.now = now
        if self.error is None:
            hub.note("warning", f"the store refuses: {error}")
            hub.emit(EventKind.ERROR, None, error)
        self.error = error
        entries = batch.entries + self.entries
        spools = [each for each in entries if isinstance(each, Spool)]
        self.entries = [each for each in entries if not isinstance(each, Spool)]
        for record, row in batch.rows:
            record.on_failed(row)
        for each in spools:
            each.refuse(hub, error)
        # At once without what needs room: that may be all the disk refuses.
        arrived = sum(each.nbytes for each in batch.entries if isinstance(each, Inflow))
        if arrived:
            self.is_sparing, self.most = True, max(SMALL, arrived // 2)
        self.due = now if spools or self.is_sparing else now + RETRY
        self.wake()

    def is_idle(self) -> bool:
        """Is everything on disk?"""
        return not (self.entries or self.touched or self.in_flight)
