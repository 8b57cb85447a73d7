"""The rule for every loop that serves more than one peer, message or call.

Such a loop (``accept=``, callbacks, handlers, decoding, the disk, timers, connections) ends only when its
endpoint stops. It survives every exception, of user code or of linkbox itself: SystemExit, CancelledError,
GeneratorExit, KeyboardInterrupt and unknown subclasses of BaseException included. The exception is logged
with what it has hit, counted (``statistics().errors``), and costs only what it has hit: one callback, one
request, one message, one connection. Then the loop goes on. Where messages had arrived and were not stored,
their conversation ends, so that the sender has them in doubt (`Inbox.storing_failed`).

Two kinds of exceptions must pass, because they are not about what the loop does:

- one that a signal handler has raised (Ctrl-C, or SIGTERM with ``sys.exit()``): `is_from_signal`;
- with asyncio, the cancellation of the loop's own task: `Runtime.must_pass`.

A loop catches BaseException around the smallest step that it can give up, and calls `LoopErrors.survive`. A
service whose operation has ended with an exception nevertheless is run again (`Runtime.survived_by`). The
core has no logger: it collects what it has survived in `Effects.failures`, and the driver reports it. A
message that cannot be decoded is no such error: it is rejected, and counted as that.
"""

from __future__ import annotations

from time import monotonic

from linkbox import logs
from linkbox.core.log_limit import LogLimit
from linkbox.core.settings import Counters
from linkbox.signals import is_from_signal

USER_CODE = ("callbacks", "handler", "accept=")
"""The kinds whose lines are written by the logger ``linkbox.callbacks``."""


class LoopErrors:
    """Logs and counts the exceptions that the loops of an endpoint have survived."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._limits: dict[str, LogLimit] = {}
        self.endpoint: object = None
        """Named in the log lines."""

    def survive(self, kind: str, what: str, error: BaseException, has_traceback: bool = True) -> None:
        """Log and count an exception, so that the loop can go on. Raises it again if it must pass.

        ``what`` is the line for the log. Of each ``kind`` ten lines are written in a minute, then a count.
        ``has_traceback``: False if ``what`` says everything that may, or need, be known.
        """
        if is_from_signal(error):
            raise error
        self._counters.errors += 1
        self._counters.count(kind)
        limit = self._limits.get(kind)
        if limit is None:
            limit = self._limits[kind] = LogLimit()
        if limit.allows(monotonic()):
            self._report(kind, limit)
            self._write(kind, what, error if has_traceback else None)

    def close(self) -> None:
        """The endpoint has stopped: write the counts of lines that were not written."""
        for kind, limit in self._limits.items():
            self._report(kind, limit)

    def _report(self, kind: str, limit: LogLimit) -> None:
        suppressed = limit.take_suppressed()
        if suppressed:
            self._write(kind, f"{suppressed} more errors in {kind} were not logged", None)

    def _write(self, kind: str, text: str, error: BaseException | None) -> None:
        area = "callbacks" if kind in USER_CODE else ""
        fields = {"event": "error", "where": kind}
        logs.write(logs.ERROR, text, error, area=area, endpoint=self.endpoint, fields=fields)
