"""One conversation with one peer: it outlives the connections that carry it.

A session has two windows, one for each direction: `SendWindow` and `ReceiveWindow` keep the sequence numbers, what is
not acknowledged, and the credit. The session knows which connection carries it now (`Route`), whether either end has
ended, and what a store has of it (`SessionRecord`). Whatever concerns the endpoint as a whole it reports to its
`SessionOwner`.
"""

from __future__ import annotations

from linkbox.core.channel import AskHeader, Channel, OutgoingMessage, Unit
from linkbox.core.connection import Connection
from linkbox.core.context import Context
from linkbox.core.durable.write_schedule import Touchable
from linkbox.core.effects import ACK_NOT_DUE, Route
from linkbox.core.generation import Generation
from linkbox.core.receive_window import ReceiveWindow
from linkbox.core.rejections import Rejections
from linkbox.core.send_window import EARLY_BYTES, SendWindow
from linkbox.core.timers import NEVER
from linkbox.core.wire import frames
from linkbox.errors import StateError, TooLarge
from linkbox.events import Peer, Stage

ACK_NOW_FRAME = frames.frame(frames.ACK_NOW)


class SessionOwner:
    """What a session reports. `SessionTable` implements it."""

    __slots__ = ()

    def acked(self, session: Session, done: list[Unit]) -> None:
        """The peer has acknowledged these, and may have granted more credit."""
        raise NotImplementedError

    def message_failed(self, session: Session, message: OutgoingMessage) -> None:
        """The peer has rejected a message, or does not take one of its size."""
        raise NotImplementedError

    def end_arrived(self, session: Session) -> None:
        """The peer has ended: check whether everything that it sent before is in the mailbox."""
        raise NotImplementedError

    def end_acked(self, session: Session, done: list[Unit]) -> None:
        """The peer has everything, the END mark included."""
        raise NotImplementedError

    def session_due(self, session: Session, now: float) -> None:
        """The time ``session.due_at`` has come."""
        raise NotImplementedError

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        """The conversation is over for good."""
        raise NotImplementedError


