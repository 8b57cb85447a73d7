"""Makes the snapshot of an endpoint's counters that ``statistics()`` returns."""

from __future__ import annotations

from typing import Final

from linkbox.core.context import Context
from linkbox.core.mailbox import Mailbox
from linkbox.core.session import Session
from linkbox.core.settings import Counters
from linkbox.core.source import Source
from linkbox.events import PeerStatistics, Statistics

LONG: Final = 1.0
"""Seconds from which on a wait is worth a text."""


def statistics(
    sessions: list[Session], counters: Counters, mailbox: Mailbox, now: float = 0.0, waits_for: str = ""
) -> Statistics:
    """Return a snapshot of all counters; ``sessions`` is empty while the endpoint is not started.

    ``waits_for`` is what all sessions wait for, if that is known.
    """
    mailbox.settle_fast_queue()
    up = {session.peer: _of_peer(session, now) for session in sessions if session.is_up}
    return Statistics(
        messages_sent=counters.messages_sent + sum(each.sending.messages_sent for each in sessions),
        messages_received=counters.messages_received
        + sum(each.receiving.messages_received for each in sessions),
        bytes_sent=counters.bytes_sent + sum(each.sending.bytes_sent for each in sessions),
        bytes_received=counters.bytes_received + sum(each.receiving.bytes_received for each in sessions),
        waiting=mailbox.count,
        waiting_bytes=mailbox.nbytes,
        dropped=mailbox.dropped,
        rejected=counters.rejected,
        skipped=counters.skipped,
        callback_errors=counters.callback_errors,
        errors=counters.errors,
        events_dropped=counters.events_dropped,
        connections=len(up),
        connections_total=counters.connections,
        refused=counters.refused,
        reconnects=counters.reconnects,
        peers=up,
        attempts=counters.attempts,
        last_error=counters.last_error,
        last_error_at=counters.last_error_at or None,
        errors_by_kind=dict(counters.errors_by_kind),
        mailbox_share=max((each.mailbox_share for each in up.values()), default=0.0)
        or max((mailbox.share(each) for each in mailbox.sources), default=0.0),
        window_share=max((_window_share(each) for each in sessions), default=0.0),
        round_trips=counters.round_trips.percentiles(),
        answer_times=counters.answer_times.percentiles(),
        waits_for=waits_for or next((each.waits_for for each in up.values() if each.waits_for), ""),
    )


def _of_peer(session: Session, now: float) -> PeerStatistics:
    sending, receiving, link = session.sending, session.receiving, session.link
    is_starved = _is_starved(session)
    return PeerStatistics(
        messages_sent=sending.messages_sent,
        messages_received=receiving.messages_received,
        bytes_sent=sending.bytes_sent,
        bytes_received=receiving.bytes_received,
        unacknowledged=session.in_flight(),
        waiting=receiving.waiting,
        round_trip=None if link is None else link.round_trip_time(),
        silence=0.0 if link is None else max(0.0, link.silence(now)),
        mailbox_share=max(session.context.mailbox.share(receiving), 1.0 if is_starved else 0.0),
        window_share=_window_share(session),
        waits_for=_waits_for(session, is_starved, now),
    )


def _is_starved(session: Session) -> bool:
    """May the peer send nothing more until something is taken?"""
    receiving = session.receiving
    if not receiving.waiting or session.context.mailbox.overflow != "block":
        return False
    if session.is_plain:
        return session.link is not None and session.link.paused
    return receiving.arrived >= receiving.granted_units or receiving.arrived_bytes >= receiving.granted_bytes


def _window_share(session: Session) -> float:
    """How full the send window is. 1.0: `send` waits."""
    sending, limits = session.sending, session.context.limits
    share = max(sending.held_bytes / limits.window_bytes, sending.in_memory / limits.window_messages)
    return share if sending.has_room() else max(share, 1.0)


def waits_for_taking(source: Source, context: Context, now: float) -> str:
    """The text for a full mailbox. Empty if it is full for a moment: that is how back-pressure works."""
    if not source.batches or context.mailbox.overflow != "block":
        return ""
    age = context.wall_time(now) - source.batches[0].received_at
    if age < LONG:
        return ""
    return f"the application: {source.waiting} messages fill the mailbox, the first for {age:.1f} s"


def _waits_for(session: Session, is_starved: bool, now: float) -> str:
    sending = session.sending
    if is_starved and (text := waits_for_taking(session.receiving, session.context, now)):
        return text
    if sending.queue and (sending.sent >= sending.peer_units or sending.sent_bytes >= sending.peer_bytes):
        since = max(0.0, now - session.acked_at)
        if since < LONG:
            return ""
        return f"credit: the peer's mailbox is full, and it has acknowledged nothing for {since:.1f} s"
    return ""
