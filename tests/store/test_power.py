"""A power cut at any moment: copies of the files, taken while they are written, stand for what is left.

The disk may hold everything that was written up to a commit, and of the transaction after it anything: some
frames of it, half of one, a frame that was not written while a later one was.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linkbox import ClientP2M, ServerP2M, ServerP2P
from linkbox.core.durable.entries import Inflow, Spool
from linkbox.core.durable.journal import Batch
from linkbox.formats import Json
from linkbox.store.files import Reserve
from linkbox.store.sqlite import Store
from tests.store.disks import NOW, copy, nowhere, pusher, read_inbox, read_spool, talker

FRAME = 24 + 4096


@pytest.fixture(autouse=True)
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no part in this, and writing it for each copy takes its time."""
    monkeypatch.setattr(Reserve, "keep", lambda self, size=0: None)
    monkeypatch.setattr(Reserve, "keep_log", lambda self: None)


class Camera:
    """Takes a picture of a store's files after each commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Path, known: Callable[[Batch], Any]) -> None:
        self.pictures: list[tuple[bytes, bytes, Any]] = []
        """The file, its log, and what had to be in it."""
        apply = Store.apply

        def take(self_: Store, batch: Batch) -> None:
            apply(self_, batch)
            if self_.path == store:
                self.pictures.append((*read(store), known(batch)))

        monkeypatch.setattr(Store, "apply", take)

    def cuts(self, dice: random.Random) -> Any:
        """What may be on the disk between each two pictures: file, log, what must and what may be in it."""
        for (file, log, must), (later_file, later_log, _) in zip(
            self.pictures, self.pictures[1:], strict=False
        ):
            yield file, log, must, must
            if later_file != file or later_log[: len(log)] != log:
                continue  # it was written back meanwhile
            for at in range(len(log), len(later_log), FRAME):
                yield file, later_log[:at], must, must
                yield file, later_log[: at + dice.randrange(1, FRAME)], must, must
            if len(later_log) - len(log) > FRAME:  # the first frame is not there, the others are
                yield file, log + bytes(FRAME) + later_log[len(log) + FRAME :], must, must
        file, log, must = self.pictures[-1]
        yield file, log, must, must


def read(store: Path) -> tuple[bytes, bytes]:
    log = store.with_name(store.name + "-wal")
    return store.read_bytes(), log.read_bytes() if log.exists() else b""


def put(folder: Path, file: bytes, log: bytes) -> Path:
    """A store as the power cut has left it."""
    folder.mkdir(exist_ok=True)
    for each in folder.iterdir():
        each.unlink()
    (folder / "store").write_bytes(file)
    (folder / "store-wal").write_bytes(log)
    return folder / "store"


def spooled(path: Path, side: str = "client", pattern: str = "p2m") -> tuple[list[int], list[int]]:
    """What is to be sent, and what is unread."""
    store = Store(path, {"side": side, "pattern": pattern, "format": "json"})
    try:
        left = store.load("", 0.0)
        rows = [
            each for row, _, _ in left.rows for each in store._spooled(row.key << 40, (row.key + 1) << 40)
        ]
        return [int(payload) for _, _, payload in rows], [int(each.payload) for each in left.unread]
    finally:
        store.close()


def test_all_that_was_accepted_is_there_after_a_cut_anywhere(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dice = quick_path / "store", random.Random(1)
    accepted: list[int] = []

    def known(batch: Batch) -> list[int]:
        for entry in batch.entries:
            if isinstance(entry, Spool):
                accepted.extend(int(payload) for _, _, payload in entry.rows)
        return accepted[:]

    camera = Camera(monkeypatch, store, known)
    with pusher(nowhere(), store) as client:
        for start in range(0, 150, 5):
            client.send(start)
            client.send_many(range(start + 1, start + 5))
    cuts = list(camera.cuts(dice))
    assert len(cuts) > 150
    for file, log, must, _ in dice.sample(cuts, 50):
        found, _ = spooled(put(quick_path / "cut", file, log))
        assert found == must


class TwoCameras:
    """Pictures of two stores at the same moments: right after a commit of either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ours: Path, theirs: Path) -> None:
        self.pictures: list[tuple[tuple[bytes, bytes], tuple[bytes, bytes], int, int]] = []
        """The files of both, how many messages had been accepted, and how many taken."""
        self.accepted = self.taken = 0
        self.is_on = False
        apply, lock = Store.apply, threading.Lock()

        def take(self_: Store, batch: Batch) -> None:
            with lock:  # so that neither writes while the other's files are copied
                before = self.accepted, self.taken
                apply(self_, batch)
                if self.is_on:
                    self.pictures.append((read(ours), read(theirs), *before))

        monkeypatch.setattr(Store, "apply", take)


