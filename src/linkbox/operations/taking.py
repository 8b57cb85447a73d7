"""Taking messages from the mailbox: the ``data_…`` calls of an endpoint, or of a view of one peer."""

from __future__ import annotations

from typing import Any, TypeVar

from linkbox.core.endpoint import Answer, BytesMailbox, IncomingAsk, Mailbox, SeparatorSearch, Source
from linkbox.core.wait_queue import NOTHING, Predicate
from linkbox.errors import EndOfData, Incomplete, MailboxEmpty, StateError, TooLarge
from linkbox.events import Message
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.operations.arguments import Given, check_timeout, flag, separators, whole_number
from linkbox.operations.endpoint import EndpointOperations
from linkbox.operations.predicates import HasCount, HasMessage, HasSeparator
from linkbox.operations.request_owner import RequestOwner
from linkbox.operations.requests import Request
from linkbox.operations.steps import Operation, Wait, deadline_after, to_raise

U = TypeVar("U")
"""The type of the messages of a mailbox, for overloads."""
V = TypeVar("V")
"""The type of the values, which only the front end knows."""
NO_ITERATION = "a callback cannot iterate over its own endpoint; use data_get_all()"
"""The error of an iteration that would have to wait in a callback."""


class Taking(Predicate):
    """Takes messages from the mailbox of an endpoint: of all peers, or of one.

    As a predicate: is there an item, or can none arrive any more? A waiter claims the item itself.
    """

    is_direct = True
    """Are the items in the mailbox the values themselves?"""

    def __init__(self, endpoint: EndpointOperations, source: Source | None = None) -> None:
        self.endpoint = endpoint
        self.mailbox: Mailbox = endpoint.mailbox
        self.source = source

    def open(self, item: Any) -> Any:
        """Convert an item of the mailbox to its value; raise if it is a failure."""
        return item

    # -- the next item; under the lock -----------------------------------------------------------------

    def holds(self) -> bool:
        mailbox, source = self.mailbox, self.source
        if source is None and mailbox.count > 0 and mailbox.fast_batch is None:
            return True  # usually, and without further calls
        return mailbox.is_ready(source)

    def claim(self) -> Any:
        """Take the next item; `NOTHING` if there is none, and the error if none can arrive any more."""
        mailbox, source = self.mailbox, self.source
        fast_queue = mailbox.fast_queue
        if fast_queue and source is None:
            try:
                item = fast_queue.popleft()
            except IndexError:
                pass  # Another thread was faster.
            else:
                if not fast_queue:
                    self.settle_fast_queue()
                return item
        if mailbox.fast_batch is not None:
            mailbox.settle_fast_queue()
        if (mailbox.count if source is None else source.waiting) == 0:
            over = mailbox.end_reason if source is None else source.end_reason or mailbox.end_reason
            if over is not None:
                raise to_raise(over)
            return NOTHING
        item = mailbox.take(source)
        if source is None and self.is_direct and mailbox.count > 1:
            mailbox.open_fast_queue()
        driver = self.endpoint.runtime.driver
        if driver is not None:
            effects = driver.effects
            if effects.to_write or effects.to_wake or effects.acks_due_at < driver.looks_at:
                driver.settle()
        return item

    def deadline(self, timeout: Given) -> float:
        """When a wait for the next item gives up."""
        return deadline_after(self._default_timeout() if timeout is None else timeout, self.endpoint.now())

    def settle_fast_queue(self) -> None:
        """Settle the mailbox's fast queue, after its last message was taken."""
        self.mailbox.settle_fast_queue()
        self._flush_acks()

    def is_empty(self) -> bool:
        """Is there no message? Needs no lock."""
        source = self.source
        return not (self.mailbox.count if source is None else source.waiting)

    def size(self) -> int:
        """The result of ``data_count()``. Takes the lock."""
        with self.endpoint.runtime.locked():
            return self.mailbox.size(self.source)

    def take_all(self) -> list[Any]:
        """Take the values of all waiting items. Takes the lock."""
        with self.endpoint.runtime.locked():
            items = self.mailbox.take_all(self.source)
            self._flush_acks()
        return items if self.is_direct else [self.open(item) for item in items]

    def acknowledge(self, source: Source, number: int) -> None:
        """Acknowledge a message that was taken with ``ack=False``. Takes the lock."""
        with self.endpoint.runtime.locked():
            self.mailbox.unhold(source, number)
            self._flush_acks()

    def _flush_acks(self) -> None:
        core = self.endpoint.core
        if core is not None:
            self.endpoint.runtime.update()

    # -- operations ------------------------------------------------------------------------------------

    def get(self, timeout: Given) -> Operation[V]:
        """Take the next value; wait for it if necessary."""
        driver = self.endpoint.runtime.driver
        item = yield Wait(self.mailbox.changed, self, self.deadline(timeout))
        if item is NOTHING:
            raise self.nothing(timeout, driver)
        value: V = item if self.is_direct else self.open(item)
        return value

    def get_message(self, timeout: Given, ack: Given) -> Operation[Message[V]]:
        """Take the next message with its metadata."""
        check_timeout(timeout)
        hold = not flag(ack, "ack")
        yield from self._wait_for_message(timeout)
        item, batch, number = self.mailbox.take_message(self.source, hold)
        self._flush_acks()
        message = Message(
            self.open(item), batch.source.peer, batch.received_at, batch.redelivered, batch.receipt
        )
        if hold:
            message._ack = Acknowledge(self, batch.source, number)
        return message

    def _wait_for_message(self, timeout: Given) -> Operation[None]:
        if self.mailbox.has(self.source):
            return
        if timeout is None:
            timeout = self._default_timeout()
        driver = self.endpoint.runtime.driver
        if self.end_reason() is None and timeout != 0:
            deadline = deadline_after(timeout, self.endpoint.now())
            has_message = HasMessage(self.mailbox, self.source)
            if not (yield Wait(self.mailbox.changed, has_message, deadline)):
                self._check_life(driver)
        if not self.mailbox.has(self.source):
            raise self.nothing(timeout, driver)

    def get_count(self, count: Given, timeout: Given) -> Operation[Any]:
        """Take ``count`` bytes or values."""
        check_timeout(timeout)
        wanted = self._checked(count)
        mailbox, source = self.mailbox, self.source
        if not mailbox.has_count(wanted, source):
            if timeout is None:
                timeout = self._default_timeout()
            if self.end_reason() is None and timeout != 0:
                core, driver = self.endpoint.core, self.endpoint.runtime.driver
                if core is not None:
                    core.raise_limit(wanted)
                    self.endpoint.runtime.update()
                deadline = deadline_after(timeout, self.endpoint.now())
                if not (yield Wait(mailbox.changed, HasCount(mailbox, source, wanted), deadline)):
                    self._check_life(driver)
            if not mailbox.has_count(wanted, source):
                raise self._too_few(wanted)
        taken = mailbox.take_count(wanted, source)
        self._flush_acks()
        return taken if self.is_direct else [self.open(item) for item in taken]

    def get_until(self, separator: Given, timeout: Given, keep: Given) -> Operation[bytes]:
        """Take the bytes up to a separator."""
        check_timeout(timeout)
        with_separator = flag(keep, "keep")
        marks = separators(separator)
        mailbox = self._bytes_mailbox("data_get_until")
        search = SeparatorSearch(mailbox, self.source, marks)
        if timeout is None:
            timeout = self._default_timeout()
        driver, deadline = self.endpoint.runtime.driver, deadline_after(timeout, self.endpoint.now())
        while not search.is_done():
            if self.end_reason() is not None or timeout == 0:
                raise self._no_separator()
            self._make_room(mailbox)
            has_separator = HasSeparator(mailbox, self.source, search)
            if not (yield Wait(mailbox.changed, has_separator, deadline)):
                self._check_life(driver)
                if not search.is_done():
                    raise self._no_separator()
                break
        found = search.found
        assert found is not None
        source, before, size = found
        taken = mailbox.take_count(before + size, source)
        self._flush_acks()
        return taken if with_separator else taken[:before]

    def _make_room(self, mailbox: Mailbox) -> None:
        """Let a full mailbox without a separator hold twice as much. `TooLarge` at its limit."""
        limits, core = mailbox.limits, self.endpoint.core
        is_full = mailbox.is_full_for(self.source)
        is_all_used = is_full and mailbox.requested >= mailbox.count_limit()
        if is_all_used or mailbox.available(self.source) >= mailbox.count_limit():
            raise TooLarge(
                f"no separator in {mailbox.available(self.source)} bytes; "
                "take them with data_get_count(), or raise Limits(mailbox_total=…)"
            )
        if is_full and core is not None:
            most = max(mailbox.requested, limits.mailbox_bytes, limits.mailbox_messages)
            core.raise_limit(min(2 * most, mailbox.count_limit()))
            self.endpoint.runtime.update()

    def _no_separator(self) -> Exception:
        over, available = self.end_reason(), self.mailbox.available(self.source)
        if over is None:
            return MailboxEmpty(f"no separator has arrived; {available} bytes are waiting")
        if not available:
            return to_raise(over)
        return Incomplete(f"no separator in the last {available} bytes: {over}", available)

    def peek(self, count: Given) -> bytes:
        """Return the next bytes without taking them. Takes the lock."""
        wanted = whole_number(count, "count", 1)
        mailbox = self._bytes_mailbox("data_peek")
        with self.endpoint.runtime.locked():
            return mailbox.peek(wanted, self.source)

    def get_bytes(self, count: Given, timeout: Given) -> Operation[bytes]:
        """Take ``count`` bytes, only for Bytes."""
        check_timeout(timeout)
        whole_number(count, "n", 1)
        self._bytes_mailbox("bytes_get")
        taken: bytes = yield from self.get_count(count, timeout)
        return taken

    def _bytes_mailbox(self, call: str) -> BytesMailbox:
        mailbox = self.mailbox
        if not isinstance(mailbox, BytesMailbox):
            raise StateError(f"{call}() is for endpoints of P2P and P2M with format=Bytes(): {self.endpoint}")
        return mailbox

    # -- why there is nothing --------------------------------------------------------------------------

    def end_reason(self) -> Exception | None:
        """Why nothing more will arrive, or None."""
        if self.source is not None and self.source.end_reason is not None:
            return self.source.end_reason
        return self.endpoint.end_reason()

    def _default_timeout(self) -> float | None:
        """None, or 0 inside a callback: another thread may have taken the message; callbacks never wait."""
        return 0 if self.endpoint.in_callback() else None

    def _check_life(self, driver: EndpointDriver | None) -> None:
        """`EndOfData` if the endpoint was stopped, and perhaps started again, during a wait."""
        if self.endpoint.runtime.driver is not driver and self.mailbox.end_reason is None:
            raise EndOfData(f"{self.endpoint} was stopped")

    def nothing(self, timeout: Given, driver: EndpointDriver | None) -> Exception:
        """Why a wait that began with this driver was in vain."""
        self._check_life(driver)
        over = self.end_reason()
        if over is not None:
            return to_raise(over)
        if timeout and float(timeout) > 0:
            return MailboxEmpty(f"no message within {float(timeout):g} s")
        hint = f" (timeout={timeout!r} does not wait; None waits for ever)" if timeout else ""
        return MailboxEmpty(f"no message is waiting{hint}")

    def _too_few(self, count: int) -> Exception:
        over, available = self.end_reason(), self.mailbox.available(self.source)
        if over is None:
            return MailboxEmpty(f"{count} were asked for, {available} are waiting")
        if not available:
            return to_raise(over)
        return Incomplete(f"{count} were asked for, only {available} are left: {over}", available)

    def _checked(self, count: Given) -> int:
        wanted, limit = whole_number(count, "count", 1), self.mailbox.count_limit()
        if wanted > limit:
            raise ValueError(f"count={wanted}: at most {limit} fit in the mailbox")
        return wanted


