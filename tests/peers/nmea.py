"""Sentences of a GPS receiver that moves north, a thousandth of a minute each second."""

from __future__ import annotations

import functools
import operator

COUNT = 40
LATITUDES = [48 + (7 + (38 + n) / 1000) / 60 for n in range(COUNT)]


def sentence(text: str) -> str:
    return f"${text}*{functools.reduce(operator.xor, text.encode('ascii')):02X}"


def walk() -> list[str]:
    found = []
    for n in range(COUNT):
        at = f"1235{n:02d}.00,4807.{38 + n:03d},N,01131.000,E"
        found += [
            f"GPGGA,{at},1,08,0.9,545.4,M,46.9,M,,",
            "GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1",
            f"GPRMC,{at.replace(',', ',A,', 1)},022.4,084.4,230326,003.1,W",
        ]
    return [sentence(text) for text in found]
