"""How requests and responses follow each other over a plain framing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Dialogue:
    """How requests and responses follow each other over a plain framing.

    The functions get messages as the format decodes them. They are called while the endpoint is locked: they
    must return at once, and call nothing of the endpoint. An exception closes the connection.
    """

    greeting: int | Callable[[Any], bool] | None = None
    """What the device sends before the first request: a number of messages, or a function that returns true
    for the last of them. They are read and dropped."""
    answer: int | Callable[[Any], bool] | None = None
    """When a response is complete: after a number of messages, or after one for which this function returns
    true; then `ask` returns a list. None: a response is one message."""
    match: Callable[[Any, Any], bool] | None = None
    """``match(request, response)``: is it the response to this request? One for which this is false, such as
    a late one, goes to the mailbox. With it, a request that times out does not close the connection."""

    def __post_init__(self) -> None:
        for name, given in (("greeting", self.greeting), ("answer", self.answer)):
            if isinstance(given, bool) or not (
                given is None or callable(given) or (isinstance(given, int) and given > 0)
            ):
                raise TypeError(f"{name}= takes a number of messages or a function, not {given!r}")
        if self.match is not None and not callable(self.match):
            raise TypeError(f"match= takes callable(request, response) -> bool, not {self.match!r}")
