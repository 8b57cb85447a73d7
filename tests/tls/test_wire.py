"""TLS on the wire: halves that close, ends that are cut off, strangers, much data, deadlines."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

import linkbox
from linkbox import (
    Backoff,
    ClientP2P,
    ConnectFailed,
    EndOfData,
    EventKind,
    Json,
    Limits,
    Lines,
    MsgPack,
    PeerLost,
    ProtocolViolation,
    Raw,
    ServerP2M,
    ServerP2P,
    Stage,
)
from tests.conformance.fronts import Ear, World, play, until
from tests.threaded.helpers import Relay, Threads, dial, read_all, wait_until
from tests.tls.certificates import Authority

NOW = Backoff(initial=0.01, maximum=0.05)
LARGE = (bytes(range(256)) * (16 * 1024 * 4))[100:]  # 16 MiB, with what MsgPack needs for itself


def bare_client(authority: Authority, address: str, version: Any = None) -> ssl.SSLSocket:
    """A client that is not ours."""
    context = authority.client()
    if version is not None:
        context.maximum_version = context.minimum_version = version
    return context.wrap_socket(dial(address), server_hostname="127.0.0.1")


async def on_thread(call: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)


# --- the end, and what only looks like it ----------------------------------------------------------


class ByHand:
    """A foreign client that can close one half: unwrap() of a socket would wait for the other, too."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    def step(self, name: str, *args: Any) -> Any:
        """Call a method of the SSLObject, with all the bytes that takes."""
        while True:
            try:
                return getattr(self._tls, name)(*args)
            except ssl.SSLWantReadError:
                self._sock.sendall(self._outgoing.read())
                if name == "unwrap":
                    return None
                self._incoming.write(self._sock.recv(65536))
            finally:
                self._sock.sendall(self._outgoing.read())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_half_that_is_closed_leaves_the_other_open(
    front: World, authority: Authority, version: Any
) -> None:
    """A foreign client says close_notify behind its ask: it still gets the answer, and then ours."""

    async def main(world: World) -> None:
        context = authority.client()
        context.maximum_version = version
        async with world.server("AR", framing=Lines()) as server:
            with await on_thread(dial, server.address) as sock:
                client = ByHand(context, sock)
                await on_thread(client.step, "do_handshake")
                await on_thread(client.step, "write", b"question")
                await on_thread(client.step, "unwrap")
                request = await server.data_get(5)
                assert request.data == b"question"
                request.answer(b"answer")
                assert await on_thread(client.step, "read", 100) == b"answer\n"
                with pytest.raises(ssl.SSLZeroReturnError):
                    await on_thread(client.step, "read", 100)

    play(main, front)


def test_a_client_is_cut_off(front: World, authority: Authority) -> None:
    """FIN without close_notify: what came before is kept, the peer is lost, and nothing has ended."""

    async def main(world: World) -> None:
        async with world.server("P2P", framing=Lines()) as server:
            ear = Ear()
            server.add_callback(ear, EventKind.END, EventKind.DISCONNECTED)
            sock = await on_thread(bare_client, authority, server.address)
            sock.send(b"one\n")
            assert await server.data_get(5) == b"one"
            sock.send(b"pay 10")
            sock.shutdown(socket.SHUT_WR)  # of 1000
            event = await ear.wait(EventKind.DISCONNECTED)
            assert isinstance(event.error, PeerLost)
            assert "cut off" in str(event.error)
            assert ear.kinds() == [EventKind.DISCONNECTED]
            assert server.data_empty()
            sock.close()

    play(main, front)


def test_a_record_that_was_changed_ends_the_link(front: World, authority: Authority) -> None:
    async def main(world: World) -> None:
        async with world.server("P2P", framing=Lines()) as server:
            ear = Ear()
            server.add_callback(ear, EventKind.END, EventKind.DISCONNECTED)
            with await on_thread(dial, server.address) as sock:
                client = ByHand(authority.client(), sock)
                await on_thread(client.step, "do_handshake")
                await on_thread(client.step, "write", b"one\n")
                assert await server.data_get(5) == b"one"
                await on_thread(sock.sendall, b"\x17\x03\x03\x00\x20" + b"not a record of theirs..........")
                event = await ear.wait(EventKind.DISCONNECTED)
                assert isinstance(event.error, PeerLost)
                assert "the connection broke" in str(event.error)
                assert ear.kinds() == [EventKind.DISCONNECTED]
                with pytest.raises(OSError):  # a reset: FIN would say that all is well
                    await on_thread(read_all, sock)

    play(main, front)


