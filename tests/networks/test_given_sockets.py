"""A listening socket that is handed in, as by systemd: who connects while nobody accepts has to wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

import linkbox
from linkbox import Lines, Text
from tests.conformance.fronts import FRONTS, World, play
from tests.threaded.helpers import read_all

PATIENCE = 15.0
ACTIVATED = """
import os, socket, sys
os.dup2(int(sys.argv[1]), 3)  # As systemd leaves it.
from linkbox import Lines, ServerAR
listener = socket.socket(fileno=3)
with ServerAR(listener, framing=Lines(), keep_alive=False) as server:
    request = server.data_get(timeout=15)
    request.answer(b"answer to " + request.data)
"""


def test_the_first_connection_starts_the_program_and_the_next_one_its_successor() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        for number in range(2):
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"%d\n" % number)  # Nobody accepts yet.
                child = subprocess.Popen(
                    [sys.executable, "-c", ACTIVATED, str(listener.fileno())],
                    pass_fds=[listener.fileno()],
                    env={**os.environ, "LISTEN_FDS": "1"},
                )
                assert read_all(client) == b"answer to %d\n" % number
                assert child.wait(PATIENCE) == 0


class Given(World):
    """Its servers get a listening socket."""

    def given(self, listener: socket.socket, **options: Any) -> Any:
        front = self._fronts["server"]
        return self._make(front, "ServerP2M", listener, Text, framing=Lines(), **options)


@pytest.mark.parametrize("front", FRONTS)
def test_connections_wait_while_the_server_is_stopped(front: str) -> None:
    async def scenario(world: Given) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
            server = await world.given(listener).start()
            assert server.address == f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            await server.stop()
            waiting = [socket.create_connection(listener.getsockname(), timeout=PATIENCE) for _ in range(5)]
            for number, sock in enumerate(waiting):
                sock.sendall(b"%d\n" % number)
            await server.start()
            found = sorted([await server.data_get(PATIENCE) for _ in range(5)])
            assert found == ["0", "1", "2", "3", "4"]
            await server.stop()
            for sock in waiting:
                sock.close()

    play(scenario, Given(front, front, "tcp://127.0.0.1:0"))


def test_a_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(linkbox.AddressError, match="does not listen"):
        linkbox.ServerP2M(sock, framing=Lines())
