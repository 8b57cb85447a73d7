"""The entries of a journal: each is something to write to disk, and what to do once it is there."""

from __future__ import annotations

from collections.abc import Sequence

from linkbox.core.arrival import Arrival
from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.record import Record
from linkbox.core.durable.rows import Stored
from linkbox.core.outgoing import Unit
from linkbox.core.session import Session
from linkbox.core.values import Value
from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire.rejections import is_absent, is_error, reject_frame
from linkbox.errors import SessionLost, StoreError, TooLarge

__all__ = [
    "Entry",
    "Fetch",
    "GiveUp",
    "Inflow",
    "JournalOwner",
    "Online",
    "Restart",
    "Spool",
    "Unit",
    "in_doubt",
]


class JournalOwner:
    """The reports of a journal to the endpoint. `EndpointCore` implements it."""

    __slots__ = ()

    def store_arrival(self, arrival: Arrival, values: Sequence[Value], at: float) -> None:
        """Received messages are on disk: put them into the mailbox."""
        raise NotImplementedError

    def fail_message(self, session: Session, message: OutgoingMessage, error: Exception) -> None:
        """A message will not be delivered."""
        raise NotImplementedError

    def report_error(self, session: Session, error: Exception) -> None:
        """Emit an ERROR event for a conversation."""
        raise NotImplementedError

    def wake(self, queue: WaitQueue) -> None:
        """Wake the waiters of this queue."""
        raise NotImplementedError


