"""Receipts that a task can wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from linkbox.core.session import NEVER
from linkbox.core.units import Delivery
from linkbox.events import Stage
from linkbox.front.receipts import stage_reached, stage_wanted


class Receipt(Delivery, eq=False):
    """What became of one message. From ``await send()``; ``await receipt`` waits until it has arrived.

    ``stage`` says how far it has come, ``error`` why it failed, if it has.
    """

    async def wait(self, stage: Stage | None = None, timeout: float | None = None) -> Stage:
        """Wait until the message has come as far as ``stage``; returns how far it is then.

        Default: `Stage.RECEIVED`, over a plain framing `Stage.SENT`, which is all that is known there.
        Raises why it failed, `DeadlineExceeded` when ``timeout`` (seconds) is over first, and
        `ValueError` for a stage that a plain framing can never tell.
        """
        session, stage = self.session, stage_wanted(self, stage)
        front = session.hub.owner
        deadline = NEVER if timeout is None else front._now() + timeout
        if self.stage < stage:
            session.hub.acknowledge_now(session)
            front._update()
            await front.wait(self, stage, deadline)
        return stage_reached(self, stage, timeout)

    def __await__(self) -> Generator[Any, None, Stage]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"
