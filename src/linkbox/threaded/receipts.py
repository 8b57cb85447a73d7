"""Receipts that a thread can wait for."""

from __future__ import annotations

from linkbox.core.endpoint import OutgoingMessage
from linkbox.events import Stage
from linkbox.operations.endpoint import operations_of
from linkbox.threaded.runtime import Threads


class Receipt(OutgoingMessage):
    """What became of one message. From ``send()``; light: a few hundred bytes.

    ``stage`` says how far it has come, ``error`` why it failed, if it has.
    """

    def wait(self, stage: Stage | None = None, timeout: float | None = None) -> Stage:
        """Wait until the message has come as far as ``stage``; returns how far it is then.

        Default: `Stage.RECEIVED`, over a plain framing `Stage.SENT`, which is all that is known there.
        Raises why it failed, `DeadlineExceeded` when ``timeout`` (seconds) is over first, and
        `ValueError` for a stage that a plain framing can never tell.
        """
        threads = operations_of(self).runtime
        assert isinstance(threads, Threads)
        return threads.run(operations_of(self).wait_for(self, stage, timeout))
