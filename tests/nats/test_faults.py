"""What goes wrong with a broker: credentials, permissions, an absent, killed or cut one, no JetStream."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import linkbox
from linkbox import (
    AuthenticationFailed,
    Backoff,
    ConnectFailed,
    EventKind,
    Json,
    ListenFailed,
    Nats,
    Refused,
)
from linkbox.core.broker.hello import BrokerHello, encode_hello
from linkbox.core.broker.subjects import Subjects
from linkbox.nats.jetstream import JetStream
from tests.conformance.fronts import FRONTS, Ear, play, until
from tests.nats.servers import MISSING, NatsServer, binary, free_port, old_binary
from tests.nats.world import NatsWorld, world_of

NOW = Backoff(initial=0.01, maximum=0.05)
SECRET = "s3cret-word"
SIX = ["ServerP2P", "ServerP2M", "ServerAR", "ClientP2P", "ClientP2M", "ClientAR"]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(world: NatsWorld, kind: str, *arguments: Any, **options: Any) -> Any:
    if kind.startswith("Server"):
        return world.server(kind.removeprefix("Server"), *arguments, **options)
    return world.client(kind.removeprefix("Client"), world.address, *arguments, **options)


async def use(kind: str, endpoint: Any) -> None:
    """What first needs the broker."""
    if kind == "ClientP2M":
        await endpoint.send(b"x", 20)
    elif kind == "ClientAR":
        await endpoint.ask(b"x", 20)
    else:
        await endpoint.start()


# -- credentials ---------------------------------------------------------------------------------------


def broker_with(extra: str) -> Iterator[NatsServer]:
    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer(extra) as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[NatsServer]:
    yield from broker_with(f'authorization {{ users: [{{ user: joe, password: "{SECRET}" }}] }}\n')


@pytest.fixture(scope="module")
def with_token() -> Iterator[NatsServer]:
    yield from broker_with(f'authorization {{ token: "{SECRET}" }}\n')


@pytest.mark.parametrize("kind", SIX)
def test_wrong_credentials_are_final_and_shown_nowhere(
    front: str, kind: str, locked: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(world: NatsWorld) -> None:
        for broker in (None, Nats(user="joe", password=f"{SECRET}!"), Nats(token=SECRET)):
            endpoint = make(world, kind, broker=broker)
            began = time.monotonic()
            with pytest.raises(AuthenticationFailed, match="does not accept the credentials") as caught:
                await use(kind, endpoint)
            assert time.monotonic() - began < 10, "not the connect_timeout"
            await endpoint.stop()
            texts.append(f"{caught.value!r} {caught.value} {endpoint!r} {endpoint.address}")

    texts: list[str] = []
    with caplog.at_level(logging.DEBUG):
        play(scenario, world_of(front, locked.url()))
    assert SECRET not in " ".join(texts) + caplog.text


def test_right_credentials_of_all_kinds_in_settings_and_address(
    front: str, locked: NatsServer, with_token: NatsServer
) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with make(world, "ServerAR", broker=settings, handler=world.handler(lambda r: r.data)):
            for address, broker in ((world.address, settings), (in_address, None)):
                client = world.client("AR", address, broker=broker)
                assert await client.ask(b"x", 10) == b"x"
                assert SECRET not in repr(client) + client.address
                await client.stop()

    settings, in_address = Nats(user="joe", password=SECRET), locked.url(credentials=f"joe:{SECRET}@")
    play(scenario, world_of(front, locked.url()))
    settings, in_address = Nats(token=SECRET), with_token.url(credentials=f"{SECRET}@")
    play(scenario, world_of(front, with_token.url()))


def test_an_nkey_from_text_or_file(front: str, tmp_path: Path) -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER).decode()
    other = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    public = nkeys.from_seed(bytearray(seed.encode())).public_key.decode()
    file = tmp_path / "joe.nk"
    file.write_text(seed)

    async def scenario(world: NatsWorld) -> None:
        for given in (seed, str(file)):
            async with make(world, "ServerP2P", broker=Nats(nkey=given)) as server:
                assert server.address == world.address
        for wrong in (other, "SUnonsense", str(tmp_path / "absent.nk")):
            with pytest.raises(AuthenticationFailed) as caught:
                await make(world, "ServerP2P", broker=Nats(nkey=wrong)).start()
            assert wrong not in str(caught.value)
        with pytest.raises(AuthenticationFailed, match="the credentials"):
            await make(world, "ServerP2P", broker=Nats(creds=tmp_path / "absent.creds")).start()

    for server in broker_with(f"authorization {{ users: [{{ nkey: {public} }}] }}\n"):
        play(scenario, world_of(front, server.url()))


class ImpatientBroker:
    """Resets each connection; the first two so early that what it says about the credentials is lost."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        sock = writer.get_extra_info("socket")
        writer.write(b'INFO {"server_id": "x", "version": "2.15.1", "auth_required": true}\r\n')
        if self.connections <= 2:
            await reader.readexactly(10)
        else:
            await reader.readuntil(b"PING\r\n")
            writer.write(b"-ERR 'Authorization Violation'\r\n")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@pytest.mark.parametrize("kind", SIX)
