"""redis-server and redis-cli, over the framing of examples/framing_resp.py."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from linkbox import Backoff, StateError, aio
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Program, Programs, needs, port_of, until

ROOT = Path(__file__).parents[2]
pytestmark = needs("redis-server", "redis-cli")


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


resp = example("framing_resp")
command, Resp = resp.command, resp.Resp


def redis(run: Programs, folder: Path, port: int | None = None) -> tuple[Program, int]:
    return run.server(
        *("redis-server", "--port", "PORT", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        *("--daemonize", "no", "--dir", folder),
        port=port,
    )


@pytest.fixture
def port(run: Programs, tmp_path: Path) -> int:
    return redis(run, tmp_path)[1]


def test_values_of_every_kind(place: Place, port: int) -> None:
    big = bytes(range(256)) * 8_000  # 2 MB, with CR LF inside
    with place.client("AR", ("127.0.0.1", port), framing=Resp(), keep_alive=True) as client:
        assert client.ask(command(b"PING"), PATIENCE) == b"+PONG\r\n"
        assert client.ask(command(b"SET", b"big", big), PATIENCE) == b"+OK\r\n"
        assert client.ask(command(b"GET", b"big"), PATIENCE) == b"$%d\r\n%b\r\n" % (len(big), big)
        assert client.ask(command(b"GET", b"none"), PATIENCE) == b"$-1\r\n"
        assert client.ask(command(b"RPUSH", b"list", b"a", b"", b"c"), PATIENCE) == b":3\r\n"
        found = client.ask(command(b"LRANGE", b"list", b"0", b"-1"), PATIENCE)
        assert found == b"*3\r\n$1\r\na\r\n$0\r\n\r\n$1\r\nc\r\n"
        assert client.ask(command(b"INCR", b"big"), PATIENCE).startswith(b"-ERR value is not an integer")
        assert client.ask(command(b"MULTI"), PATIENCE) == b"+OK\r\n"
        assert client.ask(command(b"INCR", b"n"), PATIENCE) == b"+QUEUED\r\n"
        assert client.ask(command(b"LRANGE", b"list", b"0", b"0"), PATIENCE) == b"+QUEUED\r\n"
        assert client.ask(command(b"EXEC"), PATIENCE) == b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n"


def test_a_thousand_commands_at_once(place: Place, port: int) -> None:
    with place.client("P2P", ("127.0.0.1", port), framing=Resp()) as client:
        for _ in range(1_000):
            client.send(command(b"INCR", b"n"))
        assert [client.data_get(PATIENCE) for _ in range(1_000)] == [b":%d\r\n" % n for n in range(1, 1_001)]


def test_published_messages_arrive_without_a_request(place: Place, port: int) -> None:
    with (
        place.client("AR", ("127.0.0.1", port), framing=Resp(), keep_alive=True) as reader,
        place.client("AR", ("127.0.0.1", port), framing=Resp(), keep_alive=True) as writer,
    ):
        subscribed = reader.ask(command(b"SUBSCRIBE", b"news"), PATIENCE)
        assert subscribed == b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
        for n in range(3):
            assert writer.ask(command(b"PUBLISH", b"news", b"%d" % n), PATIENCE) == b":1\r\n"
        for n in range(3):
            pushed = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\n%d\r\n" % n
            assert reader.data_get(PATIENCE) == pushed


def test_it_is_killed_and_comes_back(place: Place, run: Programs, tmp_path: Path) -> None:
    server, port = redis(run, tmp_path)
    at_once = Backoff(initial=0.01, maximum=0.05)
    with place.client("P2P", ("127.0.0.1", port), framing=Resp(), reconnect=at_once) as client:
        client.send(command(b"PING"))
        assert client.data_get(PATIENCE) == b"+PONG\r\n"
        server.kill()
        until(lambda: client.peers() == (), "the client notices")
        with pytest.raises(StateError):
            client.send(command(b"PING"))
        redis(run, tmp_path, port)
        client.wait_connected(timeout=PATIENCE)
        client.send(command(b"ECHO", b"again"))
        assert client.data_get(PATIENCE) == b"$5\r\nagain\r\n"


def test_redis_cli_asks_a_linkbox_server(place: Place) -> None:
    stored = {b"a": b"1"}

    def handle(request: Any) -> bytes:
        words = [each for each in request.data.split(b"\r\n") if each[:1] not in (b"*", b"$")]
        if words[0].upper() == b"GET":
            found = stored.get(words[1])
            return b"$-1\r\n" if found is None else b"$%d\r\n%b\r\n" % (len(found), found)
        if words[0].upper() == b"SET":
            stored[words[1]] = words[2]
            return b"+OK\r\n"
        return b"-ERR unknown command\r\n"

    with place.server("AR", framing=Resp(), handler=handle) as server:
        done = subprocess.run(
            ["redis-cli", "-p", str(port_of(server.address))],
            input=b"GET a\nSET b two\nGET b\nGET c\n",
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        assert done.stdout == b"1\nOK\ntwo\n\n"


def test_many_tasks_share_a_connection(port: int) -> None:
    async def main() -> None:
        async with aio.ClientAR(("127.0.0.1", port), framing=Resp(), keep_alive=True) as client:
            values = await asyncio.gather(*(client.ask(command(b"INCR", b"n"), PATIENCE) for _ in range(50)))
            assert sorted(values) == sorted(b":%d\r\n" % n for n in range(1, 51))
            assert (await client.ask(command(b"CLIENT", b"LIST"), PATIENCE)).count(b"id=") == 1

    asyncio.run(main())


def test_no_request_leaves_a_connection_behind(place: Place, port: int) -> None:
    with place.client("AR", ("127.0.0.1", port), framing=Resp()) as client:
        for _ in range(20):
            assert client.ask(command(b"PING"), PATIENCE) == b"+PONG\r\n"

        def connections() -> int:
            return client.ask(command(b"CLIENT", b"LIST"), PATIENCE).count(b"id=")

        until(lambda: connections() == 1, "redis counts one connection, which is that of CLIENT LIST")


@needs("redis-benchmark")
def test_redis_benchmark_asks_a_linkbox_server(place: Place) -> None:
    """Twenty connections, sixteen requests at once on each."""

    def handle(request: Any) -> bytes:
        return b"+PONG\r\n" if request.data == command(b"PING") else b"-ERR unknown command\r\n"

    with place.server("AR", framing=Resp(), handler=handle) as server:
        options = "-t ping_mbulk -n 2000 -c 20 -P 16 --csv".split()
        done = subprocess.run(
            ["redis-benchmark", "-p", str(port_of(server.address)), *options],
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert b'"PING_MBULK"' in done.stdout
        numbers = server.statistics()
        assert numbers.messages_received == numbers.messages_sent >= 2000
        assert numbers.errors == numbers.rejected == 0
