"""No free descriptor, no further thread: endpoints that cannot start say so with an error of linkbox."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from linkbox import ClientP2P, ConnectFailed, ListenFailed, ServerP2P

pytest.importorskip("resource", reason="descriptors are limited by a call of POSIX")
ANY = "tcp://127.0.0.1:0"
MANY = """
import logging, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
from linkbox import ClientP2P, LinkboxError, ServerP2P

logging.disable()
server = ServerP2P("tcp://127.0.0.1:0", max_peers=100).start()
endpoints = []
try:
    for _ in range(60):
        endpoints.append(ClientP2P(server.address, connect_timeout=5.0, reconnect=None).start())
except LinkboxError as error:
    print(type(error).__name__, error)
for each in endpoints:
    each.stop(0)
endpoints.clear()
ClientP2P(server.address).start().stop()
print("and works again")
"""


def test_no_free_descriptor() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "and works again" in done.stdout
    assert "ConnectFailed" in done.stdout or "PeerLost" in done.stdout


def test_no_further_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ServerP2P(ANY) as server:
        client, other = ClientP2P(server.address), ServerP2P(ANY)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(ConnectFailed, match="can't start new thread"):
                client.start()
            with pytest.raises(ListenFailed, match="can't start new thread"):
                other.start()
            assert client.stop()
            assert other.stop()
        client.start().send(b"x")
        assert server.data_get(20) == b"x"
        assert client.stop()
