"""Servers that welcome their clients, and are no good after that."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from linkbox import Backoff, LinkboxError
from linkbox.core.wire import frames
from tests.faults.bare import Bare, HostileServer, data
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import wait_until

PAUSE = 0.1
STEADY = Backoff(initial=PAUSE, maximum=PAUSE, factor=1, jitter=0)


@pytest.fixture
def transport() -> str:
    """What is wrong is above the transport."""
    return "tcp"


def goes_away(bare: Bare) -> None:
    bare.admit()
    bare.say(frames.encode_number(frames.GOAWAY, 0))


def breaks_the_protocol(bare: Bare) -> None:
    bare.admit(resumed=True)
    bare.say(data(b"y"), frames.frame(frames.WELCOME, b"{}"))


def forgets(bare: Bare) -> None:
    bare.admit(incarnation=uuid.uuid4().hex)
    bare.say(data(b"y"))
    bare.reset()


def breaks(bare: Bare) -> None:
    bare.admit(resumed=True)
    bare.reset()


def use(pattern: str, client: Any) -> None:
    """What makes a client connect, and connect again."""
    with suppress(LinkboxError):
        if pattern == "AR":
            client.ask(b"x", timeout=PATIENCE)
        else:
            client.start()
            client.send(b"x")


def options_of(pattern: str) -> dict[str, Any]:
    return {"P2P": {}, "P2M": {"blocking": False}, "AR": {"keep_alive": True}}[pattern]


@pytest.mark.parametrize(
    ("pattern", "behave"),
    [("P2M", goes_away), ("AR", goes_away), ("P2P", breaks_the_protocol), ("P2P", forgets)],
)
def test_a_server_that_welcomes_and_is_no_good(
    place: Place, pattern: str, behave: Callable[[Bare], None]
) -> None:
    """The time before its answer to one connection, and after the client has made the next one: however
    busy the machine is, the pause lies between them."""
    met: list[float] = []

    def says(bare: Bare) -> None:
        met.append(time.monotonic())
        behave(bare)

    with HostileServer(says) as server:
        client = place.client(pattern, server.address, reconnect=STEADY, **options_of(pattern))
        user = threading.Thread(target=use, args=(pattern, client))
        user.start()
        wait_until(lambda: len(met) > 6, "it connects again", PATIENCE)
        client.stop(0)
        user.join(PATIENCE)
    gaps = [after - before for before, after in pairwise(met[3:])]
    assert median(gaps) >= PAUSE / 2, "the first attempts are made at once, all others after a pause"


@pytest.mark.parametrize("behave", [goes_away, breaks_the_protocol, breaks])
def test_the_next_address_after_a_server_that_is_no_good(
    place: Place, behave: Callable[[Bare], None]
) -> None:
    pattern = "P2M" if behave is goes_away else "P2P"
    with place.server(pattern) as good, HostileServer(behave) as bad:
        addresses: Any = [bad.address, good.address]
        client = place.client(pattern, addresses, reconnect=AT_ONCE, **options_of(pattern)).start()
        if pattern == "P2M":
            client.send(b"x")
        else:
            wait_until(good.peers, "the client comes", PATIENCE)
            wait_until(lambda: client.state.name == "CONNECTED", "and knows it", PATIENCE)
            client.send(b"x")
        assert good.data_get(PATIENCE) == b"x"
        client.stop(PATIENCE)
