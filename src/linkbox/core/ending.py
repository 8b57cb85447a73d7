"""How a conversation ends: both sides send END and acknowledge the other's, in any order, once all messages are there.

The state is `Ending` (session.py); these are the rules.
"""

from __future__ import annotations

from linkbox.core.session import Session


def wants_end(session: Session) -> bool:
    """Has the time come to write END?"""
    ending, record = session.ending, session.record
    if not ending.is_requested or ending.is_sent or session.sending.queue or session.link is None:
        return False
    return record is None or not (record.waiting() or record.is_gated())


def end_has_arrived(session: Session) -> bool:
    """Has the peer ended, and is everything it sent in the mailbox?"""
    last = session.ending.peer_last
    return last is not None and session.receiving.processed >= last


def is_finished(session: Session) -> bool:
    """Has this side sent and received everything, and does it know that the peer has received it?

    When it also sees the peer close (FIN), the peer is finished too: neither closes earlier.
    """
    ending = session.ending
    is_confirmed = (
        ending.is_acked or not session.resumes
    )  # A peer that never comes back needs no confirmation.
    is_heard = session.receiving.end_reason is not None
    return ending.is_sent and is_confirmed and is_heard and not session.sending.queue
