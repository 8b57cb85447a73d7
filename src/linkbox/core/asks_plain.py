"""The client's side of requests over a plain framing, where a message belongs to a request by its order only.

One request at a time is in flight on a connection; the others wait for their turn. What arrives while none
is in flight, or does not match it, is *unsolicited* and goes to the mailbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from linkbox.core.arrival import AskState
from linkbox.core.channel import OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.session import Session
from linkbox.core.values import Value
from linkbox.dialogue import Dialogue
from linkbox.errors import PeerLost

PART_OVERHEAD = 64
"""Bytes counted for each message of a response in addition to its own."""


class PlainAsk(AskState):
    """What a request needs over a plain framing."""

    __slots__ = ("expects", "question", "receipt")

    receipt: OutgoingMessage | None
    question: Value
    """The request as the application gave it, for `Dialogue.match`."""
    expects: bool
    """Does it have a response?"""


class Outcome:
    """What a message has led to: a complete request, unsolicited messages, or nothing yet."""

    __slots__ = ("ask", "error", "size", "unsolicited", "value")

    def __init__(
        self,
        ask: PlainAsk | None = None,
        value: Value = None,
        error: Exception | None = None,
        unsolicited: Sequence[Value] = (),
        size: int = 0,
    ) -> None:
        self.ask: PlainAsk | None = ask
        self.value: Value = value
        self.error: Exception | None = error
        self.unsolicited: Sequence[Value] = unsolicited
        self.size: int = size
        """Bytes of memory of the unsolicited messages."""


class Turn:
    """Whose turn it is on one connection."""

    __slots__ = ("current", "error", "greeted", "held", "is_over", "parts", "size")

    def __init__(self, is_greeted: bool) -> None:
        self.greeted = -1 if is_greeted else 0
        """The number of messages of the greeting that have arrived; -1: all have."""
        self.current: PlainAsk | None = None
        """The request that waits for its response."""
        self.held: deque[PlainAsk] = deque()
        """Requests that are not sent yet."""
        self.is_over: bool = False
        """Is the connection about to be closed, because a late response could be taken for another?"""
        self.parts: list[Value] = []
        """What has arrived of the response."""
        self.size: int = 0
        """Its bytes of memory."""
        self.error: Exception | None = None
        """Why a message of the response could not be decoded."""


class PlainAsks:
    """The requests on all plain connections of a client."""

    __slots__ = ("_context", "_dialogue", "_turns")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._dialogue = context.settings.dialogue or Dialogue()
        self._turns: dict[Session, Turn] = {}

    def _turn(self, session: Session) -> Turn:
        turn = self._turns.get(session)
        if turn is None:
            turn = self._turns[session] = Turn(self._dialogue.greeting is None)
        return turn

    # -- sending ---------------------------------------------------------------------------------------

    def add(self, ask: PlainAsk) -> None:
        """Let a request wait for its turn: call `advance`."""
        self._turn(ask.session).held.append(ask)

    def advance(self, session: Session) -> list[PlainAsk]:
        """Send what may be sent now. Returns the requests that are done with that."""
        turn = self._turn(session)
        done: list[PlainAsk] = []
        while turn.held and turn.current is None and turn.greeted < 0 and not turn.is_over:
            ask = turn.held.popleft()
            assert ask.receipt is not None
            session.sending.enqueue(ask.receipt)
            session.route.write_soon()
            if ask.expects:
                turn.current = ask
            else:
                done.append(ask)
        return done

    def is_held(self, ask: PlainAsk) -> bool:
        """Does the request wait for its turn?"""
        turn = self._turns.get(ask.session)
        return turn is not None and ask in turn.held

    def is_greeted(self, session: Session) -> bool:
        """Has the connection worked, so that a new one may work too?"""
        turn = self._turns.get(session)
        return turn is not None and turn.greeted < 0 and session.generation.established

    def cancel(self, ask: PlainAsk) -> bool:
        """The caller does not wait any more. Returns true if the connection must be closed."""
        turn = self._turn(ask.session)
        turn.is_over = turn.current is ask and self._dialogue.match is None
        return turn.is_over

    def forget(self, ask: PlainAsk) -> None:
        """The request is done, or given up."""
        turn = self._turns.get(ask.session)
        if turn is None:
            return
        if turn.current is ask:
            turn.current, turn.error, turn.size = None, None, 0
            turn.parts = []
        elif ask in turn.held:
            turn.held.remove(ask)

    def closed(self, session: Session) -> None:
        """Forget a connection."""
        self._turns.pop(session, None)

    # -- receiving -------------------------------------------------------------------------------------

    def deliver(self, session: Session, value: Value, size: int, error: Exception | None) -> Outcome:
        """Process a message of ``size`` bytes of memory, or the error of one that cannot be decoded."""
        turn = self._turn(session)
        try:
            return self._deliver(session, turn, value, size, error)
        except Exception as raised:
            text = f"{session.peer}: a function of the Dialogue has raised {type(raised).__name__}: {raised}"
            lost = PeerLost(text)
            lost.__cause__ = raised
            session.close(lost)
            return Outcome()

    def _deliver(
        self, session: Session, turn: Turn, value: Value, size: int, error: Exception | None
    ) -> Outcome:
        dialogue, ask = self._dialogue, turn.current
        if turn.greeted >= 0:
            turn.greeted += 1
            if _is_last(dialogue.greeting, turn.greeted, value, error):
                turn.greeted = -1
            return Outcome()
        if ask is None:
            return Outcome(error=error, unsolicited=() if error else (value,), size=size)
        turn.parts.append(value)
        turn.size += size + PART_OVERHEAD
        turn.error = turn.error or error
        most = self._context.limits.mailbox_bytes
        if turn.size > most and len(turn.parts) > 1:
            session.close(PeerLost(f"{session.peer} sent a response of more than {most} bytes"))
            return Outcome()
        response = value
        if dialogue.answer is not None:
            response = turn.parts
            if not _is_last(dialogue.answer, len(turn.parts), value, error):
                return Outcome()
        if turn.error is not None:
            return Outcome(ask, None, turn.error)
        if dialogue.match is not None and not dialogue.match(ask.question, response):
            outcome = Outcome(unsolicited=turn.parts, size=turn.size)
            turn.parts, turn.size = [], 0
            return outcome
        return Outcome(ask, response)


def _is_last(rule: object, count: int, value: Value, error: Exception | None) -> bool:
    """Is this the last message, of ``count`` so far? The rule is a number, or a function."""
    if callable(rule):
        return error is None and bool(rule(value))
    return count == rule