def test_all_that_was_accepted_is_on_one_of_two_disks(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = quick_path / "ours", quick_path / "theirs"
    camera = TwoCameras(monkeypatch, ours, theirs)
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, store=theirs) as server,
        talker(server.address, ours) as client,
    ):
        camera.is_on = True
        for number in range(60):
            client.send(number)
            camera.accepted = number + 1
            if number % 3 == 2:
                assert server.data_get_count(3, 10) == [number - 2, number - 1, number]
                camera.taken = number + 1
        camera.is_on = False
    assert len(camera.pictures) > 60
    for one, other, accepted, taken in camera.pictures[:: len(camera.pictures) // 30]:
        to_send, _ = spooled(put(quick_path / "cut", *one), "client", "p2p")
        _, unread = spooled(put(quick_path / "cut2", *other), "server", "p2p")
        for each in (to_send, unread):
            assert each == list(range(each[0], each[0] + len(each))) if each else True
        # Up to three are in the hands of whoever takes them just then.
        assert set(range(accepted)) <= {*to_send, *unread, *range(taken + 3)}


def test_what_two_disks_hold_comes_together_again(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new life on both sides: each message comes once, but what was in hand."""
    ours, theirs = quick_path / "ours", quick_path / "theirs"
    camera = TwoCameras(monkeypatch, ours, theirs)
    server = ServerP2M("tcp://127.0.0.1:0", Json, store=theirs).start()
    with server, pusher(server.address, ours, linger=5) as client:
        for number in range(40):
            client.send(number)
            camera.is_on, camera.accepted = True, number + 1
            if number % 4 == 3:
                assert server.data_get_count(4, 10) == list(range(number - 3, number + 1))
                camera.taken = number + 1
        camera.is_on = False
    for one, other, accepted, taken in camera.pictures[:: len(camera.pictures) // 10]:
        left, right = put(quick_path / "cut", *one), put(quick_path / "cut2", *other)
        with ServerP2M("tcp://127.0.0.1:0", Json, store=right) as server:
            with pusher(server.address, left) as client:
                client.flush(10)
            found = [server.message_get(0) for _ in range(server.data_count())]
        numbers = [each.data for each in found]
        assert (
            numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            if numbers
            else accepted <= taken + 4
        )
        if numbers:
            assert numbers[0] <= taken + 4, "one was skipped"
            assert numbers[-1] >= accepted - 1, "one was lost"
        assert all(each.redelivered for each in found if each.data < taken)


def test_reading_back_after_each_cut(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with whole endpoints: what such a disk holds goes out."""
    store, dice = quick_path / "store", random.Random(2)
    accepted: list[int] = []

    def known(batch: Batch) -> list[int]:
        accepted.extend(
            int(payload) for each in batch.entries if isinstance(each, Spool) for _, _, payload in each.rows
        )
        return accepted[:]

    camera = Camera(monkeypatch, store, known)
    with pusher(nowhere(), store) as client:
        for number in range(20):
            client.send(number)
    monkeypatch.undo()
    for file, log, must, _ in dice.sample(list(camera.cuts(dice)), 12):
        assert read_spool(put(quick_path / "cut", file, log)) == must


def test_what_the_server_has_acknowledged_is_unread_after_a_cut(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dice = quick_path / "store", random.Random(3)
    arrived: list[int] = []

    def known(batch: Batch) -> list[int]:
        arrived.extend(
            int(payload) for each in batch.entries if isinstance(each, Inflow) for _, payload in each.rows()
        )
        return arrived[:]

    camera = Camera(monkeypatch, store, known)
    with ServerP2M("tcp://127.0.0.1:0", Json, store=store) as server:
        with ClientP2M(server.address, Json, linger=5, reconnect=NOW) as client:
            for number in range(30):
                client.send(number)  # returns when it is acknowledged
                assert arrived[-1] == number
        assert server.data_count() == 30
    monkeypatch.undo()
    for file, log, must, _ in dice.sample(list(camera.cuts(dice)), 40):
        _, found = spooled(put(quick_path / "cut", file, log), "server")
        assert found == must
    assert read_inbox(copy(store, quick_path / "copy")) == list(range(30))
