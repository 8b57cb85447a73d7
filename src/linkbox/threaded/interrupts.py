"""Defers signal handlers that may raise (Ctrl-C) to a safe point. All handling of signals belongs here.

The problem. Python calls a signal handler in the main thread, between any two of its bytecodes. A handler
that raises, as that for Ctrl-C does, could therefore leave the core, or the endpoint's lock, in the middle of
a change. No ``try`` can repair that: the exception can also be raised inside the ``finally``.

The solution. While a threaded endpoint runs, each handler that is written in Python is wrapped in a
`Deferred`. When its signal arrives, `Interrupts.on_signal` looks at what the main thread is doing:

- It runs code of the application: the handler is called at once, because there is nothing to protect.
- It is in linkbox: the signal is noted as pending. A short-lived thread, the *courier*, first wakes the wait,
  if the main thread waits in `Engine.wait`; the wait calls the handler without the lock and with all state
  consistent (`run_pending`). Where the main thread does not wait, the courier sends the signal again every
  millisecond, until it arrives in code of the application.

So a call that raises because of a signal has not done its work (it has sent or taken nothing), and a call
that has done its work returns its result.

The frames of the main thread show where it is; and, where a finalizer of the application interrupts linkbox,
`Interruptible.is_used_by`. Code compiled by mypyc has no frames, so the modules of the public classes are not
compiled: each call begins and ends in a frame of theirs. Python does not look for signals when such a frame
returns; after a call of compiled code it would, and an exception raised there would lose the result.

In a loop of calls, the courier may never find the main thread outside linkbox. Each call that an application
can make in a loop therefore starts with ``if interrupts.pending: interrupts.run_pending()``.

Limits:

- A handler that is installed while an endpoint runs is wrapped when an endpoint starts, or when the main
  thread has waited for `RESCAN` seconds. Until then it is called as Python would call it.
- Handlers of asyncio are left alone: they do not raise. SIGPROF is left alone: profilers look at the frame.
- If the main thread does not get out of linkbox for `PATIENCE` seconds, the handler is called anyway.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from types import FrameType
from typing import Any

RESCAN = 0.02
"""Seconds that the main thread waits before it looks for handlers that are not wrapped yet."""
RETRY = 0.001
"""Seconds between two attempts to deliver a pending signal."""
PATIENCE = 5.0
"""Seconds after which a pending signal is delivered wherever the main thread is."""
SLICE = 0.05
"""Seconds between two checks for pending signals in a wait outside the engine."""

_NOT_PROTECTED = ("linkbox.cli", "linkbox.testing")
"""Parts of linkbox that are applications themselves."""


class Interruptible:
    """The interface of an engine, in which the main thread may wait."""

    def is_used_by(self, thread: int) -> bool:
        """Does this thread hold the lock, or wait here? For the thread itself, in a signal handler."""
        raise NotImplementedError

    def interrupt(self, thread: int) -> None:
        """Wake the wait of this thread, if it waits here; it calls `Interrupts.run_pending`."""
        raise NotImplementedError


class Deferred:
    """A signal handler, wrapped: it is called where it may raise."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler: Callable[[int, FrameType | None], Any] = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        interrupts.on_signal(self, number, frame)

    # Libraries compare the present handler with the default one before they install theirs.
    def __eq__(self, other: object) -> bool:
        return other is self or bool(other == self.handler)

    def __hash__(self) -> int:
        return hash(self.handler)

    def __repr__(self) -> str:
        return f"<deferred {self.handler!r}>"


