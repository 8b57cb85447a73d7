"""The interface above the core: the names that operations and endpoints may import from it."""

from __future__ import annotations

from linkbox.core.admission import Verdict
from linkbox.core.asks_client import Answer, Ask, ClientAsks
from linkbox.core.asks_server import IncomingAsk
from linkbox.core.bytes_mailbox import BytesMailbox, SeparatorSearch
from linkbox.core.channel import Channel, OutgoingMessage
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.mailbox import Mailbox
from linkbox.core.pending_accepts import PendingAccept
from linkbox.core.request_mailbox import RequestMailbox
from linkbox.core.source import Batch, Source

__all__ = [
    "Answer",
    "Ask",
    "Batch",
    "BytesMailbox",
    "Channel",
    "ClientAsks",
    "ClientCore",
    "EndpointCore",
    "IncomingAsk",
    "Mailbox",
    "OutgoingMessage",
    "PendingAccept",
    "RequestMailbox",
    "SeparatorSearch",
    "ServerCore",
    "Source",
    "Verdict",
]
