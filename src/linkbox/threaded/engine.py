"""Whoever waits, works: the engine that moves bytes without a thread of its own in the way.

How to think about it. A round trip is mostly thread switches. So a thread that waits for something
does not sleep while another does the I/O for it: it *leads*. It polls the sockets, receives, feeds the
core, until its own wish is fulfilled; then the next waiting thread leads. Threads that wait while
another leads are *followers*: they sleep until they are rung.

Rules that keep this right:

- One lock, ``lock``. It is held in every call into the core, and never in a poll, in a system call that
  may block, or in user code.
- A wish is checked under the lock before its waiter sleeps, and whoever changes what it depends on rings
  it under the lock: no ring is lost.
- A leader never runs user code: it gives up the lead first. So callbacks and handlers, which run on
  *service* threads that wait here like any other, hold nobody up.
- A background thread leads when nobody waits. While threads come back every few microseconds, it is not
  woken each time (``GRACE``): the sockets are disarmed for it, and it looks in now and then. While they come
  back at all (``LOOKS``), it looks in as often as an acknowledgement may be late: waking it for each of these
  timers would cost the round trip a fight for the interpreter.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from linkbox.core.mailbox import Box
from linkbox.errors import StateError
from linkbox.networks.network import ThreadedNetwork
from linkbox.networks.poller import Poller

log = logging.getLogger("linkbox")

GRACE = 0.004
"""Seconds after which an engine that nobody leads is taken over by the background thread."""
LOOKS = 20
"""How often the background thread looks in after the last leader left, before it sleeps for good."""
NEVER = float("inf")


class Waiter:
    """One thread that waits for one wish."""

    __slots__ = ("is_rung", "is_service", "may_lead", "sleeper", "wish")

    def __init__(self, wish: Callable[[], Any], is_service: bool = False, may_lead: bool = True) -> None:
        self.wish = wish
        self.is_service = is_service
        self.may_lead = may_lead
        self.is_rung = False
        self.sleeper: threading.Lock | None = None
        """Held; made for the first sleep, for most never sleep: they lead."""

    def ring(self) -> None:
        """Wake it. Under the engine's lock."""
        if not self.is_rung:
            self.is_rung = True
            if self.sleeper is not None:
                self.sleeper.release()

    def bed(self) -> threading.Lock:
        """What to sleep on. Under the engine's lock."""
        if self.sleeper is None:
            self.sleeper = threading.Lock()
            if not self.is_rung:
                self.sleeper.acquire()
        return self.sleeper