def test_a_port_that_is_only_looked_at(front: World, caplog: pytest.LogCaptureFixture) -> None:
    """Health checks and port scans connect and close: that is no reason for a warning."""

    async def main(world: World) -> None:
        async with world.server("P2P", Json) as server:
            for said in (b"", b"\x16\x03\x01\x02\x00"):
                with await on_thread(dial, server.address) as sock:
                    await on_thread(sock.sendall, said)
                    sock.shutdown(socket.SHUT_WR)
                    assert await on_thread(read_all, sock) == b""
            async with world.client("P2P", server.address, Json) as client:
                await client.send(1)
                assert await server.data_get(5) == 1

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, front)
    assert caplog.text == ""


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
def test_a_client_of_something_else(front: World, framing: Any) -> None:
    """A server that says something, but not in TLS: the client says what that may mean."""

    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                    read_all(sock)

            serving = asyncio.create_task(on_thread(serve))
            address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
            client = world.client("P2P", address, reconnect=None, **settings)
            with pytest.raises(ConnectFailed, match=r"does it speak TLS\? If not, use tcp://"):
                await client.start()
            await serving

    play(main, front)


@pytest.mark.parametrize("cut", [True, False])
def test_a_server_is_cut_off(front: World, authority: Authority, cut: bool) -> None:
    """A foreign server ends with and without close_notify: PeerLost and EndOfData."""

    async def main(world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                sock, _ = listener.accept()
                with authority.server().wrap_socket(sock, server_side=True) as secure:
                    secure.sendall(b"one\n")
                    if not cut:
                        secure.unwrap().close()

            serving = asyncio.create_task(on_thread(serve))
            address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
            async with world.client("P2P", address, framing=Lines()) as client:
                assert await client.data_get(5) == b"one"
                with pytest.raises(PeerLost if cut else EndOfData):
                    await client.data_get(5)
            await serving

    play(main, front)


def test_an_end_over_lines_is_an_end(world: World) -> None:
    async def main(world: World) -> None:
        async with world.server("P2P", framing=Lines()) as server:
            ear = Ear()
            server.add_callback(ear, EventKind.END, EventKind.DISCONNECTED)
            async with world.client("P2P", server.address, framing=Lines()) as client:
                await client.send(b"question")
                await client.end()
                await ear.wait(EventKind.END)
                assert await server.data_get(5) == b"question"
                assert [item async for item in client] == []
            assert (await ear.wait(EventKind.DISCONNECTED)).error is None

    play(main, world)


def test_ask_and_answer_over_raw(world: World) -> None:
    """An ask over Raw ends where the client closes its half: the answer comes back on the other."""

    async def main(world: World) -> None:
        answer = world.handler(lambda request: request.data.upper())
        async with (
            world.server("AR", framing=Raw(), handler=answer) as server,
            world.client("AR", server.address, framing=Raw()) as client,
        ):
            assert await client.ask(b"shout" * 1000, 5) == b"SHOUT" * 1000

    play(main, world)


# --- strangers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP request"),
        (b"\x00\x01", "begins with"),
        (b"\x16\x03\x01\xff\xff" + b"x" * 65536, "TLS handshake failed"),
        (b"\x16LKB\0\0\0\0", "TLS handshake failed"),
    ],
    ids=["http", "garbage", "too long", "almost"],
)
def test_strangers_are_named_in_the_log_and_disturb_nobody(
    front: World, said: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        async with (
            world.server("P2P", Json, max_peers=2) as server,
            world.client("P2P", server.address, Json) as good,
        ):
            with await on_thread(dial, server.address) as sock:
                await on_thread(sock.sendall, said)
                heard = await on_thread(read_all, sock)
            assert heard.startswith(b"\x15\x03"), "an alert"
            await until(lambda: words in caplog.text)
            await good.send("still here")
            assert await server.data_get(5) == "still here"

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, front)


