"""The files of a store: whose they are, who may have them, and what damage does to them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from linkbox import ClientP2M, ClientP2P, MsgPack, ServerP2M, ServerP2P, StoreError
from linkbox.core.durable.journal import Batch
from linkbox.formats import Json
from linkbox.store.sqlite import Store
from tests.store.children import Child
from tests.store.disks import (
    copy,
    files_of,
    fill_inbox,
    fill_spool,
    nowhere,
    pusher,
    read_inbox,
    read_spool,
)

MESSAGES = [{"n": number, "text": "x" * (number % 50)} for number in range(40)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_read_any_file_of_a_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = os.umask(0)
    try:
        with pusher(nowhere(), store) as client:
            client.send(1)
            found = files_of(store)
            assert {each.name for each in found} == {
                f"store{each}" for each in ("", "-wal", "-shm", "-lock", "-reserve")
            }
            assert {mode(each) for each in found} == {0o600}
    finally:
        os.umask(before)
    assert {mode(each) for each in files_of(store)} == {0o600}


def test_file_that_was_there_and_empty_becomes_private(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.touch(0o644)
    fill_spool(store, [1])
    assert mode(store) == 0o600
    assert read_spool(store) == [1]


# --- one at a time ------------------------------------------------------------------------------------


def refused(store: Path, *words: str, kind: Any = None) -> StoreError:
    endpoint = kind or pusher(nowhere(), store)
    with pytest.raises(StoreError) as caught:
        endpoint.start()
    assert all(word in str(caught.value) for word in (str(store), *words)), str(caught.value)
    assert endpoint.stop() is True
    return caught.value


def test_second_endpoint_is_told_that_the_store_is_in_use(tmp_path: Path) -> None:
    store, link = tmp_path / "store", tmp_path / "link"
    with pusher(nowhere(), store) as client:
        link.symlink_to(store)
        for path in (store, link):
            with pytest.raises(StoreError, match="in use by another endpoint or process"):
                pusher(nowhere(), path).start()
        client.send(1)
    assert read_spool(store) == [1]


def test_second_process_is_told_so_too_even_after_others_were_refused_here(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pusher(nowhere(), store) as client:
        refused(store, "in use")  # must not take the lock away
        client.send(1)
        with Child("open_store", store) as child:
            assert "in use by another endpoint or process" in child.line()
        client.send(2)
    with Child("open_store", store) as child:
        assert child.line() == "open"
        refused(store, "in use")
        child.kill(signal.SIGKILL)
    assert read_spool(store) == [1, 2]


def test_store_of_a_killed_process_is_taken_up(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Child("spool", store, 25) as child:
        assert child.line() == "accepted 25"
        child.kill(signal.SIGKILL)
    assert store.with_name("store-wal").stat().st_size > 0, "it was not killed in the middle"
    assert read_spool(store) == list(range(25))


def test_forked_child_leaves_the_store_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Child("fork", store) as child:
        assert child.line() == "accepted 200"
        assert child.line() == "child 0"
        assert child.line() == "accepted 400"
        assert child.wait() == 0
    assert read_spool(store) == list(range(400))


# --- whose it is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (lambda store: ServerP2M("tcp://127.0.0.1:0", Json, store=store), "side 'client'"),
        (lambda store: ClientP2P(nowhere(), Json, store=store), "pattern 'p2m'"),
        (lambda store: ClientP2M(nowhere(), MsgPack, store=store), "format 'json'"),
    ],
    ids=["side", "pattern", "format"],
)
def test_store_of_another_kind_of_endpoint_is_refused(tmp_path: Path, other: Any, word: str) -> None:
    store = tmp_path / "store"
    fill_spool(store, [1, 2])
    refused(store, word, "belongs to an endpoint with", kind=other(store))
    assert read_spool(store) == [1, 2]


def test_database_of_something_else_is_refused_and_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    refused(other, "is a database of another program")
    assert other.read_bytes() == before


def test_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"Dear diary, " * 100)
    refused(other, "file is not a database")
    assert other.read_bytes() == b"Dear diary, " * 100


def test_newer_version_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fill_spool(store, [1])
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()
    refused(store, "has version 2; this linkbox reads version 1")


def test_paths_where_there_can_be_no_store(tmp_path: Path) -> None:
    refused(tmp_path / "no" / "folder" / "store", "No such file or directory")
    refused(tmp_path, "it is a folder")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "store", "Not a directory")


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder, with the rights of a user who is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users to change to")
def test_file_that_may_not_be_read_is_refused() -> None:
    with as_nobody() as folder:
        fill_spool(folder / "store", [1])
        (folder / "store").chmod(0)
        refused(folder / "store", "Permission denied")
        (folder / "store").chmod(0o600)
        folder.chmod(0o500)
        refused(folder / "new", "Permission denied")
        folder.chmod(0o700)
        assert read_spool(folder / "store") == [1]


def test_server_whose_store_is_refused_gives_its_port_back(tmp_path: Path) -> None:
    store, address = tmp_path / "store", nowhere()
    store.write_bytes(b"no database" * 100)
    server = ServerP2P(address, Json, store=store)
    for _ in range(2):
        refused(store, "not a database", kind=server)
    store.unlink()
    with server:
        assert server.address == address


# --- damage -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was closed in order, with messages to be sent."""
    store = tmp_path_factory.mktemp("spool") / "store"
    fill_spool(store, MESSAGES)
    return store


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with unread messages."""
    store = tmp_path_factory.mktemp("inbox") / "store"
    fill_inbox(store, MESSAGES)
    return store


LABELS = {
    "spool": {"side": "client", "pattern": "p2m", "format": "json"},
    "inbox": {"side": "server", "pattern": "p2m", "format": "json"},
}


def contents(kind: str, path: Path) -> list[bytes] | None:
    """The messages in a store, as an endpoint would find them; None for a StoreError."""
    try:
        store = Store(path, LABELS[kind])
    except StoreError:
        return None
    try:
        left = store.load("", 0.0)
        if kind == "inbox":
            assert all(each.start == 0 for each in left.unread)
            return [each.payload for each in left.unread]
        assert [row.next for row, _, _ in left.rows] == [len(MESSAGES)]
        rows = [
            row
            for key in [row.key for row, _, _ in left.rows]
            for row in store._spooled(key << 40, (key + 1) << 40)
        ]
        assert [number for number, _, _ in rows] == list(range(1, len(MESSAGES) + 1))
        return [payload for _, _, payload in rows]
    except StoreError:
        return None
    finally:
        store.close()


def test_flipped_bit_anywhere_is_named_or_harmless(request: pytest.FixtureRequest, quick_path: Path) -> None:
    expected = [Json().encode(each) for each in MESSAGES]
    named = 0
    for kind in ("spool", "inbox"):
        original = request.getfixturevalue(kind)
        whole = original.read_bytes()
        store = copy(original, quick_path)
        # All of the header, where each table begins, and a net over the rest.
        used = [at for at in range(len(whole)) if whole[at]]
        places = [*range(100), *used[::17]]
        for at in places:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << (at * 7 % 8)
            store.write_bytes(damaged)
            found = contents(kind, store)
            assert found in (None, expected), f"{kind}, byte {at}"
            named += found is None
    assert named > 200


def test_flipped_bit_in_a_payload_in_a_session_in_a_page_header_is_named(
    spool: Path, quick_path: Path
) -> None:
    whole = spool.read_bytes()
    places = {
        "payload": whole.index(b'"text":"xxxxxxxxxxxxxxxxxxxx') + 12,
        "session": whole.index(b'"epoch":') + 8,
        "page header": 4096 * (whole.count(b"", 0) and 1) + 3,
        "middle": whole.index(b'{"n":20') + 5,
    }
    for what, at in places.items():
        store = copy(spool, quick_path)
        damaged = bytearray(whole)
        damaged[at] ^= 0x01
        store.write_bytes(damaged)
        error = refused(store)
        assert "damaged" in str(error) or "malformed" in str(error), what
        assert f"`linkbox spool export {store}`" in str(error), what
        assert store.read_bytes()[at] == damaged[at], "it was changed"


def test_file_cut_to_any_length_is_named(request: pytest.FixtureRequest, quick_path: Path) -> None:
    for kind in ("spool", "inbox"):
        original = request.getfixturevalue(kind)
        whole = original.read_bytes()
        expected = [Json().encode(each) for each in MESSAGES]
        lengths = {0, 1, 15, 16, 24, 99, 100, 101, 511, 512, 513, len(whole) - 1}
        lengths |= {at + more for at in range(0, len(whole), 4096) for more in (-1, 0, 1, 2048)}
        for length in sorted(each for each in lengths if 0 <= each < len(whole)):
            store = copy(original, quick_path)
            shutil.copyfile(original.with_name("store-reserve"), store.with_name("store-reserve"))
            store.write_bytes(whole[:length])
            found = contents(kind, store)
            if found is not None:  # nothing was cut off but zeros
                assert found == expected, f"{kind}, cut to {length}"
                assert not any(whole[length:])


def test_empty_file_says_how_to_begin_anew(spool: Path, tmp_path: Path) -> None:
    store = copy(spool, tmp_path)
    shutil.copyfile(spool.with_name("store-reserve"), store.with_name("store-reserve"))
    store.write_bytes(b"")
    refused(store, "it is empty", f"remove it and {store}-reserve")
    for each in files_of(store):
        each.unlink()
    fill_spool(store, [1])
    assert read_spool(store) == [1]


def test_store_whose_maker_was_killed_before_it_had_tables_begins(tmp_path: Path) -> None:
    store = tmp_path / "store"
    connection = sqlite3.connect(store)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    assert store.stat().st_size == 4096
    fill_spool(store, [1])
    assert read_spool(store) == [1]


def test_damage_in_the_log_of_a_killed_process_is_named(quick_path: Path) -> None:
    """Unless it is in the last transaction: that cannot be told from a power cut (see test_power)."""
    store = quick_path / "store"
    with Child("spool_one_by_one", store, 20) as child:
        assert child.line() == "accepted 20"
        child.kill(signal.SIGKILL)
    (quick_path / "copy").mkdir()
    whole = store.with_name("store-wal").read_bytes()
    count = (len(whole.rstrip(b"\0")) - 32) // 4120  # behind them is reserved space
    for at in [
        *range(32),
        *(32 + 4120 * frame + more for frame in range(0, count - 12, 3) for more in (0, 9, 17, 4100)),
    ]:
        target = copy(store, quick_path / "copy")
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        target.with_name("store-wal").write_bytes(damaged)
        for _ in range(2):  # it stays refused
            refused(target, "is damaged: the" if at < 32 else "of its write-ahead log cannot be read")
    assert read_spool(copy(store, quick_path / "copy")) == list(range(20))


def test_what_can_still_be_read_is_still_read(spool: Path, inbox: Path, tmp_path: Path) -> None:
    assert read_spool(copy(spool, tmp_path)) == MESSAGES
    assert read_inbox(copy(inbox, tmp_path)) == MESSAGES


def test_a_store_that_became_something_else_is_named_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes must live through that: what is waiting is tried again."""
    store = Store(tmp_path / "store", {"side": "client", "pattern": "p2m", "format": "json"})
    try:
        store.load("one", 0.0)
        monkeypatch.setattr("linkbox.store.sqlite.VERSION", 2)
        for _ in range(2):
            store.recover()
            with pytest.raises(StoreError, match="closed database"):
                store.apply(Batch([], [], 0.0))
        monkeypatch.undo()
        store.recover()
        store.apply(Batch([], [], 0.0))
    finally:
        store.close()
