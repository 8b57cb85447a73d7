"""What a client of requests does: send requests, wait for responses."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeVar

from linkbox.core.endpoint import Ask, ClientCore, OutgoingMessage
from linkbox.errors import DeadlineExceeded, MailboxFull, StateError
from linkbox.operations.connecting import ClientOperations
from linkbox.operations.options import ClientOptions
from linkbox.operations.predicates import IsAnswered
from linkbox.operations.runtime import Runtime
from linkbox.operations.sending import AnyReceipt, wait_for_room
from linkbox.operations.steps import NEVER, Call, NextItems, Operation, Wait, deadline_after, items_of

V = TypeVar("V")
"""The type of the values, which the front end knows."""


class AskingClient(ClientOperations):
    """The operations of a client of requests."""

    def __init__(
        self, options: ClientOptions, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self._keep_alive = options.keep_alive
        self.resumes = options.keep_alive
        self._ends_at_once = options.framing.name == "raw" or (
            not options.keep_alive and options.plain is None
        )
        """Does a request end its connection's sending half?"""

    # -- one request -----------------------------------------------------------------------------------

    def ask(self, payload: bytes, timeout: float | None) -> Operation[V]:
        """Send a request of one message, and wait for the response."""
        deadline = deadline_after(timeout, self.now())
        core = self.core
        if core is None or self.is_stopping:
            core = yield from self.ready()
        assert isinstance(core, ClientCore)
        self._check_timeout(timeout)
        ask = self._begin_ask(core, deadline, to_mailbox=False)
        try:
            core.asks.add(ask, payload, False, None if timeout is None else deadline)
            self._launch(core, ask)
            yield Wait(ask.changed, IsAnswered(ask), deadline)
        finally:
            if not ask.is_done:
                self._cancel(core, ask)
        return self._outcome(ask, timeout)  # type: ignore[no-any-return]

    def send(self, payload: bytes) -> Operation[AnyReceipt]:
        """Send a request whose response goes to the mailbox; returns its receipt."""
        core = yield from self.ready()
        ask = self._begin_ask(core, NEVER, to_mailbox=True)
        core.asks.add(ask, payload, False, None)
        receipt = ask.receipt
        self._launch(core, ask)
        return receipt

    def ask_many(self, iterable: Iterable[Any] | AsyncIterable[Any], timeout: float | None) -> Operation[V]:
        """Send a request of several messages, as the iterable yields them, and wait for the response."""
        if self.options.plain is not None:
            raise StateError("over a plain framing an ask is one message: use ask()")
        deadline = deadline_after(timeout, self.now())
        core = yield from self.ready()
        self._check_timeout(timeout)
        ask = self._begin_ask(core, deadline, to_mailbox=False)
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
                self._launch(core, ask)
            yield Wait(ask.changed, IsAnswered(ask), deadline)
        finally:
            if not ask.is_done:
                self._cancel(core, ask)
        return self._outcome(ask, timeout)  # type: ignore[no-any-return]

    # -- what both are made of -------------------------------------------------------------------------

    def _check_timeout(self, timeout: float | None) -> None:
        if timeout is None and self.in_callback():
            raise StateError("inside a callback an ask needs a timeout")

    def _begin_ask(self, core: ClientCore, deadline: float, to_mailbox: bool) -> Ask:
        """A request, on a channel. Over a plain framing one request at a time has a connection."""
        now = self.now()
        if not self._keep_alive:
            channel = core.begin(now)
            channel.connect_within(deadline)
            return core.asks.begin(channel, to_mailbox, channel.is_plain)
        channel = core.current(now)
        if self.options.plain is not None and core.asks.is_busy(channel):
            channel = core.conversations.idle() or core.begin(now)
        limit = self.options.limits.asks
        if len(core.asks.waiting) + self.mailbox.count >= limit:
            raise MailboxFull(f"{limit} asks wait for their answers, or to be taken: no more for now")
        ends_session = channel.is_plain and channel is not core.conversation
        return core.asks.begin(channel, to_mailbox, ends_session)

    def _launch(self, core: ClientCore, ask: Ask) -> None:
        """The request is whole: send it. A connection of its own needs nothing more from this side."""
        if self._ends_at_once:
            ask.session.end()
        self.runtime.update()

    def _cancel(self, core: ClientCore, ask: Ask) -> None:
        """Nobody waits for the response any more."""
        if self.core is not core:
            return
        must_close = core.asks.cancel(ask, "the asker gave up")
        if (must_close or not self._keep_alive) and ask.session.error is None:
            ask.session.close(None)
        self.runtime.update()

    def _outcome(self, ask: Ask, timeout: float | None) -> Any:
        """The response, or why there is none."""
        if ask.error is not None:
            raise ask.error
        if ask.is_done:
            return ask.value
        if self.is_stopping or timeout is None:
            raise self.not_running()
        raise DeadlineExceeded(f"no answer from {self.address} within {timeout:g} s")
