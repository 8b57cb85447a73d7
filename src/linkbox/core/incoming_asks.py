"""The requests of one client, as a server keeps them, and the memory that the clients share for them."""

from __future__ import annotations

from collections import OrderedDict, deque

from linkbox.core.arrival import AskState, Assembler
from linkbox.core.context import Context
from linkbox.core.session import Session
from linkbox.core.values import Value
from linkbox.core.wire import frames

OVERHEAD = 512
"""Bytes counted for a request, each of its messages and each response, besides the payload: empty ones use
memory too."""


class IncomingAsk(AskState):
    """A client's request that has no response yet."""

    __slots__ = ("asks", "deadline", "held", "is_cancelled", "is_finished", "is_whole", "memory", "messages")

    def __init__(self, asks: SessionAsks, id: int, deadline: float | None) -> None:
        self.session: Session = asks.session
        self.id = id
        self.assembler: Assembler | None = None
        self.asks: SessionAsks = asks
        self.deadline: float | None = deadline
        self.messages: list[Value] = []
        self.memory: int = 0
        """Bytes of memory of those that were decoded."""
        self.held: int = 0
        """Bytes of memory of a request of several pieces, counted until it is in the mailbox."""
        self.is_whole: bool = False
        """Has the whole request arrived?"""
        self.is_cancelled: bool = False
        self.is_finished: bool = False
        """Is there a response or a failure, or was it cancelled? Then nothing more can be sent."""


class SessionAsks:
    """The requests of one session."""

    __slots__ = ("halves", "held", "held_at", "is_full", "kept", "newest", "open", "raw", "session", "unread")

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.open: dict[int, IncomingAsk] = {}
        self.halves: dict[int, IncomingAsk] = {}
        """Those of them that have not arrived completely."""
        self.newest: int = 0
        """The highest id used so far."""
        self.raw: Assembler = Assembler()
        """With Raw: the request, which is complete when the stream ends."""
        self.unread: deque[bytes] = deque()
        """With other plain framings: the requests that wait for their turn."""
        self.held: int = 0
        """Bytes of memory of requests that are incomplete, or wait to be decoded or for their turn: credit
        does not limit them."""
        self.held_at: float = 0.0
        """When the last of them arrived."""
        self.kept: int = 0
        """Bytes of responses that the peer has not acknowledged, and of requests that wait until it has."""
        self.is_full: bool = False
        """Must the peer take some of these responses before a further request is started?"""


class AskMemory:
    """What the requests of all clients use of two limits: one for requests, one for responses.

    A client may use as much as then is left for the others: alone one half of a limit, beside a client that
    does so one quarter of it. So there is always room for the requests of the next client.
    """

    __slots__ = ("_context", "_holders", "gathered", "kept", "limit")

    def __init__(self, context: Context) -> None:
        limits = context.limits
        self._context = context
        pieces = limits.message // frames.MAX_ASK_PIECE + 3
        self.limit: int = max(limits.mailbox_total, 2 * (limits.message + pieces * OVERHEAD))
        """For each of the two, in bytes. One client alone can send a message of any size."""
        self.gathered: int = 0
        """The sum of `SessionAsks.held`."""
        self.kept: int = 0
        """The sum of `SessionAsks.kept`."""
        self._holders: OrderedDict[SessionAsks, None] = OrderedDict()
        """Clients with incomplete requests: first those without a connection, then the longest silent one."""

    def hold(self, asks: SessionAsks, size: int, now: float) -> bool:
        """Count bytes of an incomplete request. False: there is no room, so the request must fail.

        Incomplete requests of clients that are disconnected, or have been silent for long, fail first.
        """
        self.count(asks, size)
        if not asks.held:
            return True
        asks.held_at = now
        self._holders[asks] = None
        self._holders.move_to_end(asks)
        return asks.held <= self.limit - self.gathered

    def count(self, asks: SessionAsks, size: int) -> None:
        """Count bytes that are kept of a client's requests; negative: that are not kept any more."""
        asks.held += size
        self.gathered += size
        if not asks.held:
            self._holders.pop(asks, None)

    def disconnected(self, asks: SessionAsks) -> None:
        """This client has lost its connection: its incomplete requests are the first to fail."""
        if asks in self._holders:
            self._holders.move_to_end(asks, last=False)

    def stale(self, asks: SessionAsks, now: float) -> SessionAsks | None:
        """Another client whose incomplete requests must fail to make room for this one; each comes once."""
        first = next(iter(self._holders), asks)
        is_stale = first.session.link is None or now - first.held_at > self._context.limits.progress
        if first is asks or not is_stale:
            return None
        del self._holders[first]  # Requests of it that are complete, and wait to be decoded, stay.
        return first

    def is_over(self, asks: SessionAsks) -> bool:
        """Does this client use more than its part for requests?"""
        return asks.held > self.limit - self.gathered

    def refusal(self, asks: SessionAsks) -> str:
        """The reason to let a request of a client fail that does."""
        return (
            f"the incomplete requests of this client take {asks.held} bytes of memory, and all clients "
            f"share {self.limit}"
        )

    def keep(self, asks: SessionAsks) -> bool:
        """Count the responses that are kept for a client now. True: it must take some of them first."""
        limits, session = self._context.limits, asks.session
        sending = session.sending
        units = len(sending.queue) + len(sending.unacked)
        size = sending.held_bytes + OVERHEAD * units
        kept = size + session.receiving.waiting_bytes if asks.is_full else size
        self.kept += kept - asks.kept
        asks.kept = kept
        return units > 0 and (
            size >= limits.window_bytes or units >= limits.window_messages or size > self.limit - self.kept
        )

    def is_kept(self, asks: SessionAsks) -> bool:
        """May the responses for a client that is disconnected wait for its return?"""
        return not asks.kept or asks.kept <= self.limit - self.kept

    def forget(self, asks: SessionAsks) -> None:
        """The session of this client is closed."""
        self.count(asks, -asks.held)
        self.kept -= asks.kept
        asks.kept = 0
