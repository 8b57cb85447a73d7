"""A session's record in the store, and how much of it is in memory.

On disk each direction of a session is a sequence of messages, numbered by units as on the wire. But numbers
on disk never begin again, while those on the wire do when the peer has forgotten the session. So ``stored =
wire + base``, with a base for each direction (`SpoolMarks`, `InboxMarks`). Marks of the inbox, which never
move backwards::

    given <= written <= received         (taken by the application; on disk; handed to the journal)

A message is put into the send queue or the mailbox only once it is on disk, and a received message is
acknowledged only then. Messages that do not fit the send window stay on disk and are loaded when it has room.

A record that was read from disk is a *stub*: none of its messages are in memory until a connection shows
which of them the peer has. The session is *gated* while something must be on disk before more may be written.
Above all it must be recorded as *online* first, because a crash leaves the messages that may have been sent
in doubt.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.inbox import InboxMarks
from linkbox.core.durable.rows import REJECTIONS, UNKNOWN, Row, Stored, units_of
from linkbox.core.durable.spool import SpoolMarks
from linkbox.core.durable.write_schedule import WriteSchedule
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.outgoing import message_of
from linkbox.core.session import Session, SessionRecord
from linkbox.errors import ProtocolViolation
from linkbox.events import Peer


class JournalHooks:
    """The calls of a record to its journal. `Journal` implements it."""

    __slots__ = ()

    def go_online(self, record: Record, until: int) -> None:
        """Record that the session has a connection; until this is on disk, write no messages to the peer."""
        raise NotImplementedError

    def fetch_if_wanted(self, record: Record) -> None:
        """Read more of the spool, if there is room in the send window."""
        raise NotImplementedError


class Record(SessionRecord):
    """The record of one session."""

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
        self.journal: JournalHooks = journal
        self.schedule: WriteSchedule = schedule
        self.key: int = key
        self.id: str = id
        self.peer: Peer = peer
        self.session: Session | None = None
        """Its session; a new one after the peer has forgotten the first. None: the conversation was closed
        when the record was read from disk, and only unread messages of it are left."""
        self.is_over: bool = False
        self.gates: int = 0
        """The number of entries that must be on disk before more may be written to the peer."""
        self.restarts: int = 0
        """How many times the peer has forgotten the session without this being on disk yet."""
        self.spool: SpoolMarks = SpoolMarks()
        self.inbox: InboxMarks = InboxMarks(self, schedule)

    def attach(self, session: Session) -> None:
        """Set the session of the record."""
        self.session = session
        session.record = self
        receiving = session.receiving
        receiving.inbox, receiving.base, receiving.ack_each = self.inbox, self.inbox.base, True

    def owner(self) -> Session:
        """The session, which must not be None."""
        assert self.session is not None
        return self.session

    def touch(self, is_urgent: bool = False) -> None:
        """A mark has moved: write it soon."""
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
        """The row to write now."""
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
        """Set the marks as they were on disk, with ``waiting`` messages of ``nbytes`` in the spool."""
        self.is_over = row.over
        self.spool.restore(row, waiting, nbytes)
        self.inbox.restore(row)

    def on_written(self, row: Row) -> None:
        """``row`` is on disk."""
        self.spool.on_written(row)
        session = self.session
        if session is None:
            return
        if self.inbox.on_written(row):
            session.receiving.request_ack(ACK_DUE_SOON)
        if session.ending.is_acked:
            session.flush()  # FIN may be sent now.

    def on_failed(self, row: Row) -> None:
        """``row`` could not be written: write it again."""
        self.inbox.freed[:0] = row.freed
        self.touch()

    # -- the spool -------------------------------------------------------------------------------------

    def queue(self, rows: list[Stored], messages: list[OutgoingMessage] | None) -> None:
        """Messages are on disk: put them into the send queue, as far as there is room."""
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
                message.payload = None  # It is on disk.

    def load(self, rows: Iterable[Stored]) -> None:
        """Put messages that were read from disk into the send queue."""
        session, spool = self.owner(), self.spool
        for number, _, payload in rows:
            if number <= spool.loaded:
                continue
            message = spool.absent.pop(number, None) or session.sending.message_type(session)
            message.channel, message.payload, message.stored_number = session, payload, number
            session.sending.enqueue(message)
            spool.on_loaded(number)

    def wants_more(self) -> bool:
        """Is there room in the send window, and are there more messages on disk?"""
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
        """The peer has acknowledged more: delete that from the disk, and load more if there is room."""
        session = self.owner()
        if self.spool.on_acked(session.sending.acked, session.sending.acked_bytes):
            self.touch(is_urgent=session.ending.is_requested)
            self.journal.fetch_if_wanted(self)

    # -- where to go on --------------------------------------------------------------------------------

    def resume(self, received: int) -> None:
        """Continue after the ``received`` units (on the wire) that the peer has.

        Before that, a client must record that it is online, and a stub must load the messages to send.
        """
        session, spool = self.owner(), self.spool
        is_client = session.context.is_client
        if self.restarts:
            return  # Continues when it is known what is left to send.
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
        """The messages of a stub are in memory: those that the peer may have in part, and more."""
        session, spool = self.owner(), self.spool
        spool.is_stub = False
        # The peer may have acknowledged some units of the first message: skip these.
        spool.loaded = _before(rows[0]) if rows else spool.acked
        total = rows[0][1] - len(rows[0][2]) if rows else spool.written_total
        session.sending.restore(spool.loaded - spool.base, total - spool.base_total)
        self.load(rows)
        while session.sending.sent < spool.resume_at:
            session.sending.pull_message(message_of(session.sending.queue[0]))
        if session.link is not None:
            session.link.process_late()

    def offline(self) -> None:
        """The connection is closed: the units that may have been sent are known now."""
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

    def release(self) -> None:
        """That it is over is on disk: refer no more to what refers to it, which is freed at once then."""
        self.session = None
        self.inbox.release()


def _before(row: Stored) -> int:
    """The number before the first unit of this message."""
    return row[0] - units_of(len(row[2]))
