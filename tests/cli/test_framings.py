"""``--framing``: every framing has a name, their parameters one syntax, and errors can be followed."""

from __future__ import annotations

import inspect
import re
import socket
from pathlib import Path

import pytest

import linkbox
from linkbox import (
    Cobs,
    DecimalPrefixed,
    Delimited,
    Enclosed,
    FixedSize,
    Framing,
    JsonStream,
    LengthPrefixed,
    Lines,
    Linked,
    Netstring,
    Raw,
    Slip,
    VarintPrefixed,
)
from linkbox.cli.framings import CHECKSUMS, KINDS, framing_named
from tests.threaded.helpers import dial

X25 = CHECKSUMS["crc16-x25"]
NAMED: dict[str, Framing] = {
    "linked": Linked(),
    "raw": Raw(),
    "lines": Lines(),
    r"lines:\r\n": Lines(b"\r\n"),
    "delimited:;": Delimited(b";"),
    "delimited:,": Delimited(b","),
    "delimited:=": Delimited(b"="),
    r"delimited:\,,receive=\\": Delimited(b",", receive=(b"\\",)),
    r"delimited:\r,receive=\r\n,receive=\r": Delimited(b"\r", receive=(b"\r\n", b"\r")),
    "delimited:§": Delimited("§".encode()),
    "length-prefixed": LengthPrefixed(),
    "length-prefixed:2": LengthPrefixed(2),
    "length-prefixed:2:little": LengthPrefixed(2, "little"),
    "length-prefixed:4,little": LengthPrefixed(4, "little"),
    "length-prefixed:,little": LengthPrefixed(4, "little"),
    "length:byteorder=little": LengthPrefixed(4, "little"),
    "length:2,offset=4,keep-header": LengthPrefixed(2, offset=4, keep_header=True),
    r"length:2,offset=2,adjust=-4,header=\x03\0": LengthPrefixed(2, offset=2, adjust=-4, header=b"\3\0"),
    "fixed-size:8": FixedSize(8),
    "fixed:8": FixedSize(8),
    "varint-prefixed": VarintPrefixed(),
    "varint": VarintPrefixed(),
    "decimal-prefixed: ": DecimalPrefixed(b" "),
    r"decimal:\x20": DecimalPrefixed(b" "),
    "netstring": Netstring(),
    "json-stream": JsonStream(),
    r"enclosed:\x0b,\x1c\r": Enclosed(b"\x0b", b"\x1c\r"),
    r"enclosed:\x10\x02,\x10\x03,\x10": Enclosed(b"\x10\x02", b"\x10\x03", escape=b"\x10"),
    "enclosed:~,~,escape=},escape-xor=0x20,checksum=crc16-x25": Enclosed(
        b"~", b"~", escape=b"}", escape_xor=0x20, checksum=X25
    ),
    r"enclosed:\x02,\x03,checksum=xor,checksum-after": Enclosed(
        b"\x02", b"\x03", checksum=CHECKSUMS["xor"], checksum_after=True
    ),
    "slip": Slip(),
    "cobs": Cobs(),
    "cobs:checksum=sum": Cobs(CHECKSUMS["sum"]),
    "slip:crc16-modbus": Slip(CHECKSUMS["crc16-modbus"]),
}


@pytest.mark.parametrize("text", NAMED)
def test_names(text: str) -> None:
    assert framing_named(text) == NAMED[text]


def test_every_framing_has_a_name() -> None:
    public = {getattr(linkbox, name) for name in linkbox.__all__}
    framings = {each for each in public if isinstance(each, type) and issubclass(each, Framing)} - {Framing}
    assert {kind.make for kind in KINDS.values()} == framings == {type(each) for each in NAMED.values()}
    assert all(kind.make.name == name for name, kind in KINDS.items())  # type: ignore[attr-defined]


def test_every_parameter_has_a_name() -> None:
    for kind in KINDS.values():
        arguments = set(inspect.signature(kind.make).parameters)
        assert {name.replace("-", "_") for name in kind.names} == arguments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo", "unknown framing 'foo'; possible are linked, raw, lines, delimited, length-prefixed"),
        ("lengthprefixed:4", "did you mean length-prefixed?"),
        ("line", "did you mean lines?"),
        ("lines:x", "newline must be"),
        ("raw:1", "takes no argument, but has '1'; write raw"),
        ("delimited:", "delimiter is missing; write delimited:END"),
        ("delimited:receive=", "receive needs at least one byte"),
        ("delimited:a\\", "ends with a backslash"),
        (r"delimited:\x0", "escape that is not known"),
        (r"delimited:\u20ac", "escape that is not known"),
        ("fixed-size:x", "size must be a number of bytes, not 'x'; write fixed-size:N"),
        ("length:9", "1 to 8 bytes"),
        ("length:4,middle", "byteorder must be big or little, not 'middle'"),
        ("length:4,big,1,2,a,3", "'3' is too much"),
        ("length:4,size=2", "size is given twice"),
        ("length:4,keep-header=maybe", "keep-header must be yes or no"),
        ("length:4,adjust=a", "adjust must be a number of bytes"),
        ("enclosed:a", "end is missing; write enclosed:START,END"),
        ("enclosed:a,b,escape=c,escape-xor=d", "escape-xor must be a number such as 0x20"),
        ("slip:md5", "checksum 'md5' is unknown; possible are xor, sum, crc16-modbus, crc16-x25"),
    ],
)
def test_errors_say_what_is_wrong_and_what_is_possible(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        framing_named(text)


def test_checksums() -> None:
    """The check values of the catalogues: of the text 123456789."""
    found = {name: checksum(b"123456789").hex() for name, checksum in CHECKSUMS.items()}
    assert found == {"xor": "31", "sum": "dd", "crc16-modbus": "374b", "crc16-x25": "6e90"}


@pytest.mark.parametrize(
    "text", [r"enclosed:\x02,\x03,checksum=xor", "cobs", "varint", "netstring", "length:2,little"]
)
def test_a_device_with_that_framing(start, text: str) -> None:
    listener = start("listen", "p2m", "tcp://127.0.0.1:0", "--once", "--framing", text)
    with dial(listener.address) as sock:
        sock.sendall(framing_named(text).encode(b"21.5 g") + framing_named(text).encode(b"21.6 g"))
        sock.shutdown(socket.SHUT_WR)
        assert listener.done().out == b"21.5 g\n21.6 g\n"


def test_the_help_and_the_page_name_all(run) -> None:
    text = re.sub(r"\s+", "", run("listen", "--help").out.decode().replace("│", ""))
    page = (Path(__file__).parents[2] / "docs/command-line.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert kind.usage.replace(" ", "") in text
        assert f"| `{name}" in page
    for name in CHECKSUMS:
        assert name in text
        assert f"`{name}`" in page
