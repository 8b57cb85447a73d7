"""A session: one conversation with one peer, which may continue on another connection after a failure.

A session has one window for each direction: `SendWindow` and `ReceiveWindow` keep the sequence numbers, the
messages that are not acknowledged, and the credit. The session also holds the connection that carries it now
(`Route`), the state of its end (`Ending`), and its record in a store (`SessionRecord`). It reports to its
`SessionOwner` what concerns the endpoint.
"""

from __future__ import annotations

from linkbox.core.backoff import Backoff
from linkbox.core.channel import AskHeader, Channel, OutgoingMessage, Unit
from linkbox.core.connection import Connection
from linkbox.core.context import Context
from linkbox.core.durable.write_schedule import Touchable
from linkbox.core.effects import ACK_NOT_DUE, Route
from linkbox.core.generation import Generation
from linkbox.core.receive_window import ReceiveWindow
from linkbox.core.rejections import Rejections
from linkbox.core.resumption import rewind
from linkbox.core.send_window import EARLY_BYTES, SendWindow
from linkbox.core.timers import NEVER
from linkbox.core.wire import frames
from linkbox.errors import EndOfData, StateError, TooLarge
from linkbox.events import Peer, Stage

ACK_NOW_FRAME = frames.frame(frames.ACK_NOW)
WARN_AFTER = 10.0
"""Seconds without a connection after which a client warns; then again after twice as long."""


class SessionOwner:
    """The reports of a session to its owner. `SessionTable` implements it."""

    __slots__ = ()

    def acked(self, session: Session, done: list[Unit]) -> None:
        """The peer has acknowledged these units, and may have granted more credit."""
        raise NotImplementedError

    def message_failed(self, session: Session, message: OutgoingMessage) -> None:
        """The peer has rejected a message, or does not accept one of its size."""
        raise NotImplementedError

    def end_arrived(self, session: Session) -> None:
        """The peer has sent END: check whether everything before it is in the mailbox."""
        raise NotImplementedError

    def end_acked(self, session: Session, done: list[Unit]) -> None:
        """The peer has acknowledged everything, including the END mark."""
        raise NotImplementedError

    def session_due(self, session: Session, now: float) -> None:
        """The time ``session.due_at`` has come."""
        raise NotImplementedError

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        """Close the conversation."""
        raise NotImplementedError


class SessionRecord(Touchable):
    """A session's record in a store. `Record` implements it."""

    __slots__ = ()

    def touch(self, is_urgent: bool = False) -> None:
        """Something that the record contains has changed: write it soon."""
        raise NotImplementedError

    def waiting(self) -> int:
        """The number of messages that are accepted and only on disk."""
        raise NotImplementedError

    def is_gated(self) -> bool:
        """Must something be on disk before more may be written to the peer?"""
        raise NotImplementedError

    def is_loading(self) -> bool:
        """Are the messages that were sent still only on disk? Then frames that refer to them have to wait."""
        raise NotImplementedError

    def is_settled(self) -> bool:
        """Is it on disk that the peer has everything? Only then may the peer forget the session."""
        raise NotImplementedError

    def on_acked(self) -> None:
        """The peer has acknowledged more units."""
        raise NotImplementedError

    def resume(self, received: int) -> None:
        """Continue after the ``received`` units that the peer has."""
        raise NotImplementedError

    def offline(self) -> None:
        """The connection is closed."""
        raise NotImplementedError

    def suspend(self) -> None:
        """The endpoint stops; the session continues after a restart."""
        raise NotImplementedError

    def finish(self) -> None:
        """The conversation is closed."""
        raise NotImplementedError

    def absent(self) -> list[OutgoingMessage]:
        """Receipts of messages that are only on disk."""
        raise NotImplementedError


class Ending:
    """The state of the end of a conversation, in both directions."""

    __slots__ = ("is_acked", "is_requested", "is_sent", "peer_last")

    def __init__(self) -> None:
        self.is_requested: bool = False
        """The application sends nothing more; END is written when the queue is empty."""
        self.is_sent: bool = False
        self.is_acked: bool = False
        self.peer_last: int | None = None
        """The number of the peer's last unit, once it has sent END."""

    def rewind(self) -> None:
        """The session resumes: send both END marks again."""
        self.is_sent = self.is_acked = False
        self.peer_last = None


