"""The framings in examples/ do what a framing of linkbox does: any pieces, bad frames, bounds, the end."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from linkbox import TooLarge
from linkbox.core.wire.framings import PlainFraming, as_framing
from linkbox.errors import FormatError, ProtocolViolation

FOLDER = Path(__file__).parents[2] / "examples"
MODBUS = runpy.run_path(str(FOLDER / "framing_modbus_tcp.py"))
RESP = runpy.run_path(str(FOLDER / "framing_resp.py"))
STX = runpy.run_path(str(FOLDER / "framing_stx_etx_lrc.py"))
LIMIT = 1000


def framing(kind: Any) -> PlainFraming:
    made = as_framing(kind)
    assert isinstance(made, PlainFraming)
    return made


READ = [MODBUS["read_registers"](number, 7, 2) for number in (1, 2)]
VALUES = [
    b"+OK\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"*2\r\n*1\r\n:1\r\n$4\r\na\r\nb\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*2\r\n*2\r\n*0\r\n:1\r\n+x\r\n",
    b"-ERR no\r\n",
]
TEXTS = [b"\x06", b"12.5 g", b"", b"\x15", b"x" * LIMIT]
GOOD = [(MODBUS["ModbusTcp"], READ), (RESP["Resp"], VALUES), (STX["StxEtx"], TEXTS)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 5000])
@pytest.mark.parametrize(("kind", "payloads"), GOOD)
def test_messages_in_any_pieces(kind: Any, payloads: list[bytes], size: int) -> None:
    data = framing(kind).encode_many(payloads)
    decoder = framing(kind).decoder(LIMIT)
    found = [each for at in range(0, len(data), size) for each in decoder.feed(data[at : at + size])]
    assert found == payloads
    assert decoder.eof() == [] and decoder.error is None and decoder.rejected == []


@pytest.mark.parametrize("size", [1, 2, 5000])
@pytest.mark.parametrize(
    ("kind", "data", "messages", "text"),
    [
        (MODBUS["ModbusTcp"], READ[0] + b"\0\1\0\1\0\6" + READ[1], READ[:1], "no Modbus header: 00 01 00 01"),
        (MODBUS["ModbusTcp"], READ[0] + b"\0\1\0\0\0\1\1", READ[:1], "no Modbus header"),
        (RESP["Resp"], b"+OK\r\n?\r\n+OK\r\n", [b"+OK\r\n"], "no RESP value begins with b'.'"),
        (RESP["Resp"], b"+OK\r\n$1\r\nab\r\n+OK\r\n", [b"+OK\r\n"], "a string of 1 bytes without its end"),
        (RESP["Resp"], b"+OK\r\n$x\r\n", [b"+OK\r\n"], "ValueError: invalid literal"),
        (RESP["Resp"], b"*1\r\n" * 101, [], "nested more than 100 deep"),
        (RESP["Resp"], b"+" + b"x" * 70_000, [], "more than 64 KiB"),
        (STX["StxEtx"], b"\x06\x02" + b"x" * (LIMIT + 3), [b"\x06"], "a frame without ETX"),
    ],
)
def test_what_cannot_be_understood(
    kind: Any, data: bytes, messages: list[bytes], text: str, size: int
) -> None:
    decoder = framing(kind).decoder(LIMIT)
    found = [each for at in range(0, len(data), size) for each in decoder.feed(data[at : at + size])]
    assert found == messages
    assert isinstance(decoder.error, ProtocolViolation | TooLarge)
    assert size == 1 or text.replace("b'.'", "b'?'") in str(decoder.error)


@pytest.mark.parametrize("size", [1, 2, 3, 5000])
def test_a_frame_with_a_wrong_lrc_costs_no_other(size: int) -> None:
    good = framing(STX["StxEtx"]).encode_many([b"a", b"b"])
    data = good + b"\x02c\x03?" + good + b"\x02d\x03" + good
    decoder = framing(STX["StxEtx"]).decoder(LIMIT)
    found = [each for at in range(0, len(data), size) for each in decoder.feed(data[at : at + size])]
    assert found == [b"a", b"b"] * 3
    assert ["LRC 3f instead of 60" in str(error) for error in decoder.rejected] == [True, False]
    with pytest.raises(FormatError, match="cannot be in a text"):
        framing(STX["StxEtx"]).encode(b"a\x03")


@pytest.mark.parametrize(
    ("kind", "data"), [(MODBUS["ModbusTcp"], READ[0][:7]), (RESP["Resp"], b"*2\r\n:1\r\n")]
)
def test_an_end_inside_a_message(kind: Any, data: bytes) -> None:
    decoder = framing(kind).decoder(LIMIT)
    assert decoder.feed(data) == []
    assert decoder.pending == len(data)
    assert decoder.eof() == []
    assert isinstance(decoder.error, ProtocolViolation)
