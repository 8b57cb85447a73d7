"""What a store knows of one session, and how far memory has come with it.

How to think about it. On disk each direction of a session is a sequence of messages, numbered by units like
on the wire; but numbers on disk never begin anew, where those on the wire do when the peer has forgotten the
session. So ``stored = wire + base``, with a base for each direction. Marks, never backwards:

    acked <= loaded <= written <= next      (spool: acknowledged; in memory so far; on disk; promised)
    given <= written_in <= received         (inbox: taken by the application; on disk; handed to the journal)

A message is in the send queue only once it is on disk, in the mailbox only once it is on disk, and
acknowledged only then. What does not fit the send window stays on disk, and is loaded as the window opens.

A record that comes from disk is a *stub*: none of its messages are in memory until the peer has said
where to go on. While the store must know something before more may be written, the session is *gated*:
above all that it is *online*, for a crash from then on leaves in doubt what may have been sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec

from linkbox.core import frames
from linkbox.core.units import Delivery
from linkbox.errors import ProtocolViolation
from linkbox.events import Peer

if TYPE_CHECKING:
    from linkbox.core.journal import Journal
    from linkbox.core.mailbox import Source
    from linkbox.core.session import Session

REFUSALS = 100
"""Most refusals that are kept on disk."""
UNKNOWN = -1
"""Of `Row.sent_most`: anything up to the last message may have been sent."""

Stored = tuple[int, int, bytes]
"""A message of the spool: its number, the bytes of all messages up to it, its payload."""


class Row(msgspec.Struct):
    """A record as it is on disk. Numbers are stored ones."""

    key: int
    id: str
    name: str
    address: str
    identity: str | None
    connected_at: float
    epoch: int = 0
    born: int = 1
    incarnation: str = ""
    ending: bool = False
    """The application has ended the conversation."""
    over: bool = False
    """It is finished or lost for good; the row is kept while messages of it are unread."""
    sent_most: int = 0
    """Nothing beyond this was ever sent, or `UNKNOWN`."""
    base: int = 0
    base_total: int = 0
    next: int = 0
    total: int = 0
    """Bytes of all messages ever spooled."""
    acked: int = 0
    """Spooled messages up to this one are not on disk any more."""
    in_base: int = 0
    received: int = 0
    received_bytes: int = 0
    """On the wire, up to ``received``."""
    given: int = 0
    """Received messages up to this one are not on disk any more, but ``kept`` ones."""
    start: int = 0
    """Bytes taken of the message after that."""
    kept: tuple[int, ...] = ()
    began: float = 0.0
    """Client: when something may first have been written, in seconds since the epoch; 0: never."""
    refusals: tuple[bytes, ...] = ()
    """REJECT frames that the peer may not have seen."""
    freed: tuple[int, ...] = ()
    """Messages that were kept, and are not needed any more."""


def units_of(size: int) -> int:
    """How many numbers a message of so many bytes takes."""
    return max(1, -(-size // frames.MAX_PIECE))


class Record:
    """One session's part of the store."""

    def __init__(self, journal: Journal, key: int, peer: Peer, id: str) -> None:
        self.journal = journal
        self.key = key
        self.id = id
        self.peer = peer
        self.session: Session | None = None
        """Who has it now: another after the peer has forgotten the first. None: it was over when it came
        from disk, and only messages of it are unread."""
        self.is_over = False
        self.sent_most = 0
        self.gates = 0
        """How many things the disk must know before more may be written to the peer."""
        self.restarts = 0
        """How many times the peer has forgotten the session, and the disk does not know yet."""
        self._begin_sending()
        self._begin_receiving()

    def _begin_sending(self) -> None:
        self.base = self.base_total = 0
        self.next = self.total = 0
        self.written = self.written_total = 0
        self.loaded = 0
        self.acked = self.acked_total = self.acked_written = 0
        self.waiting = 0
        """Messages that were promised to the sender, and are not in memory."""
        self.absent: WeakValueDictionary[int, Delivery] = WeakValueDictionary()
        """Receipts of messages that are not in memory yet."""
        self.is_stub = False
        self.resume_at = 0
        """Of a stub: so many of its units the peer has (wire)."""
        self.stub_most = 0
        """Of a stub: nothing beyond this was sent by an earlier life."""
        self.is_fetching = False

    def _begin_receiving(self) -> None:
        self.in_base = 0
        self.received = 0
        self.received_bytes = 0
        self.given = self.start = 0
        self.kept: set[int] = set()
        """Messages that the application has, and has not acknowledged."""
        self.freed: list[int] = []

    def attach(self, session: Session) -> None:
        """This session has it from now on."""
        self.session = session
        session.record = self
        session.is_gated = self.gates > 0
        session.is_loading = self.is_stub
        source = session.source
        source.record, source.base, source.eager = self, self.in_base, True

    def owner(self) -> Session:
        """Whose spool it is."""
        assert self.session is not None
        return self.session

    def touch(self, is_urgent: bool = False) -> None:
        """Some mark has moved: the disk hears of it soon."""
        self.journal.touch(self, is_urgent)

    # -- to and from disk -------------------------------------------------------------------------------

    def row(self) -> Row:
        """What is to be on disk now."""
        session = self.session
        if session is not None:
            self.peer = session.peer
        peer, freed, self.freed = self.peer, tuple(self.freed), []
        row = Row(self.key, self.id, peer.name, peer.address, peer.identity, peer.connected_at)
        if session is not None:
            row.epoch, row.born, row.incarnation = session.epoch, session.born, session.incarnation
            row.ending = session.ending
            row.began = session.began_at and session.began_at + session.hub.settings.wall
            row.refusals = tuple(session.refusals)[-REFUSALS:]
        row.over, row.sent_most = self.is_over, self.sent_most
        row.base, row.base_total, row.next, row.total = self.base, self.base_total, self.next, self.total
        row.acked, row.in_base, row.received = self.acked, self.in_base, self.received
        row.received_bytes, row.given, row.start = self.received_bytes, self.given, self.start
        row.kept, row.freed = tuple(self.kept), freed
        return row

    def restore(self, row: Row, waiting: int, nbytes: int) -> None:
        """As it was on disk, with so many messages and bytes in its spool."""
        self.is_over = row.over
        self.sent_most = self.stub_most = row.next if row.sent_most == UNKNOWN else row.sent_most
        self.base, self.base_total = row.base, row.base_total
        self.next = self.written = row.next
        self.total = self.written_total = row.total
        self.acked = self.acked_written = row.acked
        self.acked_total = row.total - nbytes
        self.waiting = waiting
        self.is_stub = True
        self.in_base, self.received, self.received_bytes = row.in_base, row.received, row.received_bytes
        self.given, self.start = row.given, row.start

    def on_written(self, row: Row) -> None:
        """So far has the disk come."""
        self.written, self.written_total, self.acked_written = row.next, row.total, row.acked
        session = self.session
        if session is None:
            return
        kept = [number for number in row.kept if number > self.in_base]
        taken = min([row.given, *(number - 1 for number in kept)]) - self.in_base
        if taken > session.source.known_taken:
            session.source.known_taken = taken
            session.owe_ack(1)
        if session.end_acked:
            session.hub.flush_soon(session)  # It may tell the peer now that it knows.

    def on_failed(self, row: Row) -> None:
        """It is not on disk: say it all again."""
        self.freed[:0] = row.freed
        self.touch()

    # -- the spool ----------------------------------------------------------------------------------------

    def promise(self, payloads: list[bytes]) -> list[Stored]:
        """Number messages that are to be spooled."""
        rows: list[Stored] = []
        for payload in payloads:
            self.next += units_of(len(payload))
            self.total += len(payload)
            rows.append((self.next, self.total, payload))
        self.waiting += len(rows)
        return rows

    def break_promises(self, count: int) -> None:
        """These messages, and all promised after them, did not get on disk."""
        self.waiting -= count
        self.next, self.total = self.written, self.written_total

    def queue(self, rows: list[Stored], deliveries: list[Any] | None) -> None:
        """They are on disk: into the send queue with them, as far as there is room."""
        session = self.owner()
        is_next = not self.is_stub and self.loaded == self._before(rows[0])
        if is_next and session.has_room():
            if deliveries is None:
                fits = session.send_all([row[2] for row in rows])
                self.loaded = rows[fits - 1][0]
                self.waiting -= fits
            else:
                self.load(rows)
        for delivery in deliveries or ():
            if delivery.id > self.loaded or self.is_stub:
                delivery.payload = None  # it is on the disk

    def _before(self, row: Stored) -> int:
        return row[0] - units_of(len(row[2]))

    def load(self, rows: Iterable[Stored]) -> None:
        """Messages from disk: into the send queue with them."""
        session = self.owner()
        for number, _, payload in rows:
            if number <= self.loaded:
                continue
            delivery = self.absent.pop(number, None) or session.receipts(session)
            delivery.session, delivery.payload, delivery.id = session, payload, number
            session.adopt(delivery)
            self.loaded = number
            self.waiting -= 1

    def wants_more(self) -> bool:
        """Is there room in the send queue, and more on disk?"""
        session = self.session
        if session is None or session.error is not None:
            return False
        if self.is_stub or self.is_fetching or self.loaded >= self.written:
            return False
        limits = session.limits
        return (
            session.held_bytes <= limits.window_bytes // 2
            and session.in_memory <= limits.window_messages // 2
        )

    def on_acked(self) -> None:
        """The peer has more of it: the disk need not keep that, and there may be room for more."""
        session = self.owner()
        if session.acked + self.base > self.acked:
            self.acked = session.acked + self.base
            self.acked_total = session.acked_bytes + self.base_total
            self.touch(is_urgent=session.ending)
            self.journal.fetch_if_wanted(self)

    def is_settled(self) -> bool:
        """Does the disk know that the peer has everything? Only then may the peer forget it."""
        return self.acked_written >= self.next

    # -- where to go on -------------------------------------------------------------------------------------

    def resume(self, received: int) -> None:
        """The peer has so many of our units (wire): go on from there.

        A client's disk must know first that it is online; and a stub must read what is to be sent.
        """
        session = self.owner()
        if self.restarts:
            return  # What is to be sent is not settled yet: it goes on when that is.
        if session.hub.is_client:
            self.sent_most = UNKNOWN
        if not self.is_stub:
            session.rewind(received)
            if session.hub.is_client:
                self.journal.go_online(self, 0)
            return
        if not self.acked - self.base <= received <= self.next - self.base:
            raise ProtocolViolation(
                f"{session.peer} resumes at unit {received}; "
                f"{self.acked - self.base} to {self.next - self.base} are possible"
            )
        self.resume_at = received
        if session.hub.is_client or self.waiting:
            self.journal.go_online(self, received + self.base)
        else:
            self.begin([])

    def begin(self, rows: list[Stored]) -> None:
        """The messages of a stub are there, as far as the peer has some of them, and more."""
        session = self.owner()
        self.is_stub = False
        # The peer may have acknowledged some units of the first message: they are told apart again.
        self.loaded = self._before(rows[0]) if rows else self.acked
        total = rows[0][1] - len(rows[0][2]) if rows else self.written_total
        session.sent = session.acked = self.loaded - self.base
        session.sent_bytes = session.acked_bytes = total - self.base_total
        self.load(rows)
        while session.sent < self.resume_at:
            session.pull_one()
        session.is_loading = False
        if session.link is not None:
            session.link.heed_late()

    def offline(self) -> None:
        """The connection is gone: from now on it is known what may have been sent."""
        session = self.owner()
        if session.hub.is_client and self.sent_most == UNKNOWN:
            most = max(session.sent, session.most_sent) + self.base
            self.sent_most = self.stub_most if self.is_stub else most
            self.touch()

    def suspend(self) -> None:
        """The session ends with this life of the endpoint; the next takes it up."""
        self.offline()
        self.touch(is_urgent=True)

    def finish(self) -> None:
        """The conversation is over for good."""
        self.is_over = True
        self.touch()

    # -- the inbox ------------------------------------------------------------------------------------------

    def on_taken(self, source: Source) -> None:
        """The application has taken something."""
        self.given = max(self.given, source.given + source.base)
        self.start = source.cut
        self.touch()

    def on_held(self, source: Source, number: int) -> None:
        """The application takes a message that it has not done with: it stays on disk."""
        self.kept.add(number + source.base)

    def on_unheld(self, source: Source, number: int) -> None:
        """The application is done with a message it had kept."""
        self.kept.discard(number + source.base)
        self.freed.append(number + source.base)
        self.touch()
