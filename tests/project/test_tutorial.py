"""The programs of the tutorial work, also when one is killed; docs/getting-started.md shows the same."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linkbox import ClientP2M, Json

TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"
PROGRAMS = sorted(TUTORIAL.glob("step*/*.py"))
READINGS = {(f"sensor-{sensor:02}", str(number)) for sensor in range(20) for number in range(5)}

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Start a program in an empty folder, at an address of this test."""
    running = []

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(TUTORIAL / program), "unix:socket"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a program that must succeed; return what it printed."""
    out, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    return out


def rows(folder: Path) -> list[tuple[str, str, str]]:
    """The readings in the table of step 3: sensor, run, number."""
    table = folder / "readings.csv"
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    return [(row[0], row[1], row[2]) for row in csv.reader(lines) if len(row) == 4]


def readings(folder: Path) -> set[tuple[str, str]]:
    """The same without the run. Fails if one is there twice."""
    written = rows(folder)
    assert sorted(set(written)) == sorted(written)
    return {(name, number) for name, _, number in written}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.relative_to(TUTORIAL).as_posix())
def test_the_page_shows_the_program(root: Path, program: Path) -> None:
    page = (root / "docs" / "getting-started.md").read_text(encoding="utf-8")
    assert f"```python\n{program.read_text(encoding='utf-8')}```" in page


def test_step_1(start: Start) -> None:
    client, server = start("step1/client.py"), start("step1/server.py")
    assert end(server) == "got {'number': 0}\ngot {'number': 1}\ngot {'number': 2}\n"
    assert end(client) == "got {'thanks': True}\n"


def test_step_2(start: Start) -> None:
    logger, sensors = start("step2/logger.py"), start("step2/sensors.py")
    assert end(sensors) == ""
    assert logger.stdout is not None
    lines = [logger.stdout.readline().split() for _ in READINGS]
    assert {(name, number) for name, number, _ in lines} == READINGS


def test_step_3_writes_each_reading_once(start: Start, tmp_path: Path) -> None:
    logger, sensors = start("step3/logger.py"), start("step3/sensors.py")
    wait_for(lambda: bool(rows(tmp_path)))
    logger.kill()
    logger.communicate()
    logger = start("step3/logger.py")
    end(sensors)
    wait_for(
        lambda: len(rows(tmp_path)) >= len(READINGS)
    )  # what is in the store only is written by the next run
    logger.send_signal(signal.SIGTERM)
    end(logger)
    assert readings(tmp_path) == READINGS


def test_step_3_knows_the_rows_that_it_has_written(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row was written and not acknowledged, and the next one was cut off by a power failure."""
    table = tmp_path / "readings.csv"
    table.write_bytes(b"sensor-00,first,0,21.0\r\nsensor-00,first,1,2")
    logger = start("step3/logger.py")
    monkeypatch.chdir(tmp_path)
    with ClientP2M("unix:socket", Json(), name="sensor-00") as client:
        client.send_many({"run": "first", "number": number, "celsius": 21.0} for number in range(3))
    wait_for(lambda: len(rows(tmp_path)) == 3)
    logger.send_signal(signal.SIGTERM)
    end(logger)
    assert table.read_text(encoding="utf-8").splitlines() == [f"sensor-00,first,{n},21.0" for n in range(3)]


def test_step_3_ends_without_a_logger(start: Start, tmp_path: Path) -> None:
    sensors = start("step3/sensors.py")
    wait_for(lambda: len(list(tmp_path.glob("sensor-??.db"))) == 20)
    sensors.send_signal(signal.SIGINT)
    assert end(sensors).count("the next run sends what is left") == 20
    logger, sensors = start("step3/logger.py"), start("step3/sensors.py")
    end(sensors)
    wait_for(lambda: len({(name, run) for name, run, _ in rows(tmp_path)}) == 40)
    logger.send_signal(signal.SIGTERM)
    end(logger)
    runs = {run: {name for name, each, _ in rows(tmp_path) if each == run} for _, run, _ in rows(tmp_path)}
    assert [len(names) for names in runs.values()] == [20, 20]
