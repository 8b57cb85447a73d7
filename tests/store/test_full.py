"""A disk that is full, one that fails, and the quota."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linkbox import ClientP2M, ClientP2P, EventKind, Limits, ServerP2M, ServerP2P, StoreError
from linkbox.formats import Bytes, Json
from linkbox.store.sqlite import Store
from tests.store.children import Child
from tests.store.disks import NOW, files_of, nowhere, pusher, read_spool, talker
from tests.threaded.helpers import Ear, wait_until

KIB = 1024
FULL = re.compile(r"disk is full|No space left")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    mount = getattr(libc, "mount", None)
    if mount is None or mount(b"tmpfs", os.fsencode(disk), b"tmpfs", 0, b"size=12m"):
        pytest.skip(f"no small disk can be mounted here: {os.strerror(ctypes.get_errno())}")
    yield disk
    assert libc.umount2(os.fsencode(disk), 2) == 0


def fill_up(disk: Path) -> Path:
    """Leave no room, but for the store's own reserve."""
    ballast = disk / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def send_until_full(client: Any, size: int = 20 * KIB) -> list[bytes]:
    """Send until the store refuses; returns what it accepted."""
    accepted: list[bytes] = []
    while len(accepted) < 10_000:
        message = b"%d:" % len(accepted) + bytes(size)
        try:
            client.send(message)
        except StoreError as error:
            assert FULL.search(str(error))  # noqa: PT017
            return accepted
        accepted.append(message)
    raise AssertionError("it is never full")


@pytest.mark.parametrize("size", [100, 3 * KIB, 100 * KIB])
def test_what_was_accepted_before_the_disk_was_full_is_delivered(small_disk: Path, size: int) -> None:
    store = small_disk / "store"
    address = nowhere()
    fill_up(small_disk).write_bytes(bytes(9728 * KIB))  # that much is left to be used up
    ear = Ear()
    with pusher(address, store, format=Bytes) as client:
        client.add_callback(ear, EventKind.ERROR)
        accepted = send_until_full(client, size)
        assert isinstance(ear.wait(1, EventKind.ERROR).error, (StoreError, OSError))
        if is_accepted(client, b"small"):  # there may be room for it
            accepted.append(b"small")
        with ServerP2M(address) as server:
            found = [server.data_get(15) for _ in accepted]  # acknowledging works
            assert found == accepted
            client.flush(10)
            (small_disk / "ballast").unlink()
            wait_until(lambda: is_accepted(client, b"again"))
            assert server.data_get(10) == b"again"
            with pytest.raises(Exception, match="within"):
                server.data_get(0.05)
    assert read_spool_bytes(store) == []


def is_accepted(client: Any, message: bytes) -> bool:
    try:
        client.send(message)
    except StoreError:
        return False
    return True


def read_spool_bytes(store: Path) -> list[bytes]:
    with ServerP2M("tcp://127.0.0.1:0") as server:
        with pusher(server.address, store, format=Bytes) as client:
            client.flush(10)
        return [server.data_get(0) for _ in range(server.statistics().waiting)]


@pytest.mark.parametrize("size", [100, 3 * KIB, 100 * KIB])
def test_what_has_arrived_on_a_full_disk_can_be_taken_and_makes_room(small_disk: Path, size: int) -> None:
    store = small_disk / "store"
    count = 2_000_000 // size if size > 100 else 4000
    limits = Limits(mailbox_bytes=64 * KIB * KIB)
    with (
        ServerP2M("tcp://127.0.0.1:0", store=store, limits=limits) as server,
        ClientP2M(server.address, blocking=False, linger=60, reconnect=NOW) as client,
    ):
        fill_up(small_disk).write_bytes(bytes(8192 * KIB))
        sent = [b"%d:" % number + bytes(size) for number in range(count)]
        for message in sent:
            client.send(message)
        # What finds no room waits on the other side until some is made.
        assert [server.data_get(20) for _ in sent] == sent
        (small_disk / "ballast").unlink()
        client.flush(20)
    with ServerP2M("tcp://127.0.0.1:0", store=store) as server:
        assert server.data_empty(), "taken, and there again"


