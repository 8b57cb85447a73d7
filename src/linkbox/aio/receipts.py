"""Receipts that a task can wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from linkbox.aio.runtime import Tasks
from linkbox.core.endpoint import OutgoingMessage
from linkbox.events import Stage
from linkbox.operations.endpoint import operations_of


class Receipt(OutgoingMessage):
    """What became of one message. From ``await send()``; ``await receipt`` waits until it has arrived.

    ``stage`` says how far it has come, ``error`` why it failed, if it has.
    """

    async def wait(self, stage: Stage | None = None, timeout: float | None = None) -> Stage:
        """Wait until the message has come as far as ``stage``; returns how far it is then.

        Default: `Stage.RECEIVED`, over a plain framing `Stage.SENT`, which is all that is known there.
        Raises why it failed, `DeadlineExceeded` when ``timeout`` (seconds) is over first, and
        `ValueError` for a stage that a plain framing can never tell.
        """
        tasks = operations_of(self).runtime
        assert isinstance(tasks, Tasks)
        return await tasks.run(operations_of(self).wait_for(self, stage, timeout))

    def __await__(self) -> Generator[Any, None, Stage]:
        return self.wait().__await__()
