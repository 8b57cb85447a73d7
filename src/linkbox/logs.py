"""Writes every log line of linkbox.

The logger is ``linkbox``, with a child for each area: ``linkbox.client``, ``linkbox.server``,
``linkbox.callbacks``, ``linkbox.store``, ``linkbox.monitor``. A line names its endpoint. What it contains is
also in fields of its record (``extra`` of the logging module), for handlers that write JSON: ``event``,
``endpoint``, ``peer``, ``peer_address`` and others that depend on the event.

Text from a peer may be in a line, and in the text of an exception that is logged with its traceback: both are
escaped and cut (see text.py). A handler of the application that raises must not end the loop that logs.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping

from linkbox.signals import is_from_signal
from linkbox.text import LONGEST_MESSAGE, printable, text_of

log: logging.Logger = logging.getLogger("linkbox")
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING}
_RESERVED = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime"))
"""Fields that every record has: `logging` does not allow others with these names."""
_CHAIN = 5
"""Most exceptions of a chain that are shown."""


_loggers: dict[str, logging.Logger] = {"": log}
"""`logging.getLogger` takes a lock, and each connection asks several times whether its lines are read."""


def logger_of(area: str) -> logging.Logger:
    """The logger of an area, such as "client" or "store"; the one of all linkbox for an empty name."""
    logger = _loggers.get(area)
    if logger is None:
        logger = _loggers[area] = logging.getLogger(f"linkbox.{area}")
    return logger


def quieten(area: str) -> None:
    """Write only warnings of an area, unless the application has set the level of its logger."""
    logger = logger_of(area)
    if logger.level == logging.NOTSET:
        logger.setLevel(WARNING)


def is_read(area: str, level: str) -> bool:
    """Does anybody read lines of this level ("debug", "info", "warning")?"""
    return logger_of(area).isEnabledFor(LEVELS[level])


def write(
    level: int,
    text: str,
    error: BaseException | None = None,
    *,
    area: str = "",
    endpoint: object = None,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Write one line, with the traceback of ``error`` if there is one. ``endpoint`` is named first."""
    try:
        logger = logger_of(area)
        if not logger.isEnabledFor(level):
            return
        info = None if error is None else (type(error), error, error.__traceback__)
        name = "" if endpoint is None else str(endpoint)
        whole = f"{name}: {text}" if name and name not in text else text
        line = printable(whole, LONGEST_MESSAGE)
        extra = _extra(name, text, fields or {})
        record = logger.makeRecord(
            logger.name, level, __file__, 0, "linkbox: %s", (line,), info, "write", extra
        )
        if error is not None:
            record.exc_text = _traceback(error)  # a formatter takes this instead of formatting `exc_info`
        logger.handle(record)
    except BaseException as failure:  # of a handler or filter of the application
        if is_from_signal(failure):
            raise
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc(file=sys.stderr)


def _extra(endpoint: str, text: str, fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of a record, escaped as the text is."""
    found: dict[str, object] = {"event": "", "endpoint": endpoint, "text": text}
    found.update(fields)
    return {
        name: printable(value, LONGEST_MESSAGE) if isinstance(value, str) else value
        for name, value in found.items()
        if name not in _RESERVED
    }


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
