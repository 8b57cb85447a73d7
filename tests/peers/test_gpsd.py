"""gpsd: it reads NMEA from gpsfake or from us, and we read its JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from linkbox import Json, Lines, Text
from tests.faults.place import Place
from tests.peers.nmea import LATITUDES, walk
from tests.peers.processes import PATIENCE, Programs, needs, port_of
from tests.peers.starters import gpsfake

pytestmark = needs("gpsd", "gpsfake")


class Gpsd:
    """A format: commands are text, reports are JSON."""

    name = "gpsd"

    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> Any:
        return Json().decode(data)


WATCH = '?WATCH={"enable":true,"json":true};'
OPTIONS: dict[str, Any] = {"format": Gpsd(), "framing": Lines()}


@pytest.fixture
def port(run: Programs, tmp_path: Path) -> int:
    return gpsfake(run, tmp_path)


def is_a_walk(latitudes: Iterable[float]) -> bool:
    """All are from the log, each the next of the one before; the log is played again and again."""
    steps = []
    for latitude in latitudes:
        distance, step = min((abs(each - latitude), n) for n, each in enumerate(LATITUDES))
        if distance > 1e-7:
            return False
        steps.append(step)
    return all((after - before) % len(LATITUDES) <= 1 for before, after in itertools.pairwise(steps))


def check_positions(reports: list[dict[str, Any]]) -> None:
    assert is_a_walk(report["lat"] for report in reports)
    for report in reports:
        assert (report["mode"], report["altMSL"]) == (3, 545.4)
        assert report["lon"] == pytest.approx(11 + 31 / 60)
        assert report["speed"] == pytest.approx(22.4 * 0.514444, abs=1e-3)  # knots


def is_whole(report: dict[str, Any]) -> bool:
    """Position, height and speed: the first reports of gpsd, which begins anywhere in the log, lack some."""
    return report["class"] == "TPV" and report.keys() >= {"lat", "lon", "altMSL", "speed"}


def test_gpsfake(place: Place, port: int) -> None:
    with place.client("P2P", ("127.0.0.1", port), **OPTIONS) as client:
        version = client.data_get(PATIENCE)
        assert version["class"] == "VERSION" and version["proto_major"] >= 3
        client.send(WATCH)
        reports = iter(lambda: client.data_get(PATIENCE), None)
        check_positions(list(itertools.islice(filter(is_whole, reports), 60)))


def test_gpsd_reads_sentences_from_us(place: Place, run: Programs) -> None:
    """A GPS receiver with a network port: gpsd dials in, and sends nothing that we understand."""
    with place.server("P2P", Text("ascii", errors="replace"), framing=Lines(b"\r\n")) as receiver:
        source = f"tcp://127.0.0.1:{port_of(receiver.address)}"
        _, port = run.server("gpsd", "-N", "-n", "-S", "PORT", source)
        receiver.wait_connected(timeout=PATIENCE)
        with place.client("P2P", ("127.0.0.1", port), **OPTIONS) as client:
            client.send(WATCH)
            reports = iter(lambda: client.data_get(PATIENCE), None)
            next(report for report in reports if report["class"] == "WATCH")
            for sentence in walk():
                receiver.send(sentence)
            check_positions(list(itertools.islice(filter(is_whole, reports), 20)))
