"""The core of an endpoint: connects its parts and makes no decisions of its own.

`ServerCore` and `ClientCore` are the interface of the core for operations and drivers. No call blocks, and
none is thread-safe: a driver makes all calls under its one lock and then does what ``effects`` contains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from linkbox.core.admission import Admission, Verdict
from linkbox.core.arrival import Arrival
from linkbox.core.asks_client import ClientAsks
from linkbox.core.asks_server import IncomingAsk, ServerAsks
from linkbox.core.backoff import Backoff
from linkbox.core.channel import AskHeader, Channel, OutgoingMessage
from linkbox.core.client_side import ClientSide
from linkbox.core.connection import Connection
from linkbox.core.context import Context
from linkbox.core.conversations import Conversations
from linkbox.core.dialing import Dialing
from linkbox.core.durable.entries import JournalOwner, Spool
from linkbox.core.durable.journal import Journal
from linkbox.core.durable.record import Record
from linkbox.core.effects import Effects
from linkbox.core.handshake import ClientHandshake, ServerHandshake
from linkbox.core.inbox import Inbox
from linkbox.core.link import Link, State
from linkbox.core.link_table import LinkTable
from linkbox.core.linked_link import LinkedLink
from linkbox.core.mailbox import Mailbox
from linkbox.core.pending_accepts import PendingAccept, PendingAccepts
from linkbox.core.plain_link import PlainLink
from linkbox.core.server_side import ServerSide
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.settings import Settings
from linkbox.core.source import Source
from linkbox.core.statistics import statistics
from linkbox.core.status import ClientStatus, Status
from linkbox.core.values import Value
from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire import frames
from linkbox.errors import LinkError, PeerLost, StoreError
from linkbox.events import EventKind, Peer, Statistics


class EndpointCore(JournalOwner):
    """The base class of the cores of servers and clients."""

    __slots__ = (
        "arrivals",
        "channels",
        "context",
        "effects",
        "inbox",
        "links",
        "mailbox",
        "sessions",
        "status",
    )

    def __init__(self, settings: Settings, mailbox: Mailbox, is_client: bool) -> None:
        self.context: Context = Context(settings, mailbox, is_client)
        self.mailbox: Mailbox = mailbox
        self.effects: Effects = self.context.effects
        self.sessions: SessionTable = SessionTable(
            self.context, ClientAsks(self.context), ServerAsks(self.context)
        )
        self.channels: Mapping[str, Channel] = self.sessions.by_id
        """The conversations that are not closed, by the ids of their peers."""
        self.links: LinkTable = LinkTable(self.context, self.sessions)
        self.inbox: Inbox = Inbox(self.context, self.sessions)
        self.status: Status = Status(self.sessions)
        self.arrivals: deque[Arrival] = deque()
        """What has arrived and is not decoded: the driver decodes each, in order, and calls `deliver`."""

    # -- for networks ----------------------------------------------------------------------------------

    def received(self, connection: Connection, data: bytes, now: float) -> None:
        """Process received bytes: adds to `arrivals`."""
        self.effects.now = now
        if isinstance(connection, PlainLink):
            self.arrivals += connection.receive(data, now)
            return
        assert isinstance(connection, LinkedLink)
        connection.heard_at = now
        if connection.handshake is not None:
            rest = self._shake_hands(connection, data, now)
            if rest is None:
                return
            data = rest
        if connection.state is State.CLOSING:
            connection.drain(data)
            if connection.is_behind:  # It reads on, to the end.
                connection.is_behind = False
                self.effects.to_write.append(connection)
                if connection.eof_waits:
                    connection.receive_eof(now)
        elif connection.reader is not None:
            self.arrivals += connection.reader.receive(data, now)

    def _shake_hands(self, link: LinkedLink, data: bytes, now: float) -> bytes | None:
        """Let the handshake process the bytes; return the bytes behind it once the link is open."""
        link.has_begun = True
        if link.state is State.CLOSING:
            link.drain(data)
            return None
        return self._continue_handshake(link, data, now)

    def _continue_handshake(self, link: LinkedLink, data: bytes, now: float) -> bytes | None:
        raise NotImplementedError

    def ended(self, connection: Connection, now: float) -> None:
        """Process the peer's FIN: adds to `arrivals`."""
        assert isinstance(connection, Link)
        if connection.is_behind and connection.is_open():
            connection.eof_waits = True
            return
        self.effects.now = now
        self.effects.to_write.append(connection)
        self.arrivals += connection.receive_eof(now)

    def lost(self, connection: Connection, error: OSError, now: float) -> None:
        """The connection failed with ``error``."""
        self.effects.now = now
        connection.abort(PeerLost(f"{connection.address}: the connection broke ({error})"))

    def deliver(self, arrival: Arrival, values: Sequence[Value], now: float) -> None:
        """Store decoded messages. ``values`` has an exception for each message that could not be decoded."""
        self.inbox.deliver(arrival, values, now)

    def next_timer(self) -> float:
        """When to call `handle_timers` next; infinity if there is no timer."""
        return self.effects.next_timer()

    def handle_timers(self, now: float) -> None:
        """Handle every timer that is due."""
        effects = self.effects
        effects.now = now
        if now >= effects.acks_due_at:
            effects.flush_acks()
        effects.timers.handle(now)

    # -- for operations --------------------------------------------------------------------------------

    @property
    def changed(self) -> WaitQueue:
        """Woken when sessions or connections come and go."""
        return self.sessions.changed

    @property
    def is_stopping(self) -> bool:
        """Has `shutdown` or `abort` been called?"""
        return self.context.is_stopping

    @property
    def undelivered(self) -> int:
        """The number of messages accepted for sending that are not known to have arrived."""
        return self.sessions.undelivered

    @property
    def kept(self) -> int:
        """How many of the undelivered messages the store keeps for the next start."""
        return self.sessions.kept

    def peers(self) -> tuple[Peer, ...]:
        """The connected peers."""
        return self.sessions.peers()

    def statistics(self, now: float = 0.0) -> Statistics:
        """A snapshot of all counters."""
        sessions = list(self.sessions.by_id.values())
        return statistics(sessions, self.context.counters, self.mailbox, now, self.status.waits_for(now))

    def is_idle(self) -> bool:
        """Are there no conversations and no connections?"""
        return not self.sessions.by_id and not self.links.links

    def raise_limit(self, count: int) -> None:
        """A caller waits for more than the mailbox usually holds: grant credit for that much."""
        self.inbox.raise_limit(count)

    def events_done(self, count: int) -> None:
        """Callbacks have returned for ``count`` events."""
        self.inbox.events_done(count)

    def forget_data_events(self) -> None:
        """The last DATA callback was removed: drop the DATA events, which a new callback emits again."""
        self.events_done(self.effects.events.forget_data())

    def listen_for(self, kinds: set[EventKind]) -> None:
        """Set the kinds that have callbacks: only events of these kinds are emitted."""
        self.effects.events.listening = kinds
        if EventKind.DATA not in kinds:
            self.forget_data_events()

    def shutdown(self, now: float) -> None:
        """Send what is left, end the conversations gracefully, close."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close everything now; messages that are not acknowledged fail. A store keeps what it can."""
        self.context.is_stopping = True
        self.effects.report_suppressed()
        for session in list(self.sessions.by_id.values()):
            error = PeerLost(f"stopped before {session.peer} had everything")
            try:
                self.sessions.close_session(session, error)
            except BaseException as failure:  # the others must be closed nevertheless
                self.effects.failures.append((session.peer, failure))
        self.links.abort_all()
        if self.journal is not None:
            self.forget_data_events()
            self.journal.leave_inbox()

    # -- stores ----------------------------------------------------------------------------------------

    @property
    def has_store(self) -> bool:
        """Are messages written to a store before they are sent? With a plain framing it is an inbox only."""
        return self.sessions.journal is not None and not self.context.is_plain

    @property
    def journal(self) -> Journal | None:
        """The journal, if there is a store."""
        return self.sessions.journal

    def open_journal(self, life: int, next_key: int, wake: Callable[[], None]) -> Journal:
        """Make the journal of an endpoint with a store."""
        journal = self.sessions.journal = Journal(self.context, self, life, next_key, wake)
        return journal

    def spool(
        self, channel: Channel, payloads: list[bytes], with_receipts: bool, held: int | None = None
    ) -> Spool:
        """Send messages by way of the store: accepted once the entry is settled. Also raises `StoreError`.

        ``held``: the bytes that the journal has spooled, if the caller has added them up.
        """
        assert isinstance(channel, Session)
        channel.check_open()
        journal, record = self.sessions.journal, channel.record
        assert journal is not None and isinstance(record, Record)
        message_type = self.context.settings.receipts
        messages = [message_type(channel, payload) for payload in payloads] if with_receipts else None
        return journal.spool(record, payloads, messages, journal.spooled() if held is None else held)

    def store_arrival(self, arrival: Arrival, values: Sequence[Value], at: float) -> None:
        journal = self.sessions.journal
        assert journal is not None
        if not journal.schedule.is_inbox_left:
            self.inbox.store(arrival, values, at)

    def fail_message(self, session: Session, message: OutgoingMessage, error: Exception) -> None:
        self.sessions.fail_message(session, message, error)

    def report_error(self, session: Session, error: Exception) -> None:
        self.effects.emit(EventKind.ERROR, session.peer, error)

    def wake(self, queue: WaitQueue) -> None:
        self.effects.to_wake.append(queue)


