"""The stage that a call waits for, and its result: for the receipts of both front ends."""

from __future__ import annotations

from collections.abc import Iterable

from linkbox.core.endpoint import OutgoingMessage
from linkbox.errors import DeadlineExceeded, PeerLost
from linkbox.events import Stage
from linkbox.operations.arguments import Given
from linkbox.operations.steps import to_raise

OF_THE_CORE = frozenset(("channel", "header", "kind", "number", "offset", "size", "stored_number"))
"""Fields of a message on its way that no user of a receipt needs."""


def promised(names: Iterable[str]) -> list[str]:
    """The names that ``dir(receipt)`` shows."""
    return [name for name in names if name not in OF_THE_CORE]


def stage_wanted(receipt: OutgoingMessage, stage: Given) -> Stage:
    """The stage to wait for; ValueError if it cannot be known with this framing."""
    is_plain = receipt.channel.is_plain
    if stage is None:
        return Stage.SENT if is_plain else Stage.RECEIVED
    if not isinstance(stage, Stage):
        raise TypeError(f"stage={stage!r}: a Stage is needed")
    if stage > Stage.SENT and is_plain:
        raise ValueError(f"a plain framing has no acknowledgements: {stage.name} is never known there")
    return stage


def stage_reached(receipt: OutgoingMessage, stage: Stage, timeout: Given) -> Stage:
    """Return the stage after waiting; raise if it is below the one wanted."""
    reached = receipt.stage
    if receipt.error is not None:
        raise to_raise(receipt.error)
    if reached < stage:
        if receipt.channel.error is not None:
            raise PeerLost(f"{receipt.channel.peer} ended before the message was {stage.name}")
        raise DeadlineExceeded(
            f"the message to {receipt.channel.peer} is {receipt.stage.name} after {timeout} s"
        )
    return receipt.stage
