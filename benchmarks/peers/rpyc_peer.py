"""RPyC: a threaded server, one exposed function."""

from __future__ import annotations

import rpyc
from rpyc.utils.server import ThreadedServer

from benchmarks.checks import bodies, time_each
from benchmarks.measure import Stage


class _Echo(rpyc.Service):  # type: ignore[misc]
    def exposed_echo(self, payload: bytes) -> bytes:
        return payload


def ask_server(stage: Stage) -> None:
    server = ThreadedServer(_Echo, hostname="127.0.0.1", port=0)
    stage.ready(("127.0.0.1", server.port))
    server.start()


def ask_client(stage: Stage) -> list[float]:
    with rpyc.connect(*stage.address) as link:
        return time_each(link.root.echo, bodies(stage.params["count"], stage.params["size"]))
