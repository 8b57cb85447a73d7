"""A device without linkbox: it sends NMEA 0183 sentences over a bare socket; the server reads lines."""

from __future__ import annotations

import math
import random
import socket
import threading
import time
from collections.abc import Iterator
from functools import reduce
from typing import Any

from linkbox import Address, Bytes, EndOfData, Event, EventKind, Lines, ServerP2P
from linkbox.cli.demo.part import PATIENCE, Check, Child, ChildFailed, Line, Tally, compare, failure, ticks

RATE = 60.0
"""Sentences per second."""


def checksum(body: bytes) -> int:
    """The checksum of NMEA: the exclusive or of all bytes between ``$`` and ``*``."""
    return reduce(lambda total, byte: total ^ byte, body, 0)


def is_valid(sentence: bytes) -> bool:
    """Is the checksum right?"""
    body, star, digits = sentence.removeprefix(b"$").rpartition(b"*")
    return sentence.startswith(b"$") and star == b"*" and digits == b"%02X" % checksum(body)


# -- the child ---------------------------------------------------------------------------------------


def sentences(seed: int) -> Iterator[bytes]:
    """Yield sentences of a simulated boat that sails in a wide circle."""
    chance = random.Random(seed)
    turn = 0.0
    while True:
        turn += 0.01
        latitude, longitude = 52.37 + 0.01 * math.sin(turn), 4.91 + 0.01 * math.cos(turn)
        course = math.degrees(turn) % 360
        clock = time.strftime("%H%M%S", time.gmtime())
        where = f"{_degrees(latitude, 2)},N,{_degrees(longitude, 3)},E"
        yield _sentence(f"GPRMC,{clock},A,{where},{5 + chance.random():.2f},{course:.1f},,,,A")
        yield _sentence(f"GPGGA,{clock},{where},1,08,0.9,{chance.random():.1f},M,47.0,M,,")
        yield _sentence(f"WIMWV,{(course + 40) % 360:.1f},R,{10 + 3 * chance.random():.1f},N,A")


def _degrees(angle: float, width: int) -> str:
    return f"{int(angle):0{width}d}{angle % 1 * 60:07.4f}"


def _sentence(body: str) -> bytes:
    return b"$%s*%02X" % (body.encode(), checksum(body.encode()))


def emit(name: str, address: str, seconds: float) -> dict[str, Any]:
    """The work of the child: it writes sentences in pieces of random sizes, as devices do."""
    target = Address.parse(address)
    chance = random.Random(0)
    tally = Tally()
    pending = b""
    with socket.create_connection((target.host, target.port), timeout=PATIENCE) as sock:
        for _, sentence in zip(ticks(seconds, RATE), sentences(0), strict=False):
            tally.add(sentence)
            pending += sentence + b"\r\n"
            cut = chance.randint(0, len(pending))
            sock.sendall(pending[:cut])
            pending = pending[cut:]
        sock.sendall(pending)
    return {"sent": tally.report()}


# -- the server --------------------------------------------------------------------------------------


class Instruments:
    """A ServerP2P with the framing Lines; the device is its only peer."""

    title = "Device · NMEA sentences over a bare socket (Bytes over Lines)"

    def __init__(self) -> None:
        self.happened: list[tuple[float, str]] = []
        self._server = ServerP2P("tcp://127.0.0.1:0", Bytes(), framing=Lines())
        self._children: list[Child] = []
        self._tally = Tally()
        self._invalid = 0
        self._last: dict[bytes, bytes] = {}
        self._ended = threading.Event()
        self._taker = threading.Thread(target=self._take_all, daemon=True)

    def start(self, seconds: float) -> None:
        """Start the server and the device."""
        self._server.add_callback(self._on_end, EventKind.END)
        self._server.start()
        self._taker.start()
        self._children = [Child("device", "boat", self._server.address, seconds)]

    def _on_end(self, event: Event) -> None:
        self._ended.set()

    def _take_all(self) -> None:
        while True:
            try:
                self.take(self._server.data_get())
            except EndOfData:
                return

    def take(self, sentence: bytes) -> None:
        """Count a received sentence."""
        self._tally.add(sentence)
        self._invalid += not is_valid(sentence)
        self._last[sentence[3:6]] = sentence

    def lines(self) -> list[Line]:
        """The current state."""
        return [Line("boat", self._tally.count, _text_of(self._last))]

    def finish(self) -> list[Check]:
        """Wait for the end of the stream, stop, compare."""
        try:
            report = self._children[0].report()
            self._ended.wait(PATIENCE)
        except ChildFailed as error:
            return [failure("Device", "boat", error)]
        finally:
            self.close()
            self._taker.join(PATIENCE)
        problem = f"{self._invalid} checksums were wrong" if self._invalid else ""
        verdict = "in order, checksums ok"
        return [compare("Device", "boat", report["sent"], self._tally.report(), verdict, problem)]

    def close(self) -> None:
        """Stop everything."""
        for child in self._children:
            child.kill()
        self._server.stop()


def _text_of(last: dict[bytes, bytes]) -> str:
    """Position and speed as text."""
    if position := last.get(b"RMC"):
        fields = position.decode().split(",")
        north, east = (float(fields[n][:-7]) + float(fields[n][-7:]) / 60 for n in (3, 5))
        return f"{north:.3f}° N {east:.3f}° E, {float(fields[7]):.1f} kn"
    return "…"
