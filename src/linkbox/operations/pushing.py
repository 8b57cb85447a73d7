"""The operations of a client that only sends: one message, an iterable of messages, flush."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from linkbox.core.endpoint import Channel, ClientCore
from linkbox.errors import DeadlineExceeded, MailboxFull, PeerLost
from linkbox.operations.arguments import Given, seconds
from linkbox.operations.connecting import ClientOperations
from linkbox.operations.predicates import IsDelivered
from linkbox.operations.sending import AnyReceipt, Sent, spool, wait_for_disk, wait_for_room
from linkbox.operations.steps import Call, NextItems, Operation, Wait, deadline_after, items_of, to_raise
from linkbox.operations.storing import STORE_LINGER, Bulk

CHUNK = 512
"""Messages that ``send_many`` gives to the core at a time."""


class PushingClient(ClientOperations):
    """The operations of a client that only sends."""

    def prepare(self, core: ClientCore) -> None:
        options = self.client_options
        if core.has_store:
            core.side.linger = options.linger or STORE_LINGER
        elif not options.blocking or options.linger:
            core.side.linger = options.linger

    # -- one message -----------------------------------------------------------------------------------

    def send(self, data: Any, timeout: Given) -> Sent:
        """Send a message: queue it now, or by the operation that is returned. Takes the lock."""
        payload = self.encode(data)
        if timeout is not None:
            seconds(timeout, "timeout")
        with self.runtime.lock:
            core = self.core
            if core is None or self.is_stopping or core.has_store or self.client_options.blocking:
                return self._wait_and_send(payload, timeout)
            assert isinstance(core, ClientCore)
            channel = core.conversations.current(self.now())
            receipt = channel.send_later(payload)
            if receipt is None:
                return self._wait_and_send(payload, timeout)
            self.runtime.write_later(channel)
        return receipt

    def _wait_and_send(self, payload: bytes, timeout: Given) -> Operation[AnyReceipt]:
        """Send a message; if blocking, wait until the server has it."""
        core = yield from self.ready()
        if core.has_store:
            receipt = yield from spool(self, core.conversations.current(self.now()), payload)
            return receipt
        deadline = deadline_after(timeout, self.now())
        if not self.client_options.blocking:
            channel: Channel = core.conversations.current(self.now())
            while (sent := channel.send_later(payload)) is None:
                yield from wait_for_room(self, channel, deadline)
                channel = core.conversations.current(self.now())
            self.runtime.write_later(channel)
            return sent
        channel = self._begin(core)
        core.dialing.callers += 1
        try:
            receipt = channel.send(payload)
            yield from self._deliver(channel, deadline)
        finally:
            core.dialing.callers -= 1
        if receipt.error is not None:
            raise to_raise(receipt.error)
        return receipt

    def _begin(self, core: ClientCore) -> Channel:
        now = self.now()
        if not self.client_options.linger:
            return core.begin(now)
        session = core.conversations.current(now)
        core.dialing.hurry(session, now)  # the caller waits for the delivery
        return session

    def _deliver(self, channel: Channel, deadline: float) -> Operation[None]:
        """Wait until the server has everything that was sent on the channel; raise what failed."""
        linger = self.client_options.linger
        try:
            while True:
                channel = channel.latest()
                is_done = not channel.in_flight() if linger else channel.is_delivered()
                if is_done or channel.error is not None:
                    break
                if linger:
                    channel.request_ack()
                else:
                    channel.end()
                self.runtime.update_soon()
                if not (yield Wait(channel.changed, IsDelivered(channel, not linger), deadline)):
                    channel.close(self._too_late(channel))
        except BaseException:
            if not linger:
                channel.close(PeerLost("the send was interrupted"))
            self.runtime.settle()
            raise
        self.runtime.settle()
        if channel.first_failure is not None:
            raise to_raise(channel.first_failure)

    def _too_late(self, channel: Channel) -> DeadlineExceeded:
        why = "stopped" if self.is_stopping else "out of time"
        return DeadlineExceeded(f"{why} before {channel.peer} had everything")

    # -- many messages ---------------------------------------------------------------------------------

    def send_many(self, iterable: Iterable[Any] | AsyncIterable[Any], timeout: Given) -> Operation[int]:
        """Send many messages on one connection; return how many."""
        deadline = deadline_after(timeout, self.now())
        items = items_of(iterable)
        if self.options.store_path is not None:
            count = yield from self._spool_many(NextItems(items, CHUNK))
            return count
        count, channel = 0, None
        try:
            while values := (yield NextItems(items, CHUNK)):
                payloads: list[bytes] = yield Call(self.encode_many, values)
                while payloads:
                    channel = yield from self._channel_with_room(channel, deadline)
                    queued = channel.send_many(payloads)
                    count += queued
                    payloads = payloads[queued:]
                if channel is not None:
                    channel.flush()
                self.runtime.update()
            if channel is not None and self.client_options.blocking:
                yield from self._deliver(channel, deadline)
        except BaseException:
            if channel is not None and self.client_options.blocking and not self.client_options.linger:
                self._give_up(channel)
            raise
        return count

    def _channel_with_room(self, channel: Channel | None, deadline: float) -> Operation[Channel]:
        core = yield from self.ready()
        channel = self._channel_for(core, channel)
        while not channel.has_room():
            channel.flush()
            self.runtime.update()
            try:
                yield from wait_for_room(self, channel, deadline)
            except MailboxFull as error:
                raise DeadlineExceeded(str(error)) from error
            channel = self._channel_for(self.client_core(), channel)
        return channel

    def _channel_for(self, core: ClientCore, channel: Channel | None) -> Channel:
        """The conversation for the next message: a new one where the last has ended."""
        blocking = self.client_options.blocking
        if channel is not None:
            channel = channel.latest()
            if blocking and channel.first_failure is not None:
                raise to_raise(channel.first_failure)
        if channel is None or channel.error is not None or channel.is_ending:
            channel = self._begin(core) if blocking else core.conversations.current(self.now())
        return channel

    def _give_up(self, channel: Channel) -> None:
        """Close the connection of a ``send_many`` that was interrupted."""
        if self.core is not None and channel.error is None:
            channel.close(PeerLost("sending was given up"))
            self.runtime.update()

    def _spool_many(self, step: NextItems) -> Operation[int]:
        count, bulk = 0, Bulk()
        while values := (yield step):
            for payload in (yield Call(self.encode_many, values)):
                if bulk.add(payload):
                    count += yield from self._spool_bulk(bulk)
                    bulk = Bulk()
        count += yield from self._spool_bulk(bulk)
        return count

    def _spool_bulk(self, bulk: Bulk) -> Operation[int]:
        if bulk.payloads:
            core = yield from self.ready()
            entry = core.spool(core.conversations.current(self.now()), bulk.payloads, False)
            yield from wait_for_disk(self, entry)
        return len(bulk.payloads)

    # -- everything that was sent ----------------------------------------------------------------------

    def flush(self, timeout: Given) -> Operation[None]:
        """Wait until the server has everything that was sent, except messages that fail in the meantime."""
        deadline = deadline_after(timeout, self.now())
        core = self.core
        if core is None:
            return
        for channel in list(core.channels.values()):
            channel.request_ack()
        self.runtime.update()
        while channels := [each for each in core.channels.values() if each.in_flight()]:
            channel = channels[0]
            if not (yield Wait(channel.changed, IsDelivered(channel, False), deadline)):
                raise DeadlineExceeded(
                    f"{channel.in_flight()} messages to {self.address} are not acknowledged yet"
                )
