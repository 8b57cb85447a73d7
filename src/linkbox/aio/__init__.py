"""The same six endpoints with ``await``: same names, same parameters, same errors, same guarantees.

Formats, framings, events, errors and options are those of `linkbox` itself. An endpoint belongs to the event
loop in which it was started; call it only from there.
"""

from linkbox.aio.client import Client, ClientAR, ClientP2M, ClientP2P
from linkbox.aio.receipts import Receipt
from linkbox.aio.server import LinkView, Server, ServerAR, ServerP2M, ServerP2P

__all__ = [
    "Server", "ServerP2P", "ServerP2M", "ServerAR",
    "Client", "ClientP2P", "ClientP2M", "ClientAR",
    "LinkView", "Receipt",
]  # fmt: skip