def test_credentials_are_wrong_also_if_the_broker_resets_the_connection(front: str, kind: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        broker = ImpatientBroker()
        listening = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
        world.address = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x"
        options = {} if kind.startswith("Server") else {"reconnect": None}
        endpoint = make(world, kind, broker=Nats(token=SECRET), **options)
        with pytest.raises(AuthenticationFailed, match="does not accept the credentials"):
            await use(kind, endpoint)
        await endpoint.stop()
        assert broker.connections >= 3
        listening.close()

    play(scenario, world_of(front, "nats://127.0.0.1/x"))


# -- permissions ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow() -> Iterator[NatsServer]:
    """``mute`` may publish nothing, ``deaf`` may receive only what is sent to it alone."""
    yield from broker_with(
        "authorization { users: [\n"
        '{ user: mute, password: x, permissions: { publish: { deny: ">" } } }\n'
        '{ user: deaf, password: x, permissions: { subscribe: "_INBOX.>" } }\n'
        "] }\n"
    )


@pytest.mark.parametrize("kind", SIX)
def test_a_denied_subject_is_an_error_and_not_silence(front: str, kind: str, narrow: NatsServer) -> None:
    async def scenario(world: NatsWorld) -> None:
        user = "deaf" if kind.startswith("Server") else "mute"
        endpoint = make(world, kind, broker=Nats(user=user, password="x"))
        began = time.monotonic()
        with pytest.raises(Refused, match="the broker denies to") as caught:
            await use(kind, endpoint)
        assert caught.value.code == "denied"
        assert time.monotonic() - began < 10, "five seconds, with some more for a busy machine"
        await endpoint.stop()

    play(scenario, world_of(front, narrow.url(f"denied-{kind}-{front}")))


# -- an absent broker, and one without JetStream -------------------------------------------------------


def test_an_absent_broker_is_an_error_that_says_so(front: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        for kind in ("ClientP2P", "ClientP2M", "ClientAR"):
            endpoint = make(world, kind, reconnect=None)
            with pytest.raises(ConnectFailed, match="cannot reach the broker"):
                await use(kind, endpoint)
            await endpoint.stop()
        with pytest.raises(ListenFailed, match="cannot reach the broker"):
            await make(world, "ServerP2P").start()

    if binary() is None:
        pytest.skip(MISSING)
    play(scenario, world_of(front, f"nats://127.0.0.1:{free_port()}/x"))


def test_p2m_needs_jetstream_and_the_others_do_not(front: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        for kind in ("ServerP2M", "ClientP2M"):
            endpoint = make(world, kind)
            with pytest.raises(Refused, match=r"has no JetStream.*nats-config") as caught:
                await use(kind, endpoint)
            assert caught.value.code == "unsupported"
            await endpoint.stop()
        async with make(world, "ServerAR", handler=world.handler(lambda r: r.data)):
            client = make(world, "ClientAR")
            assert await client.ask(b"x", 10) == b"x"
            await client.stop()
        async with make(world, "ServerP2P") as server, make(world, "ClientP2P") as client:
            await client.send(b"x")
            assert await server.data_get(10) == b"x"

    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer(jetstream=False) as server:
        play(scenario, world_of(front, server.url()))


@pytest.mark.parametrize(
    ("version", "fits"), [("2.9.25", False), ("2.10.0", True), ("3.0.0-beta", True), ("", False)]
)
def test_a_nats_server_that_cannot_sync_is_refused_by_name(version: str, fits: bool) -> None:
    client: Any = SimpleNamespace(server_info={"version": version} if version else {})
    stream = JetStream(client, "nats://h:4222/x", Subjects("lb", "x"), BrokerHello("p2m", "json"))
    if fits:
        stream.check_version()
        return
    with pytest.raises(Refused, match=r"needs nats-server 2\.10") as caught:
        stream.check_version()
    assert caught.value.code == "unsupported"


class OlderRelay:
    """Between linkbox and a nats-server, which it makes look like a 2.9."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("127.0.0.1", self._server.port)
        info = await broker.readline()
        writer.write(re.sub(rb'"version":"[^"]*"', b'"version":"2.9.25"', info))
        await asyncio.gather(self._carry(reader, to_broker), self._carry(broker, writer))

    async def _carry(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                to.write(data)
        except OSError:
            pass
        to.close()


async def refuses_p2m_by_name(world: NatsWorld) -> None:
    """And carries P2P and AR."""
    for kind in ("ServerP2M", "ClientP2M"):
        endpoint = make(world, kind)
        with pytest.raises(
            Refused, match=r"needs nats-server 2\.10 or newer, the broker is 2\.9\."
        ) as caught:
            await use(kind, endpoint)
        assert caught.value.code == "unsupported"
        await endpoint.stop()
    async with make(world, "ServerAR", handler=world.handler(lambda r: r.data)):
        client = make(world, "ClientAR")
        assert await client.ask(b"x", 10) == b"x"
        await client.stop()
    async with make(world, "ServerP2P") as server, make(world, "ClientP2P") as client:
        await client.send(b"x")
        assert await server.data_get(10) == b"x"


def test_a_broker_that_says_it_is_a_2_9_carries_p2p_and_ar_only(
    front: str, shared_broker: NatsServer
) -> None:
    async def scenario(world: NatsWorld) -> None:
        listening = await asyncio.start_server(OlderRelay(shared_broker).serve, "127.0.0.1", 0)
        world.address = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}/older-{front}"
        await refuses_p2m_by_name(world)
        listening.close()

    play(scenario, world_of(front, "nats://127.0.0.1/x"))


def test_a_real_nats_server_2_9_carries_p2p_and_ar_only(front: str) -> None:
    command = old_binary()
    if command is None:
        pytest.skip("needs the nats-server of Debian 12: apt-get install nats-server")
    with NatsServer(sync="", command=command) as server:
        play(refuses_p2m_by_name, world_of(front, server.url()))


def test_a_stream_of_somebody_else_is_refused(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        import nats

        host, _, name = world.address.removeprefix("nats://").partition("/")
        nc = await nats.connect(f"nats://{host}")
        await nc.jetstream().add_stream(name=f"LB_{name}", subjects=[f"other.{name}"])
        for kind in ("ServerP2M", "ClientP2M"):
            endpoint = make(world, kind)
            with pytest.raises(Refused, match="is none of linkbox"):
                await use(kind, endpoint)
            await endpoint.stop()
        await nc.jetstream().delete_stream(f"LB_{name}")
        await nc.close()

    play(scenario, world_of(front, url))


def test_the_stream_is_the_handshake_when_no_server_is_there(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = make(world, "ClientP2M", Json)
        await client.send(1)
        await client.stop()
        for kind in ("ServerP2M", "ClientP2M"):
            endpoint = make(world, kind)
            with pytest.raises(Refused, match="format mismatch: the server uses json") as caught:
                await use(kind, endpoint)
            assert caught.value.code == "format"
            await endpoint.stop()

    play(scenario, world_of(front, url))


# -- a broker that is killed, and a connection that is cut ---------------------------------------------


def test_p2p_goes_on_over_a_killed_broker(front: str, broker: NatsServer) -> None:
    async def scenario(world: NatsWorld) -> None:
        ear = Ear()
        client = make(world, "ClientP2P", Json, reconnect=NOW)
        client.add_callback(ear, EventKind.RESUMED)
        async with make(world, "ServerP2P", Json) as server, client:
            for life in range(3):
                for number in range(200):
                    await client.send([life, number])
                    await server.send([number, life])
                await asyncio.to_thread(broker.kill)
                for number in range(200, 300):
                    await client.send([life, number])
                await asyncio.to_thread(broker.start)
                assert [await server.data_get(20) for _ in range(300)] == [[life, n] for n in range(300)]
                assert [await client.data_get(20) for _ in range(200)] == [[n, life] for n in range(200)]
            await ear.wait(EventKind.RESUMED, 3)

    play(scenario, world_of(front, broker.url()))


def test_p2m_loses_nothing_and_marks_what_comes_again(front: str, broker: NatsServer) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = make(world, "ClientP2M", Json, blocking=False, linger=30.0, reconnect=NOW)
        found: list[tuple[int, bool]] = []
        async with make(world, "ServerP2M", Json) as server, client:

            async def work() -> None:
                while len({number for number, _ in found}) < 900:
                    message = await server.message_get(40)
                    found.append((message.data, message.redelivered))

            worker = asyncio.create_task(work())
            for number in range(900):
                await client.send(number)
                if number in (200, 500, 700):
                    await until(lambda seen=number: len(found) > seen - 150)  # type: ignore[misc]
                    await asyncio.to_thread(broker.kill)
                    await asyncio.to_thread(broker.start)
            await client.flush(40)
            await worker
        unmarked = [number for number, is_again in found if not is_again]
        assert len(unmarked) == len(set(unmarked)), "what comes twice is marked"

    play(scenario, world_of(front, broker.url()))


def test_a_server_and_a_client_of_p2m_survive_a_cut(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        near, far = await world.relay(world.address), await world.relay(world.address)
        client = world.client("P2M", near.address, Json, blocking=False, linger=30.0, reconnect=NOW)
        world.address = far.address
        async with make(world, "ServerP2M", Json) as server, client:
            found = set()
            for number in range(500):
                await client.send(number)
                if number % 100 == 50:
                    await near.cut()
                if number % 100 == 99:
                    await far.cut()
            await client.flush(30)
            while len(found) < 500:
                found.add(await server.data_get(40))
        await near.close()
        await far.close()

    play(scenario, world_of(front, url))


def test_a_dead_connection_to_the_broker_is_found_by_missing_acknowledgements(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        relay = await world.relay(world.address)
        client = world.client("P2M", relay.address, Json, blocking=False, linger=30.0, reconnect=NOW)
        async with make(world, "ServerP2M", Json) as server, client:
            await (await client.send("first")).wait(timeout=10)
            relay.hold()
            receipt = await client.send("second")
            await until(lambda: "acknowledged nothing" in str(client.last_error))
            relay.release()
            await relay.cut()
            await receipt.wait(timeout=30)
            assert [await server.data_get(10) for _ in range(2)] == ["first", "second"]
        await relay.close()

    play(scenario, world_of(front, url))


def test_a_killed_p2p_server_is_noticed_while_nobody_sends(front: str, url: str) -> None:
    server = (
        "import sys, linkbox\n"
        "with linkbox.ServerP2P(sys.argv[1]):\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )

    async def scenario(world: NatsWorld) -> None:
        process = subprocess.Popen(  # noqa: ASYNC220  it starts at once
            [sys.executable, "-c", server, world.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"up\n"
            ear = Ear()
            client = make(world, "ClientP2P")
            client.add_callback(ear, EventKind.DISCONNECTED)
            async with client:
                process.kill()
                await ear.wait(EventKind.DISCONNECTED)
        finally:
            process.kill()
            process.communicate()

    play(scenario, world_of(front, url))


def test_a_server_that_is_gone_before_it_accepts_costs_no_connect_timeout(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        import nats

        host, _, name = world.address.removeprefix("nats://").partition("/")
        nc = await nats.connect(f"nats://{host}")

        async def answer(message: Any) -> None:
            await message.respond(encode_hello(BrokerHello("p2p", "bytes")))

        async def swallow(message: Any) -> None:
            """What it was sent is lost with it."""

        await nc.subscribe(f"lb.{name}.hello", cb=answer)
        await nc.subscribe(f"lb.{name}.p2p", cb=swallow)
        await nc.flush()
        client = make(world, "ClientP2P", reconnect=None, connect_timeout=60.0)
        with pytest.raises(ConnectFailed, match="the server does not accept it in time"):
            await client.start()
        await client.stop()
        await nc.close()

    play(scenario, world_of(front, url))


def run(code: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# -- the process ---------------------------------------------------------------------------------------


def test_nats_is_loaded_only_when_it_is_used() -> None:
    code = (
        "import sys, linkbox\n"
        "linkbox.ServerP2P('tcp://127.0.0.1:0').start().stop()\n"
        "linkbox.ClientAR('nats://127.0.0.1/x')\n"
        "print(*sys.modules)\n"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split()
    assert not {"nats", "nkeys", "linkbox.nats"} & set(loaded)


@pytest.mark.patches
def test_without_nats_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[nats\]'"):
        linkbox.ClientAR("nats://127.0.0.1/x")


def test_a_fork_leaves_the_parent_alone(url: str) -> None:
    code = (
        "import os, sys, linkbox\n"
        "server = linkbox.ServerAR(sys.argv[1], handler=lambda r: r.data)\n"
        "with server, linkbox.ClientAR(sys.argv[1]) as client:\n"
        "    client.ask(b'before')\n"
        "    if not (child := os.fork()):\n"
        "        try:\n"
        "            client.ask(b'in the child')\n"
        "        except linkbox.StateError:\n"
        "            with linkbox.ClientAR(sys.argv[1]) as own:\n"
        "                own.ask(b'mine')\n"
        "            os._exit(7)\n"
        "        os._exit(1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    client.ask(b'after')\n"
        "print('done')\n"
    )
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("no fork on this platform")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_a_process_may_end_without_stop(url: str) -> None:
    code = (
        "import sys, linkbox\n"
        "server = linkbox.ServerP2M(sys.argv[1]).start()\n"
        "client = linkbox.ClientP2M(sys.argv[1])\n"
        "client.send(b'x')\n"
        "assert server.data_get(10) == b'x'\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
