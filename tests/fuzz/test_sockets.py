"""The fuzzer over real sockets gets through to the servers, and its oracle can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from fuzz import attack, sockets
from fuzz.grammar import Grammar
from fuzz.target import Choices
from linkbox.core.asks_server import ServerAsks
from linkbox.core.frame_reader import FrameReader
from tests.threaded.helpers import wait_until

FRONTS = ("threaded", "aio")
AR, P2P, PLAIN = 0, 1, 3
"""Where these are among the servers."""
ASK = bytes((AR, 0, 11, 0, 5))
"""A request of five bytes."""


@pytest.fixture
def arena(request: pytest.FixtureRequest) -> Iterator[sockets.Arena]:
    made = sockets.Arena(request.param)
    try:
        made.run(b"")
        yield made
    finally:
        made.close()


on_both = pytest.mark.parametrize("arena", FRONTS, indirect=True)


# --- the attacker gets through --------------------------------------------------------------------------


@on_both
def test_an_attacker_is_served_like_anybody(arena: sockets.Arena) -> None:
    """Otherwise nothing behind the handshake would be attacked."""
    for index in (AR, P2P, PLAIN):
        host = arena.hosts[index]
        before = host.real.statistics().messages_received
        message = ASK[2:] if index == AR else bytes((1, 5))
        attacker = attack.Attack(host, Choices(bytes((0, *message, sockets.LISTEN))))
        attacker.play()
        while not attacker.grammar.heard_units:
            attacker.listen()
            assert not attacker.is_stuck
        assert host.real.statistics().messages_received == before + 1
        attacker.leave(0)
        host.settle()


@on_both
def test_an_attacker_resumes_its_session(arena: sockets.Arena) -> None:
    host = arena.hosts[AR]
    before = host.real.statistics().reconnects
    attacker = attack.Attack(host, Choices(bytes((96, 11, 0, 5, sockets.RESUME, 0, 96))))
    attacker.play()
    assert not attacker.is_stuck and host.real.statistics().reconnects == before + 1
    attacker.leave(0)
    host.settle()


@pytest.mark.parametrize("pattern", ["AR", "P2P"])
def test_the_same_choices_are_the_same_frames(pattern: str) -> None:
    for data in (*sockets.seeds(), bytes(range(256))):
        said = []
        for _ in range(2):
            grammar = Grammar(choices := Choices(data), pattern)
            while choices:
                grammar.step(choices.byte())()
            said.append(grammar.take())
        assert said[0] == said[1]


# --- the oracle can fail --------------------------------------------------------------------------------


class Measured:
    """Stands in for a server, and for an attack: how long its client has to wait is known before."""

    waited = 0.0
    is_small = False

    def __init__(self, *waits: float) -> None:
        self.waits = list(waits)
        self.lost: list[Any] = []

    def exchange(self) -> float:
        return self.waits.pop(0)

    def settle(self) -> None:
        pass

    def play(self) -> None:
        pass

    def leave(self, how: int) -> None:
        pass


@pytest.mark.parametrize(
    ("waits", "control", "busy", "is_finding"),
    [
        ((2.0, 2.0, 2.0), 0.01, 0.0, True),
        ((2.0, 2.0, 2.0), 1.0, 1.5, True),  # this process is at work all the time
        ((2.0, 0.1), 0.01, 0.0, False),  # not again
        ((2.0,), 1.0, 0.5, False),  # all have to wait: the machine is busy
        ((0.9,), 0.01, 0.9, False),
    ],
)
def test_who_waits_while_an_idle_server_answers(
    waits: tuple[float, ...], control: float, busy: float, is_finding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = sockets.Arena("threaded")
    clock = iter([0.0, busy] * len(waits))
    monkeypatch.setattr(arena, "places", [object()])
    monkeypatch.setattr(arena, "hosts", [Measured(*waits)])
    monkeypatch.setattr(arena, "idle", Measured(*(control,) * 20), raising=False)
    monkeypatch.setattr(sockets, "Attack", lambda host, choices: Measured())
    monkeypatch.setattr(sockets, "process_time", lambda: next(clock))
    if is_finding:
        with pytest.raises(AssertionError, match="waits for more than"):
            arena.run(b"")
    else:
        arena.run(b"")


@on_both
@pytest.mark.patches
def test_what_is_left_in_a_table_of_a_running_server_is_found(
    arena: sockets.Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ServerAsks, "drop_session", lambda self, session: None)
        patch.setattr(sockets, "PATIENCE", 0.2)
        attacker = attack.Attack(arena.hosts[AR], Choices(ASK[1:2] + bytes((29, 0, 0, 5))))
        attacker.play()  # half a request
        attacker.leave(0)
        with pytest.raises(AssertionError, match=r"still there: .*asks"):
            arena.hosts[AR].settle()
    arena.is_sound = False


@on_both
def test_an_honest_client_that_loses_its_connection_is_found(arena: sockets.Arena) -> None:
    host = arena.hosts[AR]
    host.look(lambda core: next(iter(core.links.links)).abort(ConnectionError("cut")))
    wait_until(lambda: host.lost)
    with pytest.raises(AssertionError, match="an honest client was disturbed"):
        arena.run(ASK)


@on_both
def test_a_descriptor_that_is_left_open_is_found(
    arena: sockets.Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena.inspect()
    monkeypatch.setattr(sockets, "PATIENCE", 0.2)
    left = [os.dup(0) for _ in range(3)]
    try:
        with pytest.raises(AssertionError, match="descriptors, threads and tasks are"):
            arena.inspect()
    finally:
        for each in left:
            os.close(each)


@on_both
@pytest.mark.patches
def test_memory_that_grows_with_each_attack_is_found(
    arena: sockets.Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena.inspect_memory()
    kept: list[Any] = []
    receive = FrameReader.receive

    def keep(self: FrameReader, data: bytes, now: float) -> Any:
        kept.append([object() for _ in range(sockets.MORE_BLOCKS)])
        return receive(self, data, now)

    monkeypatch.setattr(FrameReader, "receive", keep)
    arena.run(ASK)
    with pytest.raises(AssertionError, match="blocks of memory, before"):
        arena.inspect_memory()
    kept.clear()
