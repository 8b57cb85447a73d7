"""Receipts that a thread can wait for."""

from __future__ import annotations

from linkbox.core.session import NEVER
from linkbox.core.units import Delivery
from linkbox.events import Stage
from linkbox.front.receipts import stage_reached, stage_wanted


class Receipt(Delivery, eq=False):
    """What became of one message. From ``send()``; light: a few hundred bytes.

    ``stage`` says how far it has come, ``error`` why it failed, if it has.
    """

    def wait(self, stage: Stage | None = None, timeout: float | None = None) -> Stage:
        """Wait until the message has come as far as ``stage``; returns how far it is then.

        Default: `Stage.RECEIVED`, over a plain framing `Stage.SENT`, which is all that is known there.
        Raises why it failed, `DeadlineExceeded` when ``timeout`` (seconds) is over first, and
        `ValueError` for a stage that a plain framing can never tell.
        """
        session, stage = self.session, stage_wanted(self, stage)
        front = session.hub.owner
        deadline = NEVER if timeout is None else front._now() + timeout
        with front.lock:
            if self.stage < stage:
                session.hub.acknowledge_now(session)
                front.transport.update()
                front.wait(self, stage, deadline)
        return stage_reached(self, stage, timeout)

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"
