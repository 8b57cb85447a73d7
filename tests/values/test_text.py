"""Text from a peer is shown in one line, without control characters, and not longer than the limit."""

from __future__ import annotations

import io

import pytest

from linkbox import Peer
from linkbox.text import printable


@pytest.mark.parametrize("text", ["", "plain", "grüße", "温度 21 °C", "a 'quoted' \\ path", "🚀"])
def test_printable_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\nCRITICAL", r"x\nCRITICAL"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("nul\0", r"nul\x00"),
        ("\ud800", r"\ud800"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\u202eright to left", r"\u202eright to left"),
        ("\ufeffbom", r"\ufeffbom"),
        ("\U000e0041tag", r"\U000e0041tag"),
    ],
)
def test_everything_else_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    io.TextIOWrapper(io.BytesIO(), encoding="utf-8").write(printable(text))


def test_long_text_is_cut() -> None:
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 199 + "…"
    assert printable("\n" * 10**6, 10) == r"\n" * 9 + "…"


def test_every_character_is_safe() -> None:
    for start in range(0, 0x110000, 0x1000):
        block = "".join(map(chr, range(start, start + 0x1000)))
        shown = printable(block, len(block))
        assert shown.isprintable()
        shown.encode("utf-8")


def test_a_peer_cannot_forge_a_line() -> None:
    name = "x\n2026 CRITICAL forged line \x1b[31mred"
    peer = Peer(name, "tcp://127.0.0.1:9000", "0" * 32, 0.0)
    assert str(peer) == r"x\n2026 CRITICAL forged line \x1b[31mred (tcp://127.0.0.1:9000)"
    assert peer.name == name
