"""Each target of the fuzzer on its corpus, and on some hundred inputs that are the same in each run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from fuzz import __main__ as command
from fuzz import driver, figures
from fuzz.driver import Result
from fuzz.target import Choices, Target, cuts
from fuzz.targets import TARGETS

INPUTS = 250
FEWER = 60
"""Of whole endpoints, which take longer."""
BYTES = 32 * 1024
"""The corpus stays small."""


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_chance(name: str) -> None:
    target = TARGETS[name]
    known = driver.seeds(target)
    try:
        for data in known:
            target.run(data)
        for data in islice(driver.inputs(known, 1, target.longest), FEWER if target.is_endpoint else INPUTS):
            target.run(data)
    finally:
        if target.close is not None:
            target.close()


def test_the_corpus_is_small_and_of_known_targets() -> None:
    folders = list(driver.CORPUS.iterdir())
    assert {folder.name for folder in folders} <= set(TARGETS)
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= BYTES


def test_a_finding_is_kept_and_told(tmp_path: Path) -> None:
    def run(data: bytes) -> None:
        assert b"\xff" not in data

    target = Target("example", run, (b"\xfe\xfe\xfe",))
    result = driver.by_chance(target, 10, 1, tmp_path)
    assert result.finding is not None and b"\xff" in result.finding.read_bytes()
    assert "AssertionError" in result.text
    fine = driver.by_chance(Target("fine", bytes, ()), 0.01, 1, tmp_path)
    assert fine.inputs >= 16 and fine.finding is None


def test_what_was_found_before_is_changed_too(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "one").write_bytes(b"seen before")
    seen: list[bytes] = []
    driver.by_chance(Target("again", seen.append, (b"a",)), 0.01, 1, tmp_path)
    assert seen[:2] == [b"a", b"seen before"]


def test_whole_endpoints_get_most_of_the_time() -> None:
    targets = [Target("d", bytes), Target("a", bytes, is_endpoint=True), Target("b", bytes, is_endpoint=True)]
    assert driver.shares(targets[:1], 50) == {"d": 50}
    found = driver.shares(targets, 100)
    assert found == {"a": 46, "b": 46, "d": pytest.approx(8)}


def test_half_an_hour_of_two_processors_is_enough_for_all_whole_endpoints() -> None:
    parts = driver.shares([*TARGETS.values()], 2 * 30 * 60)
    guided = driver.GUIDED * 5 / 6  # of this time, in which an input takes up to six times as long
    for name, target in TARGETS.items():
        if target.is_endpoint:
            left = 1 - guided * target.is_guided
            assert parts[name] * left * 1000 / target.share > driver.GOAL, name


def test_all_targets_run_and_their_figures_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [TARGETS["server"], TARGETS["json"]]
    results: dict[str, Result] = {}

    def one(target: Target, seconds: float) -> Result:
        return Result(1234, seconds, None, "", {"turn": 0.5}, 1000)

    driver.run_all(targets, 10, 2, one, lambda target, result: results.update({target.name: result}))
    assert list(results) == ["server", "json"]
    assert sum(each.seconds for each in results.values()) == pytest.approx(20)
    assert command.line(targets[0], results["server"]).endswith("  1,000 guided, turn 500 ms")
    assert command.summary(results) == 0
    assert command.summary({"json": Result(1, 1.0, Path("input"), "why")}) == 1
    said = capsys.readouterr().out
    assert "longest turn (at work without a pause): 500 ms" in said
    assert "  server                   1,234      1%" in said
    assert "fewest inputs of a whole endpoint: 1,234; 1 of 1 below the goal" in said
    assert "why\nFINDING: make fuzz TARGET=json ARGS='--input input'" in said


def test_only_the_worst_is_kept(tmp_path: Path) -> None:
    noted = figures.Figures()
    noted.path = tmp_path / "figures.json"
    for seconds in (0.1, 0.5, 0.2):
        noted.note("wait", seconds)
    assert noted.worst == figures.read(noted.path) == {"wait": 0.5}
    assert figures.read(tmp_path / "nothing") == {}


def test_choices_run_out_in_peace() -> None:
    choices = Choices(b"\1\2\3")
    assert (choices.byte(), choices.bytes(1), choices.rest(), bool(choices)) == (1, b"\2", b"\3", False)
    assert (choices.byte(), choices.bytes(5), choices.number(100)) == (0, b"", 92)


@pytest.mark.parametrize("seed", range(12))
def test_cuts_lose_nothing(seed: int) -> None:
    for size in (0, 1, 100, 10_000):
        data = bytes(index % 251 for index in range(size))
        assert b"".join(cuts(data, seed)) == data
