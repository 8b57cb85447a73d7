"""A start that is cancelled while the disk is slow leaves the store to the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linkbox import Json
from linkbox.aio import ClientP2M, ClientP2P, ServerP2P
from linkbox.store.sqlite import Store

NOWHERE = "tcp://127.0.0.1:1"
ANY = "tcp://127.0.0.1:0"


class SlowDisk:
    """A method of the store comes to a halt until ``go_on`` is set."""

    def __init__(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_busy, self.go_on = threading.Event(), threading.Event()
        real = getattr(Store, method)

        def slow(*args: Any) -> Any:
            self.is_busy.set()
            assert self.go_on.wait(10)
            return real(*args)

        monkeypatch.setattr(Store, method, slow)


@pytest.mark.parametrize("method", ["note", "load"])
@pytest.mark.parametrize(
    ("make", "how"),
    [
        pytest.param(lambda store: ClientP2M(NOWHERE, Json, store=store), {}, id="ClientP2M"),
        pytest.param(lambda store: ClientP2P(NOWHERE, Json, store=store), {"wait": False}, id="ClientP2P"),
        pytest.param(lambda store: ServerP2P(ANY, Json, store=store), {}, id="ServerP2P"),
    ],
)
def test_a_cancelled_start_leaves_the_store_free(
    make: Callable[[Path], Any],
    how: dict[str, bool],
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        store = tmp_path / "store"
        disk = SlowDisk(method, monkeypatch)
        endpoint = make(store)
        starting = asyncio.create_task(endpoint.start(**how))
        assert await loop.run_in_executor(None, disk.is_busy.wait, 10)
        starting.cancel()
        await asyncio.sleep(0)
        disk.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        for again in (endpoint, make(store)):
            await again.start(**how)
            await again.stop(0)

    asyncio.run(main())
