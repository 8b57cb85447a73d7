"""Deadlines that move, targets that are over, and a heap that does not grow with them."""

from __future__ import annotations

from linkbox.core.timers import NEVER, Timers


class Target:
    """Notes when it is called, and wants nothing more."""

    def __init__(self, due: float) -> None:
        self.timer_at = NEVER
        self.due = due
        self.called: list[float] = []

    def next_timer(self) -> float:
        return self.due

    def handle_timer(self, now: float) -> None:
        if now >= self.due:
            self.called.append(now)
            self.due = NEVER


def test_each_is_called_when_it_is_due() -> None:
    timers, late, soon = Timers(), Target(5.0), Target(2.0)
    for target in (late, soon):
        timers.schedule(target, target.due)
    assert timers.soonest == 2.0
    timers.handle(2.0)
    assert (soon.called, late.called) == ([2.0], [])
    timers.handle(7.0)
    assert late.called == [7.0]
    assert timers.soonest == NEVER


def test_a_deadline_that_moved_later_is_asked_again() -> None:
    timers, target = Timers(), Target(1.0)
    timers.schedule(target, 1.0)
    target.due = 4.0
    timers.handle(1.0)
    assert not target.called
    assert timers.soonest == 4.0


def test_a_deadline_that_moved_earlier_is_called_once() -> None:
    timers, target = Timers(), Target(4.0)
    timers.schedule(target, 4.0)
    target.due = 1.0
    timers.schedule(target, 1.0)
    timers.handle(10.0)
    assert target.called == [10.0]


def test_those_that_are_over_are_cleaned_up_and_the_living_stay() -> None:
    timers, living = Timers(), Target(500.0)
    timers.schedule(living, 500.0)
    for number in range(1000):
        target = Target(1000.0 + number)
        timers.schedule(target, target.due)
        target.due = NEVER  # it is over, with its entry far away
        timers.forget_one()
    assert len(timers._heap) < 200
    assert timers.soonest == 500.0
    timers.handle(500.0)
    assert living.called == [500.0]
