"""A store belongs to one endpoint, whatever else this process tries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from linkbox import ClientP2M, StoreError

OPEN = """
import sys
from linkbox.errors import StoreError
from linkbox.store.sqlite import Store
from pathlib import Path
try:
    Store(Path(sys.argv[1]), {})
except StoreError as error:
    print(error)
"""


def test_a_second_endpoint_here_does_not_open_the_door_to_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    with ClientP2M("tcp://127.0.0.1:1", store=path):
        with pytest.raises(StoreError, match="in use"):
            ClientP2M("tcp://127.0.0.1:1", store=path).start()
        other = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, timeout=30, check=True
        )
        assert "in use" in other.stdout


def test_what_is_no_file_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="path of a file"):
        ClientP2M("tcp://127.0.0.1:1", store=tmp_path).start()


def test_a_store_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.db"
    with monkeypatch.context() as patch:
        patch.setattr("linkbox.store.sqlite.VERSION", "no number")  # fails when the tables are there already
        with pytest.raises(StoreError):
            ClientP2M("tcp://127.0.0.1:1", store=path).start()
    with ClientP2M("tcp://127.0.0.1:1", store=path):
        pass