class Entry:
    """Base class: `done` is called once the entry is on disk."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record: Record = record

    def done(self, owner: JournalOwner) -> None:
        """The entry is on disk."""

    def failed(self, owner: JournalOwner, error: BaseException) -> None:
        """The entry is on disk, and `done` has failed with an unexpected error."""


class Spool(Entry):
    """Messages to send. ``changed`` is woken when they are on disk, or were refused with ``error``."""

    __slots__ = ("changed", "error", "is_settled", "messages", "rows")

    def __init__(self, record: Record, rows: list[Stored], messages: list[OutgoingMessage] | None) -> None:
        super().__init__(record)
        self.rows: list[Stored] = rows
        self.messages: list[OutgoingMessage] | None = messages
        """Their receipts, if the sender wants receipts."""
        self.changed: WaitQueue = WaitQueue()
        self.is_settled: bool = False
        self.error: StoreError | None = None

    def done(self, owner: JournalOwner) -> None:
        record, session = self.record, self.record.owner()
        if session.error is not None and record.is_over:  # It was closed in the meantime.
            for message in self.messages or ():
                owner.fail_message(session, message, session.error)
        else:
            record.queue(self.rows, self.messages)
            session.flush()
        self._settle(owner)

    def failed(self, owner: JournalOwner, error: BaseException) -> None:
        if not self.is_settled:
            self.error = StoreError(
                f"unexpected error ({type(error).__name__}): the message may be in the store"
            )
            self._settle(owner)

    def refuse(self, owner: JournalOwner, error: StoreError) -> None:
        """The entry will not be written: fail its messages."""
        self.error = error
        self.record.spool.break_promises(len(self.rows))
        self._settle(owner)

    def _settle(self, owner: JournalOwner) -> None:
        self.is_settled = True
        owner.wake(self.changed)


class Inflow(Entry):
    """Received messages, with an exception for each message that could not be decoded."""

    __slots__ = ("arrival", "at", "base", "before", "nbytes", "values")

    def __init__(self, record: Record, arrival: Arrival, values: Sequence[Value], at: float) -> None:
        super().__init__(record)
        inbox = record.inbox
        self.arrival: Arrival = arrival
        self.values: Sequence[Value] = values
        self.at: float = at
        self.base: int = inbox.base
        self.before: tuple[int, int] = inbox.received, inbox.received_bytes
        """The units and bytes received before these messages."""
        self.nbytes: int = sum(len(each) for each in arrival.payloads if not isinstance(each, TooLarge))
        inbox.received = arrival.last + self.base
        inbox.received_bytes = arrival.mark
        if arrival.has_errors and not arrival.session.is_plain:
            first = arrival.last - len(values) + 1
            arrival.session.rejections.keep(
                reject_frame(number, value) for number, value in enumerate(values, first) if is_error(value)
            )

    def rows(self) -> list[tuple[int, bytes]]:
        """The rows to write: the stored number of each message, and its payload."""
        payloads = self.arrival.payloads
        first = self.arrival.last - len(payloads) + 1 + self.base
        return [
            (number, payload)
            for number, (payload, value) in enumerate(zip(payloads, self.values, strict=True), first)
            if not isinstance(payload, TooLarge) and not (self.arrival.has_errors and is_absent(value))
        ]

    def done(self, owner: JournalOwner) -> None:
        owner.store_arrival(self.arrival, self.values, self.at)


class Online(Entry):
    """Records that the session has a connection. Until this is on disk, no message is written to it.

    For a stub, the transaction also reads spooled messages into ``rows``: all up to ``until``, and some more.
    """

    __slots__ = ("after", "is_needed", "rows", "until")

    def __init__(self, record: Record, until: int) -> None:
        super().__init__(record)
        self.is_needed: bool = record.spool.is_stub
        self.after: int = record.spool.acked
        self.until: int = until
        self.rows: list[Stored] = []
        record.gates += 1

    def done(self, owner: JournalOwner) -> None:
        record, session = self.record, self.record.owner()
        record.gates -= 1
        is_off = record.restarts or session.error is not None  # The session was restarted or closed.
        if record.spool.is_stub and not is_off:
            record.begin(self.rows)
        session.flush()


class Fetch(Entry):
    """Reads more of the spool: the messages behind ``after``, into ``rows``."""

    __slots__ = ("after", "rows")

    def __init__(self, record: Record, after: int) -> None:
        super().__init__(record)
        self.after: int = after
        self.rows: list[Stored] = []
        record.spool.is_fetching = True

    def done(self, owner: JournalOwner) -> None:
        record = self.record
        record.spool.is_fetching = False
        if not record.spool.is_stub:  # After a restart they are read again.
            record.load(self.rows)
            record.owner().flush()


class Restart(Entry):
    """The peer has forgotten the session: messages that may have been sent are in doubt and leave the spool.

    The store removes the messages up to ``until`` from the spool, returns them in ``doubtful``, and renumbers
    the rest (``base``, ``base_total``). ``known`` contains their receipts, if the application still has them.
    """

    __slots__ = ("base", "base_total", "doubtful", "known", "old", "until")

    def __init__(self, record: Record, old: Session, until: int, known: dict[int, OutgoingMessage]) -> None:
        super().__init__(record)
        self.old: Session = old
        self.until: int = until
        self.known: dict[int, OutgoingMessage] = known
        self.doubtful: list[Stored] = []
        self.base: int = 0
        self.base_total: int = 0
        record.gates += 1
        record.restarts += 1

    def done(self, owner: JournalOwner) -> None:
        record = self.record
        record.spool.restart(self.base, self.base_total, len(self.doubtful))
        record.gates -= 1
        record.restarts -= 1
        _report(owner, self.old, self.doubtful, self.known)
        if record.owner().link is not None:
            record.resume(0)


class GiveUp(Entry):
    """A server gives up a session with messages in its spool: they are in doubt, and leave the spool.

    The store returns them in ``doubtful``. ``known`` contains their receipts, if the application still has
    them.
    """

    __slots__ = ("doubtful", "error", "known")

    def __init__(self, record: Record, error: Exception, known: dict[int, OutgoingMessage]) -> None:
        super().__init__(record)
        self.error: Exception = error
        self.known: dict[int, OutgoingMessage] = known
        self.doubtful: list[Stored] = []

    def done(self, owner: JournalOwner) -> None:
        _report(owner, self.record.owner(), self.doubtful, self.known, self.error)


def in_doubt(
    session: Session, messages: list[OutgoingMessage], reason: Exception | None = None
) -> SessionLost:
    """The error of messages for which it is unknown whether they were received.

    ``reason``: None if the peer has forgotten the session.
    """
    text = reason or f"{session.peer} has forgotten the session (it was restarted)"
    return SessionLost(f"{text}; {len(messages)} messages are in doubt", tuple(messages))


def _report(
    owner: JournalOwner,
    session: Session,
    rows: list[Stored],
    known: dict[int, OutgoingMessage],
    reason: Exception | None = None,
) -> None:
    """Report the messages in doubt as failed; they are not sent again."""
    messages: list[OutgoingMessage] = []
    for number, _, payload in rows:
        message = known.get(number) or session.sending.message_type(session)
        message.payload, message.stored_number = payload, number
        messages.append(message)
    if messages:
        error = in_doubt(session, messages, reason)
        for message in messages:
            owner.fail_message(session, message, error)
        owner.report_error(session, error)