@pytest.mark.parametrize("size", [100, 20 * KIB])
def test_much_that_is_taken_at_once_on_a_full_disk_makes_room(small_disk: Path, size: int) -> None:
    """One transaction that deletes all of it would need more log than there is room."""
    store = small_disk / "store"
    count = 7_000_000 // (size + 40)
    sent = [b"%d:" % number + bytes(size) for number in range(count)]
    with (
        ServerP2M("tcp://127.0.0.1:0", store=store) as server,
        ClientP2M(server.address, blocking=False, linger=60, reconnect=NOW) as client,
    ):
        client.send_many(sent)
        client.flush(30)
        fill_up(small_disk)
        assert [server.data_get(20) for _ in sent] == sent
        assert server.stop(20) is not None
    with ServerP2M("tcp://127.0.0.1:0", store=store) as server:
        assert server.data_empty(), "taken, and there again"


def test_space_that_a_store_has_is_enough_when_the_disk_has_little(small_disk: Path) -> None:
    """Its log and the pages of taken messages are used again: it asks the disk for what it grows by."""
    sent = [b"%d:" % number + bytes(100) for number in range(20_000)]
    ear = Ear()
    with (
        ServerP2M("tcp://127.0.0.1:0", store=small_disk / "store") as server,
        ClientP2M(server.address, blocking=False, linger=60, reconnect=NOW) as client,
    ):
        server.add_callback(ear, EventKind.ERROR)
        client.send_many(sent[:3000])
        assert [server.data_get(20) for _ in range(3000)] == sent[:3000]
        ballast = fill_up(small_disk)
        client.send_many(sent[3000:])
        ear.wait(1, EventKind.ERROR)  # It has given up its reserve, and somebody else takes that space.
        fill_up(small_disk)
        os.truncate(ballast, ballast.stat().st_size - 300 * KIB)
        assert [server.data_get(20) for _ in sent[3000:]] == sent[3000:]


def test_taking_and_acknowledging_go_on_while_nothing_can_be_sent(small_disk: Path) -> None:
    """Both ways, both stores on the disk that is full."""
    with (
        ServerP2P("tcp://127.0.0.1:0", store=small_disk / "server") as server,
        talker(server.address, small_disk / "client", format=Bytes) as client,
    ):
        for number in range(40):
            client.send(b"%d" % number)
            server.send(b"%d" % number)
        wait_until(
            lambda: server.statistics().messages_received == client.statistics().messages_received == 40
        )
        fill_up(small_disk)
        for end in (server, client):
            send_until_full(end)
        (small_disk / "ballast").unlink()
        for end in (server, client):
            wait_until(lambda end=end: is_accepted(end, b"last"))
        for end in (server, client):
            assert end.data_get_count(2, 10)
            while not end.data_get(10).endswith(b"t"):
                pass
        assert client.stop() is True


