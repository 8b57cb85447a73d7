"""Deleting in small transactions, when a disk is full: the store is true after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linkbox.core.durable.rows import Row
from linkbox.store import slices
from linkbox.store.checks import checksum
from linkbox.store.slices import Slices
from linkbox.store.sqlite import Store
from linkbox.store.tables import first_of, read_row, save, transaction, write_rows
from tests.store.disks import files_of

LABEL = {"side": "server", "pattern": "p2p", "format": "bytes"}
COUNT = 40


class PowerFailure(Exception):
    """Here it ends."""


def fill(store: Store) -> None:
    """So many messages each way, and none is acknowledged or taken."""
    row = Row(1, "id", "name", "address", None, 0.0, next=COUNT, total=COUNT, received=COUNT)
    numbers = range(1, COUNT + 1)
    with transaction(store._connection):
        write_rows(store._connection, [row])
        store._connection.executemany(
            "INSERT INTO spool VALUES (?, ?, ?, ?)",
            [(first_of(1) + n, n, checksum(b"x", first_of(1) + n, n), b"x") for n in numbers],
        )
        store._connection.executemany(
            "INSERT INTO inbox VALUES (?, ?, ?, ?, ?)",
            [(first_of(1) + n, n, 0.0, checksum(b"x", first_of(1) + n, n, 0.0), b"x") for n in numbers],
        )


@pytest.mark.parametrize("commits", range(12))
def test_power_may_fail_between_the_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    store = Store(tmp_path / "store", LABEL)
    store.load("one", 0.0)
    fill(store)
    done = 0

    @contextmanager
    def counted(connection: object) -> Iterator[None]:
        nonlocal done
        if done == commits:
            raise PowerFailure
        with transaction(store._connection):
            yield
        done += 1

    monkeypatch.setattr(slices, "transaction", counted)
    row = read_row(store._connection, 1)
    assert row is not None
    row.acked, row.given, row.kept = COUNT - 3, COUNT - 5, (7, 20)
    few = Slices()
    few.most = 10
    try:
        few.delete(store._connection, [row])
    except PowerFailure:
        assert done == commits
    else:
        assert done <= commits, "it was to end"
        with transaction(store._connection):
            save(store._connection, [row])
    store.close()
    store = Store(tmp_path / "store", LABEL)
    try:
        left = store.load("one", 0.0)  # raises if something is missing
        [(found, waiting, _)] = left.rows
        assert found.acked + waiting == COUNT
        unread = [each.number for each in left.unread]
        assert unread == [n for n in range(1, COUNT + 1) if n > found.given or n in row.kept]
        assert found.acked <= row.acked and found.given <= row.given
        if commits == 11:
            assert (found.acked, found.given) == (row.acked, row.given)
    finally:
        store.close()


def test_slices_are_smaller_each_time() -> None:
    few = Slices()
    few.is_deleting = True
    sizes = []
    for _ in range(12):
        few.shrink()
        sizes.append(few.most)
    assert sizes == [512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1, 1]


def test_slices_are_no_smaller_for_new_messages_that_find_no_room() -> None:
    """Slices of one message each delete a thousand times as slowly, and would not make room for these."""
    few = Slices()
    assert few.shrink() is True
    assert few.shrink() is False
    assert few.most == 512


def test_deleted_pages_are_not_overwritten(tmp_path: Path) -> None:
    """Where SQLite is built to do so, deleting needs as much log as what is deleted."""
    store = Store(tmp_path / "store", LABEL)
    try:
        assert store._connection.execute("PRAGMA secure_delete").fetchone() == (0,)
        assert files_of(tmp_path / "store")
    finally:
        store.close()
