"""The engine of an endpoint: the waiting thread does the I/O.

Most of the time of a round trip is spent on thread switches. So a waiting thread does not sleep while another
thread does the I/O for it: it *leads*. It polls the sockets, receives, and calls the core until its own
predicate holds; then the next waiting thread leads. Threads that wait while another one leads are
*followers*: they sleep until they are woken.

Rules that keep this correct:

- There is one lock, ``lock``. It is held in every call into the core, and never in a poll, in a system call
  that may block, or in user code.
- A predicate is checked under the lock before its thread sleeps, and every change of what it depends on
  wakes the thread under the lock (`Engine.ring`): no wake-up is lost.
- Many followers that are woken at once would compete for the interpreter and the lock. A few are woken, and
  each wakes the next (`Followers`). What they send meanwhile may be put off, and is then written together
  (`EndpointDriver.settle_soon`): the last of them writes it at the latest.
- A leader never runs user code: it gives up the lead first. Callbacks and handlers run on *service*
  threads, which wait here like any other thread, so they delay no I/O.
- A background thread leads when no other thread waits. While threads wait again every few microseconds, it
    is not woken each time (``GRACE``): the sockets are disarmed for it. As long as threads wait now and then
    (``LOOKS``), it takes a turn at intervals instead, as often as an acknowledgement may be late: woken for
    each of these timers, it would compete with the round trip for the interpreter.
- A signal handler that may raise (Ctrl-C) is called only in `Engine._run_interrupts`, as if the wait had
  ended. See `linkbox.threaded.interrupts`.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from time import monotonic, sleep

from linkbox.core.effects import Effects
from linkbox.core.timers import NEVER
from linkbox.core.values import Value
from linkbox.core.wait_queue import NOTHING, Predicate, WaitQueue
from linkbox.errors import StateError
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.networks.network import ThreadedNetwork
from linkbox.networks.poller import LONGEST, Poller
from linkbox.threaded.interrupts import RESCAN, Interruptible, interrupts, join
from linkbox.threaded.waiters import Followers, ThreadWaiter

GRACE = 0.004
"""Seconds without a leader after which the background thread leads."""
LOOKS = 20
"""Turns that the background thread takes at intervals after the last leader left, before it sleeps."""
SOON = -NEVER
"""When the driver looks at the timers while nobody sleeps, or only for ``GRACE``."""
LOCK_PATIENCE = 0.01
"""Seconds that the courier of pending signals waits for the lock; it tries again."""


class Engine(Interruptible):
    """Leaders, followers and the background thread of one endpoint."""

    def __init__(
        self,
        lock: threading.RLock,
        driver: EndpointDriver,
        effects: Effects,
        network: ThreadedNetwork,
        name: str,
    ) -> None:
        self.lock = lock
        self.poller: Poller = network.poller
        self._now = network.now
        """The clock for deadlines and timers. The pauses of the background thread are in real time."""
        self._network = network
        self._driver = driver
        self._effects = effects
        self._leader: ThreadWaiter | None = None
        self._leader_thread = 0
        self._followers: Followers = Followers()
        self._left = 0.0
        self._is_hot = False
        self._wake_at = NEVER
        self._has_work = False
        self._is_working = False
        self._closing = False
        self._inside: set[ThreadWaiter] = set()
        """Threads that may use the poller."""
        self._spare: ThreadWaiter | None = None
        """A finished waiter, reused by the next wait: most waits lead alone and make no object."""
        self._sleeper = ThreadWaiter(0, is_service=True)
        """The background thread, when it leads."""
        self._nothing = WaitQueue()
        """It waits for no change."""
        self._background = threading.Thread(target=self._run, name=f"linkbox {name}", daemon=True)

    def start(self) -> None:
        """Start the background thread."""
        interrupts.add(self)
        self._inside.add(self._sleeper)
        self._background.start()

    # -- waiting ------------------------------------------------------------------------------------

    def wait(
        self,
        queue: WaitQueue,
        predicate: Predicate,
        deadline: float = NEVER,
        is_service: bool = False,
        may_lead: bool = True,
    ) -> Value:
        """Do I/O until the predicate has a result; `NOTHING` at the deadline (of the endpoint's clock).

        Call it with the lock held once; it is released while waiting.
        """
        if (result := predicate.claim()) is not NOTHING:
            return result
        thread = get_ident()
        outer = self._step_aside() if self._leader_thread == thread else None
        waiter, self._spare = self._spare, None
        if waiter is None:
            waiter = ThreadWaiter(thread, is_service, may_lead)
        else:
            waiter.thread, waiter.is_service, waiter.may_lead = thread, is_service, may_lead
        now = self._now()
        rescan_at = now + RESCAN if thread == interrupts.main_thread else NEVER
        try:
            self._inside.add(waiter)
            while now < deadline and not self._closing:
                queue.waiters[waiter] = predicate
                if now >= rescan_at:
                    interrupts.wrap_new(now)
                    rescan_at = NEVER
                if self._leader is None and may_lead:
                    self._leader = waiter
                until = deadline if deadline < rescan_at else rescan_at
                if self._leader is waiter:
                    self._turn(waiter, queue, until, now)
                else:
                    self._follow(waiter, until - now)
                if waiter.is_interrupted:
                    self._run_interrupts(waiter, queue, predicate)
                if (result := predicate.claim()) is not NOTHING:
                    return result
                now = self._now()
            return NOTHING
        finally:
            self._leave_queue(waiter, queue)
            if outer is not None:
                self._step_back(outer)
            if waiter.sleep_lock is None and not (waiter.is_rung or waiter.is_interrupted):
                self._spare = waiter

    def _step_aside(self) -> ThreadWaiter | None:
        """The leader waits again, in a finalizer or a handler that is not deferred: that wait leads."""
        leader = self._leader
        if leader is not None and self._is_working:
            raise StateError("this thread decodes a message for this endpoint: it cannot wait for another")
        self._leader = None
        return leader

    def _step_back(self, leader: ThreadWaiter) -> None:
        """The leader that stepped aside leads again."""
        self._leader, self._leader_thread = leader, leader.thread
        self._driver.looks_at = NEVER  # It may be about to poll, with a timer of its own.

    def _leave_queue(self, waiter: ThreadWaiter, queue: WaitQueue) -> None:
        """End the wait of a thread: give up the lead, pass on its wake-up. May be called twice."""
        queue.waiters.pop(waiter, None)
        if self._followers.asleep:
            self._followers.asleep.pop(waiter, None)
        if self._leader is waiter:
            self._leader, self._leader_thread = None, 0
            self._driver.looks_at = SOON
            if self._is_hot and not self._followers.asleep:
                self._left = monotonic()  # The background thread takes turns at intervals, for timers too.
            else:
                self._pass_lead()
        elif waiter.is_rung:
            self.ring(queue)  # There may be work for another waiter.
        self._inside.discard(waiter)
        if self._closing:
            self._go(waiter)

    def _go(self, waiter: ThreadWaiter) -> None:
        """A thread leaves the engine; after `close`, the last one closes the descriptors."""
        self._inside.discard(waiter)
        if self._closing and not self._inside:
            self.poller.close()
            interrupts.remove(self)

    def _turn(self, waiter: ThreadWaiter, queue: WaitQueue, deadline: float, now: float) -> None:
        """The leader reads once, without the lock, and handles the result."""
        self._leader_thread = waiter.thread
        if self._followers.asleep:
            self._followers.asleep.pop(waiter, None)
        if self.poller.armed:
            self.poller.disarm()
        effects, driver, network = self._effects, self._driver, self._network
        until = (
            effects.acks_due_at if effects.acks_due_at < effects.timers.soonest else effects.timers.soonest
        )
        if deadline < until:
            until = deadline
        if self._has_work:  # Work was left for this turn.
            self._has_work, until = False, now
        driver.looks_at = until
        self.lock.release()
        try:
            try:
                left = until - now
                network.read(LONGEST if left > LONGEST else max(0.0, left))
                self._is_working = True
            except BaseException:
                sleep(GRACE)  # It may fail again at once: not at full speed.
                raise
            finally:
                self.lock.acquire()
                driver.looks_at = SOON
            if len(queue.waiters) == 1:
                queue.waiters.pop(
                    waiter, None
                )  # Nobody has to wake it: it is awake, and looks after this turn.
            now = self._now()
            network.report(now)
            driver.turn_done(now)
        except BaseException as error:
            driver.turn_failed(error)
        finally:
            self._is_working = False

    def _follow(self, waiter: ThreadWaiter, timeout: float) -> None:
        """Sleep until woken. The lock is released in between."""
        self._followers.asleep[waiter] = None
        sleep_lock = waiter.make_sleep_lock()
        is_woken = False
        self.lock.release()
        if self._network.has_manual_clock:
            timeout = NEVER  # `clock_moved` wakes it.
        try:
            is_woken = sleep_lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        finally:
            self.lock.acquire()
            if waiter.is_rung:
                waiter.is_rung = False
                if not is_woken:  # Woken between the timeout and now.
                    sleep_lock.acquire(blocking=False)
            self._followers.on_running(waiter)
            driver, count = self._driver, self._followers.woken
            driver.is_contended = count > 1
            if driver.put_off and not count:
                driver.settle_put_off()

    def _pass_lead(self) -> None:
        """Give the lead to a waiting thread, else to the background thread after ``GRACE``."""
        for waiter in self._followers.asleep:
            if not waiter.is_service:
                self._promote(waiter)
                return
        if self._closing:
            return
        now = monotonic()
        is_sparse = now - self._left >= GRACE
        self._left = now
        if self._is_hot:
            return
        if is_sparse or self._network.has_manual_clock:
            self.poller.arm()
            self._driver.looks_at = self._wake_at
            if self._effects.next_timer() < self._wake_at:
                self.poller.kick()
        else:
            self._is_hot = True
            self.poller.kick()

    def _promote(self, waiter: ThreadWaiter) -> None:
        del self._followers.asleep[waiter]
        self._leader = waiter
        self._leader_thread = 0
        self.poller.disarm()
        waiter.wake()

    # -- signals ------------------------------------------------------------------------------------

    def is_used_by(self, thread: int) -> bool:
        if self.lock._is_owned():  # type: ignore[attr-defined]
            return True
        return any(waiter.thread == thread for waiter in list(self._inside))

    def is_working_here(self) -> bool:
        """Is the calling thread in the middle of a turn, so that it cannot wait?"""
        return self._is_working and self._leader_thread == get_ident()

    def interrupt(self, thread: int) -> None:
        if not self.lock.acquire(timeout=LOCK_PATIENCE):
            return
        try:
            for waiter in self._inside:
                if waiter.thread == thread:
                    waiter.is_interrupted = True
                    if self._leader is waiter:
                        self.poller.wake()
                    else:
                        waiter.wake()
        finally:
            self.lock.release()

    def _run_interrupts(self, waiter: ThreadWaiter, queue: WaitQueue, predicate: Predicate) -> None:
        """Call the handlers of pending signals, as if this wait had ended: they may raise, or stop us."""
        waiter.is_interrupted = False
        waiter.is_rung = True  # A wake-up for a change of the queue may have coincided: pass it on.
        self._leave_queue(waiter, queue)
        waiter.is_rung = False
        self.lock.release()
        try:
            interrupts.run_pending()
        finally:
            self.lock.acquire()
            self._inside.add(waiter)
            queue.waiters[waiter] = predicate

    # -- waking -------------------------------------------------------------------------------------

    def ring(self, queue: WaitQueue) -> None:
        """Wake waiters of a changed queue whose predicate holds. Under the lock.

        No more threads are woken than the queue can serve.
        """
        leader = self._leader
        leads = leader is not None and leader in queue.waiters and not leader.is_rung
        available = queue.available()
        # The leader first: it is awake, or about to be.
        if leads and leader is not None and available > 0 and queue.waiters[leader].holds():
            available -= 1
            if self._leader_thread != get_ident():
                self.poller.wake()
            if leader.is_service:
                return
        for waiter, predicate in queue.waiters.items():
            if available <= 0:
                return
            assert isinstance(waiter, ThreadWaiter)
            if not (leads and waiter is leader) and predicate.holds():
                available -= 1
                self._followers.wake(waiter)
                self._driver.is_contended = self._followers.woken > 1
                if waiter.is_service:
                    return  # One worker at a time: it wakes the next if there is more.

    def look_earlier(self) -> None:
        """A timer is due before the current poll or sleep ends. Under the lock."""
        if self._leader is None:
            self.poller.kick()
        else:
            self.poller.wake()

    def kick(self) -> None:
        """Make the leader or the background thread take a turn soon."""
        if self._leader is None:
            self._has_work = True
            self.poller.kick()
        else:
            self.poller.wake()

    def is_busy(self) -> bool:
        """Is a turn in progress or requested? Under the lock."""
        return self._is_working or self._has_work

    def clock_moved(self) -> None:
        """A manual clock was advanced: check every deadline. Under the lock."""
        for waiter in self._followers.asleep:
            waiter.wake()
        self.poller.wake()
        self.poller.kick()

    # -- the background -------------------------------------------------------------------------------

    def _run(self) -> None:
        self._sleeper.thread = (
            get_ident()
        )  # It may wait again, in a finalizer: it steps aside like any leader.
        while self._is_needed():
            pass
        with self.lock:
            self._go(self._sleeper)

    def _is_needed(self) -> bool:
        """Run one iteration of the background thread, whatever it raises."""
        try:
            return self._sleep_and_turn(self._sleeper)
        except BaseException as error:
            with self.lock:
                self._driver.turn_failed(error)
            sleep(GRACE)
        return True

    def _sleep_and_turn(self, waiter: ThreadWaiter) -> bool:
        """One iteration of the background thread. False when the engine is closing."""
        with self.lock:
            if self._closing:
                return False
            now = self._now()
            self._wake_at = self._background_until(now)
            if self._leader is None:
                self._driver.looks_at = SOON if self._is_hot else self._wake_at
            timeout = min(max(0.0, self._wake_at - now), LONGEST)
        self.poller.sleep(timeout)
        with self.lock:
            if self._closing:
                return False
            if self._leader is None and (self._has_work or not self._is_hot):
                self._leader = waiter
                try:
                    self._turn(waiter, self._nothing, 0.0, 0.0)
                finally:
                    self._hand_over()
        return True

    def _background_until(self, now: float) -> float:
        """How long the background thread may sleep. Under the lock."""
        if self._is_hot and now - self._left < GRACE:
            return self._left + GRACE
        self._is_hot = False
        until = NEVER
        if self._leader is None:
            self.poller.arm()
            until = self._effects.next_timer()
        if self._network.has_manual_clock:
            return until
        pace = self._effects.ack_delay  # Often enough for the most frequent timer.
        return min(until, now + pace) if now - self._left < LOOKS * pace else until

    def _hand_over(self) -> None:
        """After a turn of the background thread: give the lead to a waiting thread."""
        self._leader = None
        self._leader_thread = 0
        follower = next((each for each in self._followers.asleep if each.may_lead), None)
        if follower is not None:
            self._promote(follower)

    def close(self) -> None:
        """End the background thread and wake all waiters. Under the lock."""
        self._closing = True
        self.poller.kick()
        self.poller.wake()
        for waiter in self._followers.asleep:
            waiter.wake()

    def join(self, timeout: float) -> None:
        """Wait for the background thread to end. Not under the lock."""
        if self._background is not threading.current_thread():
            join(self._background, timeout)
        interrupts.restore()
