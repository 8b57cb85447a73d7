"""What a started endpoint is doing: its state, its next attempt to connect, what it waits for."""

from __future__ import annotations

from linkbox.core.conversations import Conversations
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.statistics import LONG, waits_for_taking
from linkbox.core.timers import NEVER
from linkbox.events import EndpointState


class Status:
    """The status of a server; the base class of that of a client."""

    __slots__ = ("_sessions",)

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions

    def state(self) -> EndpointState:
        """What the endpoint is doing."""
        return EndpointState.LISTENING

    def retry_in(self, now: float) -> float | None:
        """Seconds until a client connects again; None if it does not wait for that."""
        return None

    def waits_for(self, now: float) -> str:
        """What the endpoint as a whole waits for, as a text for people."""
        journal = self._sessions.journal
        if journal is not None and journal.error is not None:
            return f"the store: {journal.error}"
        context = self._sessions.context
        for source in context.mailbox.sources:  # Its peer may be gone.
            if context.mailbox.share(source) >= 1.0 and (text := waits_for_taking(source, context, now)):
                return text
        return ""


class ClientStatus(Status):
    """The status of a client."""

    __slots__ = ("_conversations",)

    def __init__(self, sessions: SessionTable, conversations: Conversations) -> None:
        super().__init__(sessions)
        self._conversations = conversations

    def state(self) -> EndpointState:
        if self._sessions.peers():
            return EndpointState.CONNECTED
        main = self._conversations.main
        if self._sessions.context.pattern.server_sends and main is not None and main.error is not None:
            return EndpointState.ENDED
        return EndpointState.CONNECTING if self._sessions.by_id else EndpointState.IDLE

    def retry_in(self, now: float) -> float | None:
        due = min((each.attempts.retry_at for each in self._sessions.by_id.values()), default=NEVER)
        return None if due == NEVER else max(0.0, due - now)

    def waits_for(self, now: float) -> str:
        texts = (self._attempts(each, now) for each in self._sessions.by_id.values())
        return super().waits_for(now) or next(filter(None, texts), "") or self._responses(now)

    def _attempts(self, session: Session, now: float) -> str:
        attempts = session.attempts
        failures, due, lasts = attempts.failures, attempts.retry_at, now - attempts.began_at
        parts = []
        if failures:
            parts.append(f"{failures} attempts in a row have failed")
        if due != NEVER:
            parts.append(f"the next attempt is in {max(0.0, due - now):.1f} s")
        elif lasts >= LONG:
            parts.append(f"an attempt is not answered for {lasts:.1f} s")
        return "" if session.is_up or not parts else f"a connection: {', '.join(parts)}"

    def _responses(self, now: float) -> str:
        waiting = self._sessions.client_asks.waiting
        oldest = next(iter(waiting.values()), None)
        seconds = 0.0 if oldest is None else now - oldest.began_at
        if seconds < LONG:
            return ""
        return f"responses to {len(waiting)} requests, the oldest of {seconds:.1f} s ago"
