"""A connection in memory behaves as two connected sockets do."""

from __future__ import annotations

import pytest

from linkbox.address import Address
from linkbox.networks import memory_hub
from linkbox.networks.memory_hub import Bell, MemoryEnd, MemoryHub, MemoryListener, Station

pytestmark = pytest.mark.patches


class Silent(Bell):
    """A bell that nobody hears: the tests look for themselves."""

    def ring(self) -> None:
        pass


def connection(capacity: int = 100, chunk: int = 100) -> tuple[MemoryHub, MemoryEnd, MemoryEnd]:
    hub = MemoryHub(capacity, chunk, None)
    client, server = Station(Silent()), Station(Silent())
    memory_hub.networks.append(hub)
    try:
        listener = memory_hub.bind(Address.parse("memory://x"))
    finally:
        memory_hub.networks.remove(hub)
    assert isinstance(listener, MemoryListener)
    listener.station = server
    near = hub.connect(client, "x")
    return hub, near, server.callers.popleft()


def test_bytes_and_the_end() -> None:
    _, near, far = connection()
    assert near.write([b"one", memoryview(b"two")]) == []
    near.finish()
    assert far.read() == b"onetwo"
    assert far.read() == b""
    assert far.write([b"the other half"]) == []
    assert near.read() == b"the other half"
    assert near.read() is None


def test_what_does_not_fit_is_returned_and_room_is_noted() -> None:
    _, near, far = connection(capacity=5, chunk=3)
    assert [bytes(rest) for rest in near.write([b"abc", b"defg", b"h"])] == [b"fg", b"h"]
    assert near not in near.station.noted
    assert far.read() == b"abc"
    assert near in near.station.noted
    assert far.read() == b"de"
    assert far.read() is None


def test_closing_in_order_lets_the_other_end_read_all() -> None:
    hub, near, far = connection()
    near.write([b"last words"])
    near.close(is_abortive=False)
    with pytest.raises(BrokenPipeError):
        far.write([b"nobody reads this"])
    assert far.read() == b"last words"
    with pytest.raises(ConnectionResetError):
        far.read()
    assert hub.count() == 1
    far.close(is_abortive=False)
    assert hub.count() == 0


@pytest.mark.parametrize("is_abortive", [False, True])
def test_closing_with_unread_bytes_or_abortively_resets(is_abortive: bool) -> None:
    _, near, far = connection()
    far.write([b"on its way back"])
    if not is_abortive:
        near.write([b"unread"])
    near.close(is_abortive)
    with pytest.raises(ConnectionResetError):
        far.read()


def test_a_cut_destroys_what_is_on_its_way() -> None:
    hub, near, far = connection()
    near.write([b"lost"])
    hub.hold(True)
    assert far.read() is None
    assert hub.cut() == 1
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.read()


def test_a_listener_that_is_gone_refuses() -> None:
    hub, near, _ = connection()
    hub.listeners["x"].close()
    with pytest.raises(ConnectionRefusedError):
        hub.connect(near.station, "x")
