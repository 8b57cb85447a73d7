"""Ctrl-C in the middle of what a client's hub does: nothing is counted twice, and nothing is stuck."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from linkbox.core import frames
from linkbox.core.link import Arrival
from tests.core.test_session import Interrupted
from tests.core.wire import Wire, probe_client


class Struck(deque[Arrival]):
    """What arrivals are handed over into, when the signal comes right behind that."""

    def extend(self, arrivals: Any) -> None:
        super().extend(arrivals)
        raise Interrupted


def test_a_session_has_one_connection_at_a_time() -> None:
    wire = Wire()
    session = wire.connect()
    client = wire.client
    first = session.link
    assert client.on_connected(session, client.address, wire.now) is None  # It was dialled twice.
    assert session.link is first
    assert first is not None
    client.interrupted(first)
    assert session.link is None
    second = client.on_connected(session, client.address, wire.now)
    assert second is not None
    assert session.link is second


def test_what_an_interrupted_step_had_handed_over_is_taken_back_with_its_marks() -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.session
    assert session is not None
    probe.say(frames.frame(frames.DATA, b"one"))
    before = Arrival(session, [], session.arrived)
    into = Struck([before])
    with pytest.raises(Interrupted):
        wire.client.receive(probe.link, frames.frame(frames.DATA, b"two"), wire.now, into)
    assert session.arrived == 1
    assert list(into) == [before]
    assert probe.link.closed


def test_a_session_whose_closing_was_interrupted_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    session = wire.connect()
    client, link = wire.client, session.link

    def strike(*args: Any) -> None:
        raise Interrupted

    assert link is not None
    with monkeypatch.context() as patch:
        patch.setattr(client, "on_link_closed", strike)
        with pytest.raises(Interrupted):
            client.broken(link, ConnectionResetError("reset"), wire.now)
    client.rescue(wire.now)
    wire.advance(1.0)
    assert session.link is not None
    assert not session.link.closed
