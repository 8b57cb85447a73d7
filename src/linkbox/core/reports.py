"""What the core writes to the log about the course of things: connections that come, go and are tried again.

Each function asks first whether anybody reads such lines (`Effects.reports`): otherwise no text is made.
"""

from __future__ import annotations

from typing import Final

from linkbox.core.context import Context
from linkbox.core.effects import Field
from linkbox.core.ending import is_finished
from linkbox.core.session import WARN_AFTER, Session
from linkbox.errors import EndOfData
from linkbox.events import EventKind

RETRYING: Final = "more lines about retries"
"""The kind of log lines, see `Effects.log_limited`."""


def session_up(session: Session, kind: EventKind) -> None:
    """A session has a connection: a new one, or it is resumed."""
    effects = session.context.effects
    gone, session.moved_at = effects.now - session.moved_at, effects.now
    attempts = session.attempts
    attempts.warn_after = WARN_AFTER
    if not effects.reports("info"):
        return
    peer = session.peer
    fields: dict[str, Field] = {"identity": peer.identity or ""}
    if kind is EventKind.RESUMED:
        text = f"resumed with {peer}"
        if gone >= 0:
            fields["gone"] = gone
            text += f": it was gone for {gone:.3g} s"
        else:
            text += ", after a restart of this end"
        if session.context.is_client or session.context.pattern.server_sends:
            fields["sent_again"] = again = max(0, session.sending.most_sent - session.sending.sent)
            text += f", {again} messages are sent again"
        effects.log("info", text, "resumed", peer, fields)
    else:
        effects.log("info", f"connected: {peer}", "connected", peer, fields)


def session_down(session: Session, error: Exception | None) -> None:
    """The connection of a session is closed."""
    effects = session.context.effects
    lasted, session.moved_at = effects.now - session.moved_at, effects.now
    if error is not None and not isinstance(error, EndOfData):
        session.context.failed(error)
    if effects.reports("info"):
        why = _why_down(session) if error is None else str(error)
        fields: dict[str, Field] = {"reason": why, "lasted": lasted}
        effects.log("info", f"disconnected: {session.peer}: {why}", "disconnected", session.peer, fields)


def _why_down(session: Session) -> str:
    context = session.context
    if context.is_stopping and not (context.is_client or session.is_plain or is_finished(session)):
        return "this server stops, and ends no conversation: its clients may come back"
    return "the conversation has ended"


def attempt_begins(session: Session, address: str) -> None:
    """A client connects."""
    context = session.context
    context.counters.attempts += 1
    if context.effects.reports("debug"):
        context.effects.log("debug", f"connecting to {address}", "connecting", None, {"address": address})


def attempt_failed(session: Session, error: Exception, wait: float) -> None:
    """An attempt to connect failed, or a connection; the next attempt is made after ``wait`` seconds."""
    context, attempts = session.context, session.attempts
    effects = context.effects
    fields: dict[str, Field] = {"reason": str(error), "failures": attempts.failures, "retry_in": wait}
    gone = effects.now - session.moved_at
    if is_long(session):
        text = f"no connection for {gone:.0f} s, after {attempts.failures} attempts in a row: {error}"
        _warn(session, f"{text}; the next attempt is in {wait:.3g} s", fields)
    elif effects.reports("debug"):
        text = f"attempt failed: {error}; the next one is in {wait:.3g} s"
        effects.log("debug", text, "attempt_failed", session.peer, fields)


def is_long(session: Session) -> bool:
    """Must a client warn now, because a session has had no connection for long?"""
    # A timer may be early by a rounding error.
    return session.context.effects.now - session.moved_at >= session.attempts.warn_after - 0.001


def _warn(session: Session, text: str, fields: dict[str, Field]) -> None:
    """Warn that there is no connection; the next time after twice as long."""
    while is_long(session):
        session.attempts.warn_after *= 2
    effects = session.context.effects
    if effects.may_log(RETRYING):
        effects.log("warning", text, "retrying", session.peer, fields)


def attempt_lasts(session: Session, address: str) -> None:
    """An attempt to connect is under way for long, perhaps: neither a connection nor an error."""
    if not is_long(session):
        return
    now = session.context.effects.now
    gone, lasts = now - session.moved_at, now - session.attempts.began_at
    reason = f"the attempt to connect to {address} is not answered for {lasts:.3g} s"
    if session.link is not None:
        reason = f"{address} accepts the connection, and there is no welcome for {lasts:.3g} s"
    fields: dict[str, Field] = {"reason": reason, "failures": session.attempts.failures}
    _warn(session, f"no connection for {gone:.0f} s: {reason}", fields)


def gave_up(session: Session, error: Exception) -> None:
    """A client will not connect again."""
    effects = session.context.effects
    gone = effects.now - session.moved_at
    fields: dict[str, Field] = {"reason": str(error), "failures": session.attempts.failures, "gone": gone}
    text = f"gave up after {gone:.3g} s without a connection: {error}"
    effects.log("warning", text, "gave_up", session.peer, fields)


def handshake(context: Context, address: str, text: str) -> None:
    """A step of a handshake; call it only if `Effects.reports` allows a line of the level "debug"."""
    context.effects.log("debug", f"{address}: {text}", "handshake", None, {"address": address})
