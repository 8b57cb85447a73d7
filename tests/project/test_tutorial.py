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


def rows(folder: Path) -> list[tuple[str, str]]:
    table = folder / "readings.csv"
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    return [(row[0], row[1]) for row in csv.reader(lines)]


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


def test_step_3_loses_nothing(start: Start, tmp_path: Path) -> None:
    logger, sensors = start("step3/logger.py"), start("step3/sensors.py")
    wait_for(lambda: bool(rows(tmp_path)))
    logger.kill()
    logger.communicate()
    logger = start("step3/logger.py")
    end(sensors)
    logger.send_signal(signal.SIGTERM)
    end(logger)
    # Rows may be there twice: written, and killed before the acknowledgement was on disk.
    assert set(rows(tmp_path)) == READINGS
