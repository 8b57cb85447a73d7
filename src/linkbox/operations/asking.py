"""The operations of a client of requests: send requests, wait for responses."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeVar

from linkbox.core.endpoint import Ask, ClientAsks, ClientCore, OutgoingMessage
from linkbox.errors import ConnectFailed, DeadlineExceeded, MailboxFull, StateError
from linkbox.operations.arguments import Given
from linkbox.operations.connecting import ClientOperations
from linkbox.operations.options import ClientOptions
from linkbox.operations.predicates import HasSlot
from linkbox.operations.runtime import Runtime
from linkbox.operations.sending import AnyReceipt, wait_for_room
from linkbox.operations.steps import (
    NEVER,
    Call,
    NextItems,
    Operation,
    Wait,
    deadline_after,
    items_of,
    to_raise,
)

V = TypeVar("V")
"""The type of the values, which only the front end knows."""


class AskingClient(ClientOperations):
    """The operations of a client of requests."""

    def __init__(
        self, options: ClientOptions, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self._keep_alive = options.keep_alive
        is_brokered = options.broker is not None
        self.resumes: bool = options.keep_alive and not is_brokered
        self._ends_with_answer = options.plain is not None or is_brokered
        """Without ``keep_alive``: does the conversation end when the response has arrived?"""
        self._ends_at_once = options.framing.name == "raw" or (
            not options.keep_alive and not self._ends_with_answer
        )
        """Does the end of a request half-close its connection?"""
        self._most_asks = options.limits.asks

    # -- one request -----------------------------------------------------------------------------------

    def ask(self, payload: bytes, timeout: Given, question: Any = None) -> Operation[V]:
        """Send a request of one message, and wait for the response. ``question``: the message not encoded."""
        deadline = deadline_after(timeout, self.now())
        core = self.core
        if core is None or self.is_stopping:
            core = yield from self.ready()
        assert isinstance(core, ClientCore)
        if timeout is None:
            self._check_may_wait()
        asks = core.asks
        if self._keep_alive and len(asks.waiting) >= self._most_asks:
            yield from self._wait_for_slot(core, deadline)
        ask = self._begin_ask(core, asks, deadline, to_mailbox=False)
        ask.question = question
        try:
            asks.add(ask, payload, False, None if timeout is None else deadline)
            driver = self.runtime.driver
            if driver is not None:
                if driver.is_contended:
                    driver.settle_soon()
                else:
                    driver.settle()
            yield Wait(ask.changed, ask, deadline)
        finally:
            if not ask.is_done:
                self._cancel(core, ask)
        if ask.error is not None or not ask.is_done:
            raise self._failure(ask, timeout)
        return ask.value  # type: ignore[no-any-return]

    def tell(self, payload: bytes, timeout: Given) -> Operation[None]:
        """Send a message that has no response, when its turn has come; wait until the network has it."""
        deadline = deadline_after(timeout, self.now())
        if self.options.plain is None:
            raise StateError(
                "a command without a response needs a plain framing: with Linked() each request has one"
            )
        core = yield from self.ready()
        if timeout is None:
            self._check_may_wait()
        ask = self._begin_ask(core, core.asks, deadline, to_mailbox=False)
        ask.expects = False
        core.asks.add(ask, payload, False, None)
        receipt = ask.receipt
        assert receipt is not None
        self.runtime.update()
        try:
            yield from self.wait_for(receipt, None, timeout)
        except DeadlineExceeded:
            raise self._failure_to_connect(ask) or DeadlineExceeded(
                f"the message to {self.address} was not sent within {float(timeout):g} s"
            ) from None
        finally:
            if not ask.is_done:
                self._cancel(core, ask)

    def send(self, payload: bytes, question: Any = None) -> Operation[AnyReceipt]:
        """Send a request whose response goes to the mailbox; returns its receipt."""
        core = yield from self.ready()
        limit = self._most_asks
        if self._keep_alive and len(core.asks.waiting) + self.mailbox.count >= limit:
            raise MailboxFull(
                f"as many requests wait for their responses, or the responses wait to be taken, as "
                f"Limits(asks={limit}) allows"
            )
        ask = self._begin_ask(core, core.asks, NEVER, to_mailbox=True)
        ask.question = question
        core.asks.add(ask, payload, False, None)
        receipt = ask.receipt
        self.runtime.update()
        return receipt

    def ask_many(self, iterable: Iterable[Any] | AsyncIterable[Any], timeout: Given) -> Operation[V]:
        """Send a request of several messages, as the iterable yields them, and wait for the response."""
        if self.options.plain is not None:
            raise StateError("with a plain framing a request is one message: use ask()")
        deadline = deadline_after(timeout, self.now())
        core = yield from self.ready()
        if timeout is None:
            self._check_may_wait()
        if self._keep_alive and len(core.asks.waiting) >= self._most_asks:
            yield from self._wait_for_slot(core, deadline)
        ask = self._begin_ask(core, core.asks, deadline, to_mailbox=False)
        self.runtime.update()
        try:
            step = NextItems(items_of(iterable), 1)
            while (values := (yield step)) and not ask.is_done:
                payload: bytes = yield Call(self.encode, values[0])
                if ask.is_done:
                    break
                core.asks.add(ask, payload, True, None if timeout is None else deadline)
                if not ask.session.has_room():
                    yield from wait_for_room(self, ask.session, deadline)
                self.runtime.update()
            if not ask.is_done:
                core.asks.finish(ask)
                self.runtime.update()
            yield Wait(ask.changed, ask, deadline)
        finally:
            if not ask.is_done:
                self._cancel(core, ask)
        if ask.error is not None or not ask.is_done:
            raise self._failure(ask, timeout)
        return ask.value  # type: ignore[no-any-return]

    # -- what both are made of -------------------------------------------------------------------------

    def _check_may_wait(self) -> None:
        if self.in_callback():
            raise StateError("inside a callback a request needs a timeout")

    def _wait_for_slot(self, core: ClientCore, deadline: float) -> Operation[None]:
        """Wait until fewer requests wait for their responses than `Limits.asks`."""
        began = self.now()
        is_free = yield Wait(core.asks.slots, HasSlot(core.asks), deadline)
        if self.core is not core or self.is_stopping:
            raise self.not_running()
        if is_free:
            return
        raise DeadlineExceeded(
            f"the request was not sent within {max(0.0, deadline - began):.3g} s: as many others wait for "
            f"their responses as Limits(asks={self._most_asks}) allows"
        )

    def _begin_ask(self, core: ClientCore, asks: ClientAsks, deadline: float, to_mailbox: bool) -> Ask:
        """Begin a request. With a plain framing, a connection carries one request at a time."""
        now = self.now()
        if not self._keep_alive:
            channel = core.begin(now)
            channel.connect_within(deadline)
            return Ask(channel, to_mailbox, self._ends_with_answer, self._ends_at_once)
        channel = core.conversations.current(now)
        if self.options.plain is not None and asks.is_busy(channel):
            channel = core.conversations.least_busy(now)
        return Ask(channel, to_mailbox, ends_at_once=self._ends_at_once)

    def _cancel(self, core: ClientCore, ask: Ask) -> None:
        """Cancel a request whose caller no longer waits."""
        if self.core is not core:
            return
        must_close = core.asks.cancel(ask, "the client cancelled the request")
        if (must_close or not self._keep_alive) and ask.session.error is None:
            ask.session.close(None)
        self.runtime.update()

    def _failure(self, ask: Ask, timeout: Given) -> Exception:
        """The error of a request without a response."""
        if ask.error is not None:
            return to_raise(ask.error)
        if self.is_stopping or timeout is None:
            return self.not_running()
        return self._failure_to_connect(ask) or DeadlineExceeded(
            f"no response from {self.address} within {float(timeout):g} s"
        )

    def _failure_to_connect(self, ask: Ask) -> Exception | None:
        """Why the request was never sent, if that is because nothing has ever responded."""
        session, attempts = ask.session, ask.session.attempts
        if session.established or attempts.last_failure is None:
            return None
        if attempts.failed_at >= ask.began_at:
            return to_raise(attempts.last_failure)
        if session.sending.sent:
            return None
        # What failed before this request says nothing about now: an attempt is under way.
        return ConnectFailed(f"no connection to {self.address} yet: an attempt has no result")
