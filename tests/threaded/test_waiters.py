"""Followers are woken a few at a time, and what they send meanwhile is written together."""

from __future__ import annotations

import threading

import pytest

from linkbox import ClientAR, Request, ServerAR
from linkbox.networks.endpoint_driver import MOST_PUT_OFF
from linkbox.threaded.transport import Transport
from linkbox.threaded.waiters import AWAKE, Followers, ThreadWaiter

MANY = 12


def test_each_follower_that_runs_lets_the_next_one_be_woken() -> None:
    followers, waiters = Followers(), [ThreadWaiter(number) for number in range(MANY)]
    followers.asleep.update(dict.fromkeys(waiters))
    for waiter in waiters:
        followers.wake(waiter)
    for number, waiter in enumerate(waiters):
        assert followers.woken == MANY - number
        assert [each.is_rung for each in waiters] == [each < number + AWAKE for each in range(MANY)]
        followers.on_running(waiter)
    assert followers.woken == 0


def test_a_follower_that_runs_before_its_turn_is_not_woken_again() -> None:
    followers, waiters = Followers(), [ThreadWaiter(number) for number in range(AWAKE + 2)]
    followers.asleep.update(dict.fromkeys(waiters))
    for waiter in waiters:
        followers.wake(waiter)
    followers.on_running(waiters[AWAKE])  # its time was up
    assert [each.is_rung for each in waiters] == [True] * AWAKE + [False] * 2
    followers.on_running(waiters[0])
    assert [each.is_rung for each in waiters] == [True] * AWAKE + [False, True]


def test_a_follower_that_runs_already_takes_nobody_s_turn() -> None:
    """It may be rung while it writes what was put off: it will not run again because of that."""
    followers, waiter = Followers(), ThreadWaiter(1)
    followers.asleep[waiter] = None
    followers.wake(waiter)
    followers.on_running(waiter)
    waiter.is_rung = False
    followers.wake(waiter)
    assert waiter.is_rung
    assert followers.woken == 0


@pytest.mark.patches
def test_a_crowd_puts_off_a_bounded_number_of_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(Transport, "settle", lambda transport: written.append(transport.put_off))
    transport = Transport.__new__(Transport)
    transport.put_off = 0
    for _ in range(2 * (MOST_PUT_OFF + 1)):
        transport.settle_soon()
    assert written == [0, 0]
    assert transport.put_off == 0


def test_what_a_crowd_sends_arrives() -> None:
    """All run again at about the same time, and only some of them send again: these depend on the others."""
    together = threading.Barrier(MANY)

    def answer(request: Request[bytes]) -> bytes:
        if request.data == b"0":
            together.wait()
        return request.data

    found: list[bytes] = []
    with (
        ServerAR("tcp://127.0.0.1:0", handler=answer, workers=MANY) as server,
        ClientAR(server.address, keep_alive=True) as client,
    ):

        def ask(times: int) -> None:
            found.extend(client.ask(b"%d" % number, timeout=60) for number in range(times))

        threads = [threading.Thread(target=ask, args=(1 + number % 4,)) for number in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(b"%d" % each for number in range(MANY) for each in range(1 + number % 4))