class Interrupts:
    """The wrapped handlers and the pending signals of this process."""

    def __init__(self) -> None:
        self.pending: dict[int, Deferred] = {}
        """Signals whose handlers have not been called yet."""
        self.main_thread: int = _main_thread()
        self._engines: list[Interruptible] = []
        """The engines of this process. Replaced, never changed in place: a signal handler reads the list."""
        self._lock = threading.Lock()
        """For changes of `_engines`; never taken in a signal handler."""
        self._sent: set[int] = set()
        """Signals that the courier has sent, and that have not arrived yet."""
        self._courier = threading.Lock()
        """Held by the courier, as long as it runs."""
        self._is_late = False
        self._scanned_at = 0.0

    # -- which handlers are wrapped ---------------------------------------------------------------------

    def add(self, engine: Interruptible) -> None:
        """Add the engine of an endpoint that starts."""
        with self._lock:
            self._engines = [*self._engines, engine]
        self.wrap()

    def remove(self, engine: Interruptible) -> None:
        """Remove the engine of a stopped endpoint, in which the main thread does not wait."""
        with self._lock:
            self._engines = [each for each in self._engines if each is not engine]

    def wrap(self) -> None:
        """Wrap every handler that is not wrapped. Does nothing outside the main thread."""
        if _thread.get_ident() != self.main_thread:
            return
        self._scanned_at = monotonic()
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, Deferred) and not _is_asyncio(handler):
                _install(number, Deferred(handler))

    def wrap_new(self, now: float) -> None:
        """Wrap handlers installed since the last scan, if the main thread has waited for some time."""
        if now - self._scanned_at >= RESCAN:
            self.wrap()

    def restore(self) -> None:
        """Put the original handlers back if no endpoint runs. Does nothing outside the main thread."""
        if self._engines or self.pending or _thread.get_ident() != self.main_thread:
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if isinstance(handler, Deferred):
                _install(number, handler.handler)

    # -- a signal arrives -----------------------------------------------------------------------------------

    def on_signal(self, deferred: Deferred, number: int, frame: FrameType | None) -> None:
        """Call the handler now, or note the signal as pending. In the main thread, at any moment."""
        if number in self._sent:
            self._sent.discard(number)
            if number not in self.pending:
                return  # The handler was called at a safe point in the meantime.
        if not self._may_raise(frame):
            self.pending[number] = deferred
            if self._start_courier():
                return
        self.pending.pop(number, None)
        if not self._engines:
            self.restore()
        self._call(deferred, number, frame)

    def run_pending(self) -> None:
        """Call the handlers of all pending signals; they may raise. Not under a lock."""
        if _thread.get_ident() != self.main_thread:
            return
        while self.pending:
            number, deferred = self.pending.popitem()
            self._call(deferred, number, sys._getframe())

    def _call(self, deferred: Deferred, number: int, frame: FrameType | None) -> None:
        handler = deferred.handler
        if handler is signal.default_int_handler:
            handler = _asyncio_handler(frame) or handler
        handler(number, frame)

    def _may_raise(self, frame: FrameType | None) -> bool:
        """Is the main thread outside linkbox?"""
        engines = self._engines
        if not engines or self._is_late:
            return True
        for engine in engines:
            if engine.is_used_by(self.main_thread):
                return False
        return not _is_in_linkbox(frame)

    # -- the courier -------------------------------------------------------------------------------------

    def _start_courier(self) -> bool:
        """Start the courier. False at the interpreter's exit, when no thread can be started."""
        if self._courier.acquire(False):
            try:
                _thread.start_new_thread(self._deliver_all, ())
            except RuntimeError:
                self._courier.release()
                return False
        return True

    def _deliver_all(self) -> None:
        while True:
            began = monotonic()
            while self.pending:
                self._deliver(monotonic() - began)
            self._is_late = False
            self._courier.release()
            # A signal may have become pending just before the release.
            if not self.pending or not self._courier.acquire(False):
                return

    def _deliver(self, age: float) -> None:
        """One attempt: wake the wait of the main thread, then send the signals again."""
        for engine in self._engines:
            engine.interrupt(self.main_thread)
        self._is_late = age > PATIENCE
        sleep(0.1 if self._is_late else RETRY)
        for number, deferred in list(self.pending.items()):
            if signal.getsignal(number) is deferred:
                self._sent.add(number)
                _send(number, self.main_thread)
            else:  # The application has installed another handler in the meantime.
                self.pending.pop(number, None)

    def after_fork(self) -> None:
        """In the child: no endpoint runs, there is no courier, and this thread is the main thread."""
        self.pending.clear()
        self.main_thread = _main_thread()
        self._engines = []
        self._lock = threading.Lock()
        self._sent.clear()
        self._courier = threading.Lock()
        self._is_late = False


# -- waits outside the engine ----------------------------------------------------------------------


def _bearable(timeout: float | None) -> float | None:
    """A timeout that a lock can take: no longer one is ever over."""
    return None if timeout is None else min(timeout, threading.TIMEOUT_MAX)


def wait_for(event: threading.Event, timeout: float | None = None) -> bool:
    """``event.wait(timeout)`` for code of linkbox: in the main thread, pending handlers are called."""
    if _thread.get_ident() != interrupts.main_thread:
        return event.wait(_bearable(timeout))
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        if interrupts.pending:
            interrupts.run_pending()
        left = SLICE if deadline is None else deadline - monotonic()
        if event.wait(max(0.0, min(SLICE, left))):
            return True
        if left <= 0:
            return False


def join(thread: threading.Thread, timeout: float | None = None) -> None:
    """``thread.join(timeout)`` for code of linkbox: in the main thread, pending handlers are called."""
    if _thread.get_ident() != interrupts.main_thread:
        thread.join(_bearable(timeout))
        return
    deadline = None if timeout is None else monotonic() + timeout
    while thread.is_alive():
        if interrupts.pending:
            interrupts.run_pending()
        left = SLICE if deadline is None else deadline - monotonic()
        if left <= 0:
            return
        thread.join(min(SLICE, left))


# -- what Python and asyncio know ---------------------------------------------------------------------------

_SIGNALS = tuple(
    number
    for number in sorted(signal.valid_signals())
    if number not in {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP", "SIGPROF")}
)


def _main_thread() -> int:
    return threading.main_thread().ident or 0


def _install(number: int, handler: Callable[[int, FrameType | None], Any]) -> None:
    try:
        signal.signal(number, handler)
    except (OSError, ValueError):
        pass  # Not a signal of the application, or a subinterpreter, which has no signals.


def _send(number: int, thread: int) -> None:
    """Make the main thread call the handler again, also if it is blocked in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _is_in_linkbox(frame: FrameType | None) -> bool:
    """Is the innermost frame that does not belong to the standard library one of linkbox?"""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        if package == "linkbox":
            return not module.startswith(_NOT_PROTECTED)
        # The constructor of a NamedTuple has a module of its own; who calls it decides.
        if package not in sys.stdlib_module_names and not package.startswith("namedtuple_"):
            return False
        frame = frame.f_back
    return False


def _is_asyncio(handler: Callable[..., Any]) -> bool:
    function = handler.func if isinstance(handler, partial) else handler
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("asyncio", "uvloop")


def _asyncio_handler(frame: FrameType | None) -> Callable[[int, FrameType | None], Any] | None:
    """What `asyncio.run` would have installed for Ctrl-C if it had found the default handler.

    It checks for the default handler object, and finds ours. Without this, Ctrl-C would be raised inside the
    event loop instead of cancelling the main task.
    """
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "asyncio.runners":
            runner, task = frame.f_locals.get("self"), frame.f_locals.get("task")
            on_sigint = getattr(runner, "_on_sigint", None)
            return None if on_sigint is None or task is None else partial(on_sigint, main_task=task)
        frame = frame.f_back
    return None


interrupts: Interrupts = Interrupts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=interrupts.after_fork)
