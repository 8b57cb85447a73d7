"""The operations of all endpoints: encoding, callbacks, peers, waiting for receipts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from linkbox import logs
from linkbox.address import Address
from linkbox.core.durable.journal import Journal
from linkbox.core.endpoint import (
    BytesMailbox,
    Channel,
    EndpointCore,
    Mailbox,
    OutgoingMessage,
    RequestMailbox,
)
from linkbox.core.settings import Counters, Settings
from linkbox.core.wait_queue import Predicate
from linkbox.errors import DeadlineExceeded, FormatError, StateError, TooLarge
from linkbox.events import Callback, EventKind, Peer, Stage
from linkbox.operations.arguments import Given, whole_number
from linkbox.operations.callbacks import CallbackLoop, Callbacks
from linkbox.operations.options import Options
from linkbox.operations.owner import Owner
from linkbox.operations.predicates import ReceiptSettled
from linkbox.operations.process_hooks import Started
from linkbox.operations.receipts import stage_reached, stage_wanted
from linkbox.operations.runtime import Runtime
from linkbox.operations.steps import Operation, Wait, deadline_after


class EndpointOperations(Started):
    """The state and the operations of one endpoint, for both front ends.

    Methods that return an `Operation` may wait; the others never do. The caller holds the lock, except for
    `encode` and for methods that say that they take it.
    """

    def __init__(
        self, options: Options, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        self.options = options
        self.runtime = runtime
        self.now: Callable[[], float] = runtime.now
        """The clock of the endpoint: seconds, as of ``time.monotonic()``."""
        self.owner: Owner = Owner(endpoint)
        self.address: Address = options.address
        self.area: str = options.side
        """The area of its log lines: see logs.py."""
        self.callbacks: Callbacks = Callbacks()
        self.callback_loop: CallbackLoop | None = None
        self.counters: Counters = runtime.counters
        self.core: EndpointCore | None = None
        """None before the start and after the stop."""
        self.is_stopping = False
        self.was_clean = True
        """Did the last ``stop()`` deliver everything?"""
        self.was_stopped = False
        """Has ``stop()`` been called since the last ``start()``? Then no other call starts the endpoint."""
        self.is_fork = False
        self.journal: Journal | None = None
        """The journal of the last start with a store."""
        self._receipts = receipts
        self._largest = options.limits.message
        self._as_is = self._largest if options.is_bytes and options.plain is None else -1
        """Bytes up to this size are sent as they are; -1: every value is encoded or checked."""
        self._encode_value = options.format.encode
        self.mailbox: Mailbox = self._make_mailbox()

    def __repr__(self) -> str:
        return f"<{self.owner.kind} {self.address}>"

    def _make_mailbox(self) -> Mailbox:
        options = self.options
        kind: type[Mailbox] = BytesMailbox if options.is_bytes else Mailbox
        if options.pattern.asks:
            kind = RequestMailbox if options.side == "server" else Mailbox
        return kind(options.limits, options.overflow)

    def settings(self) -> Settings:
        """The settings for the core."""
        options = self.options
        return Settings(
            pattern=options.pattern,
            format_name=options.format.name,
            framing=options.framing,
            limits=options.limits,
            name=options.name,
            receipts=self._receipts,
            entropy=os.urandom,
            wall=time.time() - self.now(),
            counters=self.counters,
            secrets=options.secrets,
            identifies=options.identifies,
            secure=options.is_secure,
            decodes=not options.is_bytes,
            is_logged=partial(logs.is_read, self.area),
            area=self.area,
        )

    # -- is it running? --------------------------------------------------------------------------------

    def running(self) -> EndpointCore:
        """The core of a started endpoint; `StateError` for any other."""
        core = self.core
        if core is None or self.is_stopping:
            raise self.not_running()
        return core

    def not_running(self) -> StateError:
        """The error for a call that needs a started endpoint."""
        if self.is_fork:
            return StateError(f"{self} belongs to the parent process; make a new one after fork")
        was_stopped = self.is_stopping or self.was_stopped or self.mailbox.end_reason is not None
        what = "was stopped" if was_stopped else "is not started"
        return StateError(f"{self} {what}: call start(), or use it in a with block")

    def end_reason(self) -> Exception | None:
        """Why nothing more will arrive, or None."""
        over = self.mailbox.end_reason
        if over is None and self.core is None and not self.is_stopping:
            raise self.not_running()
        return over

    # -- values to bytes -------------------------------------------------------------------------------

    def encode(self, data: Any) -> bytes:
        """The encoded and checked bytes of one message. Not under the lock: the format may be user code."""
        if data.__class__ is bytes and len(data) <= self._as_is:
            payload: bytes = data
            return payload
        return self._checked(self._encode_value(data))

    def encode_many(self, values: list[Any]) -> list[bytes]:
        """The same for many messages, with one check for all of them, which is faster."""
        is_ready = self.options.is_bytes and set(map(type, values)) == {bytes}
        payloads = values if is_ready else list(map(self._encode_value, values))
        are_bytes = self.options.plain is None and set(map(type, payloads)) == {bytes}
        if are_bytes and max(map(len, payloads)) <= self._largest:
            return payloads
        return list(map(self._checked, payloads))

    def _checked(self, payload: bytes) -> bytes:
        if len(payload) > self._largest:
            raise TooLarge(
                f"the message has {len(payload)} bytes encoded, at most {self._largest} are allowed; "
                "raise Limits(message=...) on both sides"
            )
        if self.options.plain is not None:
            self.options.plain.check(payload)
        elif payload.__class__ is not bytes:
            raise FormatError(
                f"{self.options.format!r} encoded to {type(payload).__name__}, bytes are needed"
            )
        return payload

    # -- callbacks -------------------------------------------------------------------------------------

    def add_callback(self, fn: Callback, kinds: tuple[EventKind, ...]) -> None:
        """Call ``fn`` for events of these kinds from now on. Takes the lock."""
        self.runtime.check_function(fn, "a callback")
        kinds = kinds or (EventKind.DATA,)
        with self.runtime.locked():
            had_data = EventKind.DATA in self.callbacks.kinds()
            self.callbacks.add(fn, kinds)
            core = self.core
            if core is None:
                return
            core.listen_for(self.callbacks.kinds())
            self.hold_owner()
            if EventKind.DATA in kinds and not had_data:
                self.emit_waiting(core)
            if self.callback_loop is None:
                self.start_callbacks(core)
            self.runtime.settle()

    def remove_callback(self, fn: Callback) -> None:
        """Stop calling ``fn``. Takes the lock."""
        with self.runtime.locked():
            self.callbacks.remove(fn)
            if self.core is not None:
                self.core.listen_for(self.callbacks.kinds())
                self.hold_owner()

    def works_alone(self) -> bool:
        """Does the endpoint do something for which nobody has to refer to it? Servers do."""
        return bool(self.callbacks.kinds())

    def hold_owner(self) -> None:
        """Hold the public object of a started endpoint as long as it works alone."""
        endpoint = self.owner.refer() if self.works_alone() else None
        if endpoint is None:
            self.owner.release()
        else:
            self.owner.keep(endpoint)

    def emit_waiting(self, core: EndpointCore) -> None:
        """Emit an event for each message that is waiting already."""
        self.mailbox.settle_fast_queue()  # messages already taken emit no event
        waiting = self.mailbox.count
        if waiting:
            core.effects.emit(EventKind.DATA, None, count=waiting)

    def start_callbacks(self, core: EndpointCore) -> None:
        """Start calling callbacks."""
        self.callback_loop = loop = CallbackLoop(self.owner, core, self.callbacks, self.runtime)
        loop.service = self.runtime.spawn(loop.run, "callbacks")

    def in_callback(self) -> bool:
        """Is the caller one of the endpoint's own callbacks?"""
        return self.callback_loop is not None and self.callback_loop.is_current()

    # -- peers and numbers -----------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """The connected peers. Takes the lock."""
        with self.runtime.locked():
            return () if self.core is None else self.core.peers()

    def wait_connected(self, count: Given, timeout: Given) -> Operation[None]:
        """Wait until that many peers are connected."""
        wanted = whole_number(count, "count", 0)
        deadline = deadline_after(timeout, self.now())
        core = self.running()
        if (yield Wait(core.changed, HasPeers(self, core, wanted), deadline)):
            if len(core.peers()) < wanted:
                raise self.why_unconnected(core)
            return
        if self.is_stopping or self.core is not core:
            raise self.not_running()
        there = len(core.peers())
        raise DeadlineExceeded(
            f"{there} of {wanted} peers are connected to {self} after {float(timeout):g} s"
        )

    def waits_in_vain(self, core: EndpointCore) -> bool:
        """Can no peer connect any more?"""
        return core.is_stopping

    def why_unconnected(self, core: EndpointCore) -> Exception:
        """The reason why no peer can connect any more."""
        return self.not_running()

    # -- receipts --------------------------------------------------------------------------------------

    def wait_for(self, receipt: OutgoingMessage, stage: Given, timeout: Given) -> Operation[Stage]:
        """Wait until a message has reached ``stage``; return its stage then."""
        wanted = stage_wanted(receipt, stage)
        deadline = deadline_after(timeout, self.now())
        core = self.core
        if receipt.error is None and receipt.stage < wanted and core is not None:
            receipt.channel.request_ack()
            self.runtime.update()
            while self.core is core:
                channel: Channel = receipt.channel  # changes if another conversation takes the message over
                settled = ReceiptSettled(receipt, channel, wanted)
                if not (yield Wait(channel.changed, settled, deadline)) or receipt.channel is channel:
                    break
        return stage_reached(receipt, wanted, timeout)


class HasPeers(Predicate):
    """Enough peers are connected, or none can connect any more."""

    __slots__ = ("core", "count", "operations")

    def __init__(self, operations: EndpointOperations, core: EndpointCore, count: int) -> None:
        self.operations: EndpointOperations = operations
        self.core: EndpointCore = core
        self.count: int = count

    def holds(self) -> bool:
        return len(self.core.peers()) >= self.count or self.operations.waits_in_vain(self.core)


def operations_of(receipt: OutgoingMessage) -> EndpointOperations:
    """The operations of the endpoint that sent the message."""
    operations = receipt.channel.endpoint
    assert isinstance(operations, EndpointOperations)
    return operations


F = TypeVar("F", bound=Callback)


def registering(add: Callable[..., None], kinds: tuple[EventKind, ...]) -> Callable[[F], F]:
    """A decorator that registers a callback for these kinds. TypeError for ``@endpoint.on`` without them."""
    for kind in kinds:
        if not isinstance(kind, EventKind):
            raise TypeError(
                f"{kind!r} is not an EventKind: write @endpoint.on(EventKind.DATA) or @endpoint.on()"
            )

    def register(fn: F) -> F:
        add(fn, *kinds)
        return fn

    return register
