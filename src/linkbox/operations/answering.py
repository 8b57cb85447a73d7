"""What a server of requests does: call the handler, send responses."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from linkbox.core.endpoint import Incoming, ServerCore
from linkbox.core.units import Delivery
from linkbox.errors import StateError
from linkbox.operations.options import Handler, ServerOptions
from linkbox.operations.predicates import HasRequest
from linkbox.operations.requests import Request, RequestOwner
from linkbox.operations.runtime import Runtime
from linkbox.operations.serving import ServerOperations
from linkbox.operations.steps import Call, Operation, Wait

log = logging.getLogger("linkbox")


class AnsweringServer(ServerOperations):
    """The operations of a server of requests."""

    def __init__(
        self, options: ServerOptions, runtime: Runtime, receipts: type[Delivery], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self.handler: Handler | None = options.handler
        self.requests = Responder(self)

    def set_handler(self, handler: Handler) -> None:
        """Let this respond to requests. Takes the lock."""
        with self.runtime.lock:
            if self.core is not None:
                raise StateError(f"{self} is started already: set the handler before start()")
            self.handler = handler

    def start_services(self, core: ServerCore) -> None:
        super().start_services(core)
        if self.handler is not None:
            for number in range(self.server_options.workers):
                self.runtime.spawn(self._work(core, self.handler), f"worker {number + 1}")

    def _work(self, core: ServerCore, handler: Handler) -> Operation[None]:
        """One worker: take a request, call the handler, respond."""
        mailbox, runtime, requests = self.mailbox, self.runtime, self.requests
        wait = Wait(mailbox.box, HasRequest(mailbox))
        while (yield wait):
            incoming = mailbox.take()
            assert isinstance(incoming, Incoming)
            if mailbox.count:  # wake the next worker
                core.changed.append(mailbox.box)
                runtime.settle()
            if requests.is_obsolete(incoming):
                continue
            request: Request[Any] = Request(incoming, requests)
            try:
                value = yield Call(handler, request)
                if not incoming.is_finished:
                    if value.__class__ is bytes and self._takes_as_is:
                        payload = self.encode(value)
                    else:  # the format may be user code
                        payload = yield Call(self.encode, value)
                    requests.send(incoming, payload)
            except BaseException as error:
                if runtime.must_pass(error):
                    raise
                requests.on_failed(incoming, error)
            del request


class Responder(RequestOwner):
    """Sends what the application responds."""

    def __init__(self, server: AnsweringServer) -> None:
        self._server = server

    def join_messages(self, messages: list[Any]) -> Any:
        if self._server.options.is_bytes:
            return messages[0] if len(messages) == 1 else b"".join(messages)
        if len(messages) != 1:
            raise StateError(f"this ask has {len(messages)} messages: use request.messages")
        return messages[0]

    def is_late(self, incoming: Incoming) -> bool:
        return incoming.deadline is not None and monotonic() >= incoming.deadline

    def is_obsolete(self, incoming: Incoming) -> bool:
        if incoming.is_cancelled:
            return True
        if incoming.deadline is not None and self.is_late(incoming):
            self.fail(incoming, "linkbox.DeadlineExceeded", "the deadline passed before work on it began")
            return True
        return False

    def answer(self, incoming: Incoming, value: Any) -> None:
        payload = self._server.encode(value)
        with self._server.runtime.lock:
            self.send(incoming, payload)

    def send(self, incoming: Incoming, payload: bytes) -> None:
        """Send the response. Under the lock."""
        server = self._server
        if server.core is not None:
            server.core.answer(incoming, payload)
            server.runtime.update()

    def fail(self, incoming: Incoming, type: str, text: str) -> None:
        server = self._server
        with server.runtime.lock:
            if server.core is not None:
                server.core.fail_ask(incoming, type, text)
                server.runtime.update()

    def on_failed(self, incoming: Incoming, error: BaseException) -> None:
        """The handler, or encoding what it returned, has raised: the client's call raises that."""
        if not incoming.is_cancelled:
            peer = incoming.session.peer
            log.error("linkbox: the handler of %s failed on an ask of %s", self._server, peer, exc_info=error)
        if not incoming.is_finished:
            self.fail(incoming, type(error).__name__, str(error))

    def forget(self, incoming: Incoming) -> None:
        core = self._server.core
        if core is not None:
            core.forgotten.append(incoming)
