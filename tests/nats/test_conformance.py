"""The scenarios of tests/conformance over a real broker, for every pair of front ends.

`NOT_HERE` is the table of those that have no meaning over a broker, and why.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.fronts import FRONTS, play
from tests.conformance.scenarios import SCENARIOS
from tests.nats.world import NatsWorld

_PLAIN = "a plain framing speaks to a socket"
_NO_SECRET = "P2M and AR have no connection that a secret could belong to: the broker authenticates"
_STREAM = "RECEIVED means: in the stream; when it is in a mailbox, test_p2m.py asks"
NOT_HERE = {
    "lines_go_both_ways": _PLAIN,
    "plain_asks_and_raw_asks": _PLAIN,
    "secrets_of_one_name_each_tell_who_is_there": _NO_SECRET,
    "asks_with_a_secret_and_a_drop_in_between": _NO_SECRET,
    "an_address_in_use_says_so": "several servers may share a name",
    "a_blocking_send_returns_when_the_server_has_it": _STREAM,
    "non_blocking_sends_can_be_flushed": _STREAM,
    "who_waits_rides_through_a_restart_of_the_server": _STREAM,
    "a_non_blocking_send_fails_by_receipt_and_bell_only": "P2M needs no server that is there",
    "a_connection_that_was_made_for_one_ask_closes_after_the_answer": "there are no connections to count",
}


@pytest.fixture(params=FRONTS)
def server_front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FRONTS)
def client_front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "scenario",
    [each for each in SCENARIOS if each.__name__ not in NOT_HERE],
    ids=lambda function: function.__name__,
)
def test_scenario(scenario: Any, server_front: str, client_front: str, url: str) -> None:
    play(scenario, NatsWorld(server_front, client_front, url))


def test_the_table_names_scenarios() -> None:
    assert set(NOT_HERE) <= {each.__name__ for each in SCENARIOS}
