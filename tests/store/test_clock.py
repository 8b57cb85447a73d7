"""The times in a store are those of a clock that may be wrong, and may be set."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from linkbox.core.durable.recovery import Left
from linkbox.core.durable.rows import LONG_AGO, Row
from linkbox.store import clock
from linkbox.store.sqlite import Store
from linkbox.store.tables import transaction, write_rows
from tests.store.disks import fill_spool, read_spool

LABEL = {"side": "client", "pattern": "p2m", "format": "json"}


def life(path: Path, wall: float, change: Callable[[Store], None] = lambda store: None) -> Left:
    """One life of a store, with that difference between the wall clock and the monotonic one."""
    store = Store(path, LABEL)
    try:
        left = store.load("one", wall)
        with transaction(store._connection):
            change(store)
        return left
    finally:
        store.close()


def begin_and_forget(store: Store) -> None:
    row = Row(1, "id", "name", "address", None, 1020.0, began=1020.0)
    write_rows(store._connection, [row])
    store._about(knows_since=repr(1010.0), has_forgotten="yes")


@pytest.mark.parametrize("wall", [1000.0, 5000.0, 3.0], ids=["goes on", "set ahead", "set back"])
def test_clock_may_be_set_while_the_system_runs(tmp_path: Path, wall: float) -> None:
    """What matters is how long ago something was: here since 10 and 20 on the monotonic clock."""
    life(tmp_path / "store", 1000.0, begin_and_forget)
    for _ in range(2):
        left = life(tmp_path / "store", wall)
        assert left.knows_since == pytest.approx(wall + 10.0)
        assert left.rows[0][0].began == pytest.approx(wall + 20.0)


@pytest.mark.parametrize("wall", [1000.0, 5000.0, 3.0], ids=["goes on", "set ahead", "set back"])
def test_after_a_restart_of_the_system_no_clock_is_trusted(
    tmp_path: Path, wall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    life(tmp_path / "store", 1000.0, begin_and_forget)
    monkeypatch.setattr(clock, "run_of_system", lambda: "another")
    began = time.time()
    for _ in range(2):
        left = life(tmp_path / "store", wall)
        assert left.knows_since >= began
        assert left.rows[0][0].began == LONG_AGO


def test_store_that_has_forgotten_nothing_knows_that_after_a_restart_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = life(tmp_path / "store", 0.0)
    monkeypatch.setattr(clock, "run_of_system", lambda: "another")
    assert life(tmp_path / "store", 0.0).knows_since == first.knows_since


@pytest.mark.parametrize(("more", "is_known"), [(0.5, True), (2.0, False), (-2.0, False)])
def test_system_that_does_not_name_its_runs(
    monkeypatch: pytest.MonkeyPatch, more: float, is_known: bool
) -> None:
    monkeypatch.setattr(clock, "run_of_system", lambda: "")
    assert clock.moved(clock.describe(1000.0), 1000.0 + more) == (more if is_known else None)
    assert clock.moved("", 1000.0) is None


def test_run_of_a_system_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fails)
    assert clock.run_of_system() == ""


def test_spool_is_delivered_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    fill_spool(tmp_path / "store", [1, 2])
    monkeypatch.setattr(time, "time", lambda: real() - 1e6)
    assert read_spool(tmp_path / "store") == [1, 2]
