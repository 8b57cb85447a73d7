"""Distinguishes exceptions of signal handlers from those of the code that they interrupt."""

from __future__ import annotations

import signal
import threading
from functools import partial
from opcode import opmap
from types import CodeType
from typing import Any


def is_from_signal(error: BaseException) -> bool:
    """Has a signal handler raised this exception?

    Python calls signal handlers in the main thread only. Either a frame of the traceback is that of a
    handler. Or it is a KeyboardInterrupt that no ``raise`` has raised: the default handler for Ctrl-C is no
    Python code, and has no frame.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = _handler_codes()
    trace = error.__traceback__
    last = trace
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        last, trace = trace, trace.tb_next
    if not isinstance(error, KeyboardInterrupt) or last is None:
        return False
    at = last.tb_lasti
    return last.tb_frame.f_code.co_code[at : at + 1] != _RAISE


_RAISE = bytes([opmap["RAISE_VARARGS"]])


def _handler_codes() -> set[CodeType]:
    """The code of the signal handlers that are written in Python."""
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "handler", handler)  # deferred: see threaded/interrupts.py
        if isinstance(handler, partial):
            handler = handler.func
        handler = getattr(handler, "__func__", handler)
        code = getattr(handler, "__code__", None)
        if code is None and callable(handler):  # an object with __call__
            code = getattr(getattr(type(handler), "__call__", None), "__code__", None)  # noqa: B004
        if code is not None:
            found.add(code)
    return found