def test_a_hello_that_is_too_large(front: World, caplog: pytest.LogCaptureFixture) -> None:
    """OpenSSL reserves what it says. The connection is closed at once, not when its time is over."""

    async def main(world: World) -> None:
        async with (
            world.server("P2P", Json, max_peers=2, limits=Limits(handshake=60)) as server,
            world.client("P2P", server.address, Json) as good,
        ):
            with await on_thread(dial, server.address) as sock:
                await on_thread(sock.sendall, b"\x16\x03\x01\x02\x00\x01\x01\xff\xb8")
                await until(lambda: "a ClientHello of more than 16384 bytes" in caplog.text)
                await on_thread(read_all, sock)
            await good.send("still here")
            assert await server.data_get(5) == "still here"

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, front)


def test_a_plain_client_of_a_tls_server(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        async with world.server("P2P", max_peers=2) as server:
            good = await world.client("P2P", server.address).start()
            plain = World("", world._fronts["client"], "", None)
            address = server.address.replace("tls:", "tcp:")
            with pytest.raises(ProtocolViolation, match="use a tls:// address"):
                await plain.client("P2P", address, reconnect=None).start()
            await until(lambda: "this linkbox client does not: use a tls:// address" in caplog.text)
            await good.send(b"still here")
            assert await server.data_get(5) == b"still here"
            assert await good.stop() is True

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, world)


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
def test_a_tls_client_of_a_plain_server(world: World, framing: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        plain = World(world._fronts["server"], world._fronts["client"], "tcp://127.0.0.1:0", None)
        async with plain.server("P2P", max_peers=2, **settings) as server:
            good = await plain.client("P2P", server.address, **settings).start()
            client = world.client("P2P", server.address, reconnect=None, connect_timeout=1, **settings)
            # What is plain has nothing to say against it: there, only time ends it.
            limits = {} if framing is None else {"limits": Limits(handshake=0.3)}
            if limits:
                client = world.client("P2P", server.address, reconnect=None, **limits, **settings)
            with pytest.raises((ConnectFailed, PeerLost), match=r"use tcp://|no handshake within 0\.3 s"):
                await client.start()
            if framing is None:
                await until(lambda: "this looks like a TLS hello" in caplog.text)
            await good.send(b"still here")
            await until(lambda: b"still here" in server.data_get_all())
            assert await good.stop() is True

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, world)


# --- deadlines and stopping ------------------------------------------------------------------------------


def test_the_handshake_has_a_deadline(front: World, authority: Authority) -> None:
    """A silent connection, and one that stops in the middle of its hello, are closed."""

    async def main(world: World) -> None:
        async with world.server("P2P", Json, max_peers=2, limits=Limits(handshake=0.3)) as server:
            silent = await on_thread(dial, server.address)
            slow = await on_thread(dial, server.address)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            other = authority.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            with pytest.raises(ssl.SSLWantReadError):
                other.do_handshake()
            await on_thread(slow.sendall, outgoing.read()[:100])
            assert await on_thread(read_all, silent) == b""
            assert await on_thread(read_all, slow) == b""
            silent.close()
            slow.close()
            async with world.client("P2P", server.address, Json) as client:
                await client.send(1)
                assert await server.data_get(5) == 1

    play(main, front)


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
def test_stop_in_the_middle_of_a_handshake(front: World, framing: Any) -> None:
    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        loop = asyncio.get_running_loop()
        server = await world.server("P2P", **settings).start()
        sock = await on_thread(dial, server.address)
        await on_thread(sock.sendall, b"\x16\x03\x01\x02\x00\x01")
        before = loop.time()
        assert await server.stop() is True
        assert loop.time() - before < 5
        sock.close()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
            client = await world.client("P2P", address, **settings).start(wait=False)
            there, _ = await on_thread(listener.accept)
            assert await on_thread(there.recv, 3) == b"\x16\x03\x01"
            before = loop.time()
            await client.stop(timeout=1)
            assert loop.time() - before < 5
            there.close()

    play(main, front)


# --- much ------------------------------------------------------------------------------------------------


def test_large_messages_both_ways(world: World) -> None:
    async def main(world: World) -> None:
        async with (
            world.server("P2P", MsgPack) as server,
            world.client("P2P", server.address, MsgPack) as client,
        ):
            there = await client.send(LARGE)
            back = await server.send(LARGE)
            assert await server.data_get(20) == LARGE
            assert await client.data_get(20) == LARGE
            for receipt in (there, back):
                assert await receipt.wait(Stage.TAKEN, 20) is Stage.TAKEN

    play(main, world)


