"""The part of a driver that is the same for threads and tasks: the work after each call into the core.

It writes, connects, wakes waiters and logs. `threaded/transport.py` and `aio/driver.py` add how waiting
threads or tasks are woken, and how the next timer is set.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from linkbox.core.arrival import Arrival
from linkbox.core.backlog import Backlog
from linkbox.core.connection import Connection as Link
from linkbox.core.decoding import Decoding
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.frame_reader import TURN_FRAMES
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import WaitQueue
from linkbox.errors import ConnectFailed, PeerLost
from linkbox.events import Peer
from linkbox.networks.driver_log import log_lines
from linkbox.networks.network import Listener, Network, NetworkEvents
from linkbox.signals import is_from_signal
from linkbox.surviving import LoopErrors
from linkbox.text import text_of

Awaited: TypeAlias = Any
"""With threads the result itself, with asyncio an awaitable for it."""

LARGE: Final = 1024 * 1024
"""Bytes of memory of values from which on decoding them pauses the garbage collector."""
MOST_PUT_OFF: Final = 15
"""How many times in a row `EndpointDriver.settle_soon` puts its work off: the peer shall have some of it
to do while more is added."""
TURN_PAUSE = 0.01
"""Seconds after an unexpected error of a turn until the next one."""


class TurnAgain:
    """A timer that only causes a turn."""

    __slots__ = ("due", "timer_at")

    def __init__(self, due: float) -> None:
        self.due: float = due
        self.timer_at: float = NEVER

    def next_timer(self) -> float:
        """When to take a turn."""
        return self.due

    def handle_timer(self, now: float) -> None:
        """The turn has begun."""
        self.due = NEVER


class EndpointDriver(NetworkEvents):
    """The driver of an endpoint from ``start()`` to ``stop()``. Used under the lock, or on the event loop."""

    _network: Network

    def __init__(self, hub: EndpointCore, decoding: Decoding | None, errors: LoopErrors) -> None:
        super().__init__(hub)
        self.errors = errors
        self._decoding = decoding
        """None: messages are the bytes themselves."""
        self.backlog: Backlog = Backlog(hub.context)
        self.is_turn_due = False
        """With asyncio: will a turn come soon, which decodes first what was left?"""
        self.reads_on = True
        """Does this turn process bytes that were held? With asyncio only one that comes after everything else
        that is ready."""
        self.looks_at = NEVER
        """When the driver will look at the timers by itself; minus infinity while it is about to."""
        self.is_contended = False
        """Are several threads about to run, whose waits are over? Never with asyncio."""
        self.put_off: int = 0
        """How many times in a row `settle_soon` has put off its work."""
        self._lazy: list[Channel] = []

    def _use(self, network: Network) -> None:
        """Set the network. A subclass calls this in its constructor."""
        self._network = network
        self.now: Callable[[], float] = network.now
        """The clock: seconds, as of ``time.monotonic()``."""
        if network.has_manual_clock:
            # Otherwise no acknowledgement would be sent while the clock does not move.
            self.hub.effects.ack_delay = 0.0

    # -- after every call into the core ----------------------------------------------------------------

    def settle(self) -> None:
        """Do the work that the core has left."""
        effects = self.effects
        while True:
            while effects.to_write:
                link = effects.to_write.pop()
                carrier = link.carrier
                if carrier is not None:
                    try:
                        carrier.flush()
                    except BaseException as error:
                        self.link_failed(link, error)
            if self.dials:
                self._dial(self.dials.pop(0))
            elif effects.to_wake:
                changed, effects.to_wake = effects.to_wake, []
                for queue in changed:
                    if queue.waiters:
                        self.ring(queue)
            elif not effects.to_write:
                break
        if effects.to_read or (self.backlog.queues and self.must_decode()):
            self.turn_soon()
        if effects.log_lines:
            log_lines(self.hub)
        if effects.failures:
            self._report_failures()
        if effects.acks_due_at < self.looks_at or effects.timers.soonest < self.looks_at:
            self.look_earlier()

    def settle_soon(self) -> None:
        """The same for a caller that will wait, if `is_contended`: with what others send, in a moment."""
        if self.put_off < MOST_PUT_OFF:
            self.put_off += 1
        else:
            self.settle_put_off()

    def settle_put_off(self) -> None:
        """Do what `settle_soon` has put off."""
        self.put_off = 0
        self.settle()

    def _dial(self, session: Session) -> None:
        try:
            self._network.dial(session)
        except BaseException as error:
            self.dial_failed(session, error)

    # -- unexpected errors: the rule is in surviving.py ------------------------------------------------

    def link_failed(self, link: Link, error: BaseException) -> None:
        """An unexpected error has hit a connection: close it, and go on with the others."""
        self.errors.survive("connections", f"unexpected error of the connection with {link.address}", error)
        effects = self.hub.effects
        if link.closed:
            link.carrier = None  # closing it has failed, too: the network does not try again
            return
        try:
            link.abort(_lost(link.address, error))
        except BaseException as failure:
            self.errors.survive("connections", f"unexpected error of closing {link.address}", failure)
        effects.to_write.append(link)

    def reading_failed(self, link: Link, error: BaseException) -> None:
        self.link_failed(link, error)
        try:
            self.hub.inbox.reading_failed(link, _lost(link.address, error))
        except BaseException as failure:
            self.errors.survive("connections", f"unexpected error of closing {link.address}", failure)

    def accept_failed(self, error: BaseException) -> None:
        """An unexpected error has hit a connection that is being accepted: it is closed."""
        self.errors.survive("accepting", "unexpected error of accepting a connection", error)

    def dial_failed(self, session: Session, error: BaseException) -> None:
        """An unexpected error has hit an attempt to connect: count it as failed."""
        self.errors.survive("connecting", f"unexpected error of connecting to {session.peer}", error)
        failure = ConnectFailed(f"cannot connect to {session.peer}: {type(error).__name__}: {text_of(error)}")
        try:
            self.connect_failed(session, failure, self.now())
        except BaseException as raised:
            self.errors.survive("connecting", f"unexpected error of connecting to {session.peer}", raised)

    def arrival_failed(self, arrival: Arrival, error: BaseException) -> None:
        """An unexpected error has hit the storing of messages: end their conversation."""
        session = arrival.session
        self.errors.survive("storing", f"unexpected error of storing messages of {session.peer}", error)
        try:
            self.hub.inbox.storing_failed(session, _lost(str(session.peer), error))
        except BaseException as failure:
            self.errors.survive("storing", f"unexpected error of ending {session.peer}", failure)

    def turn_failed(self, error: BaseException) -> None:
        """An unexpected error that belongs to no connection: take another turn, but not at full speed."""
        again = TurnAgain(self.now() + TURN_PAUSE)
        self.schedule(again, again.due)
        if again.due < self.looks_at:
            self.look_earlier()
        self.errors.survive("turns", "unexpected error in a turn of the endpoint", error)

    def _report_failures(self) -> None:
        failures = self.hub.effects.failures[:]
        self.hub.effects.failures.clear()
        for what, error in failures:
            if isinstance(what, Link):
                self.link_failed(what, error)
            elif isinstance(what, Arrival):
                self.arrival_failed(what, error)
            else:
                name = str(what) if isinstance(what, (str, Peer)) else type(what).__name__
                self.errors.survive("timers", f"unexpected error of {name}", error)

    def write_later(self, channel: Channel) -> None:
        """Let the next turn write what the channel has queued, many messages at once."""
        if channel not in self._lazy:
            self._lazy.append(channel)
            self.turn_soon()

    def turn_done(self, now: float) -> None:
        """Handle due timers, flush the channels of `write_later`, store what has arrived; then settle."""
        hub, effects = self.hub, self.hub.effects
        try:
            if now >= effects.acks_due_at or now >= effects.timers.soonest:
                hub.handle_timers(now)
            while self._lazy:
                self._lazy.pop().flush()
            if effects.to_read and self.reads_on:
                self._read_on(now)
            if hub.arrivals or self.backlog.queues:
                self.deliver(now)
            self.settle()
        except BaseException as error:
            self.turn_failed(error)

    def _read_on(self, now: float) -> None:
        """Process held bytes: links take turns, and what is too much for this turn is left for the next."""
        hub, effects = self.hub, self.effects
        effects.frames = 0
        while effects.to_read and effects.frames < TURN_FRAMES:
            effects.frames += 1
            link = effects.to_read.popleft()
            try:
                hub.received(link, b"", now)
            except BaseException as error:
                self.reading_failed(link, error)

    def deliver(self, now: float) -> None:
        """Decode and store what has arrived, or a part of it."""
        hub = self.hub
        if self._decoding is None:
            while hub.arrivals:
                arrival = hub.arrivals.popleft()
                try:
                    hub.deliver(arrival, arrival.payloads, now)
                except BaseException as error:
                    self.arrival_failed(arrival, error)
        elif self.is_turn_due:
            self.backlog.add(hub.arrivals)
        elif group := self.backlog.next(hub.arrivals):
            self._store(group, [self._decoded(arrival) for arrival in group], now)

    def _store(self, group: list[Arrival], decoded: list[Any], now: float) -> None:
        """Store what `_decoded` has returned. What a signal handler has interrupted is decoded again."""
        for at, (arrival, values) in enumerate(zip(group, decoded, strict=True)):
            try:
                if isinstance(values, BaseException):
                    raise values
                self.hub.deliver(arrival, values, now)
            except BaseException as error:
                if is_from_signal(error):
                    self.backlog.put_back(group[at:] if error is values else group[at + 1 :])
                    raise
                self.arrival_failed(arrival, error)

    def _decoded(self, arrival: Arrival) -> list[Any] | BaseException:
        """The values of an arrival, with an exception for each message that could not be decoded.

        Returns an exception that is not about one message: of a signal handler, or of our own code.
        """
        decoding = self._decoding
        assert decoding is not None
        try:
            decoding.check(arrival)
            if arrival.memory < LARGE or not gc.isenabled():
                return decoding.values(arrival, is_from_signal)
            # It would visit a million new objects many times, and find nothing: that takes longer than
            # decoding.
            gc.disable()
            try:
                return decoding.values(arrival, is_from_signal)
            finally:
                gc.enable()
        except BaseException as error:
            return error

    def ring(self, queue: WaitQueue) -> None:
        """Wake waiters of a changed queue whose predicate holds.

        No more of them are woken than the queue can serve.
        """
        raise NotImplementedError

    def look_earlier(self) -> None:
        """A timer is due before `looks_at`: look at the timers in time."""
        raise NotImplementedError

    def must_decode(self) -> bool:
        """Must a turn be taken to decode what is left?"""
        return self.backlog.is_ready()

    def is_busy(self) -> bool:
        return super().is_busy() or bool(self._lazy) or self.backlog.is_ready()

    # -- connections -----------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        self._network.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self._network.stop_listening()
        self.settle()

    def close(self) -> Awaited:
        """Close every connection, and wake all waiters."""
        raise NotImplementedError

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors; the connections belong to the parent."""
        self._network.close_copies()


def _lost(where: str, error: BaseException) -> PeerLost:
    return PeerLost(f"{where}: unexpected error at this end ({type(error).__name__})")