@pytest.mark.parametrize("size", [100, 3 * KIB, 100 * KIB])
@pytest.mark.parametrize("left", [4096, 8192])
def test_both_stores_on_one_full_disk_do_not_block_each_other(small_disk: Path, size: int, left: int) -> None:
    """A client fills the disk; what it has sent needs room in the server's store before it makes any."""
    with (
        ServerP2M("tcp://127.0.0.1:0", store=small_disk / "server") as server,
        pusher(server.address, small_disk / "client", format=Bytes) as client,
    ):
        fill_up(small_disk).write_bytes(bytes((12 * KIB - left) * KIB))
        accepted: list[bytes] = []
        try:
            for number in range(4 * left * KIB // (size + 150)):
                message = b"%d:" % number + bytes(size)
                client.send(message)
                accepted.append(message)
        except StoreError as error:
            assert FULL.search(str(error))  # noqa: PT017
        else:
            raise AssertionError("it is never full")
        assert [server.data_get(20) for _ in accepted] == accepted
        client.flush(20)


def test_store_that_finds_no_room_to_begin_says_so(small_disk: Path) -> None:
    fill_up(small_disk)
    for _ in range(2):
        with pytest.raises(StoreError, match=FULL):
            pusher(nowhere(), small_disk / "store").start()
    (small_disk / "ballast").unlink()
    with pusher(nowhere(), small_disk / "store") as client:
        client.send(1)
    assert read_spool(small_disk / "store") == [1]


def test_quota_refuses_by_name_until_something_is_delivered(tmp_path: Path) -> None:
    address, limits = nowhere(), Limits(store_bytes=10_000)
    with pusher(address, tmp_path / "store", format=Bytes, limits=limits) as client:
        for _ in range(10):
            client.send(bytes(1000))
        with pytest.raises(StoreError, match=r"quota of 10000.*store_bytes"):
            client.send(b"x")
        with pytest.raises(StoreError, match="quota"):
            client.send_many([b"x"] * 3)
    with pusher(address, tmp_path / "store", format=Bytes, limits=limits) as client:
        with pytest.raises(StoreError, match="quota"):  # it counts what an earlier life has left
            client.send(b"x")
        with ServerP2M(address) as server:
            client.flush(10)
            client.send(bytes(10_000))
            assert len(server.data_get_count(20_000, 10)) == 20_000


# --- a disk that fails -----------------------------------------------------------------------------------


def strace() -> list[str]:
    """How to run something under strace; skips where that does not work."""
    tool = shutil.which("strace")
    if tool is None:
        pytest.skip("there is no strace")
    tried = subprocess.run(
        [tool, "-f", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=9999", "true"],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"strace may not trace: {tried.stderr.decode()[:200]}")
    return [tool, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]


@pytest.mark.parametrize("when", ["2", "3..5", "8+9", "9"])
def test_error_of_fsync_refuses_the_message_and_loses_none(tmp_path: Path, when: str) -> None:
    """A child that sends one by one says which were accepted: these and no others may be there."""
    store = tmp_path / "store"
    inject = ["-e", f"inject=fsync,fdatasync:error=EIO:when={when}"]
    with Child("spool_whatever_happens", store, 12, before=[*strace(), *inject]) as child:
        lines = []
        while (line := child.line(30)) not in ("", "done"):
            lines.append(line)
        assert line == "done", lines
        child.kill()
    accepted = [int(line.split()[1]) for line in lines if line.startswith("accepted")]
    refused = [line for line in lines if line.startswith("refused")]
    assert len(accepted) + len(refused) == 12
    assert refused, "no error was injected"
    assert all("I/O error" in line for line in refused)
    assert read_spool(store) == accepted


@pytest.mark.parametrize("when", ["2", "3..5", "8+9", "9"])
def test_error_of_fsync_at_a_server_is_made_good(tmp_path: Path, when: str) -> None:
    """What arrives is not acknowledged until it is on the disk: it is tried again."""
    store = tmp_path / "store"
    inject = ["-e", f"inject=fsync,fdatasync:error=EIO:when={when}"]
    with Child("serve", store, "tcp://127.0.0.1:0", before=[*strace(), *inject]) as child:
        address = child.line(30)
        with ClientP2M(address, Json, blocking=False, linger=30, reconnect=NOW) as client:
            receipts = [client.send(number) for number in range(30)]
            for receipt in receipts:
                receipt.wait(timeout=30)
        wait_until(lambda: len(child.lines) >= 31)
        child.kill()
    found = [line.split() for line in child.lines[1:]]
    assert [int(number) for number, redelivered in found if redelivered == "False"] == list(range(30))
    assert files_of(store)


@pytest.mark.patches
def test_a_broadcast_that_cannot_be_written_is_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises, and may be repeated; with room for some of the peers only, it goes to them and does not."""

    def fail(store: Store, batch: object) -> None:
        raise StoreError("the disk fails")

    limits = Limits(store_bytes=1000)
    with (
        ServerP2P("tcp://127.0.0.1:0", max_peers=3, store=tmp_path / "store", limits=limits) as server,
        ClientP2P(server.address, name="one") as one,
        ClientP2P(server.address, name="two") as two,
    ):
        server.wait_connected(2, timeout=5)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "apply", fail)
            with pytest.raises(StoreError, match="the disk fails"):
                server.broadcast(b"first")

        def repeated() -> Any:
            try:
                return server.broadcast(b"second")
            except StoreError:  # The write that fails may not have ended yet.
                return None

        receipts = wait_until(repeated, "it is written")
        assert [receipt.error for receipt in receipts.values()] == [None, None]
        assert one.data_get(5) == two.data_get(5) == b"second"
        refused = server.broadcast(bytes(501))
        assert [type(receipt.error) for receipt in refused.values()] == [StoreError, StoreError]
        assert len(server.broadcast(b"third")) == 2
        assert one.data_get(5) == two.data_get(5) == b"third"