class ServerCore(EndpointCore):
    """The core of a server."""

    __slots__ = ("admission", "asks", "side")

    def __init__(self, settings: Settings, mailbox: Mailbox, max_peers: int, now: float = 0.0) -> None:
        super().__init__(settings, mailbox, is_client=False)
        self.context.knows_since = now
        self.side: ServerSide = ServerSide(self.context, self.sessions, self.links, self.inbox, max_peers)
        self.sessions.side = self.side
        self.admission: Admission = self.side.admission
        self.asks: ServerAsks = self.sessions.server_asks
        """The requests without a response."""

    def open_journal(self, life: int, next_key: int, wake: Callable[[], None]) -> Journal:
        journal = super().open_journal(life, next_key, wake)
        journal.is_shared = self.admission.places.max_peers > 1
        return journal

    def spool_each(self, channels: Sequence[Channel], payload: bytes) -> list[Spool | StoreError]:
        """Send a message to several peers by way of the store. The entry of each, or why there is none."""
        journal = self.sessions.journal
        assert journal is not None
        held, entries = journal.spooled(), list[Spool | StoreError]()
        for channel in channels:
            try:
                entries.append(self.spool(channel, [payload], True, held))
                held += len(payload)
            except StoreError as error:
                entries.append(error)
        return entries

    def accept(self, address: str, origin: str | None, now: float) -> Link | None:
        """Make the link for a new connection; see `Admission.accept`."""
        return self.admission.accept(address, origin, now)

    def _continue_handshake(self, link: LinkedLink, data: bytes, now: float) -> bytes | None:
        assert isinstance(link.handshake, ServerHandshake)
        return self.admission.shake_hands(link, link.handshake, data, now)

    @property
    def pending_accepts(self) -> PendingAccepts:
        """Connections that wait for the application's decision: `take` one, then call `decide`."""
        return self.admission.pending_accepts

    def decide(self, pending: PendingAccept, verdict: Verdict, now: float) -> None:
        """Admit or refuse a connection, as the application has decided (``accept=``)."""
        self.admission.decide(pending, verdict, now)

    def channel_of(self, peer: Peer) -> Session | None:
        """The conversation with a peer. Its id alone does not identify it: the client chooses that."""
        session = self.sessions.by_id.get(peer.id)
        return session if session is not None and session.peer.identity == peer.identity else None

    def source_of(self, peer: Peer) -> Source | None:
        """A connected peer's part of the mailbox."""
        session = self.channel_of(peer)
        return None if session is None else session.receiving

    def restore_session(self, session: Session, is_ending: bool, now: float) -> None:
        """Restore a session from the store after a restart of the server."""
        session.generation.established = True
        session.ending.is_requested = is_ending
        self.side.await_return(session)

    def answer(self, ask: IncomingAsk, payload: bytes) -> None:
        """Send the response to a request. `StateError` if there was a response already."""
        context, session = self.context, ask.session
        self.asks.respond(ask, AskHeader(frames.ANSWER, ask.id), payload)
        if context.is_plain or context.is_stopping or session.ending.peer_last is not None:
            self.inbox.ask_closed(session)  # something has waited for this

    def fail(self, ask: IncomingAsk, type: str, text: str, error: BaseException | None = None) -> None:
        """Let a request fail. `StateError` if there was a response already."""
        self.inbox.fail(ask, type, text, error)

    def ignore(self, ask: IncomingAsk) -> None:
        """Send no response to a request of a plain framing. `StateError` if there was a response already."""
        self.inbox.ignore(ask)

    def disconnect(self, channel: Channel, reason: str, now: float) -> None:
        """Disconnect a peer for the application."""
        assert isinstance(channel, Session)
        self.effects.now = now
        self.side.disconnect(channel, reason)

    def shutdown(self, now: float) -> None:
        """Shut down gracefully, once everything is sent."""
        self.effects.now = now
        self.context.is_stopping = True
        self.side.shutdown(now)


