"""The rules for ending a conversation: each side sends END, and acknowledges the END of the other.

The state is in `Ending` (session.py).
"""

from __future__ import annotations

from linkbox.core.session import Session


def wants_end(session: Session) -> bool:
    """May END be written now?"""
    ending, record = session.ending, session.record
    if not ending.is_requested or ending.is_sent or session.sending.queue or session.link is None:
        return False
    return record is None or not (record.waiting() or record.is_gated())


def end_has_arrived(session: Session) -> bool:
    """Has the peer sent END, and is everything before it in the mailbox?"""
    last = session.ending.peer_last
    return last is not None and session.receiving.processed >= last


def is_finished(session: Session) -> bool:
    """Has this side sent and received everything, and does it know that the peer has received it?

    Neither side sends FIN earlier; so a FIN means that the sender of it is finished too.
    """
    ending = session.ending
    is_confirmed = ending.is_acked or not session.resumes  # Without a reconnect, no confirmation is needed.
    is_heard = session.receiving.end_reason is not None
    return ending.is_sent and is_confirmed and is_heard and not session.sending.queue
