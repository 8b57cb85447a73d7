"""linkbox: reliable messages between programs and devices over TCP, without network programming.

Overview of the package, for new readers:

- ``errors``, ``address``, ``broker``, ``formats``, ``events``, ``limits``, ``tls``: small public modules
  without state.
- ``core``: the protocol, sans-IO: bytes and the time in; bytes, events and one timer out.
- ``operations``: the operations of endpoints (start, send, take, …), each written once.
- ``networks``: what carries the bytes: sockets, or memory for tests.
- ``threaded`` and ``aio``: the six endpoint classes, blocking and with ``await``, and their drivers.
- ``store``: the SQLite file behind ``store=``.
- ``testing``: a proxy with faults, a memory network and a manual clock, for tests of applications.
- ``cli``: the ``linkbox`` command.
"""

from os import environ as _environ
from types import FunctionType as _FunctionType
from typing import TYPE_CHECKING

from linkbox.address import Address
from linkbox.broker import Nats
from linkbox.core.backoff import Backoff
from linkbox.core.endpoint import Mailbox as _Mailbox
from linkbox.core.wire.framing import Framing, Linked
from linkbox.dialogue import Dialogue
from linkbox.errors import (
    AddressError,
    AnswerError,
    AuthenticationFailed,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    FormatError,
    Incomplete,
    LinkboxError,
    LinkError,
    ListenFailed,
    MailboxEmpty,
    MailboxFull,
    PeerLost,
    ProtocolViolation,
    Refused,
    SessionLost,
    StateError,
    StoreError,
    TooLarge,
)
from linkbox.events import (
    EndpointState,
    Event,
    EventKind,
    Message,
    Peer,
    PeerInfo,
    PeerStatistics,
    Percentiles,
    Stage,
    Statistics,
)
from linkbox.formats import Bytes, Format, Json, MsgPack, Skip, Text, Typed
from linkbox.limits import Limits
from linkbox.operations import process_hooks as _process_hooks
from linkbox.operations.requests import Request
from linkbox.threaded.client import Client, ClientAR, ClientP2M, ClientP2P
from linkbox.threaded.receipts import Receipt
from linkbox.threaded.server import LinkView, Server, ServerAR, ServerP2M, ServerP2P

if TYPE_CHECKING:
    from linkbox.core.wire.framings import (
        Cobs,
        DecimalPrefixed,
        Delimited,
        Enclosed,
        FixedSize,
        JsonStream,
        LengthPrefixed,
        Lines,
        Netstring,
        Raw,
        Slip,
        VarintPrefixed,
    )
else:

    def __getattr__(name):
        """A plain framing: they are loaded when the first one is used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from linkbox.core.wire import framings

        globals().update((name, getattr(framings, name)) for name in __all__ if hasattr(framings, name))
        return globals()[name]


__version__ = "0.1.0"
compiled: bool = not isinstance(_Mailbox.take, _FunctionType)
"""Is this the compiled build (True) or the pure Python one (False)?"""


def _start_monitor() -> None:
    from linkbox.monitor.server import start_once

    start_once()


if _environ.get("LINKBOX_MONITOR", "0") not in ("", "0"):
    _process_hooks.on_start.append(_start_monitor)

__all__ = [
    "Address",
    "AddressError",
    "AnswerError",
    "AuthenticationFailed",
    "Backoff",
    "Bytes",
    "Client",
    "ClientAR",
    "ClientP2M",
    "ClientP2P",
    "Cobs",
    "ConnectFailed",
    "DeadlineExceeded",
    "DecimalPrefixed",
    "DecodeError",
    "Dialogue",
    "Delimited",
    "Enclosed",
    "EndOfData",
    "EndpointState",
    "Event",
    "EventKind",
    "FixedSize",
    "Format",
    "FormatError",
    "Framing",
    "Incomplete",
    "Json",
    "JsonStream",
    "LengthPrefixed",
    "Limits",
    "Lines",
    "LinkError",
    "LinkView",
    "LinkboxError",
    "Linked",
    "ListenFailed",
    "MailboxEmpty",
    "MailboxFull",
    "Message",
    "MsgPack",
    "Nats",
    "Netstring",
    "Peer",
    "PeerInfo",
    "PeerLost",
    "PeerStatistics",
    "Percentiles",
    "ProtocolViolation",
    "Raw",
    "Receipt",
    "Refused",
    "Request",
    "Server",
    "ServerAR",
    "ServerP2M",
    "ServerP2P",
    "SessionLost",
    "Skip",
    "Slip",
    "Stage",
    "StateError",
    "Statistics",
    "StoreError",
    "Text",
    "TooLarge",
    "Typed",
    "VarintPrefixed",
]
