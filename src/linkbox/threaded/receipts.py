"""Receipts that a thread can wait for."""

from __future__ import annotations

from time import monotonic

from linkbox.core.session import NEVER
from linkbox.core.units import Delivery
from linkbox.errors import DeadlineExceeded, PeerLost
from linkbox.events import Stage


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
        session = self.session
        if stage is None:
            stage = Stage.SENT if session.is_plain else Stage.RECEIVED
        elif stage > Stage.SENT and session.is_plain:
            raise ValueError(f"a plain framing has no acknowledgements: {stage.name} is never known there")
        front = session.hub.owner
        deadline = NEVER if timeout is None else monotonic() + timeout
        with front.lock:
            if self.stage < stage:
                session.hub.acknowledge_now(session)
                front.transport.update()
                front.wait(self, stage, deadline)
        reached = self.stage
        if self.error is not None:
            raise self.error
        if reached < stage:
            if self.session.error is not None:
                raise PeerLost(f"{self.session.peer} ended before the message was {stage.name}")
            raise DeadlineExceeded(
                f"the message to {self.session.peer} is {self.stage.name} after {timeout} s"
            )
        return self.stage

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"
