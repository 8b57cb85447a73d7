"""Each target of the fuzzer on its corpus, and on some hundred inputs that are the same in each run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from fuzz import driver
from fuzz.target import Choices, Target, cuts
from fuzz.targets import TARGETS

INPUTS = 250
BYTES = 32 * 1024
"""The corpus stays small."""


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_chance(name: str) -> None:
    target = TARGETS[name]
    known = driver.seeds(target)
    for data in known:
        target.run(data)
    for data in islice(driver.inputs(known, 1), INPUTS):
        target.run(data)


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


def test_choices_run_out_in_peace() -> None:
    choices = Choices(b"\1\2\3")
    assert (choices.byte(), choices.bytes(1), choices.rest(), bool(choices)) == (1, b"\2", b"\3", False)
    assert (choices.byte(), choices.bytes(5), choices.number(100)) == (0, b"", 92)


@pytest.mark.parametrize("seed", range(12))
def test_cuts_lose_nothing(seed: int) -> None:
    for size in (0, 1, 100, 10_000):
        data = bytes(index % 251 for index in range(size))
        assert b"".join(cuts(data, seed)) == data
