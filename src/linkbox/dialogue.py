"""How requests and responses follow each other over a plain framing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec


class ResponseFraming(Protocol):
    """A framing, as far as `Dialogue` needs it. Every `Framing` is one."""

    def decoder(self, limit: int) -> Any:
        """Return a new decoder for one connection."""


class Dialogue(msgspec.Struct, frozen=True):
    """How requests and responses follow each other over a plain framing, for `ClientAR` and `ServerAR`.

    The functions get messages as the format decodes them. They are called while the endpoint is locked: they
    must return at once, and call nothing of the endpoint. An exception closes the connection.
    """

    greeting: Any = None
    """Client: what the device sends before the first request, as a number of messages, or a function that
    returns true for the last of them. They are read and dropped. Server: the message to send to each client
    that connects."""
    answer: int | Callable[[Any], bool] | ResponseFraming | None = None
    """Client: when a response is complete: after a number of messages, or after one for which this function
    returns true; then `ask` returns a list. None: a response is one message. A framing: a response is one
    message, and what the device sends is read with this framing."""
    match: Callable[[Any, Any], bool] | None = None
    """Client: ``match(request, response)``: is it the response to this request? One for which this is false,
    such as a late one, goes to the mailbox. With it, a request that times out does not close the
    connection."""
    on_error: Callable[[Any, Exception], Any] | None = None
    """Server: ``on_error(request, error)`` returns the response to a request that has failed; None closes the
    connection, as without this function. ``request`` is None if it cannot be decoded."""

    def __post_init__(self) -> None:
        answer = self.answer
        is_count = isinstance(answer, int) and not isinstance(answer, bool) and answer > 0
        if not (answer is None or callable(answer) or is_count or hasattr(answer, "decoder")):
            raise TypeError(f"answer= takes a number of messages, a function or a framing, not {answer!r}")
        if self.match is not None and not callable(self.match):
            raise TypeError(f"match= takes callable(request, response) -> bool, not {self.match!r}")
        if self.on_error is not None and not callable(self.on_error):
            raise TypeError(f"on_error= takes callable(request, error), not {self.on_error!r}")
