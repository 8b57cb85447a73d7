"""What a server with a store keeps for who is away, what becomes of what it gives up, and wrong clocks."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from linkbox import EventKind, Limits, SessionLost, Stage, StoreError
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, opening
from tests.faults.place import PATIENCE, Place
from tests.threaded.helpers import wait_until

DAYS = 86400.0


def _left(place: Place, server: Any) -> Any:
    """Three messages for a client that has gone."""
    with Bare(place, server.address) as bare:
        bare.meet()
        peer = place.peer(server)
        bare.reset()
    wait_until(lambda: not server.peers(), "it has gone")
    for number in range(3):
        server.send(b"%d" % number, to=peer, timeout=PATIENCE)
    return peer


def _messages(bare: Bare, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        kind, payload = bare.frame()
        if kind == frames.DATA:
            found.append(payload)
        elif kind == frames.BATCH:
            found += frames.decode_batch(payload)
    return found


def _doubt(path: Path) -> list[bytes]:
    """What a store keeps aside."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT payload FROM doubt ORDER BY id")]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "restarted"])
def test_a_newcomer_deletes_nothing_in_a_store(place: Place, is_restarted: bool, tmp_path: Path) -> None:
    """The only slot belongs to an absent client with messages in the store: a stranger is refused."""
    with place.serving(), place.server("P2P", store=tmp_path / "store") as server:
        _left(place, server)
        if is_restarted:
            server.stop()
            server.start()
        with Bare(place, server.address) as stranger:
            stranger.say(opening(session=2))
            refusal = stranger.refusal()
            assert refusal.code == "busy"
            assert "undelivered messages" in refusal.reason
        with Bare(place, server.address) as bare:
            assert bare.meet(epoch=2).resumed
            assert _messages(bare, 3) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("why", ["stored_session", "disconnected"])
def test_a_store_gives_nothing_up_in_silence(
    place: Place, why: str, is_restarted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The messages are kept aside, with an ERROR and a line in the log."""
    limits = Limits(stored_session=0.5) if why == "stored_session" else Limits()
    server = place.server("P2P", store=tmp_path / "store", limits=limits)
    errors: list[SessionLost] = []
    server.add_callback(
        lambda event: errors.append(event.error) if event.receipt is None else None, EventKind.ERROR
    )
    with place.serving(), server:
        peer = _left(place, server)
        if is_restarted:
            server.stop()
            server.start()
        if why == "disconnected":
            server.disconnect(peer)
        wait_until(lambda: bool(errors), "an ERROR")
    [error] = errors
    assert isinstance(error, SessionLost)
    assert [each.payload for each in error.in_doubt] == [b"0", b"1", b"2"]
    assert why in str(error)
    assert any("3 messages" in line and "doubt" in line for line in caplog.messages), caplog.messages
    assert _doubt(tmp_path / "store") == [b"0", b"1", b"2"]


def test_a_clock_that_was_behind(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is forgotten while the clock is ten days behind; later nobody says that it is new."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 10 * DAYS)
    server = place.server("P2M", store=tmp_path / "store", limits=Limits(stored_session=0.2))
    with place.serving(), server:
        with Bare(place, server.address) as bare:
            bare.meet(pattern="p2m")
            bare.say(data(b"taken"))
            assert server.data_get(PATIENCE) == b"taken"
            bare.reset()
        wait_until(lambda: not _sessions(tmp_path / "store"), "it is forgotten")
        server.stop()
        monkeypatch.undo()
        server.start()
        with Bare(place, server.address) as bare:
            assert not bare.meet(pattern="p2m", epoch=2, age=DAYS).is_new
        with Bare(place, server.address) as bare:
            assert bare.meet(pattern="p2m", session=2, epoch=2, age=1e-6).is_new


def _sessions(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM session").fetchone()[0])


def test_the_messages_for_one_peer_do_not_fill_a_store(place: Place, tmp_path: Path) -> None:
    """A client comes and goes: what is sent to all waits for it, and the others get everything."""
    limits = Limits(store_bytes=20_000)
    with (
        place.server("P2P", max_peers=10, store=tmp_path / "store", limits=limits) as server,
        place.client("P2P", server.address, name="honest") as client,
    ):
        honest = place.peer(server, "honest")
        with Bare(place, server.address) as bare:
            bare.meet()
            gone = place.peer(server)
            bare.reset()
        wait_until(lambda: server.peers() == (honest,), "it has gone")
        errors: list[Exception | None] = []
        for number in range(15):
            receipts = server.broadcast(bytes([number]) * 1000)
            errors.append(receipts[gone].error)
            assert client.data_get(PATIENCE) == bytes([number]) * 1000
            receipt = receipts[honest]
            wait_until(lambda receipt=receipt: receipt.stage >= Stage.RECEIVED, "it is acknowledged")
        assert errors[:8] == [None] * 8
        assert {type(error) for error in errors[10:]} == {StoreError}
        with pytest.raises(StoreError, match="left for all other peers"):
            server.send(bytes(2000), to=gone)
        server.send(b"the rest", to=honest)
        assert client.data_get(PATIENCE) == b"the rest"