def test_many_threads_on_one_link(authority: Authority) -> None:
    """Every record is written in the order it was made, or nothing could be read any more."""
    each, count = 8, 500
    server = ServerP2P("tls://127.0.0.1:0", Json, ssl=authority.server())
    with server, ClientP2P(server.address, Json, ssl=authority.client()) as client:
        server.wait_connected(timeout=10)

        def send(end: Any, number: int) -> None:
            for index in range(count):
                end.send([number, index, "x" * (index % 50) ** 2])

        def take(end: Any) -> None:
            last = [-1] * each
            for _ in range(each * count):
                number, index, text = end.data_get(20)
                assert index == last[number] + 1, "per sender, in order"
                assert len(text) == (index % 50) ** 2
                last[number] = index

        with Threads() as threads:
            for end in (server, client):
                threads.start(take, end)
                for number in range(each):
                    threads.start(send, end, number)


def test_many_clients_at_once(authority: Authority) -> None:
    with ServerP2M("tls://127.0.0.1:0", Json, ssl=authority.server()) as server:

        def push(number: int) -> None:
            with linkbox.ClientP2M(server.address, Json, ssl=authority.client()) as client:
                for index in range(5):
                    client.send([number, index])

        with Threads() as threads:
            for number in range(20):
                threads.start(push, number)
        wait_until(lambda: server.data_count() == 100, "100 messages")
        assert sorted(server.data_get_all()) == [[n, i] for n in range(20) for i in range(5)]


def test_cuts_at_many_places_lose_nothing(world: World) -> None:
    """Inside the handshake, inside records, inside alerts: the session resumes, and each comes once."""

    async def main(world: World) -> None:
        async with world.server("P2P", Json) as server:
            cuts: list[Any] = [(n, None) for n in (1, 5, 300, 600, 700, 900, 1500, 3000)]
            cuts += [(None, n) for n in (1, 90, 900, 1100, 1300, 2000)]
            relay = await on_thread(Relay, server.address, cuts)
            try:
                async with world.client(
                    "P2P", relay.address, Json, reconnect=NOW, connect_timeout=30
                ) as client:
                    for number in range(300):
                        await client.send(number)
                        if number % 20 == 0:
                            relay.cut()
                    assert [await server.data_get(20) for _ in range(300)] == list(range(300))
                    assert await client.stop(20) is True
            finally:
                await on_thread(relay.close)

    play(main, world)


# --- somebody else's TLS -------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_s_client(front: World, authority: Authority) -> None:
    async def main(world: World) -> None:
        async with world.server("P2P", framing=Lines()) as server:
            port = server.address.rpartition(":")[2]
            arguments = ["s_client", "-quiet", "-verify_return_error", "-no_ign_eof"]
            arguments += ["-CAfile", str(authority.ca), "-connect", f"127.0.0.1:{port}"]
            pipe = subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                "openssl", *arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"hello from afar\n")
            assert await server.data_get(10) == b"hello from afar"
            await server.send(b"hello from here")
            assert await process.stdout.readline() == b"hello from here\n"
            ear = Ear()
            server.add_callback(ear, EventKind.END)
            process.stdin.close()
            await ear.wait(EventKind.END)
            assert await asyncio.wait_for(process.wait(), 10) == 0

    play(main, front)


def test_the_lock_is_not_held_by_a_slow_reader(authority: Authority) -> None:
    """One client reads nothing; the other's round trips go on."""
    server = ServerP2P("tls://127.0.0.1:0", ssl=authority.server(), framing=Lines(), max_peers=2)
    with server:
        sock = bare_client(authority, server.address)
        server.wait_connected(timeout=10)
        [deaf] = server.peers()
        stop = threading.Event()

        def fill() -> None:
            while not stop.is_set():
                try:
                    server.send(b"x" * 60000, to=deaf, timeout=0.05)
                except linkbox.MailboxFull:
                    return

        with Threads() as threads:
            threads.start(fill)
            with ClientP2P(server.address, ssl=authority.client(), framing=Lines()) as client:
                for number in range(50):
                    client.send(b"%d" % number)
                    assert server.data_get(10) == b"%d" % number
            stop.set()
        sock.close()