class Engine:
    """Leaders, followers and the background thread of one endpoint."""

    def __init__(
        self, lock: threading.RLock, driver: Any, network: ThreadedNetwork, name: str, pace: float
    ) -> None:
        self.lock = lock
        self._pace = pace
        """Seconds between the looks of the background thread: what the most frequent timer may take."""
        self.poller: Poller = network.poller
        self._now = network.now
        """The clock that deadlines and timers follow. The background thread's own pauses are real time."""
        self._has_manual_clock = network.has_manual_clock
        self._driver = driver
        """Has ``work(ready)``, called by a leader without the lock, and ``next_timer()``."""
        self._leader: Waiter | None = None
        self._leader_thread = 0
        self._followers: dict[Waiter, None] = {}
        self._poll_until = NEVER
        self._left = 0.0
        self._is_hot = False
        self._wake_at = NEVER
        self._has_work = False
        self._is_working = False
        self._closing = False
        self._inside: set[Waiter] = set()
        """Threads that may use the poller."""
        self._sleeper = Waiter(bool, is_service=True)
        """The background thread, when it leads."""
        self._background = threading.Thread(target=self._run, name=f"linkbox {name}", daemon=True)

    def start(self) -> None:
        """Start the background thread."""
        self._inside.add(self._sleeper)
        self._background.start()

    # -- waiting ------------------------------------------------------------------------------------

    def wait(
        self,
        box: Box,
        wish: Callable[[], Any],
        deadline: float = NEVER,
        is_service: bool = False,
        may_lead: bool = True,
    ) -> bool:
        """Wait, working, until ``wish()`` holds or the deadline (of ``monotonic()``) has passed.

        Call with the lock held once; it is given up while waiting and held again on return.
        Returns whether the wish holds.
        """
        if wish():
            return True
        interrupted = self._leader if self._leader_thread == threading.get_ident() else None
        if interrupted is not None:
            # The leader's own thread comes back here: out of a decode, where it would wait for itself,
            # or out of a signal handler that interrupted its poll; then this wait leads in its stead.
            if self._is_working:
                raise StateError(
                    "this thread is decoding a message for this endpoint; it cannot wait for another"
                )
            self._leader = None
        waiter = Waiter(wish, is_service, may_lead)
        try:
            self._inside.add(waiter)
            box.waiters[waiter] = None
            while True:
                now = self._now()
                if now >= deadline or self._closing:
                    return False
                if self._leader is None and may_lead:
                    self._lead(waiter)
                if self._leader is waiter:
                    self._turn(waiter, deadline, now)
                else:
                    self._follow(waiter, deadline - now)
                if wish():
                    return True
        finally:
            try:
                self._out(waiter, box, interrupted)
            except BaseException:  # Ctrl-C in the middle of it: it can be done again
                self._out(waiter, box, interrupted)
                raise

    def _out(self, waiter: Waiter, box: Box, interrupted: Waiter | None) -> None:
        """A thread waits no more: give up the lead, pass on what it was rung for."""
        box.waiters.pop(waiter, None)
        if self._followers:
            self._followers.pop(waiter, None)
        if interrupted is not None:
            self._leader, self._leader_thread = interrupted, threading.get_ident()
        elif self._leader is waiter:
            self._leave()
        elif waiter.is_rung:
            self.ring(box)  # What it was rung for may be another's.
        self._go(waiter)

    def _go(self, waiter: Waiter) -> None:
        """A thread is out; the last one gives back the descriptors."""
        self._inside.discard(waiter)
        if self._closing and not self._inside:
            self.poller.close()

    def _lead(self, waiter: Waiter) -> None:
        if self._followers:
            self._followers.pop(waiter, None)
        self._leader = waiter
        if self.poller.armed:
            self.poller.disarm()

    def _turn(self, waiter: Waiter, deadline: float, now: float) -> None:
        """Poll once and do what is to be done. The lock is given up in between."""
        self._leader_thread = threading.get_ident()
        until = self._driver.next_timer()
        if deadline < until:
            until = deadline
        if self._has_work:  # Something was left for whoever takes the next turn.
            self._has_work, until = False, now
        self._poll_until = until
        try:
            self.lock.release()
            timeout = None if until == NEVER else max(0.0, until - now)
            ready = self.poller.poll(timeout)
            self._is_working = True
            self._driver.work(ready)
        finally:
            self._is_working = False
            try:
                self.lock.acquire()
            except BaseException:  # Ctrl-C while it waited for the lock
                if not self.lock._is_owned():  # type: ignore[attr-defined]
                    self.lock.acquire()
                raise
            self._poll_until = NEVER

    def _follow(self, waiter: Waiter, timeout: float) -> None:
        self._followers[waiter] = None
        got = False
        sleeper = waiter.bed()
        try:
            self.lock.release()
            if self._has_manual_clock:
                timeout = NEVER  # `clock_moved` wakes it.
            got = sleeper.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        finally:
            try:
                self.lock.acquire()
            except BaseException:  # Ctrl-C while it waited for the lock
                if not self.lock._is_owned():  # type: ignore[attr-defined]
                    self.lock.acquire()
                raise
            if waiter.is_rung:
                waiter.is_rung = False
                if not got:  # Rung between the end of its patience and now.
                    sleeper.acquire(blocking=False)

    def _leave(self) -> None:
        """Give up the lead: to somebody who waits, else to the background, after a grace."""
        self._leader = None
        self._leader_thread = 0
        for waiter in self._followers:
            if not waiter.is_service:
                self._promote(waiter)
                return
        if self._closing:
            return
        now = monotonic()
        is_sparse = now - self._left >= GRACE
        self._left = now
        if self._is_hot:
            return  # The background looks in by itself, timers included.
        if is_sparse or self._has_manual_clock:
            self.poller.arm()
            if self._driver.next_timer() < self._wake_at:
                self.poller.kick()
        else:
            self._is_hot = True
            self.poller.kick()

    def _promote(self, waiter: Waiter) -> None:
        del self._followers[waiter]
        self._leader = waiter
        self._leader_thread = 0
        self.poller.disarm()
        waiter.ring()

    # -- ringing ------------------------------------------------------------------------------------

    def ring(self, box: Box) -> None:
        """What this box stands for has changed: wake those whose wish is fulfilled. Under the lock.

        No more are woken than there is something for.
        """
        leader: Any = self._leader
        leads = leader in box.waiters and not leader.is_rung
        if leads and self._is_working and len(box.waiters) == 1:
            return  # It looks for itself, when its turn is over.
        supply = NEVER if box.supply is None else box.supply()
        if leads and supply > 0 and leader.wish():  # It is awake, or nearly: it goes first.
            supply -= 1
            if self._leader_thread != threading.get_ident():
                self.poller.wake()
            if leader.is_service:
                return
        waiter: Waiter
        for waiter in box.waiters:
            if supply <= 0:
                return
            if not (leads and waiter is leader) and waiter.wish():
                supply -= 1
                waiter.ring()
                if waiter.is_service:
                    return  # One worker at a time: it rings the next if there is more.

    def timers_changed(self) -> None:
        """A timer may be due earlier than whoever sleeps knows. Under the lock."""
        if self._leader is None:
            if not self._is_hot and self._driver.next_timer() < self._wake_at:
                self.poller.kick()
        elif self._driver.next_timer() < self._poll_until and self._leader_thread != threading.get_ident():
            self.poller.wake()

    def kick(self) -> None:
        """Let somebody take a turn soon: the leader, or the background thread."""
        if self._leader is None:
            self._has_work = True
            self.poller.kick()
        else:
            self.poller.wake()

    def is_busy(self) -> bool:
        """Is a turn under way, or wanted? Under the lock."""
        return self._is_working or self._has_work

    def clock_moved(self) -> None:
        """A manual clock was advanced: look at every deadline again. Under the lock."""
        for waiter in self._followers:
            waiter.ring()
        self.poller.wake()
        self.poller.kick()

    # -- the background -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._sleep_and_turn(self._sleeper):
                pass
        finally:
            with self.lock:
                self._go(self._sleeper)

    def _sleep_and_turn(self, waiter: Waiter) -> bool:
        """One round of the background thread. False when the engine closes."""
        with self.lock:
            if self._closing:
                return False
            now = self._now()
            self._wake_at = self._background_until(now)
            timeout = None if self._wake_at == NEVER else max(0.0, self._wake_at - now)
        self.poller.sleep(timeout)
        with self.lock:
            if self._closing:
                return False
            if self._leader is None and (self._has_work or not self._is_hot):
                self._lead(waiter)
                try:
                    self._turn(waiter, 0.0, 0.0)
                except Exception:
                    log.exception("linkbox: an unexpected error in the background thread")
                finally:
                    self._hand_over()
        return True

    def _background_until(self, now: float) -> float:
        """How long may the background thread sleep? Under the lock."""
        if self._is_hot and now - self._left < GRACE:
            return self._left + GRACE
        self._is_hot = False
        until = NEVER
        if self._leader is None:
            self.poller.arm()
            until = self._driver.next_timer()
        if self._has_manual_clock:
            return until
        return min(until, now + self._pace) if now - self._left < LOOKS * self._pace else until

    def _hand_over(self) -> None:
        """After a turn of the background: whoever waits leads on."""
        self._leader = None
        self._leader_thread = 0
        follower = next((each for each in self._followers if each.may_lead), None)
        if follower is not None:
            self._promote(follower)

    def close(self) -> None:
        """End the background thread and wake everyone. Under the lock."""
        self._closing = True
        self.poller.kick()
        self.poller.wake()
        for waiter in self._followers:
            waiter.ring()

    def join(self, timeout: float) -> None:
        """Wait for the background thread to end. Not under the lock."""
        if self._background is not threading.current_thread():
            self._background.join(timeout)
