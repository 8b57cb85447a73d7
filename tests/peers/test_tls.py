"""socat with OpenSSL: plain framings inside TLS, and both ends close their halves in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from linkbox import EventKind, Lines, Raw, Text
from tests.faults.place import FRONTS, TRANSPORTS, Place
from tests.peers.processes import PATIENCE, Program, Programs, everything, needs, port_of
from tests.threaded.helpers import Ear

pytestmark = [
    needs("socat"),
    pytest.mark.skipif("tls" not in TRANSPORTS, reason="not installed: cryptography"),
]


@pytest.fixture(params=FRONTS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Place(request.param, TRANSPORTS["tls"]) as here:
        yield here


def call(run: Programs, address: str, text: bytes) -> Program:
    """socat checks our certificate, sends the text, and closes its half."""
    from tests.faults.secure import folder

    authority = folder() / "authority.pem"
    target = f"OPENSSL:127.0.0.1:{port_of(address)},cafile={authority},verify=1"
    program = run.start("socat", "-t", "30", "-", target)
    program.write(text, end=True)
    return program


def listen(run: Programs, command: str) -> str:
    from tests.faults.secure import folder

    files = f"cert={folder()}/server.pem,key={folder()}/server.key,verify=0"
    _, port = run.server(
        "socat", f"OPENSSL-LISTEN:PORT,bind=127.0.0.1,reuseaddr,fork,{files}", f"EXEC:{command}"
    )
    return f"tls://127.0.0.1:{port}"


def test_lines_are_answered_after_the_input_has_ended(place: Place, run: Programs) -> None:
    handler = lambda request: request.data.upper()  # noqa: E731
    with place.server("AR", Text(), framing=Lines(), handler=handler) as server:
        program = call(run, server.address, b"one\ntwo\nthree")
        assert program.wait() == b"ONE\nTWO\nTHREE\n"
        assert program.process.returncode == 0


def test_a_p2p_server_still_sends_after_the_input_has_ended(place: Place, run: Programs) -> None:
    ear = Ear()
    with place.server("P2P", Text(), framing=Lines()) as server:
        server.add_callback(ear, EventKind.END)
        program = call(run, server.address, b"status\n")
        assert server.data_get(PATIENCE) == "status"
        ear.wait()
        server.send("ready")
        server.end()
        assert program.wait() == b"ready\n"


def test_a_server_that_echoes(place: Place, run: Programs) -> None:
    address = listen(run, "cat")
    with place.client("AR", address, Text(), framing=Lines(), keep_alive=True) as client:
        assert [client.ask(str(n), PATIENCE) for n in range(20)] == [str(n) for n in range(20)]
    with place.client("P2P", address, Text(), framing=Lines()) as client:
        for n in range(1_000):
            client.send(str(n))
        client.end()
        assert everything(client) == [str(n) for n in range(1_000)]


def test_a_request_ends_with_our_half(place: Place, run: Programs) -> None:
    with place.client("AR", listen(run, "sort -r"), framing=Raw()) as client:
        assert client.ask(b"a\nb\n", PATIENCE) == b"b\na\n"
