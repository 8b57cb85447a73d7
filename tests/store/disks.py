"""What the tests of stores share: filling a store, reading one, other processes that use one."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from linkbox import Backoff, ClientP2M, ClientP2P, ServerP2M, ServerP2P
from linkbox.formats import Json
from tests.threaded.helpers import wait_until

NOW = Backoff(initial=0.01, maximum=0.05)
SUFFIXES = ("", "-wal", "-shm", "-lock", "-reserve")


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def nowhere() -> str:
    """An address where nobody listens."""
    return f"tcp://127.0.0.1:{free_port()}"


def pusher(address: str, store: Path, **how: Any) -> ClientP2M[Any]:
    """A client of P2M with a store, that comes back at once."""
    how = {"format": Json, "reconnect": NOW} | how
    return ClientP2M(address, store=store, **how)


def talker(address: str, store: Path | None, **how: Any) -> ClientP2P[Any, Any]:
    """The same for P2P."""
    how = {"format": Json, "reconnect": NOW} | how
    return ClientP2P(address, store=store, **how)


def fill_spool(store: Path, values: Iterable[Any]) -> None:
    """A store of a pusher whose server was never there."""
    with pusher(nowhere(), store) as client:
        client.send_many(values)


def fill_inbox(store: Path, values: list[Any]) -> None:
    """A store of a P2M server with unread messages."""
    with ServerP2M("tcp://127.0.0.1:0", Json, store=store) as server:
        with ClientP2M(server.address, Json) as client:
            client.send_many(values)
        wait_until(lambda: server.data_count() == len(values))


def read_spool(store: Path) -> list[Any]:
    """What such a pusher delivers, once its server is there. The store is empty afterwards."""
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        with pusher(server.address, store) as client:
            client.flush(10)
        return server.data_get_all()


def read_inbox(store: Path) -> list[Any]:
    """What a server finds unread."""
    with ServerP2M("tcp://127.0.0.1:0", Json, store=store) as server:
        return server.data_get_all()


def copy(store: Path, to: Path) -> Path:
    """The files of a store, as they are, somewhere else. The lock is not part of it."""
    to.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        source = store.with_name(store.name + suffix)
        target = to / source.name
        if source.exists():
            shutil.copyfile(source, target)
        else:
            target.unlink(missing_ok=True)
    for suffix in ("-shm", "-lock", "-reserve"):
        (to / (store.name + suffix)).unlink(missing_ok=True)
    return to / store.name


def files_of(store: Path) -> list[Path]:
    """Those that are there."""
    found = [store.with_name(store.name + suffix) for suffix in SUFFIXES]
    return [each for each in found if each.exists()]


def converse(server: ServerP2P[Any, Any], client: ClientP2P[Any, Any], value: Any) -> None:
    """A message each way."""
    client.send(value)
    assert server.data_get(10) == value
    server.send(value)
    assert client.data_get(10) == value
