"""``nc -N`` and ``socat``: they end their half when their input ends, and wait for the rest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from linkbox import EventKind, Lines, Raw, ServerAR, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, everything, free_port, needs, port_of, until

pytestmark = needs("nc", "socat")

CALLERS = {
    "nc": lambda port: ("nc", "-N", "127.0.0.1", port),
    "socat": lambda port: ("socat", "-t", "30", "-", f"TCP:127.0.0.1:{port}"),
}


def upper(request: Any) -> str:
    return request.data.upper()


@pytest.mark.parametrize("caller", CALLERS)
def test_lines_are_answered_after_the_input_has_ended(place: Place, run: Programs, caller: str) -> None:
    with place.server("AR", Text(), framing=Lines(), handler=upper) as server:
        program = run.start(*CALLERS[caller](port_of(server.address)))
        program.write(b"one\ntwo\nthree", end=True)
        assert program.wait() == b"ONE\nTWO\nTHREE\n"
        assert program.process.returncode == 0


@pytest.mark.parametrize("caller", CALLERS)
def test_a_stream_of_a_megabyte_is_one_request(place: Place, run: Programs, caller: str) -> None:
    data = os.urandom(1_000_000)
    handler = lambda request: request.data[::-1]  # noqa: E731
    with place.server("AR", framing=Raw(), handler=handler) as server:
        program = run.start(*CALLERS[caller](port_of(server.address)))
        program.write(data, end=True)
        assert program.wait() == data[::-1]


@pytest.mark.parametrize("caller", CALLERS)
def test_a_p2p_server_still_sends_after_the_input_has_ended(place: Place, run: Programs, caller: str) -> None:
    """``echo status | nc -N host port``."""
    with place.server("P2P", Text(), framing=Lines()) as server:
        ends: list[Any] = []
        server.add_callback(ends.append, EventKind.END)
        program = run.start(*CALLERS[caller](port_of(server.address)))
        program.write(b"status\n", end=True)
        assert server.data_get(PATIENCE) == "status"
        until(lambda: ends, "the END of the caller")
        server.send("ready")
        server.end()
        assert program.wait() == b"ready\n"


@pytest.mark.parametrize("caller", CALLERS)
def test_many_callers_send_into_one_mailbox(place: Place, run: Programs, caller: str) -> None:
    with place.server("P2M", Text(), framing=Lines()) as server:
        programs = [run.start(*CALLERS[caller](port_of(server.address))) for _ in range(5)]
        for n, program in enumerate(programs):
            program.write(f"{n} first\n{n} last".encode(), end=True)
        got = sorted(server.data_get(PATIENCE) for _ in range(10))
        assert got == sorted(f"{n} {word}" for n in range(5) for word in ("first", "last"))


LISTENERS = {
    "nc": lambda port: ("nc", "-N", "-l", "127.0.0.1", port),
    "socat": lambda port: ("socat", "-t", "30", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "-"),
}


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_program_that_listens(place: Place, run: Programs, listener: str) -> None:
    port = free_port()
    program = run.start(*LISTENERS[listener](port))
    program.listens(port)
    with place.client("P2P", ("127.0.0.1", port), Text(), framing=Lines()) as client:
        client.send("from linkbox")
        program.expect("from linkbox")
        program.write(b"to linkbox\r\nwithout a newline", end=True)
        assert everything(client) == ["to linkbox", "without a newline"]
    program.wait()
    assert program.process.returncode == 0


def test_socat_forks_a_program_for_each_request(place: Place, run: Programs) -> None:
    """Each request has a connection of its own, whose end is the end of the program's input."""
    _, port = run.server("socat", "TCP-LISTEN:PORT,bind=127.0.0.1,reuseaddr,fork", "EXEC:sort -r")
    with place.client("AR", ("127.0.0.1", port), framing=Raw()) as client:
        assert client.ask(b"a\nc\nb\n", PATIENCE) == b"c\nb\na\n"
        assert client.ask(b"1\n2\n", PATIENCE) == b"2\n1\n"


def test_socat_through_a_unix_socket(place: Place, run: Programs, tmp_path: Path) -> None:
    with ServerAR(f"unix://{tmp_path}/box", Text(), framing=Lines(), handler=upper):
        _, port = run.server("socat", "TCP-LISTEN:PORT,bind=127.0.0.1,fork", f"UNIX-CONNECT:{tmp_path}/box")
        with place.client("AR", ("127.0.0.1", port), Text(), framing=Lines(), keep_alive=True) as client:
            assert [client.ask(word, PATIENCE) for word in ("a", "b", "c")] == ["A", "B", "C"]
