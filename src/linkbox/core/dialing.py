"""Decides when a client connects: at once, after a pause, or not again."""

from __future__ import annotations

from collections.abc import Callable

from linkbox.core import reports
from linkbox.core.backoff import ONE_TRY, Backoff
from linkbox.core.context import Context
from linkbox.core.ending import is_finished
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.timers import NEVER
from linkbox.errors import ConnectFailed, PeerLost, ProtocolViolation

LAST_TRY = 0.05
"""Seconds before the end of ``connect_timeout`` in which the last attempt is made."""
SPACING = 0.05
"""Least seconds from a failed attempt to one for which a caller ends the pause: many may call at once."""
LONG_ATTEMPT = 1.0
"""Seconds that an attempt may take before a warning says that it is not answered."""


class Dialing:
    """The attempts of a client to connect.

    A session that needs a connection is added to ``dials`` when it is time. The network connects and calls
    `ClientCore.connected` or `ClientCore.connect_failed`. Before the first welcome, attempts are made until
    ``connect_by``; after a lost connection, as the `Backoff` says.
    """

    __slots__ = (
        "_context",
        "_preferred",
        "_sessions",
        "address",
        "addresses",
        "callers",
        "connect_timeout",
        "dials",
        "random",
        "reconnect",
    )

    def __init__(
        self,
        context: Context,
        sessions: SessionTable,
        address: str,
        reconnect: Backoff | None,
        connect_timeout: float,
        random: Callable[[], float],
    ) -> None:
        self._context = context
        self._sessions = sessions
        self.address: str = address
        self.addresses: list[str] = [address]
        """All addresses of the server, or of several servers, in the order in which they are tried."""
        self._preferred = 0
        """The address of the last connection that was up."""
        self.reconnect: Backoff | None = reconnect
        self.connect_timeout: float = connect_timeout
        self.random: Callable[[], float] = random
        self.callers: int = 0
        """Calls that wait for a connection, and raise the reason if there is none."""
        self.dials: list[Session] = []
        """Sessions that need a connection now."""

    def begin(self, session: Session, now: float, pause: float = 0.0) -> None:
        """Let a new session connect. With a store, the attempts have no deadline."""
        attempts = session.attempts
        if session.record is None:
            attempts.connect_by = min(attempts.connect_by, now + pause + self.connect_timeout)
        attempts.route = self._preferred
        session.moved_at = now
        if pause:
            attempts.failed_at, attempts.retry_at = now, now + pause
            session.timer.wake_at(now + pause)
        else:
            self._dial(session, now)

    def reached(self, session: Session, address: str) -> None:
        """There is a connection. If it is not welcomed, the next attempt begins with the next address."""
        if len(self.addresses) > 1:
            session.attempts.route = self.addresses.index(address) + 1

    def welcomed(self, session: Session, address: str) -> None:
        """The connection is up: new attempts begin with its address."""
        if len(self.addresses) > 1:
            session.attempts.route = self._preferred = self.addresses.index(address)

    def move_on(self, session: Session) -> None:
        """The server of the session is no good: the next attempt begins with the next address."""
        attempts = session.attempts
        if len(self.addresses) > 1:
            left, attempts.useless = attempts.route, 0
            attempts.route = (left + 1) % len(self.addresses)
            if self._preferred == left:
                self._preferred = attempts.route

    def broke(self, session: Session, error: Exception, now: float) -> None:
        """A connection broke: if it was welcomed, count it, and choose the server of the next attempt.

        The same server may still have the session, and what is in doubt. So it is asked once more, unless
        it broke the protocol and nothing is in doubt.
        """
        if not session.is_up:
            return
        self._sessions.announce_down(session, error)
        attempts, is_bad = session.attempts, isinstance(error, ProtocolViolation)
        is_useful = attempts.over(
            session.sending.acked + session.receiving.arrived, is_bad, self.reconnect or ONE_TRY, now
        )
        is_over = attempts.useless > 1 or not session.resumes
        if not is_useful and (is_over or (is_bad and not session.sending.unacked)):
            self.move_on(session)

    def sent_away(self, session: Session, now: float) -> tuple[float | None, bool]:
        """The server of the session is stopping. Return the pause before the session that takes over
        connects (None: none should), and whether this counts as a failed attempt."""
        attempts, reconnect = session.attempts, self.reconnect
        self.move_on(session)
        if reconnect is None:
            return None, True
        progress = session.sending.acked + session.receiving.arrived
        is_useful = attempts.over(progress, False, reconnect, now)
        delay = reconnect.delay(attempts.failures, self.random)
        return None if delay is None else max(delay, attempts.least_pause), not is_useful

    def _dial(self, session: Session, now: float) -> None:
        session.attempts.retry_at, session.attempts.began_at = NEVER, now
        self.dials.append(session)
        reports.attempt_begins(session, self.address)
        self._watch(session, now)

    def _watch(self, session: Session, now: float) -> None:
        """Wake at the deadline of an attempt, or before, to warn that it takes long."""
        due = max(session.moved_at + session.attempts.warn_after, now + LONG_ATTEMPT)
        if not session.generation.established:
            due = min(due, session.attempts.connect_by)
        session.timer.wake_at(due)

    def hurry(self, session: Session, now: float) -> None:
        """A caller waits for the connection: end the pause before the next attempt."""
        attempts = session.attempts
        if not session.generation.established:
            attempts.connect_by = max(attempts.connect_by, now + self.connect_timeout)
        if session.link is not None or attempts.retry_at == NEVER:
            return
        attempts.retry_at = max(now, min(attempts.failed_at + SPACING, attempts.retry_at))
        if attempts.retry_at > now:
            session.timer.wake_at(attempts.retry_at)
        else:
            self._dial(session, now)

    def patience(self, session: Session, others: int, now: float) -> float:
        """Seconds for one of the host's addresses, if ``others`` must be tried after it."""
        left = self.connect_timeout
        if session.attempts.connect_by != NEVER and not session.generation.established:
            left = session.attempts.connect_by - now
        return max(0.05, left / (others + 1))

    def failed(self, session: Session, error: Exception, now: float, is_absent: bool = False) -> None:
        """An attempt or a connection failed: try again later or give up. ``is_absent``: nothing responds."""
        delay = None
        is_established = session.generation.established
        # A waiting request must fail at once when no server is running any more.
        is_final = is_absent and is_established and self._context.pattern.asks
        if self.reconnect is ONE_TRY and not is_established and session.record is None:
            is_final = True
        if self.reconnect is not None and not is_final:
            delay = self.reconnect.delay(session.attempts.failures, self.random)
        if delay is not None:
            delay = max(delay, session.attempts.least_pause)
        session.attempts.least_pause = 0.0
        session.attempts.failed(error, now)
        self._context.failed(error)
        if is_finished(session) and (delay is None or is_absent):
            self._sessions.close_session(session, None)  # Only the last confirmation was missing.
            return
        if delay is None and is_established:
            gone = PeerLost(f"the connection to {session.peer} was lost and not restored: {error}")
            self.give_up(session, gone)
            return
        last_try = session.attempts.connect_by - LAST_TRY
        if delay is None or (not is_established and now >= last_try):
            self.give_up(session, error)
            return
        due = now + delay if is_established else min(now + delay, last_try)
        session.attempts.retry_at = due
        session.timer.wake_at(due)
        reports.attempt_failed(session, error, due - now)

    def is_due(self, session: Session, now: float) -> None:
        """Connect a session that is due, or give up at its deadline, or warn that an attempt takes long."""
        attempts = session.attempts
        if not session.generation.established and now >= attempts.connect_by:
            error = attempts.last_failure
            # A failure says nothing about the server of now, if the attempt after it is under way for long.
            if error is None or now - attempts.began_at > 2 * LAST_TRY:
                text = f"no welcome from {self.address} within {attempts.connect_by - session.moved_at:.3g} s"
                if session.link is not None:
                    text += ": it accepts connections, and does not respond; is its framing= another one?"
                error = ConnectFailed(text)
                self._context.failed(error)
            self.give_up(session, error)
        elif session.link is None and attempts.began_at == NEVER:
            self._dial(session, now)
        else:
            reports.attempt_lasts(session, self.address)
            self._watch(session, now)

    def give_up(self, session: Session, error: Exception) -> None:
        """Close a session that has no connection, and will not have one."""
        # Otherwise a caller gets the error; that of a request always does.
        if not (self.callers or self._context.pattern.asks or self._context.is_stopping):
            reports.gave_up(session, error)
        self._sessions.close_session(session, error)

    def forget(self, session: Session) -> None:
        """Remove a closed session."""
        if session in self.dials:
            self.dials.remove(session)