class Attempts:
    """A client's attempts to connect."""

    __slots__ = (
        "began_at",
        "connect_by",
        "connected_at",
        "failed_at",
        "failures",
        "last_failure",
        "least_pause",
        "progress",
        "renewals",
        "retry_at",
        "route",
        "useless",
        "warn_after",
        "was_short",
    )

    def __init__(self) -> None:
        self.failures: int = 0
        """Failed attempts in a row."""
        self.last_failure: Exception | None = None
        self.progress: int = 0
        """Units acknowledged or received up to the last lost connection."""
        self.renewals: int = 0
        """Sessions before this one, in a row, that the server has forgotten."""
        self.useless: int = 0
        """Connections to this server, in a row, that were welcomed and of no use."""
        self.least_pause: float = 0.0
        """Seconds that pass before the next attempt in any case."""
        self.was_short: bool = False
        """Was the last connection over at once?"""
        self.connect_by: float = NEVER
        """The deadline of the first welcome."""
        self.retry_at: float = NEVER
        """When the next attempt is made, if one has failed."""
        self.began_at: float = NEVER
        """When the attempt that is under way began; `NEVER`: none is."""
        self.failed_at: float = -NEVER
        """When the last failed attempt failed."""
        self.warn_after: float = WARN_AFTER
        self.connected_at: float = NEVER
        """When the last successful attempt succeeded."""
        self.route: int = 0
        """With several addresses: the one that the next attempt begins with."""

    def failed(self, error: Exception, now: float) -> None:
        """Count a failed attempt."""
        self.failures += 1
        self.last_failure = error
        self.began_at, self.failed_at = NEVER, now

    def over(self, progress: int, is_bad: bool, pauses: Backoff, now: float) -> bool:
        """A welcomed connection is over. Was it of use? Then the failures before it do not count any more.

        ``is_bad``: whatever was transferred, the server broke the protocol.
        """
        lasted = now - self.connected_at
        is_long = lasted >= pauses.maximum
        if is_long:
            self.renewals = 0
        is_useful = not is_bad and (is_long or (progress > self.progress and self.renewals < 2))
        self.progress = max(self.progress, progress)
        if is_useful:
            self.failures = self.useless = 0
        else:
            self.useless += 1
        # A server may send a message and close, thousands of times a second.
        is_short = lasted < pauses.initial
        self.least_pause = pauses.initial if is_short and self.was_short else 0.0
        self.was_short = is_short
        return is_useful

    def renew(self, old: Attempts) -> None:
        """The server has forgotten the session of ``old``: one that forgets each of them is no better than
        one that is not there."""
        self.renewals = old.renewals + 1
        self.failures, self.useless, self.was_short = old.renewals, old.useless, old.was_short

    def follow(self, old: Attempts, is_failure: bool) -> None:
        """The server was stopped: count on. ``is_failure``: its connection was of no use."""
        self.failures = old.failures + is_failure
        self.renewals, self.was_short = old.renewals, old.was_short


class SessionTimer:
    """The timer of a session: calls `SessionOwner.session_due`."""

    __slots__ = ("_session", "_timers", "due_at", "timer_at")

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session
        """None once it is closed: nothing must refer back to a closed session, see `close`."""
        self._timers = session.context.effects.timers
        self.due_at: float = NEVER
        self.timer_at: float = NEVER
        """When `handle_timer` will be called (kept by `Timers`)."""

    def wake_at(self, when: float) -> None:
        """Call `SessionOwner.session_due` at this time."""
        self.due_at = when
        self._timers.schedule(self, when)

    def stop(self) -> None:
        """Cancel the call."""
        self.due_at = NEVER

    def close(self) -> None:
        """The session is closed. It and its timer must not refer to each other any more: a cycle is freed
        only by the garbage collector, which stops the process while it looks through every object."""
        self._session = None

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        return self.due_at if self._session is not None else NEVER

    def handle_timer(self, now: float) -> None:
        """Call the owner, if the timer is due."""
        session = self._session
        if session is not None and now >= self.due_at:
            self.due_at = NEVER
            session.owner.session_due(session, now)


