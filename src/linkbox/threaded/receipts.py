"""Receipts that a thread can wait for."""

from __future__ import annotations

from linkbox.core.endpoint import OutgoingMessage
from linkbox.events import Stage
from linkbox.operations.endpoint import operations_of
from linkbox.operations.receipts import promised
from linkbox.threaded.runtime import Threads


class Receipt(OutgoingMessage):
    """The delivery state of one message, returned by ``send()``. It uses a few hundred bytes.

    ``stage`` is the stage that it has reached; ``error`` is the reason if it has failed, else None.
    """

    def __dir__(self) -> list[str]:
        return promised(super().__dir__())

    def wait(self, stage: Stage | None = None, timeout: float | None = None) -> Stage:
        """Wait until the message has reached ``stage``; return its stage then.

        The default is `Stage.RECEIVED`, with a plain framing `Stage.SENT`, the last stage that is known
        there. Raises the error of a failed message, `DeadlineExceeded` after ``timeout`` seconds, and
        `ValueError` for a stage that is never known with a plain framing.
        """
        threads = operations_of(self).runtime
        assert isinstance(threads, Threads)
        return threads.run(operations_of(self).wait_for(self, stage, timeout))
