"""Makes the snapshot of an endpoint's counters that ``statistics()`` returns."""

from __future__ import annotations

from linkbox.core.mailbox import Mailbox
from linkbox.core.session import Session
from linkbox.core.settings import Counters
from linkbox.events import PeerStatistics, Statistics


def statistics(sessions: list[Session], counters: Counters, mailbox: Mailbox) -> Statistics:
    """Return a snapshot of all counters; ``sessions`` is empty while the endpoint is not started."""
    mailbox.settle_fast_queue()
    up = [session for session in sessions if session.is_up]
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
        peers={session.peer: _of_peer(session) for session in up},
    )


def _of_peer(session: Session) -> PeerStatistics:
    return PeerStatistics(
        messages_sent=session.sending.messages_sent,
        messages_received=session.receiving.messages_received,
        bytes_sent=session.sending.bytes_sent,
        bytes_received=session.receiving.bytes_received,
        unacknowledged=session.in_flight(),
        waiting=session.receiving.waiting,
        round_trip=None if session.link is None else session.link.round_trip_time(),
    )