class SessionRecord(Touchable):
    """What a store has of a session, as the core sees it. `Record` implements it."""

    __slots__ = ()

    def waiting(self) -> int:
        """Messages that are accepted, and are on disk only."""
        raise NotImplementedError

    def is_gated(self) -> bool:
        """Must the disk know something before more may be written to the peer?"""
        raise NotImplementedError

    def is_loading(self) -> bool:
        """Is what was sent still on disk only? Then what the peer says of it has to wait."""
        raise NotImplementedError

    def is_settled(self) -> bool:
        """Does the disk know that the peer has everything? Only then may the peer forget the session."""
        raise NotImplementedError

    def on_acked(self) -> None:
        """The peer has more of it."""
        raise NotImplementedError

    def resume(self, received: int) -> None:
        """The peer has that many of our units: go on from there."""
        raise NotImplementedError

    def offline(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def suspend(self) -> None:
        """The session ends with this life of the endpoint; the next goes on with it."""
        raise NotImplementedError

    def finish(self) -> None:
        """The conversation is over for good."""
        raise NotImplementedError

    def absent(self) -> list[OutgoingMessage]:
        """Receipts of messages that are on disk only."""
        raise NotImplementedError


class Ending:
    """How far the end of a conversation has come, in both directions."""

    __slots__ = ("is_acked", "is_requested", "is_sent", "peer_last")

    def __init__(self) -> None:
        self.is_requested = False
        """The application sends nothing more; END goes when the queue is empty."""
        self.is_sent = False
        self.is_acked = False
        self.peer_last: int | None = None
        """The peer has sent END: the number of its last unit."""

    def rewind(self) -> None:
        """A resume: both END marks are sent again."""
        self.is_sent = self.is_acked = False
        self.peer_last = None


class Attempts:
    """A client's attempts to connect."""

    __slots__ = ("connect_by", "failures", "last_failure", "progress")

    def __init__(self) -> None:
        self.failures = 0
        """Connections in a row that came to nothing."""
        self.last_failure: Exception | None = None
        self.progress = 0
        """Units that had been acknowledged or received when the last connection broke."""
        self.connect_by = NEVER
        """When the first welcome must be there."""

    def failed(self, error: Exception) -> None:
        """One more has come to nothing."""
        self.failures += 1
        self.last_failure = error

    def reached(self, progress: int) -> None:
        """A connection broke; if it had achieved something, the next attempt is made at once."""
        if progress > self.progress:
            self.progress, self.failures = progress, 0


class SessionTimer:
    """When the owner of a session wants to look at it again."""

    __slots__ = ("_session", "due_at", "timer_at")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.due_at = NEVER
        self.timer_at = NEVER
        """When `handle_timer` will be called (kept by `Timers`)."""

    def wake_at(self, when: float) -> None:
        """Call `SessionOwner.session_due` then."""
        self.due_at = when
        self._session.context.effects.timers.schedule(self, when)

    def stop(self) -> None:
        """Call it not at all."""
        self.due_at = NEVER

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        return self.due_at if self._session.error is None else NEVER

    def handle_timer(self, now: float) -> None:
        """The time has come that the owner had set."""
        if now >= self.due_at:
            self.due_at = NEVER
            self._session.owner.session_due(self._session, now)


class Session(Channel):
    """Both directions of one conversation. Knows no socket, no clock and no frame layout."""

    __slots__ = (
        "attempts",
        "context",
        "ending",
        "generation",
        "is_up",
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
        self.context = context
        self.owner = owner
        self.route = Route(context.effects)
        self.generation = Generation()
        self.attempts = Attempts()
        self.sending = SendWindow(self, context.limits, context.settings.receipts)
        self.receiving = ReceiveWindow(peer, self.route, context.limits, context.paused_links)
        self.rejections = Rejections()
        self.ending = Ending()
        self.resumes = True
        """May another connection carry it on?"""
        self.is_up = False
        """Has a connection, and CONNECTED was emitted."""
        self.record: SessionRecord | None = None
        self.successor: Session | None = None
        """The session that took over what this one could not send, if any."""
        self.timer = SessionTimer(self)

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
        # What a store has kept of an earlier life does not count.
        return self.generation.established if self.record is None else self.is_up

    def connect_within(self, deadline: float) -> None:
        self.attempts.connect_by = min(self.attempts.connect_by, deadline)

    def latest(self) -> Session:
        session = self
        while session.successor is not None:
            session = session.successor
        return session

    def rename(self, peer: Peer) -> None:
        """The peer has said what it is called."""
        self.peer = self.receiving.peer = peer

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
        """A resume: the peer has that many units of ours. `ProtocolViolation` if that cannot be."""
        self.sending.rewind(received)
        self.ending.rewind()

    # -- sending ---------------------------------------------------------------------------------------

    def stage_of(self, message: OutgoingMessage) -> Stage:
        return self.sending.stage_of(message, self.context.is_plain)

    def has_room(self) -> bool:
        return self.sending.has_room()

    def in_flight(self) -> int:
        units = self.sending.in_memory
        return units if self.record is None else units + self.record.waiting()

    def send_at_once(self, payload: bytes) -> OutgoingMessage | None:
        sending, link, limits = self.sending, self.route.link, self.context.limits
        if (
            link is None
            or self.record is not None
            or self.error is not None
            or self.ending.is_requested
            or len(payload) > sending.peer_message
            or sending.held_bytes >= limits.window_bytes
            or len(sending.unacked) >= limits.window_messages
        ):
            return None
        effects, message = self.route.effects, sending.message_type(self, payload)
        if not link.send_at_once(message, effects.now):
            return None
        effects.to_write.append(link)
        return message

    def send(self, payload: bytes) -> OutgoingMessage:
        self.check_open()
        sending, route = self.sending, self.route
        if len(payload) > sending.peer_message:
            raise TooLarge(
                f"{self.peer} takes messages of at most {sending.peer_message} bytes, not {len(payload)}; "
                "raise Limits(message=...) there"
            )
        message = sending.message_type(self, payload)
        link = route.link
        if link is None:
            sending.enqueue(message)
        else:
            effects = route.effects
            effects.to_write.append(link)
            if not link.send_at_once(message, effects.now):
                sending.enqueue(message)
        return message

    def send_later(self, payload: bytes) -> OutgoingMessage:
        message = self.sending.message_type(self, payload)
        self.sending.enqueue(message)
        return message

    def send_many(self, payloads: list[bytes]) -> int:
        return self.sending.send_all(payloads, not self.context.is_plain)

    def send_part(self, header: AskHeader, payload: bytes) -> OutgoingMessage:
        """Send a message of a request or a response, or a frame about one."""
        message = self.sending.message_type(self, payload, header)
        link = self.route.link
        if link is None or not link.send_at_once(message, self.context.effects.now):
            self.sending.enqueue(message)
        self.route.write_soon()
        return message

    def check_open(self) -> None:
        """`StateError` if nothing more can be sent."""
        if self.ending.is_requested or self.error is not None:
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
        """The limits (bytes, units) to grant now; remembered as granted."""
        context, receiving = self.context, self.receiving
        limits, mailbox = context.limits, context.mailbox
        if context.pattern.asks and context.is_client:
            receiving.grant_endless()  # Responses need no credit: the requests in flight are bounded instead.
        elif context.pattern.asks and not self.sending.has_room():
            pass  # A peer that does not take responses may send no more requests.
        elif context.effects.events.pending >= limits.mailbox_messages:
            pass  # A callback blocks: its events count as well.
        elif mailbox.overflow != "block":
            window = max(limits.mailbox_bytes, EARLY_BYTES)
            units = max(limits.mailbox_messages, min(mailbox.requested, window))
            receiving.grant(0, 0, units, window)
        elif mailbox.nbytes < max(limits.mailbox_total, mailbox.requested) or not receiving.waiting:
            window = max(limits.mailbox_bytes, mailbox.requested)
            units = max(limits.mailbox_messages, min(mailbox.requested, window))
            receiving.grant(receiving.waiting, receiving.waiting_bytes, units, window)
        return receiving.granted_bytes, receiving.granted_units

    def ack_frame(self) -> bytes:
        """An ACK. The caller must write it: it counts as acknowledged."""
        processed, taken = self.receiving.marks()
        nbytes, units = self.credit()
        return frames.encode_ack(processed, taken, nbytes, units)
