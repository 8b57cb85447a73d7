"""Links and files that others have put where a store goes, and who may read it afterwards."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from linkbox import StoreError
from tests.store.disks import SUFFIXES, files_of, fill_spool, nowhere, pusher, read_spool

BESIDE = SUFFIXES[1:]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")


def beside(store: Path, suffix: str) -> Path:
    return store.with_name(store.name + suffix)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("suffix", BESIDE)
def test_link_beside_a_store_is_refused_and_its_target_left_alone(
    tmp_path: Path, suffix: str, is_new: bool
) -> None:
    store, target = tmp_path / "store", tmp_path / "target"
    if not is_new:
        fill_spool(store, [1])
    target.write_bytes(b"precious" * 1000)
    beside(store, suffix).unlink(missing_ok=True)
    beside(store, suffix).symlink_to(target)
    with pytest.raises(StoreError, match=f"{suffix} is a symbolic link; remove it"):
        pusher(nowhere(), store).start()
    assert target.read_bytes() == b"precious" * 1000
    beside(store, suffix).unlink()
    if not is_new:
        assert read_spool(store) == [1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_made_behind_a_dangling_link(tmp_path: Path, suffix: str) -> None:
    store, target = tmp_path / "store", tmp_path / "target"
    beside(store, suffix).symlink_to(target)
    with pytest.raises(StoreError, match="link"):
        pusher(nowhere(), store).start()
    assert not target.exists()


@pytest.mark.parametrize("suffix", BESIDE)
def test_what_is_no_file_is_refused(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(beside(tmp_path / "store", suffix))  # to open it would block
    with pytest.raises(StoreError, match="not a regular file"):
        pusher(nowhere(), tmp_path / "store").start()


def test_store_that_all_may_read_becomes_private_with_all_its_files(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fill_spool(store, [1])
    for path in files_of(store):
        path.chmod(0o666)
    with pusher(nowhere(), store) as client:
        client.send(2)
        found = files_of(store)
        assert len(found) == len(SUFFIXES)
        assert {stat.S_IMODE(each.stat().st_mode) for each in found} == {0o600}
    assert read_spool(store) == [1, 2]
