"""Netstrings with Twisted, which has them for twenty years."""

from __future__ import annotations

import pytest

from linkbox import Netstring, PeerLost, ServerAR
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package, port_of

pytestmark = needs_package("twisted")


def test_a_twisted_server(place: Place, run: Programs) -> None:
    server, port = run.simulator("twisted_netstrings.py", "server")
    with place.client("P2P", ("127.0.0.1", port), framing=Netstring()) as client:
        sent = [b"", b"3:abc,", b"\0" * 70_000, *(b"%d" % n for n in range(100))]
        for data in sent:
            client.send(data)
        assert [client.data_get(PATIENCE) for _ in sent] == [data[::-1] for data in sent]
        client.end()
    server.expect("^closed$")
    with place.client("AR", ("127.0.0.1", port), framing=Netstring(), keep_alive=True) as client:
        assert client.ask(b"abc", PATIENCE) == b"cba"


def test_twisted_closes_a_connection_it_does_not_understand(place: Place, run: Programs) -> None:
    """Its limit is 99,999 bytes: our client sees the end, and its next request a new connection."""
    _, port = run.simulator("twisted_netstrings.py", "server")
    with place.client("AR", ("127.0.0.1", port), framing=Netstring(), keep_alive=True) as client:
        assert client.ask(b"x" * 99_999, PATIENCE) == b"x" * 99_999
        with pytest.raises(PeerLost, match=r"127\.0\.0\.1"):
            client.ask(b"x" * 100_000, PATIENCE)
        assert client.ask(b"again", PATIENCE) == b"niaga"


def test_a_twisted_client(run: Programs) -> None:
    with ServerAR(
        "tcp://127.0.0.1:0", framing=Netstring(), handler=lambda request: request.data[::-1]
    ) as server:
        client = run.python("twisted_netstrings.py", "client", port_of(server.address))
        assert client.wait() == b"received 100\n"
