"""`RequestOwner`: what a request calls. Apart from `Request`, because the compiler takes only one of them."""

from __future__ import annotations

from typing import Any

from linkbox.core.endpoint import IncomingAsk
from linkbox.native import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestOwner:
    """The calls of a request to its server."""

    def join_messages(self, messages: list[Any]) -> Any:
        """Join the messages of a request, none or several, to one value."""
        raise NotImplementedError

    def is_late(self, incoming: IncomingAsk) -> bool:
        """Has the client's deadline passed?"""
        raise NotImplementedError

    def is_obsolete(self, incoming: IncomingAsk) -> bool:
        """Has the client stopped waiting for the response? Then work on it must not begin."""
        raise NotImplementedError

    def answer(self, incoming: IncomingAsk, value: Any) -> None:
        """Send a response."""
        raise NotImplementedError

    def fail(self, incoming: IncomingAsk, type: str, text: str, error: BaseException | None = None) -> None:
        """Send a failure; ``error`` is the exception behind it, if there is one."""
        raise NotImplementedError

    def ignore(self, incoming: IncomingAsk) -> None:
        """Send no response."""
        raise NotImplementedError

    def forget(self, incoming: IncomingAsk) -> None:
        """The application has dropped the request without a response. From any thread, without a lock."""
        raise NotImplementedError
