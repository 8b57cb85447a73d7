"""Decides what a reconnect means for the session: two pure functions, each a decision table.

A server calls `on_hello` for each HELLO, a client calls `on_welcome` for each WELCOME. The caller acts on the
verdict (admission.py, client_side.py). generation.py explains the terms.
"""

from __future__ import annotations

import enum


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
