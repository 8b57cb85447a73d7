"""The public names, pinned: one that comes or goes is a decision, and shows up here."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

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


def test_names_that_are_loaded_late() -> None:
    code = "import linkbox; print(*dir(linkbox))"
    found = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=30).split()
    assert set(found) > PUBLIC
    with pytest.raises(AttributeError, match="has no attribute 'ServerP3P'"):
        getattr(importlib.import_module("linkbox"), "ServerP3P")  # noqa: B009 - for the type checker


SELDOM = set(
    """asyncio ssl hashlib hmac sqlite3 dataclasses pathlib urllib random
    cryptography typer rich psutil nats
    linkbox.core.broker linkbox.core.durable.recovery linkbox.core.wire.framings linkbox.format_costs
    linkbox.networks.memory linkbox.operations.disk_writer
    linkbox.aio linkbox.monitor linkbox.store linkbox.tls""".split()
)
"""What few programs need. Each costs a millisecond or more, alone or with what it loads."""
ENDPOINTS = set("linkbox.core.session linkbox.operations linkbox.networks linkbox.threaded logging".split())


@pytest.mark.parametrize(
    ("code", "late", "most"),
    [
        ("import linkbox", SELDOM | ENDPOINTS, 20),
        (
            "from linkbox import ServerP2P, ClientP2P; ServerP2P(('::1', 0)), ClientP2P(('::1', 1))",
            SELDOM,
            140,
        ),
    ],
)
def test_import_loads_nothing_heavy(
    code: str, late: set[str], most: int, environment: dict[str, str]
) -> None:
    """Counted, not timed: each module of linkbox takes 0.1 ms."""
    code = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    found = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, timeout=30)
    loaded = set(found.split())
    assert not late & loaded
    assert 0 < sum(name.startswith("linkbox.") for name in loaded) <= most
