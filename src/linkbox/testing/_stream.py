"""A stream as nats-server keeps one, without input and output: what linkbox relies on.

For `FakeBroker`, and for simulations, where each server of P2M is a holder of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

ID: Final = "Nats-Msg-Id"
FULL: Final = "maximum messages exceeded"
ALWAYS: Final = float("inf")


class Kept:
    """A message in the stream."""

    __slots__ = ("again_at", "body", "delivered", "headers", "holder", "sequence", "subject")

    def __init__(self, sequence: int, subject: str, headers: Mapping[str, str], body: bytes) -> None:
        self.sequence = sequence
        self.subject = subject
        self.headers = headers
        self.body = body
        self.delivered = 0
        """How often it was given to somebody, since the broker was started."""
        self.holder: object | None = None
        """Who has it and has not acknowledged it."""
        self.again_at = ALWAYS
        """When somebody else gets it."""


class FakeStream:
    """A work queue: each message until it is acknowledged, each with one holder at a time."""

    def __init__(self, most: int | None = None) -> None:
        self.kept: dict[int, Kept] = {}
        """In order."""
        self.last = 0
        """The number of the last message."""
        self.most = most
        """Most messages; None: any number."""
        self.ids: dict[str, int] = {}
        """What is known to have been published, with its numbers."""

    def publish(self, subject: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Keep a message, unless it is known. Returns its number and the error."""
        id = headers.get(ID, "")
        if id in self.ids:
            return self.ids[id], ""
        if self.most is not None and len(self.kept) >= self.most:
            return 0, FULL
        self.last += 1
        if id:
            self.ids[id] = self.last
        self.kept[self.last] = Kept(self.last, subject, headers, body)
        return self.last, ""

    def next(self, holder: object, again_at: float = ALWAYS) -> Kept | None:
        """The next message that nobody has. It is the holder's now."""
        for kept in self.kept.values():
            if kept.holder is None:
                kept.holder, kept.again_at = holder, again_at
                kept.delivered += 1
                return kept
        return None

    def acknowledge(self, sequence: int) -> None:
        """A message was taken: it is deleted."""
        self.kept.pop(sequence, None)

    def give_back(self, sequence: int) -> None:
        """A message has no holder any more."""
        kept = self.kept.get(sequence)
        if kept is not None:
            kept.holder, kept.again_at = None, ALWAYS

    def hold_on(self, sequence: int, again_at: float) -> None:
        """The holder of a message needs longer."""
        kept = self.kept.get(sequence)
        if kept is not None and kept.holder is not None:
            kept.again_at = again_at

    def lose(self, is_lost: Callable[[Kept], bool]) -> None:
        """The holders of these messages have not acknowledged them in time."""
        for kept in self.kept.values():
            if kept.holder is not None and is_lost(kept):
                self.give_back(kept.sequence)

    def kill(self) -> None:
        """The broker is killed: it forgets deliveries, and the ids of what was acknowledged."""
        self.ids = {kept.headers[ID]: kept.sequence for kept in self.kept.values() if ID in kept.headers}
        for kept in self.kept.values():
            kept.delivered = 0
            self.give_back(kept.sequence)
