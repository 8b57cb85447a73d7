"""The operations of clients: connect, send, end the conversation."""

from __future__ import annotations

import os
from typing import Any

from linkbox.core.backoff import TRY_AGAIN
from linkbox.core.endpoint import Channel, ClientCore, EndpointCore, OutgoingMessage
from linkbox.core.settings import Settings
from linkbox.core.wait_queue import Predicate
from linkbox.errors import ConnectFailed, Refused, StateError
from linkbox.operations.arguments import Given, flag, seconds
from linkbox.operations.lifecycle import STOP, Life
from linkbox.operations.options import ClientOptions
from linkbox.operations.runtime import Runtime
from linkbox.operations.sending import AnyReceipt, Sent, spool, wait_for_room
from linkbox.operations.steps import NEVER, Operation, Wait, deadline_after, to_raise


class ClientOperations(Life):
    """The operations of every client."""

    resumes = True
    """Can a conversation continue on another connection?"""

    def __init__(
        self, options: ClientOptions, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self.client_options = options
        if options.connect is not None:
            runtime.check_function(options.connect, "connect=")

    def make_core(self) -> ClientCore:
        options = self.client_options
        core = ClientCore(
            self.settings(),
            self.mailbox,
            str(self.address),
            options.reconnect,
            options.connect_timeout,
            random_float,
            self.resumes and options.plain is None,
        )
        core.dialing.addresses += map(str, options.more_addresses)
        return core

    def settings(self) -> Settings:
        settings = super().settings()
        settings.connections = self.client_options.connections
        settings.comes_back = self.client_options.comes_back
        settings.dialogue = self.client_options.dialogue
        settings.responses = self.client_options.responses
        settings.idle_timeout = self.client_options.idle_timeout
        return settings

    def begin(self, core: EndpointCore) -> Operation[None]:
        assert isinstance(core, ClientCore)
        yield from self.open(core)
        self.prepare(core)

    def prepare(self, core: ClientCore) -> None:
        """Complete the start with the parts that only a client has."""

    def store_notes(self) -> dict[str, str]:
        address, path = str(self.address), self.address.path
        if self.address.scheme == "unix" and not path.startswith(("/", "@")):
            address = f"unix://{os.path.abspath(path)}"  # its reader may have another directory
        return {"address": address, "name": self.options.name}

    def client_core(self) -> ClientCore:
        """The core of a started client."""
        core = self.running()
        assert isinstance(core, ClientCore)
        return core

    def ready(self) -> Operation[ClientCore]:
        """The core; starts a client that was not started yet."""
        if self.core is None:
            yield from self.ensure_started()
        return self.client_core()


def random_float() -> float:
    """From 0 up to 1: for the jitter of reconnects."""
    from random import random

    return random()


class ConversingClient(ClientOperations):
    """The operations of a client with one conversation from start to stop."""

    def prepare(self, core: ClientCore) -> None:
        core.conversation = core.conversation or core.begin(self.now())
        self.runtime.update()

    def channel(self, core: EndpointCore) -> Channel:
        """The conversation."""
        assert isinstance(core, ClientCore) and core.conversation is not None
        return core.conversation

    # -- connecting ------------------------------------------------------------------------------------

    def connect(self, wait: Given) -> Operation[None]:
        """Start, and wait for the connection; stop again if it does not come up."""
        is_patient = flag(wait, "wait")
        if self.core is not None and not self.is_stopping:
            channel = self.channel(self.core)
            if channel.error is not None or channel.is_ending:
                # The conversation has ended, or is about to: begin a new one.
                yield from self.stop(STOP if channel.error is None else 0.0)
            elif isinstance(self.core, ClientCore) and self.core.conversations.main is not None:
                self.core.dialing.hurry(self.core.conversations.main, self.now())
                self.runtime.update()
        yield from self.start()
        if not is_patient:
            return
        core = self.client_core()
        deadline = NEVER  # the core has its own deadline, except with a store
        if core.has_store:
            deadline = self.now() + self.client_options.connect_timeout
        error: BaseException | None
        core.dialing.callers += 1
        try:
            yield Wait(core.changed, IsDecided(self, core), deadline)
            error = self._why_down(self.channel(core))
            patience = STOP
        except BaseException as raised:  # cancelled: stop the endpoint that did not start
            error, patience = raised, 0.0
        core.dialing.callers -= 1
        if error is not None:
            yield from self.stop(patience)
            try:
                raise error
            finally:
                del error  # It refers to this frame now.

    def enter(self) -> Operation[None]:
        """Start for a ``with`` block: waits for the connection, unless it is started already."""
        yield from self.connect(wait=self.core is None or self.is_stopping)

    def is_decided(self, channel: Channel) -> bool:
        """Is it known whether the client can connect?"""
        if self._has_come_back():
            return True
        return channel.was_connected() or channel.error is not None or _is_final(channel.last_failure)

    def _has_come_back(self) -> bool:
        """Was there a connection before this one?"""
        core = self.core
        return isinstance(core, ClientCore) and core.conversations.has_come_back

    def _why_down(self, channel: Channel) -> Exception | None:
        if channel.was_connected() or self._has_come_back():
            return None
        late = ConnectFailed(
            f"no welcome from {self.address} within {self.client_options.connect_timeout:g} s"
        )
        return to_raise(channel.error or channel.last_failure or late)

    def waits_in_vain(self, core: EndpointCore) -> bool:
        return core.is_stopping or self.channel(core).error is not None

    def why_unconnected(self, core: EndpointCore) -> Exception:
        error = self.channel(core).error
        return super().why_unconnected(core) if error is None else to_raise(error)

    # -- sending ---------------------------------------------------------------------------------------

    def send(self, data: Any, timeout: Given) -> Sent:
        """Send a message: now, or by the operation that is returned. Takes the lock."""
        # Bytes without a call of `encode`.
        payload = data if data.__class__ is bytes and len(data) <= self._as_is else self.encode(data)
        if timeout is not None:
            seconds(timeout, "timeout")
        with self.runtime.lock:
            core, driver = self.core, self.runtime.driver
            if isinstance(core, ClientCore) and driver is not None and not self.is_stopping:
                channel = core.conversations.main
                receipt = None if channel is None else channel.send_at_once(payload)
                if receipt is not None:
                    driver.settle()
                    return receipt
        return self._wait_and_send(payload, timeout)

    def _wait_and_send(self, payload: bytes, timeout: Given) -> Operation[AnyReceipt]:
        """Send as soon as there is room; with a store, once the message is on disk."""
        core = self.client_core()
        channel = self.channel(core)
        if core.has_store:
            receipt = yield from spool(self, channel, payload)
            return receipt
        if not channel.established and channel.error is None:
            raise self._not_connected(core)
        if not channel.has_room():
            yield from wait_for_room(self, channel, deadline_after(timeout, self.now()))
            channel = self.channel(core)
        receipt = channel.send(payload)
        self.runtime.settle()
        return receipt

    def _not_connected(self, core: ClientCore) -> StateError:
        seconds = core.conversations.seconds_to_attempt(self.now())
        if seconds is None:
            return StateError(f"{self} is not connected yet; call wait_connected() first")
        return StateError(
            f"{self} is not connected: the next attempt is in {seconds:.3g} s; call wait_connected() first"
        )

    def end(self) -> None:
        """End the conversation. Takes the lock."""
        with self.runtime.locked():
            core = self.client_core()
            core.conversations.stay_away()
            self.channel(core).end()
            self.runtime.update()


class IsDecided(Predicate):
    """It is known whether the client can connect."""

    __slots__ = ("client", "core")

    def __init__(self, client: ConversingClient, core: ClientCore) -> None:
        self.client: ConversingClient = client
        self.core: ClientCore = core

    def holds(self) -> bool:
        return self.client.is_decided(self.client.channel(self.core))


def _is_final(failure: Exception | None) -> bool:
    """Has the server rejected the client, so that another attempt is unlikely to succeed?"""
    return isinstance(failure, Refused) and failure.code not in TRY_AGAIN
