"""Scripts that reach what chance reaches late: each limit, each way through the door. Seeds of the targets.

A story has flags (see `links.play_server` and `doors.play_house`) and steps. A step is the name of a method
of `LinkedPeer` or `PlainPeer`, and the bytes that it takes.
"""

from __future__ import annotations

from typing import NamedTuple

from linkbox.core.wire import frames

Word = tuple[str | int, ...]
HONEST, DEAD, SMALL, STRANGERS = 8, 16, 32, 64
"""Flags: who is there already, which limits, and whether attackers come from another machine."""
BLOCK = 8
"""The second byte: ``overflow="block"``."""
LATER = 0
"""The third byte, with ``accept=``: it decides when the script says so."""
P2P, P2M, AR = 0, 1, 2
TURN = "turn"
"""Not a step, but the turn of another attacker."""


class Story(NamedTuple):
    """Flags, and steps."""

    bits: int
    pattern: int
    words: tuple[Word, ...]
    more: bytes = bytes((BLOCK,))
    """The bytes behind the flags."""
    seed: int = 0
    """How it is cut, and which framing."""

    def flags(self, patterns: int) -> int:
        """The byte of flags, if there are so many patterns: its lowest bits choose one."""
        return next(each for each in range(self.bits, self.bits + 8) if each % patterns == self.pattern)


def wait(seconds: float) -> Word:
    """Time passes: a little more than that."""
    return ("clock", next(step for step in range(10) if 0.001 * 3.0**step > seconds))


GREET: Word = ("greet", 0)
AGAIN: Word = ("greet", 128)
"""With another session."""
TINY: tuple[Word, ...] = (("data", 2, 0), ("repeat", 11), ("flush",))
"""Thousands of the smallest messages."""
MUCH: tuple[Word, ...] = (("data", 1, 229), ("repeat", 11), ("flush",))
"""As many bytes as may come in one go, in messages that are not too large."""
SENT = 24
"""As a number of a message: the newest one that the endpoint has sent."""
PINGS: tuple[Word, ...] = (("number", 0, 0), ("repeat", 11), ("flush",))
ASKS: tuple[Word, ...] = (*(("ask", 0, 9 + index, 1, 5) for index in range(7)), ("flush",))
"""Each with a new id."""
GARBAGE: tuple[Word, ...] = (("connect",), ("anything", 9, *b"GET / HTT"), ("flush",))
PREFACE: Word = ("anything", 8, *frames.preface())
MEBIBYTE, ENDLESS = (200, 5), (200, 6)
"""How `LinkedPeer.half` is told the length."""
WRONG: tuple[Word, ...] = (("greeting", 1, 0, 1), ("flush",))
"""A WELCOME from the client, so that it is refused."""
MESSAGE: Word = ("data", 2, 3)

