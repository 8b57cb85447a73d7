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
from typing import TYPE_CHECKING

from linkbox.address import Address
from linkbox.broker import Nats
from linkbox.core import values as _values
from linkbox.core.backoff import Backoff
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

__version__ = "0.1.0"
compiled: bool = not str(_values.__file__).endswith((".py", ".pyc"))
"""Is this the compiled build (True) or the pure Python one (False)?"""

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
    from linkbox.operations.requests import Request
    from linkbox.threaded.client import Client, ClientAR, ClientP2M, ClientP2P
    from linkbox.threaded.receipts import Receipt
    from linkbox.threaded.server import LinkView, Server, ServerAR, ServerP2M, ServerP2P
else:
    # Loaded when they are first used: half of an import, of which a program with `linkbox.aio` needs nothing.
    _LATE = {
        "linkbox.core.wire.framings": """Cobs DecimalPrefixed Delimited Enclosed FixedSize JsonStream
            LengthPrefixed Lines Netstring Raw Slip VarintPrefixed""",
        "linkbox.operations.requests": "Request",
        "linkbox.threaded.client": "Client ClientAR ClientP2M ClientP2P",
        "linkbox.threaded.receipts": "Receipt",
        "linkbox.threaded.server": "LinkView Server ServerAR ServerP2M ServerP2P",
    }

    def __getattr__(name):
        """One of these names."""
        from importlib import import_module

        for module, names in _LATE.items():
            if name in names.split():
                found = globals()[name] = getattr(import_module(module), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        """For completion in a shell."""
        return sorted({*globals(), *__all__})


def _start_monitor() -> None:
    from linkbox.monitor.server import start_once

    start_once()


if _environ.get("LINKBOX_MONITOR", "0") not in ("", "0"):
    from linkbox.operations import process_hooks as _process_hooks

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
