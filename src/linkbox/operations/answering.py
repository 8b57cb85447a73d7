"""The operations of a server of requests: call the handler, send responses."""

from __future__ import annotations

from functools import partial
from typing import Any

from linkbox.core.endpoint import IncomingAsk, OutgoingMessage, ServerCore
from linkbox.core.wait_queue import NOTHING
from linkbox.errors import FormatError, StateError, TooLarge
from linkbox.operations.options import Handler, ServerOptions, check_handler
from linkbox.operations.predicates import HasRequest
from linkbox.operations.request_owner import RequestOwner
from linkbox.operations.requests import NotOneMessage, Request
from linkbox.operations.runtime import Runtime
from linkbox.operations.serving import ServerOperations
from linkbox.operations.steps import Call, Operation, Wait
from linkbox.text import text_of

STUCK = 3.0
"""Seconds after which a handler may be the reason why requests wait."""


class AnsweringServer(ServerOperations):
    """The operations of a server of requests."""

    def __init__(
        self, options: ServerOptions, runtime: Runtime, receipts: type[OutgoingMessage], endpoint: object
    ) -> None:
        super().__init__(options, runtime, receipts, endpoint)
        self.handler: Handler | None = options.handler
        if options.handler is not None:
            runtime.check_function(options.handler, "handler=")
        self.requests: Responder = Responder(self)
        self._busy: dict[int, float] = {}

    @property
    def busy(self) -> dict[int, float]:
        return self._busy

    def waits_for_workers(self) -> str:
        workers, waiting = self.server_options.workers, self.mailbox.count
        if len(self._busy) < workers or not waiting:
            return ""
        longest = self.now() - min(self._busy.values())
        if longest < STUCK:
            return ""
        busy = f"all {workers} workers are busy, one for {longest:.1f} s"
        return f"the handler: {busy}, and {waiting} requests wait"

    def set_handler(self, handler: Handler) -> None:
        """Set the function that responds to requests. Takes the lock."""
        check_handler(handler)
        self.runtime.check_function(handler, "handler")
        with self.runtime.locked():
            if self.core is not None:
                raise StateError(f"{self} is started already: set the handler before start()")
            self.handler = handler

    def start_services(self, core: ServerCore) -> None:
        super().start_services(core)
        if self.handler is not None:
            for number in range(self.server_options.workers):
                self.runtime.spawn(partial(self._work, core, self.handler), f"worker {number + 1}")

    def _work(self, core: ServerCore, handler: Handler) -> Operation[None]:
        """One worker: take a request, call the handler, respond."""
        mailbox, runtime, requests = self.mailbox, self.runtime, self.requests
        wait, busy = Wait(mailbox.changed, HasRequest(mailbox)), self._busy
        while (yield wait):
            incoming = mailbox.take()
            assert isinstance(incoming, IncomingAsk)
            if mailbox.count:  # wake the next worker
                core.effects.to_wake.append(mailbox.changed)
                runtime.settle()
            request: Request[Any] = Request(incoming, requests)
            value: Any = NOTHING
            try:
                if requests.is_obsolete(incoming):
                    continue
                busy[id(request)] = core.effects.now
                value = yield Call(handler, request)
                if not incoming.is_finished:
                    if value.__class__ is bytes and len(value) <= self._as_is:
                        payload = value
                    else:  # encoding may call user code
                        payload = yield Call(self.encode, value)
                    # Not ``core``: this worker may have outlived it, in its handler.
                    current, driver = self.core, runtime.driver
                    if isinstance(current, ServerCore) and driver is not None:
                        current.answer(incoming, payload)
                        driver.settle()
            except BaseException as error:
                if value is None and isinstance(error, FormatError):
                    error = self._nothing_returned(error)
                # Not `incoming`: a compiled generator frees a variable after its last use, and a request that
                # nobody has is given up.
                requests.on_failed(request._incoming, error, value is not NOTHING)
            busy.pop(id(request), None)
            del request, value

    def _nothing_returned(self, error: FormatError) -> FormatError:
        """The error of a handler that has returned None, if the format cannot encode that."""
        hint = "the handler returned None"
        if self.options.plain is not None:
            hint += "; for a request without a response, call request.ignore()"
        return FormatError(f"{error} ({hint})")


class Responder(RequestOwner):
    """Sends the responses of the application."""

    def __init__(self, server: AnsweringServer) -> None:
        self._server = server

    def _core(self) -> ServerCore | None:
        """The core, if the server is started. Call under the lock, or only to read an attribute."""
        core = self._server.core
        return core if isinstance(core, ServerCore) else None

    def join_messages(self, messages: list[Any]) -> Any:
        if self._server.options.is_bytes:
            return b"".join(messages)
        raise NotOneMessage(f"this request has {len(messages)} messages: use request.messages")

    def is_late(self, incoming: IncomingAsk) -> bool:
        return incoming.deadline is not None and self._server.now() >= incoming.deadline

    def is_obsolete(self, incoming: IncomingAsk) -> bool:
        if incoming.is_cancelled:
            return True
        if incoming.deadline is not None and self._server.now() >= incoming.deadline:
            self.fail(incoming, "linkbox.DeadlineExceeded", "the deadline passed before work on it began")
            return True
        return False

    def answer(self, incoming: IncomingAsk, value: Any) -> None:
        payload, runtime = self._server.encode(value), self._server.runtime
        with runtime.locked():
            core = self._core()
            if core is not None:
                core.answer(incoming, payload)
                runtime.update()

    def fail(self, incoming: IncomingAsk, type: str, text: str, error: BaseException | None = None) -> None:
        runtime = self._server.runtime
        with runtime.locked():
            core = self._core()
            if core is not None:
                core.fail(incoming, type, text, error)
                runtime.update()

    def ignore(self, incoming: IncomingAsk) -> None:
        runtime = self._server.runtime
        if self._server.options.plain is None:
            raise StateError("with Linked() each request has a response: answer it, or let it fail")
        with runtime.locked():
            core = self._core()
            if core is not None:
                core.ignore(incoming)
                runtime.update()

    def on_failed(self, incoming: IncomingAsk, error: BaseException, has_returned: bool) -> None:
        """The handler, or encoding its result, has raised: let the client's call raise the same error.

        ``has_returned``: the handler has returned a result, but it could not be sent.
        """
        if isinstance(error, NotOneMessage):  # The client has caused it: no error of this program.
            if not incoming.is_finished:
                self.fail(incoming, "StateError", f"this server takes requests of one message: {error}")
            return
        if not incoming.is_cancelled or self._server.runtime.must_pass(error):
            peer = incoming.session.peer
            what = f"the handler of {self._server} failed, called for {peer}"
            is_large = has_returned and isinstance(error, TooLarge)
            if is_large:  # No line of a traceback would be the application's.
                what = f"what the handler of {self._server} returned for {peer} was not sent: {error}"
            self._server.runtime.survive("handler", what, error, not is_large)
        if not incoming.is_finished:
            self.fail(incoming, type(error).__name__, text_of(error), error)

    def forget(self, incoming: IncomingAsk) -> None:
        core = self._core()
        if core is not None:
            core.asks.abandoned.append(incoming)
