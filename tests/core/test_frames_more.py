"""More of the Linked wire: DROPPED, and the ask that is whole without another message."""

from __future__ import annotations

import pytest

from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.errors import ProtocolViolation


def test_dropped_there_and_back() -> None:
    data = frames.encode_dropped(3, 9)
    assert data.hex() == "1f000010" + f"{3:016x}" + f"{9:016x}"
    [(kind, payload)] = Decoder().receive(data)
    assert kind == frames.DROPPED
    assert frames.decode_dropped(payload) == (3, 9)


@pytest.mark.parametrize("size", [0, 15])
def test_dropped_of_another_size(size: int) -> None:
    with pytest.raises(ProtocolViolation, match="must be 16"):
        frames.decode_dropped(bytes(size))


def test_dropped_backwards() -> None:
    with pytest.raises(ProtocolViolation, match="from 9 to 3"):
        frames.decode_dropped(frames.encode_dropped(9, 3)[4:])


def test_dropped_of_one_message() -> None:
    assert frames.decode_dropped(frames.encode_dropped(7, 7)[4:]) == (7, 7)


def test_an_ask_that_is_whole_without_another_message() -> None:
    [(kind, payload)] = Decoder().receive(frames.encode_ask(5, frames.NO_MESSAGE, None, b""))
    assert kind == frames.ASK
    assert frames.decode_ask(payload) == (5, frames.NO_MESSAGE, None, b"")


def test_an_answer_always_has_a_message() -> None:
    payload = frames.encode_answer(5, frames.NO_MESSAGE, b"")[4:]
    with pytest.raises(ProtocolViolation, match="unknown flags 0x08"):
        frames.decode_answer(payload)
