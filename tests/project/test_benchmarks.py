"""The benchmark itself: its plan, its guard, and what a measurement counts. No test here looks at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the benchmark is for Linux: it pins processes to cores")

from rich.console import Console

from benchmarks import broker, counts, guard, measure, plan, report
from benchmarks.results import Result
from benchmarks.rows import BARE, COMPILED, OURS, ROWS, Goal, Row, by_name, params_of, with_compiled

ROW = guard.only_watched(by_name(["p2p_one_core"])[0])
RATIOS = {ROW.name: 3.0, f"{ROW.name}, CPU": 3.0}
console = Console(quiet=True)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of 3, and ten calls on this version of Python."""
    file = tmp_path / "recorded.json"
    calls = {counts.versions()[counts.CALLS]: {"p2p_send": 10.0}}
    file.write_text(json.dumps({"ratios": RATIOS, "calls": calls, "instructions": {}}))
    monkeypatch.setattr(guard, "RECORDED", file)


def measured(*ratios: float, cpu: float = 1.0) -> Result:
    """The ratios of so many rounds, and of their CPU time."""
    rounds = len(ratios)
    return Result(
        ROW, {OURS: list(ratios), BARE: [1.0] * rounds}, {OURS: [cpu] * rounds, BARE: [1.0] * rounds}
    )


def counting(*found: float) -> Callable[[str, str], float]:
    """Counts again, and gives one of these after the other."""
    left = iter(found)
    return lambda kind, what: next(left)


def never(row: Row) -> Result:
    raise AssertionError("measured again without a reason")


def test_a_run_fits_into_its_time() -> None:
    """By the figures of the last run that is in docs/benchmarks: not by how fast this machine is now."""
    rows = tuple(map(with_compiled, ROWS))
    assert plan.seconds(rows, quick=False, rounds=5) < 12 * 60
    quick = tuple(row for row in rows if row.quick is not None)
    assert plan.seconds(quick, quick=True, rounds=1) < 2 * 60


def test_each_row_can_be_planned_with_the_compiled_build() -> None:
    for row in map(with_compiled, ROWS):
        assert params_of(row, quick=True)["count"] <= params_of(row, quick=False)["count"]
        assert {goal.against for goal in row.goals if goal.against} <= set(row.contenders)


def test_rows_over_a_broker_are_left_out_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.__main__ import playable

    monkeypatch.setattr(broker, "missing", lambda: "nats-py")
    assert [row.name for row in ROWS if row not in playable(ROWS)] == [
        row.name for row in ROWS if row.needs_broker
    ]
    assert "left out, without nats-py: nats_ask" in capsys.readouterr().out
    monkeypatch.setattr(broker, "missing", lambda: None)
    assert playable(ROWS) == ROWS


def test_the_counts_beside_the_rows_exist() -> None:
    from benchmarks.calls import LIMITS
    from benchmarks.instructions import SCENARIOS

    names = {row.name for row in ROWS}
    for row, (calls, scenario) in report.COUNTED.items():
        assert row in names
        assert set(calls) <= set(LIMITS)
        assert scenario in {*SCENARIOS, ""}


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("first", "then", "is_well"),
    [
        (11.0, (), True),  # a tenth more
        (12.0, (12.0, 12.0), False),
        (12.0, (12.0, 10.0), True),  # the others had met a timer
        (5.0, (), True),
    ],
)
def test_a_count_may_be_a_tenth_higher(first: float, then: tuple[float, ...], is_well: bool) -> None:
    found = {counts.CALLS: {"p2p_send": first}}
    assert guard.counts_hold(found, console, counting(*then)) is is_well


@pytest.mark.usefixtures("recorded")
def test_a_count_of_another_python_is_only_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "versions", lambda: {counts.CALLS: "another Python"})
    assert guard.counts_hold({counts.CALLS: {"p2p_send": 1000.0}}, console, counting())


@pytest.mark.usefixtures("recorded")
def test_a_ratio_may_be_twice_as_bad() -> None:
    assert guard.ratios_hold([measured(5.9)], never, console)
    assert not guard.ratios_hold([measured(6.1)], lambda row: measured(6.2), console)
    assert not guard.ratios_hold([measured(1.0, cpu=6.1)], lambda row: measured(1.0, cpu=6.2), console)


@pytest.mark.usefixtures("recorded")
def test_a_ratio_is_measured_again_before_it_is_believed() -> None:
    assert guard.ratios_hold([measured(9.0)], lambda row: measured(4.0, 4.0), console)


@pytest.mark.usefixtures("recorded")
def test_a_record_keeps_what_is_known_of_others() -> None:
    guard.record([measured(2.0)], {counts.INSTRUCTIONS: {"p2p": 5.0}})
    versions = counts.versions()
    assert guard.recorded() == {
        "ratios": {ROW.name: 2.0, f"{ROW.name}, CPU": 1.0},
        "calls": {versions[counts.CALLS]: {"p2p_send": 10.0}},
        "instructions": {versions[counts.INSTRUCTIONS]: {"p2p": 5.0}},
    }


def test_what_is_watched_is_recorded() -> None:
    names = set(guard.recorded()["ratios"])
    watched = [row for row in ROWS if row.guard]
    assert {f"{row.name}, CPU" for row in watched} <= names
    assert names == {name for row in watched for name in guard.slowness(empty(row))}


def empty(row: Row) -> Result:
    assert row.guard is not None
    return Result(row, {OURS: [1.0], row.guard: [1.0]}, {OURS: [1.0], row.guard: [1.0]})


def test_the_interpreted_build_may_have_a_goal_of_its_own() -> None:
    goal = Goal(BARE, at_most=2.0, pure=4.0)
    assert goal.is_met(3.0, OURS)
    assert not goal.is_met(3.0, COMPILED)
    assert str(goal) == f"≤ 2 (pure ≤ 4) × {BARE}"


def test_a_measurement_counts_its_messages_and_the_time_of_both_processes() -> None:
    played = measure.play("benchmarks.peers.bare", "echo", {"count": 200, "size": 64})
    assert played.messages == 200
    assert len(played.result) == 150  # without those that warm it up
    assert played.cpu > 0


DISCONTENT = """
def push_server(stage):
    stage.ready("nowhere")
    stage.wait_for_end()
    raise AssertionError("a message is missing")

def push_client(stage):
    return 1.0
"""


def test_a_server_that_is_not_content_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client has the figure, and only the server knows whether all has come."""
    (tmp_path / "discontent.py").write_text(DISCONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert by_name(["store"])[0].waits_for == "both"
    with pytest.raises(measure.Failed, match="a message is missing"):
        measure.play("discontent", "push", {}, waits_for="both")
