"""Statistics: the counters of an endpoint as one frozen picture."""

from __future__ import annotations

from typing import Any

from linkbox.core.hub import Hub
from linkbox.core.mailbox import MailboxState
from linkbox.core.session import Session
from linkbox.core.settings import Counters
from linkbox.events import PeerStatistics, Statistics


def statistics(hub: Hub | None, counters: Counters, mailbox: MailboxState) -> Statistics:
    """All numbers of an endpoint; ``hub`` is None while it is not started."""
    mailbox.settle_hand()
    sessions: list[Session] = [] if hub is None else list(hub.sessions.values())

    def total(field: str) -> Any:
        return getattr(counters, field) + sum(getattr(session, field) for session in sessions)

    up = [session for session in sessions if session.is_up]
    return Statistics(
        messages_sent=total("messages_sent"),
        messages_received=total("messages_received"),
        bytes_sent=total("bytes_sent"),
        bytes_received=total("bytes_received"),
        waiting=mailbox.count,
        waiting_bytes=mailbox.nbytes,
        dropped=mailbox.dropped,
        rejected=counters.rejected,
        callback_errors=counters.callback_errors,
        connections=len(up),
        connections_total=counters.connections,
        refused=counters.refused,
        reconnects=counters.reconnects,
        peers={session.peer: _of_peer(session) for session in up},
    )


def _of_peer(session: Session) -> PeerStatistics:
    return PeerStatistics(
        messages_sent=session.messages_sent,
        messages_received=session.messages_received,
        bytes_sent=session.bytes_sent,
        bytes_received=session.bytes_received,
        unacknowledged=session.held,
        waiting=session.source.waiting,
        round_trip=None if session.link is None else session.link.round_trip,
    )
