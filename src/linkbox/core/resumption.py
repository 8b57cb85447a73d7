"""What a reconnect means for what was sent: two pure functions, each a table.

A server asks `on_hello` what a client's HELLO means, a client asks `on_welcome` what the server's WELCOME means. The
caller then does what the verdict says (admission.py, connecting.py). generation.py explains the ideas behind it.
"""

from __future__ import annotations

import enum


class HelloVerdict(enum.Enum):
    """What a HELLO means to a server."""

    NEW = "new"
    """The session is not known: admit the client, if there is a place for it."""
    NOT_ITS_OWN = "not its own"
    """The session belongs to another authenticated identity: refuse."""
    OUTDATED = "outdated"
    """A newer connection of this session exists: refuse."""
    RESUME = "resume"
    """Go on after what the client has received."""
    BEGUN_ANEW = "begun anew"
    """The server's session began without the client knowing: go on, but the client has none of its units."""


def on_hello(*, is_known: bool, is_same_identity: bool, is_newer: bool, is_same_birth: bool) -> HelloVerdict:
    """``is_known``: the server has this session. The other three are about that one: it belongs to the same identity;
    the HELLO has a newer epoch; the client means the session that was born in the same epoch."""
    if not is_known:
        return HelloVerdict.NEW
    if not is_same_identity:
        return HelloVerdict.NOT_ITS_OWN
    if not is_newer:
        return HelloVerdict.OUTDATED
    return HelloVerdict.RESUME if is_same_birth else HelloVerdict.BEGUN_ANEW


class WelcomeVerdict(enum.Enum):
    """What a WELCOME means to a client."""

    FIRST = "first"
    """Nothing of the session was ever written: it just begins."""
    RESUME = "resume"
    """Both sides know the session: send again what the server has not received."""
    NOTHING_ARRIVED = "nothing arrived"
    """The server never had the session, and nothing was ever acknowledged: send everything again."""
    CONFIRMED = "confirmed"
    """Only the confirmation of the end was missing, and the server knows nothing any more: close."""
    FORGOTTEN = "forgotten"
    """The server has forgotten the session: what was sent is in doubt, the rest goes on in a new session."""


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
    ``is_resumed``: the server knows it. ``is_acknowledged``: something of it was acknowledged or received.
    ``has_store``: it comes from, or goes to, this end's store. ``is_new``: the server says that it surely never had
    it. ``is_finished``: both sides have ended, and only the last confirmation was missing."""
    if not is_resumed and was_used:
        if is_finished:
            return WelcomeVerdict.CONFIRMED
        return WelcomeVerdict.NOTHING_ARRIVED if is_new and not is_acknowledged else WelcomeVerdict.FORGOTTEN
    return WelcomeVerdict.RESUME if is_resumed or has_store else WelcomeVerdict.FIRST
