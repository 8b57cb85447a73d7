"""The names of subjects and streams at a broker."""

from __future__ import annotations

import re

_INBOX = re.compile(r"_INBOX\.[A-Za-z0-9_.-]{1,200}")
QUEUE = "lb"
"""The queue group of servers that share a name: the broker gives each message to one of them."""
CONSUMER = "servers"
"""The consumer of a stream, which the servers of a name share."""


def is_inbox(subject: str) -> bool:
    """Is this the subject of one client of the broker?

    A peer names subjects to which this end publishes. It must not choose one that only this end may use, as
    those that delete a stream.
    """
    return _INBOX.fullmatch(subject) is not None


class Subjects:
    """The subjects of one name."""

    __slots__ = (
        "cancel",
        "circuits",
        "have",
        "hello",
        "name",
        "prefix",
        "requests",
        "stream",
        "stream_filter",
    )

    def __init__(self, prefix: str, name: str) -> None:
        root = f"{prefix}.{name}"
        self.prefix: str = prefix
        self.name: str = name
        self.hello: str = f"{root}.hello"
        """Servers answer what they are."""
        self.circuits: str = f"{root}.p2p"
        """P2P: clients open circuits."""
        self.requests: str = f"{root}.ar"
        """AR: requests."""
        self.have: str = f"{root}.ar.have"
        """AR: a client asks all servers whether one has its request."""
        self.cancel: str = f"{root}.ar.cancel"
        """AR: a client that does not know its server notifies all that it no longer waits."""
        self.stream: str = _stream_name(prefix, name)
        """P2M: the stream that keeps the messages."""
        self.stream_filter: str = f"{root}.p2m.>"

    def messages_of(self, session: str) -> str:
        """P2M: where the messages of one client go."""
        return f"{self.prefix}.{self.name}.p2m.{session}"


def _stream_name(prefix: str, name: str) -> str:
    """A name of a stream has no dots: "_" becomes "__", "." becomes "_"."""
    parts = (prefix.upper(), name)
    return "_".join(part.replace("_", "__").replace(".", "_") for part in parts)
