"""What waiting for a receipt means, whoever waits."""

from __future__ import annotations

from linkbox.core.outgoing import Delivery
from linkbox.errors import DeadlineExceeded, PeerLost
from linkbox.events import Stage


def stage_wanted(receipt: Delivery, stage: Stage | None) -> Stage:
    """The stage to wait for; ValueError if nobody will ever know."""
    is_plain = receipt.session.is_plain
    if stage is None:
        return Stage.SENT if is_plain else Stage.RECEIVED
    if stage > Stage.SENT and is_plain:
        raise ValueError(f"a plain framing has no acknowledgements: {stage.name} is never known there")
    return stage


def stage_reached(receipt: Delivery, stage: Stage, timeout: float | None) -> Stage:
    """How far it is after waiting; raises if that is not far enough."""
    reached = receipt.stage
    if receipt.error is not None:
        raise receipt.error
    if reached < stage:
        if receipt.session.error is not None:
            raise PeerLost(f"{receipt.session.peer} ended before the message was {stage.name}")
        raise DeadlineExceeded(
            f"the message to {receipt.session.peer} is {receipt.stage.name} after {timeout} s"
        )
    return receipt.stage