class Session(Channel):
    """Both directions of one conversation. It uses no socket, no clock and no frame layout."""

    __slots__ = (
        "acked_at",
        "attempts",
        "context",
        "ending",
        "generation",
        "is_announced",
        "is_up",
        "moved_at",
        "owner",
        "receiving",
        "record",
        "rejections",
        "resumes",
        "route",
        "sending",
        "successor",
        "timer",
    )

    def __init__(self, peer: Peer, context: Context, owner: SessionOwner) -> None:
        super().__init__(peer)
        self.context: Context = context
        self.owner: SessionOwner = owner
        self.route: Route = Route(context.effects)
        self.generation: Generation = Generation()
        self.attempts: Attempts = Attempts()
        self.sending: SendWindow = SendWindow(peer, context.limits, context.settings.receipts)
        self.receiving: ReceiveWindow = ReceiveWindow(peer, self.route, context)
        self.rejections: Rejections = Rejections()
        self.ending: Ending = Ending()
        self.resumes: bool = True
        """Can the session continue on another connection?"""
        self.is_up: bool = False
        """Is there a connection?"""
        self.moved_at: float = context.effects.now
        """When the session got its connection, or lost it; `NEVER` if that was before a restart."""
        self.acked_at: float = context.effects.now
        """When the last acknowledgement arrived."""
        self.is_announced: bool | None = None
        """Was CONNECTED (or RESUMED) emitted for it, or dropped? None: it has no callback."""
        self.record: SessionRecord | None = None
        self.successor: Session | None = None
        """The session that took over the unsent messages of this one, if any."""
        self.timer: SessionTimer = SessionTimer(self)

    @property
    def link(self) -> Connection | None:
        """The connection that carries it now, or None."""
        return self.route.link

    @property
    def endpoint(self) -> object:
        return self.context.endpoint

    @property
    def is_plain(self) -> bool:
        return self.context.is_plain

    @property
    def is_ending(self) -> bool:
        return self.ending.is_requested

    @property
    def established(self) -> bool:
        return self.generation.established

    @property
    def last_failure(self) -> Exception | None:
        return self.attempts.last_failure

    def was_connected(self) -> bool:
        # A connection before a restart does not count.
        return self.generation.established if self.record is None else self.is_up

    def connect_within(self, deadline: float) -> None:
        self.attempts.connect_by = min(self.attempts.connect_by, deadline)

    def latest(self) -> Session:
        session = self
        while session.successor is not None:
            session = session.successor
        return session

    def rename(self, peer: Peer) -> None:
        """Set the peer, whose name is known now."""
        self.peer = self.receiving.peer = self.sending.peer = peer

    # -- connections -----------------------------------------------------------------------------------

    def attach(self, link: Connection) -> None:
        """This connection carries it from now on."""
        self.route.link = link

    def detach(self) -> Connection | None:
        """No connection carries it any more; returns the one that did."""
        link, self.route.link = self.route.link, None
        self.route.ack_due = ACK_NOT_DUE
        return link

    def rewind(self, received: int) -> None:
        """Resume after the units that the peer has received. `ProtocolViolation` for an impossible number."""
        rewind(self.sending, received)
        self.ending.rewind()

    # -- sending ---------------------------------------------------------------------------------------

    def stage_of(self, message: OutgoingMessage) -> Stage:
        return self.sending.stage_of(message, self.context.is_plain)

    def has_room(self) -> bool:
        return self.sending.has_room()

    def in_flight(self) -> int:
        units = self.sending.in_memory
        return units if self.record is None else units + self.record.waiting()

    def send_at_once(self, payload: bytes, header: AskHeader | None = None) -> OutgoingMessage | None:
        link = self.route.link
        if (
            link is None
            or (output := link.output) is None
            or output  # not written yet: this one is queued, and sent in a BATCH
            or self.record is not None
            or self.error is not None
            or (self.ending.is_requested and header is None)
        ):
            return None
        message = self.sending.send_at_once(self, payload, header)
        if message is None:
            return None
        effects = self.route.effects
        if header is None:
            output.append(frames.pack_header(frames.DATA_HEADER | len(payload)) + payload)
        else:
            output.append(header.frame(payload, True, True, effects.now))
        effects.to_write.append(link)
        return message

    def send(self, payload: bytes) -> OutgoingMessage:
        self.check_open()
        if len(payload) > self.sending.peer_message:
            raise TooLarge(
                f"{self.peer} takes messages of at most {self.sending.peer_message} bytes, not "
                f"{len(payload)}; raise Limits(message=...) there"
            )
        return self.send_at_once(payload) or self.send_part(payload, None)

    def send_later(self, payload: bytes) -> OutgoingMessage | None:
        sending = self.sending
        if not sending.has_room():
            return None
        message = sending.message_type(self, payload)
        sending.enqueue(message)
        return message

    def send_many(self, payloads: list[bytes]) -> int:
        return self.sending.send_all(self, payloads, not self.context.is_plain)

    def send_part(self, payload: bytes, header: AskHeader | None) -> OutgoingMessage:
        """Queue a message, possibly of a request or a response, or a FAIL or CANCEL; write it soon."""
        message, route = self.sending.message_type(self, payload, header), self.route
        self.sending.enqueue(message)
        if route.link is not None:
            route.effects.to_write.append(route.link)
        return message

    def check_open(self) -> None:
        """`StateError` if nothing more can be sent."""
        error = self.error
        if self.ending.is_requested or error is not None:
            if error is not None and not (self.established or isinstance(error, EndOfData)):
                failure = StateError(never_connected(self, f"{error}; start() tries again"))
                failure.__cause__ = error  # The compiler leaves out the cause in `raise … from`.
                raise failure
            raise StateError(f"the conversation with {self.peer} has ended; nothing more can be sent")

    def flush(self) -> None:
        self.route.write_soon()

    def end(self) -> None:
        self.ending.is_requested = True
        self.route.write_soon()

    def request_ack(self) -> None:
        link = self.route.link
        if link is not None and not self.context.is_plain and link.is_open():
            link.send_control(ACK_NOW_FRAME)

    def is_delivered(self) -> bool:
        return self.ending.is_acked

    def close(self, error: Exception | None) -> None:
        self.owner.close_session(self, error)

    # -- receiving -------------------------------------------------------------------------------------

    def credit(self) -> tuple[int, int]:
        """Return the limits (bytes, units) to grant now, and count them as granted."""
        context, receiving = self.context, self.receiving
        limits, mailbox = context.limits, context.mailbox
        if context.pattern.asks and context.is_client:
            receiving.grant_endless()  # Responses need no credit: open requests are limited instead.
        elif receiving.is_suspended:
            pass  # A peer that does not take its responses gets no credit for requests.
        elif context.effects.events.pending >= limits.mailbox_messages:
            pass  # A callback blocks: its events count as waiting messages.
        elif mailbox.overflow != "block":
            window = max(limits.mailbox_bytes, EARLY_BYTES)
            units = max(limits.mailbox_messages, min(mailbox.requested, window))
            receiving.grant(0, 0, units, window)
        elif not receiving.waiting or not mailbox.is_full_together():
            window, units = mailbox.window(receiving)
            receiving.grant(receiving.waiting, receiving.cost(), units, window)
        if receiving.arrived >= receiving.granted_units or receiving.arrived_bytes >= receiving.granted_bytes:
            context.full_mailbox.watch(receiving)
        return receiving.granted_bytes, receiving.granted_units

    def ack_frame(self) -> bytes:
        """Return an ACK frame. The caller must write it: its marks count as acknowledged."""
        processed, taken = self.receiving.marks()
        nbytes, units = self.credit()
        return frames.encode_ack(processed, taken, nbytes, units)


def never_connected(session: Session, why: str) -> str:
    """The text about a conversation that had no connection before it was closed."""
    if session.context.settings.comes_back:  # The conversation before it may have had one.
        return f"not connected to {session.peer.address}: {why}"
    return f"never connected to {session.peer.address}: {why}"