LINKED: dict[str, Story] = {
    "refused, and goes on": Story(SMALL, P2P, (*WRONG, *MUCH, *MUCH)),
    "refused, and stays": Story(SMALL, P2P, (*WRONG, wait(6))),
    "a large frame before HELLO": Story(SMALL, P2P, (PREFACE, ("half", 1, *MEBIBYTE), *MUCH)),
    "a handshake that takes its time": Story(SMALL, P2P, (PREFACE, ("flush",), wait(6))),
    "silence": Story(SMALL, P2P, (GREET, wait(19), wait(19), wait(19))),
    "a message that dribbles": Story(
        SMALL,
        P2P,
        (GREET, ("half", frames.DATA, *MEBIBYTE), *(wait(19), ("anything", 1, 0), ("flush",)) * 3),
    ),
    "it does not read": Story(
        SMALL, P2P, (GREET, ("stall",), ("number", 0, 0), ("flush",), *(wait(19), MESSAGE, ("flush",)) * 3)
    ),
    "pings, and it does not read": Story(SMALL, P2P, (GREET, ("stall",), *PINGS * 5)),
    "a large frame": Story(SMALL, P2P, (GREET, ("half", frames.DATA, *ENDLESS), *MUCH * 20)),
    "tiny messages": Story(SMALL, P2P, (GREET, *TINY * 3)),
    "many messages": Story(SMALL, P2P, (GREET, *MUCH * 3)),
    "a message that is too large": Story(SMALL, P2P, (GREET, ("data", 1, 250), ("flush",), ("take", 0))),
    "more pieces than were announced": Story(
        SMALL, P2P, (GREET, ("part", 1, 229, 1, 24), ("flush",), ("part", 1, 229, 0), ("repeat", 11))
    ),
    "bad messages": Story(0, P2P, (GREET, *(("data", 0, 0), ("repeat", 10), ("flush",)) * 2)),
    "many asks": Story(SMALL, AR, (GREET, *ASKS)),
    "half asks": Story(SMALL, AR, (GREET, ("ask", 1, 9, 1, 229), ("repeat", 11), ("flush",))),
    "it takes no responses": Story(SMALL, AR, (GREET, *(("ask", 0, 9, 1, 5), ("application", 3, 0, 7)) * 30)),
    "it acknowledges nothing": Story(SMALL, P2P, (GREET, *(("application", 0, 10),) * 22)),
    "it acknowledges no bytes": Story(SMALL, P2P, (GREET, *(("application", 0, 229),) * 5)),
    "a session is left behind": Story(SMALL, P2P, (GREET, MESSAGE, ("cut",), wait(19), wait(2))),
    "a full mailbox": Story(SMALL, P2M, (GREET, *(("data", 1, 229),) * 7, ("flush",), AGAIN)),
    "a full mailbox, and more": Story(
        SMALL, P2M, (GREET, *(("data", 1, 229),) * 7, ("flush",), ("ack_now",), ("flush",), *MUCH)
    ),
    "nonsense": Story(SMALL, P2P, GARBAGE * 23),
    "a resume": Story(SMALL | HONEST, P2M, (GREET, MESSAGE, ("cut",), GREET, MESSAGE, ("take", 1))),
    "ended, and left behind": Story(
        SMALL, P2M, (GREET, MESSAGE, ("flush",), ("end", 0), ("flush",), ("take", 1), ("cut",))
    ),
    "many messages are said to be lost": Story(
        SMALL, P2P, (GREET, ("application", 0, 9), ("dropped", SENT, SENT), ("repeat", 11), ("flush",))
    ),
    "an end": Story(
        SMALL, P2P, (GREET, MESSAGE, ("flush",), ("end", 0), ("flush",), ("finish", 6), ("ack", 0, 0))
    ),
}
CLIENT: dict[str, Story] = {
    "much to send before WELCOME": Story(0, P2P, (("application", 0, 229),) * 50),
    "a resume": Story(16, P2P, (GREET, MESSAGE, ("application", 0, 9), ("cut",), wait(0.2), GREET, MESSAGE)),
}
ACCEPT = bytes((BLOCK, LATER))
ACCEPTED: dict[str, Story] = {
    "far ahead of accept=": Story(SMALL, P2P, (GREET, *MUCH, *MUCH), ACCEPT),
    "accept= says yes": Story(SMALL, P2M, (GREET, MESSAGE, ("decide", 1), MESSAGE, ("take", 1)), ACCEPT),
    "accept= says no": Story(SMALL, P2P, (GREET, MESSAGE, ("decide", 0), *MUCH), ACCEPT),
    "accept= takes too long": Story(SMALL, P2P, (GREET, MESSAGE, wait(6), ("decide", 1)), ACCEPT),
    "gone before accept= answers": Story(
        SMALL, P2M, (GREET, ("cut",), GREET, ("eof",), ("decide", 1), ("decide", 1)), ACCEPT
    ),
}
ALL_GREET: tuple[Word, ...] = tuple(word for index in range(4) for word in ((TURN, index), GREET))
ALL_CONNECT: tuple[Word, ...] = tuple(word for index in range(4) for word in ((TURN, index), ("connect",)))
TWO_SLOTS, THREE_SLOTS = bytes((BLOCK,)), bytes((BLOCK | 2,))
CROWD: dict[str, Story] = {
    "the dead make room": Story(HONEST | DEAD | SMALL, P2M, (wait(2), GREET, wait(2), MESSAGE), TWO_SLOTS),
    "the living stay": Story(
        HONEST | SMALL, P2M, (GREET, MESSAGE, wait(2), (TURN, 1), GREET, wait(2)), TWO_SLOTS
    ),
    "an applicant leaves": Story(
        HONEST | DEAD | SMALL, P2M, (wait(2), GREET, ("cut",), (TURN, 1), GREET, wait(2)), TWO_SLOTS
    ),
    "a free slot for the next": Story(
        HONEST | SMALL, P2M, (GREET, wait(2), (TURN, 1), AGAIN, (TURN, 0), ("cut",), wait(2)), TWO_SLOTS
    ),
    "far ahead of a slot": Story(HONEST | DEAD | SMALL, P2M, (wait(2), GREET, *MUCH, *MUCH), TWO_SLOTS),
    "a crowd": Story(HONEST | DEAD | SMALL, P2M, ALL_GREET, THREE_SLOTS),
    "a crowd that says nothing": Story(SMALL, P2M, ALL_CONNECT),
    "a crowd from one address": Story(SMALL | STRANGERS, P2M, ALL_CONNECT),
}
IMPOSTORS: dict[str, Story] = {
    "sessions are left behind": Story(
        SMALL, P2M, (GREET, ("cut",), AGAIN, ("cut",), (TURN, 3), GREET, ("cut",))
    ),
    "as somebody else": Story(SMALL, P2M, ((TURN, 1), GREET, (TURN, 2), GREET, GREET, MESSAGE)),
}
STORED: dict[str, Story] = {
    "a session is left behind": LINKED["a session is left behind"],
    "the disk is slow": Story(
        SMALL, P2P, (GREET, ("disk", 2), MESSAGE, ("disk", 2), ("take", 1), ("disk", 0), ("take", 1))
    ),
    "the disk is full": Story(
        SMALL, P2P, (GREET, ("disk", 3), MESSAGE, ("application", 0, 9), ("disk", 1), ("disk", 0))
    ),
    "a crash": Story(
        SMALL, P2P, (GREET, MESSAGE, ("application", 0, 9), ("crash", 1), GREET, ("take", 1), MESSAGE)
    ),
    "more than the store may hold": Story(SMALL, P2P, (GREET, *(("application", 0, 229),) * 5)),
    "it acknowledges before that is read": Story(
        SMALL,
        P2P,
        (
            GREET,
            ("application", 0, 9),
            ("crash", 0),
            ("disk", 2),
            GREET,
            ("ack", 1, 9, 9, 9, 9),
            ("repeat", 5),
        ),
    ),
}
TLS_13, BY_HAND = bytes((BLOCK, 0)), bytes((BLOCK, 2))
"""How the handshake of TLS is done: at once, or step by step."""
SHOUTS: tuple[Word, ...] = (("anything", 99, *b"x" * 99), ("repeat", 10), ("flush",))
TLS: dict[str, Story] = {
    "no TLS": Story(SMALL, P2P, (*WRONG, *MUCH, *MUCH), BY_HAND),
    "no TLS, over lines": Story(SMALL, P2P, SHOUTS * 3, BY_HAND, seed=1),
    "a record that is changed": Story(SMALL, P2P, (("flight", 40, 1), *MUCH, *MUCH), BY_HAND),
    "a handshake by hand": Story(
        SMALL, P2P, (("flight", 0, 0), ("flight", 0, 0), ("flight", 0, 0), GREET, MESSAGE), BY_HAND
    ),
    "a record that is not whole": Story(
        SMALL, P2P, (("below",), ("anything", 5, 23, 3, 3, 64, 0), *MUCH), TLS_13
    ),
    "garbage behind the handshake": Story(SMALL, P2P, (GREET, MESSAGE, ("below",), ("record", 3, 9)), TLS_13),
    "refused, and goes on": Story(SMALL, P2P, (*WRONG, *MUCH, *MUCH), TLS_13),
    "a message": Story(SMALL | HONEST, P2M, (GREET, MESSAGE, ("take", 1), ("eof",)), TLS_13),
}
LENGTH_PREFIXED, LINES = 7, 0
"""Where these are among the plain framings."""
PLAIN: dict[str, Story] = {
    "more than the mailbox holds": Story(
        SMALL, P2P, (("message", 109, 229), ("repeat", 11), ("flush",)) * 4, seed=LINES
    ),
    "a line without an end": Story(SMALL, P2P, (("anything", 100, *b"x" * 100), ("repeat", 9)), seed=LINES),
    "a length of four gigabytes": Story(
        SMALL,
        P2P,
        (("anything", 4, *b"\xff" * 4), ("flush",), ("anything", 99, *b"x" * 99), ("repeat", 9)),
        seed=LENGTH_PREFIXED,
    ),
}
PLAIN_ASKS: dict[str, Story] = {
    "many asks, one after the other": Story(
        SMALL, 0, (("message", 109, 229), ("repeat", 11), ("flush",)) * 4, seed=LINES
    ),
    "an ask without an end": Story(SMALL, 0, (("anything", 9, *b"x" * 9), ("repeat", 11)), seed=2),
}
