"""The kill loop of `make soak` over a broker, in short: nothing is lost, and what comes twice is marked."""

from __future__ import annotations

from soak.broker import campaign
from tests.nats.servers import needs_server


@needs_server
def test_kills_of_client_servers_and_broker() -> None:
    figures = campaign(1500, 9, seed=1)
    assert figures.accepted >= 1500
    assert (figures.lost, figures.unmarked) == (0, 0), str(figures)
