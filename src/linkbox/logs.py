"""Writes every log line of linkbox.

Text from a peer may be in a line, and in the text of an exception that is logged with its traceback: both are
escaped and cut (see text.py). A handler of the application that raises must not end the loop that logs.
"""

from __future__ import annotations

import logging
import sys
import traceback

from linkbox.signals import is_from_signal
from linkbox.text import LONGEST_MESSAGE, printable, text_of

log: logging.Logger = logging.getLogger("linkbox")
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

_CHAIN = 5
"""Most exceptions of a chain that are shown."""


def write(level: int, text: str, error: BaseException | None = None) -> None:
    """Write one line, with the traceback of ``error`` if there is one."""
    try:
        if not log.isEnabledFor(level):
            return
        info = None if error is None else (type(error), error, error.__traceback__)
        line = printable(text, LONGEST_MESSAGE)
        record = log.makeRecord(log.name, level, __file__, 0, "linkbox: %s", (line,), info, "write")
        if error is not None:
            record.exc_text = _traceback(error)  # a formatter takes this instead of formatting `exc_info`
        log.handle(record)
    except BaseException as failure:  # of a handler or filter of the application
        if is_from_signal(failure):
            raise
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc(file=sys.stderr)


def _traceback(error: BaseException) -> str:
    """The traceback as Python shows it, with the texts of the exceptions escaped."""
    parts: list[str] = []
    each: BaseException | None = error
    joint = ""
    while each is not None and len(parts) < _CHAIN:
        frames = "".join(traceback.format_tb(each.__traceback__))
        head = f"Traceback (most recent call last):\n{frames}" if frames else ""
        parts.append(f"{head}{type(each).__name__}: {printable(text_of(each), LONGEST_MESSAGE)}{joint}")
        if each.__cause__ is not None:
            each, joint = each.__cause__, "\n\nThe above exception was the direct cause of the following:\n"
        else:
            each = None if each.__suppress_context__ else each.__context__
            joint = "\n\nDuring handling of the above exception, another exception occurred:\n"
    return "\n".join(reversed(parts))