class Acknowledge:
    """The function behind ``message.ack()``."""

    def __init__(self, taking: Taking, source: Source, number: int) -> None:
        self._taking = taking
        self._endpoint = taking.endpoint.owner.refer()  # which is not forgotten before the acknowledgement
        self._source = source
        self._number = number

    def __call__(self) -> None:
        self._taking.acknowledge(self._source, self._number)


class TakingAnswers(Taking):
    """Takes responses; raises the error of a request that has failed."""

    is_direct = False

    def open(self, item: Any) -> Any:
        assert isinstance(item, Answer)
        if item.error is not None:
            raise to_raise(item.error)
        return item.value


class TakingRequests(Taking):
    """Takes requests, to which the application responds."""

    is_direct = False

    def __init__(self, endpoint: EndpointOperations, owner: RequestOwner) -> None:
        super().__init__(endpoint)
        self._owner = owner

    def open(self, item: Any) -> Any:
        assert isinstance(item, IncomingAsk)
        return Request(item, self._owner)

    def get(self, timeout: Given) -> Operation[V]:
        """Take the next request; skip those whose clients no longer wait."""
        deadline = deadline_after(timeout, self.endpoint.now())
        while True:
            request: Any = yield from super().get(timeout)
            if not self._owner.is_obsolete(request._incoming):
                return request  # type: ignore[no-any-return]
            if timeout is not None:
                timeout = max(0.0, deadline - self.endpoint.now())
