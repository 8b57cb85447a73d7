"""The operations of servers: listen, call ``accept=``, send to peers."""

from __future__ import annotations

from functools import partial
from typing import Any

from linkbox import logs
from linkbox.address import Address
from linkbox.core.connection import Listening
from linkbox.core.endpoint import (
    Channel,
    EndpointCore,
    OutgoingMessage,
    PendingAccept,
    ServerCore,
    Source,
    Verdict,
)
from linkbox.core.wait_queue import Predicate
from linkbox.errors import MailboxFull, StateError, StoreError, TooLarge
from linkbox.events import Peer
from linkbox.networks.choose import bind, descriptor_bound
from linkbox.operations import arguments
from linkbox.operations.arguments import Given, seconds
from linkbox.operations.lifecycle import Life
from linkbox.operations.options import ServerOptions
from linkbox.operations.runtime import Runtime
from linkbox.operations.sending import AnyReceipt, Sent, spool, wait_for_disk, wait_for_room
from linkbox.operations.steps import Call, Operation, Wait, deadline_after
from linkbox.operations.taking import Taking


class ServerOperations(Life):
    """The operations of every server."""

    address: Address

    def __init__(
        self, options: ServerOptions, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self.server_options = options
        self.ends_conversations: bool = True
        """Does the next stop end the conversations of P2P, or may the clients come back?"""
        if options.accept is not None:
            runtime.check_function(options.accept, "accept=")

    # -- life ------------------------------------------------------------------------------------------

    def make_core(self) -> ServerCore:
        options = self.server_options
        settings = self.settings()
        settings.asks_first = options.accept is not None
        serving = options.serving
        settings.keep_alive, settings.dialogue = serving.keep_alive, serving.dialogue
        settings.greeting, settings.encode = options.greeting, self.encode
        settings.idle_timeout, settings.half_close = serving.idle_timeout, serving.half_close
        settings.newest_wins = serving.newest_wins
        core = ServerCore(settings, self.mailbox, options.max_peers, self.now())
        self.ends_conversations = True
        core.admission.max_links = descriptor_bound(options.limits.connections)
        return core

    def works_alone(self) -> bool:
        return True

    def begin(self, core: EndpointCore) -> Operation[None]:
        """Bind and listen; then accept in the background."""
        assert isinstance(core, ServerCore)
        is_name = self.address.host_kind == "name"
        if is_name:  # resolving it blocks
            listener: Listening = yield Call(self.runtime.blocking, self._bind)
        else:
            listener = self._bind()
        try:
            yield from self.open(core)
        except BaseException:
            listener.close()
            raise
        self.runtime.listen(listener)
        if not listener.is_open:
            yield Wait(core.changed, IsOpen(listener))
            if not listener.is_open:
                yield from self.stop(0.0)
                raise listener.error or self.not_running()
        fields = {"event": "listening", "address": str(self.address)}
        logs.write(logs.INFO, "listening", area=self.area, endpoint=self, fields=fields)
        self.start_services(core)

    def _bind(self) -> Listening:
        """Bind and listen; from then on the address has the actual port."""
        options = self.server_options
        listener, self.address = bind(
            self.address, options.listener, options.proxies, options.limits, options.plain is not None
        )
        return listener

    def shut_down(self, core: EndpointCore) -> None:
        assert isinstance(core, ServerCore)
        core.side.ends_conversations = self.ends_conversations and core.side.ends_conversations
        super().shut_down(core)

    def start_services(self, core: ServerCore) -> None:
        """Start the threads or tasks that call user code."""
        if self.server_options.accept is not None:
            self.runtime.spawn(partial(self._accept_loop, core), "accept")

    # -- accept= ---------------------------------------------------------------------------------------

    def _accept_loop(self, core: ServerCore) -> Operation[None]:
        """Call ``accept=`` for each pending connection, one at a time. Only these connections wait for it."""
        accept = self.server_options.accept
        assert accept is not None
        has_pending = HasPendingAccept(core)
        while (yield Wait(core.admission.pending_accepts_changed, has_pending)):
            pending = core.pending_accepts.take()
            decision: Verdict = False
            try:
                verdict = yield Call(
                    self.runtime.call_within, self.options.limits.handshake, accept, pending.info
                )
                decision = verdict_of(verdict)
            except BaseException as error:
                # The argument comes from an unauthenticated peer, so an error must do no harm.
                what = f"accept= of {self} failed for {pending.info}, which is rejected"
                self.runtime.survive("accept=", what, error)
            self._decide(core, pending, decision)

    def _decide(self, core: ServerCore, pending: PendingAccept, verdict: Verdict) -> None:
        try:
            core.decide(pending, verdict, self.now())
        except BaseException as error:
            driver = self.runtime.driver
            if driver is None:
                raise
            driver.link_failed(pending.link, error)
        self.runtime.update()

    # -- peers -----------------------------------------------------------------------------------------

    def server_core(self) -> ServerCore:
        """The core of a started server."""
        core = self.running()
        assert isinstance(core, ServerCore)
        return core

    def channel_of(self, core: ServerCore, peer: Peer) -> Channel:
        """The conversation with a peer; `StateError` if it is not connected."""
        channel = core.channel_of(peer)
        if channel is None:
            raise self.not_connected(peer)
        return channel

    def not_connected(self, peer: Peer) -> StateError:
        """The error for a peer that is not connected."""
        return StateError(f"{peer} is not connected to {self}")

    def disconnect(self, peer: Given, reason: Given) -> None:
        """Close the connection of a peer, which receives the reason. Takes the lock."""
        known, text = arguments.peer(peer, "peer"), arguments.text(reason, "reason")
        with self.runtime.locked():
            core = self.server_core()
            core.disconnect(self.channel_of(core, known), text, self.now())
            self.runtime.update()


def verdict_of(value: Any) -> Verdict:
    """What a function of the user has decided. TypeError for text that means nothing."""
    if (isinstance(value, str) and value != "later") or hasattr(value, "__await__"):
        raise TypeError(f'accept= returned {value!r:.80}: True, False or "later" is needed')
    return "later" if value == "later" else bool(value)


class IsOpen(Predicate):
    """It is known whether the server can listen."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listening) -> None:
        self.listener: Listening = listener

    def holds(self) -> bool:
        return self.listener.is_open or self.listener.error is not None


class HasPendingAccept(Predicate):
    """A connection is waiting for ``accept=``."""

    __slots__ = ("core",)

    def __init__(self, core: ServerCore) -> None:
        self.core: ServerCore = core

    def holds(self) -> bool:
        return bool(self.core.pending_accepts)


class SendingServer(ServerOperations):
    """The operations of a server that sends to its peers."""

    def ending(self, end: Given) -> SendingServer:
        """The same, whose next stop ends the conversations, or lets the clients come back."""
        self.ends_conversations: bool = arguments.flag(end, "end")
        return self

    def target(self, core: ServerCore, to: Given) -> Channel:
        """The conversation to send a message on."""
        if to is not None:
            return self.channel_of(core, to if isinstance(to, Peer) else arguments.peer(to, "to"))
        channels = core.channels
        if len(channels) == 1:
            return next(iter(channels.values()))
        if not channels:
            if self.counters.conversations:
                raise StateError(f"no peer is connected to {self} any more; wait_connected() waits for one")
            raise StateError(f"no peer is connected to {self} yet; call wait_connected() first")
        raise StateError(
            f"{len(channels)} peers are connected to {self}: use send(…, to=peer) or broadcast(…)"
        )

    def send(self, data: Any, to: Given, timeout: Given) -> Sent:
        """Send a message: now, or by the operation that is returned. Takes the lock."""
        # Bytes without a call of `encode`.
        payload = data if data.__class__ is bytes and len(data) <= self._as_is else self.encode(data)
        if timeout is not None:
            seconds(timeout, "timeout")
        with self.runtime.lock:
            core, driver = self.core, self.runtime.driver
            if not isinstance(core, ServerCore) or driver is None or self.is_stopping:
                raise self.not_running()
            receipt = self.target(core, to).send_at_once(payload)
            if receipt is not None:
                driver.settle()
                return receipt
        return self._wait_and_send(payload, to, timeout)

    def _wait_and_send(self, payload: bytes, to: Given, timeout: Given) -> Operation[AnyReceipt]:
        """Send as soon as there is room; with a store, once the message is on disk."""
        core = self.server_core()
        channel = self.target(core, to)
        if core.has_store:
            receipt = yield from spool(self, channel, payload)
            return receipt
        if not channel.has_room():
            yield from wait_for_room(self, channel, deadline_after(timeout, self.now()))
        receipt = channel.send(payload)
        self.runtime.settle()
        return receipt

    def broadcast(self, payload: bytes) -> Operation[dict[Peer, AnyReceipt]]:
        """Send to every peer that can take it. The receipt of each other one has failed.

        So a caller never repeats for the sake of one peer what the others have.
        """
        core = self.server_core()
        channels = [each for each in core.channels.values() if not each.is_ending and each.error is None]
        if core.has_store:
            return (yield from self._spool_each(core, channels, payload))
        receipts: dict[Peer, AnyReceipt] = {}
        for channel in channels:
            error: Exception = MailboxFull(f"{channel.peer} does not keep up")
            if channel.has_room():
                try:
                    receipts[channel.peer] = channel.send(payload)
                    continue
                except TooLarge as too_large:
                    error = too_large
            receipts[channel.peer] = self._failed(channel, error)
        self.runtime.update()
        return receipts

    def _spool_each(
        self, core: ServerCore, channels: list[Channel], payload: bytes
    ) -> Operation[dict[Peer, AnyReceipt]]:
        """Write a message to the store for every peer. `StoreError` if that fails: none gets it then."""
        entries = core.spool_each(channels, payload)  # They share a commit.
        receipts: dict[Peer, AnyReceipt] = {}
        failure: StoreError | None = None
        for channel, entry in zip(channels, entries, strict=True):
            error = entry
            if not isinstance(error, StoreError):
                try:
                    receipts[channel.peer] = (yield from wait_for_disk(self, error))[0]
                    continue
                except StoreError as unwritten:
                    error = failure = unwritten
            receipts[channel.peer] = self._failed(channel, error)
        if failure is not None and all(each.error is not None for each in receipts.values()):
            raise failure
        return receipts

    def _failed(self, channel: Channel, error: Exception) -> AnyReceipt:
        """The receipt of a message that was not accepted."""
        receipt = self._receipts(channel)
        receipt.error = error
        return receipt

    def end(self, to: Given) -> None:
        """End the conversation with a peer, unless it has ended. Takes the lock."""
        with self.runtime.locked():
            core = self.server_core()
            if to is None and not core.channels and self.counters.conversations:
                return  # The only peer was faster.
            self.target(core, to).end()
            self.runtime.update()

    def view(self, peer: Given) -> PeerView:
        """A view of one peer, also of a disconnected one whose messages are waiting. Takes the lock."""
        arguments.peer(peer, "peer")
        with self.runtime.locked():
            waiting = (each for each in self.mailbox.sources if _is_same(each.peer, peer))
            source = next(waiting, None) or self.server_core().source_of(peer)
            if source is None:
                raise self.not_connected(peer)
            return PeerView(self, source)


def _is_same(one: Peer, other: Peer) -> bool:
    """Are these the same peer? An id alone does not identify it: the client chooses that."""
    return one.id == other.id and one.identity == other.identity


class PeerView(Taking):
    """Takes from one peer, and ends the conversation with it."""

    def __init__(self, server: SendingServer, source: Source) -> None:
        super().__init__(server, source)
        self.server = server
        self._source = source
        self.peer: Peer = source.peer

    def send(self, data: Any, timeout: Given) -> Sent:
        """Send to this peer. Takes the lock."""
        return self.server.send(data, self.peer, timeout)

    def end(self) -> None:
        """End the conversation, unless it has ended. Takes the lock."""
        with self.server.runtime.locked():
            core = self.server.core
            if self._source.end_reason is None:
                self.server.end(self.peer)
            elif isinstance(core, ServerCore) and core.channel_of(self.peer) is not None:
                self.server.end(self.peer)  # The peer has closed its half only.