class ClientCore(EndpointCore):
    """The core of a client."""

    __slots__ = ("asks", "conversations", "dialing", "side")

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        address: str,
        reconnect: Backoff | None,
        connect_timeout: float,
        random: Callable[[], float],
        resumes: bool,
    ) -> None:
        super().__init__(settings, mailbox, is_client=True)
        self.dialing: Dialing = Dialing(
            self.context, self.sessions, address, reconnect, connect_timeout, random
        )
        self.side: ClientSide = ClientSide(self.context, self.sessions, self.links, self.dialing, resumes)
        self.sessions.side = self.side
        self.conversations: Conversations = self.side.conversations
        self.status: Status = ClientStatus(self.sessions, self.conversations)
        self.asks: ClientAsks = self.sessions.client_asks
        """The requests that wait for their responses."""

    @property
    def conversation(self) -> Session | None:
        """The conversation that messages are sent on."""
        return self.conversations.main

    @conversation.setter
    def conversation(self, session: Session | None) -> None:
        self.conversations.main = session

    def begin(self, now: float) -> Session:
        """Begin a conversation, and connect at once."""
        self.effects.now = now
        return self.conversations.begin(now)

    def restore_session(self, session: Session, is_ending: bool, now: float) -> None:
        """Restore a session from the store after a restart of the client."""
        self.conversations.restore(session, is_ending, now)

    def connected(self, session: Session, address: str, now: float) -> Link | None:
        """Make the link for a new connection of the session. None: close it, it is not needed any more."""
        self.effects.now = now
        return self.side.connected(session, address, now)

    def connect_failed(self, session: Session, error: Exception, now: float) -> None:
        """The attempt to connect failed: try again later, or give up."""
        self.effects.now = now
        if session.error is None:
            # After a reset the server is not absent: it has closed the connection.
            is_absent = not isinstance(error.__cause__, ConnectionResetError)
            self.dialing.failed(session, error, now, is_absent)

    def connect_refused(self, session: Session, error: LinkError, now: float) -> None:
        """The attempt to connect was refused: trying again cannot help."""
        self.effects.now = now
        if session.error is None:
            self.side.connect_refused(session, error, now)

    def _continue_handshake(self, link: LinkedLink, data: bytes, now: float) -> bytes | None:
        assert isinstance(link.handshake, ClientHandshake)
        return self.side.shake_hands(link, link.handshake, data, now)

    def shutdown(self, now: float) -> None:
        """Send what is left, then END, then close."""
        self.effects.now = now
        self.context.is_stopping = True
        self.side.shutdown(now)
