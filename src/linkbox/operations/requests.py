"""`Request`: a received request, as the application of a server sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from linkbox.core.endpoint import IncomingAsk
from linkbox.errors import StateError
from linkbox.events import Peer
from linkbox.formats import T
from linkbox.operations.request_owner import RequestOwner


class NotOneMessage(StateError):
    """A handler has asked for the one message of a request, and its client has sent none, or several."""


class Request(Generic[T]):
    """One request, as the server sees it. Respond once, from any thread, at any time."""

    __slots__ = ("_incoming", "_owner")

    def __init__(self, incoming: IncomingAsk, owner: RequestOwner) -> None:
        self._incoming = incoming
        self._owner = owner

    @property
    def data(self) -> T:
        """What was asked: for Bytes all messages joined, else the one message.

        `StateError` for other formats if the request has none or several (``ask_many``). If the handler does
        not catch it, the client's call raises `AnswerError`, and nothing is logged here.
        """
        messages = self._incoming.messages
        data: T = messages[0] if len(messages) == 1 else self._owner.join_messages(messages)
        return data

    @property
    def messages(self) -> tuple[T, ...]:
        """All messages of the request; more than one only with ``ask_many``."""
        return tuple(self._incoming.messages)

    @property
    def peer(self) -> Peer:
        """The client."""
        return self._incoming.session.peer

    @property
    def deadline(self) -> float | None:
        """When the client gives up, on the clock of ``time.monotonic()``; None: it did not say."""
        return self._incoming.deadline

    def cancelled(self) -> bool:
        """Has the client given up, or gone away? A long handler may check now and then, and stop early."""
        return self._incoming.is_cancelled or self._owner.is_late(self._incoming)

    def answer(self, value: T) -> None:
        """Respond. `FormatError` if the value does not fit; `StateError` if there was a response already.

        When the client has given up meanwhile, nothing is sent and nothing raised.
        """
        self._owner.answer(self._incoming, value)

    def fail(self, reason: str) -> None:
        """Let the client's call raise `AnswerError` with this text."""
        self._owner.fail(self._incoming, "RequestFailed", str(reason))

    def ignore(self) -> None:
        """Send no response: the request was a command. Only over a plain framing, else `StateError`."""
        self._owner.ignore(self._incoming)

    def __repr__(self) -> str:
        return f"<Request {self._incoming.id} from {self.peer}>"

    def __del__(self) -> None:
        # May run in any thread, even while it holds our lock, so the core handles it later.
        if not self._incoming.is_finished:
            self._owner.forget(self._incoming)


H = TypeVar("H", bound=Callable[[Request[Any]], Any])
"""A handler, for the decorator `handler`."""
