"""The public names, pinned: one that comes or goes is a decision, and shows up here."""

from __future__ import annotations

import importlib
import subprocess
import sys

SIX = {"ServerP2P", "ClientP2P", "ServerP2M", "ClientP2M", "ServerAR", "ClientAR"}

PUBLIC = SIX | set(
    """
    Server Client
    Bytes Text Json Typed MsgPack Skip
    Linked Raw Lines Delimited LengthPrefixed FixedSize
    VarintPrefixed DecimalPrefixed Netstring JsonStream Enclosed Slip Cobs
    Address Dialogue Format Framing LinkView
    EndpointState Event EventKind Message Peer PeerInfo PeerStatistics Percentiles
    Receipt Request Stage Statistics
    Limits Backoff Nats
    LinkboxError AddressError StateError FormatError TooLarge DecodeError
    LinkError ListenFailed ConnectFailed Refused AuthenticationFailed ProtocolViolation PeerLost SessionLost
    MailboxEmpty MailboxFull EndOfData Incomplete DeadlineExceeded AnswerError StoreError
    """.split()
)


def test_top_level_names() -> None:
    linkbox = importlib.import_module("linkbox")
    assert set(linkbox.__all__) - {"__version__"} == PUBLIC


def test_all_says_the_truth() -> None:
    names = importlib.import_module("linkbox")
    assert len(names.__all__) == len(set(names.__all__))
    assert [name for name in names.__all__ if not hasattr(names, name)] == []


def test_the_build_is_known() -> None:
    linkbox, core = importlib.import_module("linkbox"), importlib.import_module("linkbox.core.session")
    assert linkbox.compiled is not str(core.__file__).endswith(".py")


def test_names_of_aio() -> None:
    aio = importlib.import_module("linkbox.aio")
    assert set(aio.__all__) == SIX | {"Server", "Client", "LinkView", "Receipt"}


def test_names_of_tls() -> None:
    tls = importlib.import_module("linkbox.tls")
    assert set(tls.__all__) == {"certificate_of", "client_context", "remember", "server_context"}


def test_names_of_testing() -> None:
    testing = importlib.import_module("linkbox.testing")
    assert set(testing.__all__) == {
        "FakeBroker",
        "Faults",
        "FaultyProxy",
        "ManualClock",
        "MemoryNetwork",
        "Recording",
    }


def test_import_loads_nothing_heavy(environment: dict[str, str]) -> None:
    code = "import sys, linkbox; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, timeout=30)
    assert not {"asyncio", "ssl", "cryptography", "sqlite3", "typer", "rich", "psutil"} & set(loaded.split())
