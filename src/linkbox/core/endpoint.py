"""The upper seam: the names under which operations know the core of an endpoint."""

from __future__ import annotations

from linkbox.core.asks import Ask, Incoming
from linkbox.core.channel import Channel
from linkbox.core.client import Answer
from linkbox.core.client import ClientHub as ClientCore
from linkbox.core.hub import Hub as EndpointCore
from linkbox.core.mailbox import Batch, BytesMailbox, Source
from linkbox.core.mailbox import MailboxState as Mailbox
from linkbox.core.server import Newcomer as PendingAccept
from linkbox.core.server import ServerHub as ServerCore

__all__ = [
    "Answer",
    "Ask",
    "Batch",
    "BytesMailbox",
    "Channel",
    "ClientCore",
    "EndpointCore",
    "Incoming",
    "Mailbox",
    "PendingAccept",
    "ServerCore",
    "Source",
]
