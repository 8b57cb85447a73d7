"""Decides what a reconnect means for the session: two pure functions, each a decision table.

A server calls `on_hello` for each HELLO, a client calls `on_welcome` for each WELCOME. The caller acts on the
verdict (admission.py, client_side.py); where the session goes on, with `rewind`. generation.py explains the
terms.
"""

from __future__ import annotations

import enum

from linkbox.core.outgoing import Bundle, Piece, Unit, count_of, size_of
from linkbox.core.send_window import SendWindow
from linkbox.errors import ProtocolViolation


class HelloVerdict(enum.Enum):
    """What a server must do with a HELLO."""

    NEW = "new"
    """The session is not known: admit the client if a slot is free."""
    NOT_ITS_OWN = "not its own"
    """The session belongs to another authenticated identity: refuse."""
    OUTDATED = "outdated"
    """A newer connection of this session exists: refuse."""
    RESUME = "resume"
    """Continue after the last unit that the client has received."""
    BEGUN_ANEW = "begun anew"
    """The server began the session anew and the client does not know: continue; it has none of our units."""


def on_hello(*, is_known: bool, is_same_identity: bool, is_newer: bool, is_same_birth: bool) -> HelloVerdict:
    """``is_known``: the server has this session. If so: does it belong to the same identity, does the HELLO
    have a newer epoch, and does it name the epoch (``born``) in which the server began the session?"""
    if not is_known:
        return HelloVerdict.NEW
    if not is_same_identity:
        return HelloVerdict.NOT_ITS_OWN
    if not is_newer:
        return HelloVerdict.OUTDATED
    return HelloVerdict.RESUME if is_same_birth else HelloVerdict.BEGUN_ANEW


class WelcomeVerdict(enum.Enum):
    """What a client must do with a WELCOME."""

    FIRST = "first"
    """Nothing of the session was written before: begin."""
    RESUME = "resume"
    """Both sides know the session: send again what the server has not received. Also for a stored session
    that was never used when the server does not know it: then the server has received nothing."""
    NOTHING_ARRIVED = "nothing arrived"
    """The server never had the session, and nothing was acknowledged: send everything again."""
    CONFIRMED = "confirmed"
    """Only the confirmation of the END was missing, and the server has forgotten the session: close."""
    FORGOTTEN = "forgotten"
    """The server has forgotten the session: what was sent is in doubt, the rest moves to a new session."""


def on_welcome(
    *,
    was_used: bool,
    is_resumed: bool,
    is_acknowledged: bool,
    has_store: bool,
    is_new: bool,
    is_finished: bool,
) -> WelcomeVerdict:
    """``was_used``: the session was welcomed before, or an older connection has carried units of it.
    ``is_resumed``: the server knows it. ``is_acknowledged``: some units were acknowledged or received.
    ``has_store``: this endpoint keeps it in a store. ``is_new``: the server states that it never had it.
    ``is_finished``: both sides have sent END, and only the last confirmation was missing."""
    if not is_resumed and was_used:
        if is_finished:
            return WelcomeVerdict.CONFIRMED
        return WelcomeVerdict.NOTHING_ARRIVED if is_new and not is_acknowledged else WelcomeVerdict.FORGOTTEN
    return WelcomeVerdict.RESUME if is_resumed or has_store else WelcomeVerdict.FIRST


def rewind(window: SendWindow, arrived: int) -> None:
    """Move the units that the peer has not received back to the front of the queue.

    After ``arrived`` the peer has received none. It costs as much as was sent behind that, which is little if
    nothing was acknowledged since the last time (`FIRST_AGAIN`).
    """
    if not window.acked <= arrived <= window.sent:
        raise ProtocolViolation(
            f"{window.peer} resumes at unit {arrived}; {window.acked} to {window.sent} are possible"
        )
    window.most_sent = max(window.most_sent, window.sent)
    again: list[Unit] = []
    sent, nbytes, messages, message_bytes = window.sent, 0, 0, 0
    while sent > arrived:
        unit = window.unacked[-1]
        count = count_of(unit)
        if sent - count < arrived:
            assert isinstance(unit, Bundle)
            window.unacked = window.unbundled(window.unacked, len(window.unacked) - 1)
            continue
        window.unacked.pop()
        again.append(unit)
        sent -= count
        size = size_of(unit)
        nbytes += size
        if not isinstance(unit, Piece):
            messages += count
            message_bytes += size
        elif unit.is_last:
            messages += 1
            message_bytes += unit.message.size()
    if again:
        window.queue.extendleft(again)
    window.sent = sent
    window.sent_bytes -= nbytes
    window.messages_sent -= messages
    window.bytes_sent -= message_bytes
