"""What a store knows of one session, and how far memory has come with it.

On disk each direction of a session is a sequence of messages, numbered by units like on the wire; but numbers
on disk never begin anew, where those on the wire do when the peer has forgotten the session. So ``stored =
wire + base``, with a base for each direction (`SpoolMarks`, `InboxMarks`). Marks of the inbox, never
backwards::

    given <= written <= received         (taken by the application; on disk; handed to the journal)

A message is in the send queue only once it is on disk, in the mailbox only once it is on disk, and
acknowledged only then. What does not fit the send window stays on disk, and is loaded as the window opens.

A record that comes from disk is a *stub*: none of its messages are in memory until the peer has said where to
go on. While the store must know something before more may be written, the session is *gated*: above all that
it is *online*, for a crash from then on leaves in doubt what may have been sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.inbox import InboxMarks
from linkbox.core.durable.rows import REJECTIONS, UNKNOWN, Row, Stored, units_of
from linkbox.core.durable.spool import SpoolMarks
from linkbox.core.durable.write_schedule import WriteSchedule
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.session import Session, SessionRecord
from linkbox.errors import ProtocolViolation
from linkbox.events import Peer


class JournalHooks:
    """What a record asks of its journal. `Journal` implements it."""

    __slots__ = ()

    def go_online(self, record: Record, until: int) -> None:
        """Let nothing be written to the peer before the disk knows that the session has a connection."""
        raise NotImplementedError

    def fetch_if_wanted(self, record: Record) -> None:
        """Read on in the spool, if there is room for more of it."""
        raise NotImplementedError


class Record(SessionRecord):
    """One session's part of the store."""

    __slots__ = (
        "gates",
        "id",
        "inbox",
        "is_over",
        "journal",
        "key",
        "peer",
        "restarts",
        "schedule",
        "session",
        "spool",
    )

    def __init__(self, journal: JournalHooks, schedule: WriteSchedule, key: int, peer: Peer, id: str) -> None:
        self.journal = journal
        self.schedule = schedule
        self.key = key
        self.id = id
        self.peer = peer
        self.session: Session | None = None
        """The session that has it now: another one after the peer has forgotten the first. None: the conversation was
        over when the record came from disk, and only messages of it are unread."""
        self.is_over = False
        self.gates = 0
        """How many things the disk must know before more may be written to the peer."""
        self.restarts = 0
        """How many times the peer has forgotten the session, and the disk does not know yet."""
        self.spool = SpoolMarks()
        self.inbox = InboxMarks(self, schedule)

    def attach(self, session: Session) -> None:
        """This session has it from now on."""
        self.session = session
        session.record = self
        receiving = session.receiving
        receiving.inbox, receiving.base, receiving.ack_each = self.inbox, self.inbox.base, True

    def owner(self) -> Session:
        """The session whose spool it is."""
        assert self.session is not None
        return self.session

    def touch(self, is_urgent: bool = False) -> None:
        """Some mark has moved: write it soon."""
        self.schedule.touch(self, is_urgent)

    # -- as the session sees it ------------------------------------------------------------------------

    def waiting(self) -> int:
        return self.spool.waiting

    def is_gated(self) -> bool:
        return self.gates > 0

    def is_loading(self) -> bool:
        return self.spool.is_stub

    def is_settled(self) -> bool:
        return self.spool.acked_written >= self.spool.next

    def received(self) -> int:
        return self.inbox.received - self.inbox.base

    def absent(self) -> list[OutgoingMessage]:
        return list(self.spool.absent.values())

    # -- to and from disk ------------------------------------------------------------------------------

    def row(self) -> Row:
        """What is to be on disk now."""
        session, spool, inbox = self.session, self.spool, self.inbox
        if session is not None:
            self.peer = session.peer
        peer = self.peer
        row = Row(self.key, self.id, peer.name, peer.address, peer.identity, peer.connected_at)
        if session is not None:
            generation = session.generation
            row.epoch, row.born, row.incarnation = generation.epoch, generation.born, generation.incarnation
            row.ending = session.ending.is_requested
            row.began = generation.began_at and session.context.wall_time(generation.began_at)
            row.refusals = tuple(session.rejections.frames)[-REJECTIONS:]
        row.over, row.sent_most = self.is_over, spool.sent_most
        row.base, row.base_total, row.next, row.total = spool.base, spool.base_total, spool.next, spool.total
        row.acked, row.in_base, row.received = spool.acked, inbox.base, inbox.received
        row.received_bytes, row.given, row.start = inbox.received_bytes, inbox.given, inbox.start
        row.kept, row.freed = tuple(inbox.kept), inbox.take_freed()
        return row

    def restore(self, row: Row, waiting: int, nbytes: int) -> None:
        """As it was on disk, with that many messages and bytes in its spool."""
        self.is_over = row.over
        self.spool.restore(row, waiting, nbytes)
        self.inbox.restore(row)

    def on_written(self, row: Row) -> None:
        """The disk has come this far."""
        self.spool.on_written(row)
        session = self.session
        if session is None:
            return
        if self.inbox.on_written(row):
            session.receiving.request_ack(ACK_DUE_SOON)
        if session.ending.is_acked:
            session.flush()  # It may tell the peer now that it knows.

    def on_failed(self, row: Row) -> None:
        """It is not on disk: write it all again."""
        self.inbox.freed[:0] = row.freed
        self.touch()

    # -- the spool -------------------------------------------------------------------------------------

    def queue(self, rows: list[Stored], messages: list[OutgoingMessage] | None) -> None:
        """They are on disk: into the send queue with them, as far as there is room."""
        session, spool = self.owner(), self.spool
        is_next = not spool.is_stub and spool.loaded == _before(rows[0])
        if is_next and session.has_room():
            if messages is None:
                fits = session.send_many([row[2] for row in rows])
                spool.loaded = rows[fits - 1][0]
                spool.waiting -= fits
            else:
                self.load(rows)
        for message in messages or ():
            if message.stored_number > spool.loaded or spool.is_stub:
                message.payload = None  # It is on the disk.

    def load(self, rows: Iterable[Stored]) -> None:
        """Messages from disk: into the send queue with them."""
        session, spool = self.owner(), self.spool
        for number, _, payload in rows:
            if number <= spool.loaded:
                continue
            message = spool.absent.pop(number, None) or session.sending.message_type(session)
            message.channel, message.payload, message.stored_number = session, payload, number
            session.sending.enqueue(message)
            spool.on_loaded(number)

    def wants_more(self) -> bool:
        """Is there room in the send queue, and more on disk?"""
        session, spool = self.session, self.spool
        if session is None or session.error is not None:
            return False
        if spool.is_stub or spool.is_fetching or spool.loaded >= spool.written:
            return False
        limits, sending = session.context.limits, session.sending
        return (
            sending.held_bytes <= limits.window_bytes // 2
            and sending.in_memory <= limits.window_messages // 2
        )

    def on_acked(self) -> None:
        """The peer has more of it: the disk need not keep that, and there may be room for more."""
        session = self.owner()
        if self.spool.on_acked(session.sending.acked, session.sending.acked_bytes):
            self.touch(is_urgent=session.ending.is_requested)
            self.journal.fetch_if_wanted(self)

    # -- where to go on --------------------------------------------------------------------------------

    def resume(self, received: int) -> None:
        """The peer has that many of our units (wire): go on from there.

        A client's disk must know first that it is online; and a stub must read what is to be sent.
        """
        session, spool = self.owner(), self.spool
        is_client = session.context.is_client
        if self.restarts:
            return  # What is to be sent is not settled yet: it goes on when that is.
        if is_client:
            spool.sent_most = UNKNOWN
        if not spool.is_stub:
            session.rewind(received)
            if is_client:
                self.journal.go_online(self, 0)
            return
        if not spool.acked - spool.base <= received <= spool.next - spool.base:
            raise ProtocolViolation(
                f"{session.peer} resumes at unit {received}; "
                f"{spool.acked - spool.base} to {spool.next - spool.base} are possible"
            )
        spool.resume_at = received
        if is_client or spool.waiting:
            self.journal.go_online(self, received + spool.base)
        else:
            self.begin([])

    def begin(self, rows: list[Stored]) -> None:
        """The messages of a stub are in memory, as far as the peer has some of them, and more."""
        session, spool = self.owner(), self.spool
        spool.is_stub = False
        # The peer may have acknowledged some units of the first message: they are told apart again.
        spool.loaded = _before(rows[0]) if rows else spool.acked
        total = rows[0][1] - len(rows[0][2]) if rows else spool.written_total
        session.sending.restore_bytes(spool.loaded - spool.base, total - spool.base_total)
        self.load(rows)
        while session.sending.sent < spool.resume_at:
            session.sending.pull_one()
        if session.link is not None:
            session.link.process_late()

    def offline(self) -> None:
        """The connection is gone: from now on it is known what may have been sent."""
        session, spool = self.owner(), self.spool
        if session.context.is_client and spool.sent_most == UNKNOWN:
            most = max(session.sending.sent, session.sending.most_sent) + spool.base
            spool.sent_most = spool.stub_most if spool.is_stub else most
            self.touch()

    def suspend(self) -> None:
        self.offline()
        self.touch(is_urgent=True)

    def finish(self) -> None:
        self.is_over = True
        self.touch()


def _before(row: Stored) -> int:
    """The number before the first unit of this message."""
    return row[0] - units_of(len(row[2]))
