"""Who is trusted, who is let in, and what each side is told when it is not."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from linkbox import AuthenticationFailed, EventKind, Json, Lines, PeerLost, Refused, StateError, tls
from tests.conformance.fronts import Ear, World, play, until
from tests.threaded.helpers import dial
from tests.tls.certificates import Authority


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request: pytest.FixtureRequest) -> Any:
    """In 1.3 a client has shaken hands before the server has looked at its certificate."""
    return ssl.TLSVersion[request.param]


def test_no_trust_is_final_and_harms_nobody_else(
    world: World, authority: Authority, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong authority: refused at once, although ten seconds were left; the server says why, and goes on."""

    async def main(world: World) -> None:
        async with world.server("P2P", Json, max_peers=2) as server:
            good = await world.client("P2P", server.address, Json).start()
            bad = world.client("P2P", server.address, Json, ssl=stranger.client(), connect_timeout=60)
            with pytest.raises(AuthenticationFailed, match=r"is not trusted: .*client_context\(ca=…\)"):
                await bad.start()
            await until(lambda: "does not trust this server's certificate" in caplog.text)
            await (await good.send("still here")).wait(timeout=5)
            assert await server.data_get(5) == "still here"
            assert await good.stop() is True

    with caplog.at_level(logging.WARNING, "linkbox"):
        play(main, world)


@pytest.mark.parametrize(
    ("server", "why"),
    [({"host": "192.0.2.7"}, "IP address mismatch"), ({"begins": -2}, "expired"), ({"begins": 2}, "not yet")],
    ids=["wrong host", "expired", "of tomorrow"],
)
def test_a_certificate_that_is_not_right_now_and_here(
    world: World, authority: Authority, server: dict[str, Any], why: str
) -> None:
    async def main(world: World) -> None:
        async with world.server("AR", Json, ssl=authority.server(**server), handler=None) as there:
            async with world.client("AR", there.address, Json) as client:
                with pytest.raises(AuthenticationFailed, match=why):
                    await client.ask("anything", 5)
            async with world.client("AR", there.address.replace("127.0.0.1", "localhost"), Json) as client:
                if "host" in server:
                    ask = asyncio.create_task(client.ask("anything", 5))
                    (await there.data_get(5)).answer("the name was right")
                    assert await ask == "the name was right"

    play(main, world)


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
@pytest.mark.parametrize("pattern", ["P2P", "P2M"])
def test_who_needs_a_certificate_and_has_none(
    world: World, authority: Authority, pattern: str, framing: Any, version: Any
) -> None:
    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        context = authority.client()
        context.maximum_version = version
        async with world.server(pattern, ssl=authority.server(clients=True), **settings) as server:
            ear = Ear()
            client = world.client(pattern, server.address, ssl=context, **settings)
            client.add_callback(ear, EventKind.ERROR)
            if pattern == "P2P" and framing is None:
                with pytest.raises(AuthenticationFailed, match="wants one"):
                    await client.start()
            elif framing is None:
                with pytest.raises(AuthenticationFailed, match="wants one"):
                    await client.send(b"for the server")
            else:  # nothing but TLS answers: it may be connected for a moment, and is told later
                try:
                    await client.start()
                    await client.send(b"for the server")
                except (AuthenticationFailed, StateError):
                    pass
                assert isinstance((await ear.wait(EventKind.ERROR)).error, AuthenticationFailed)
            assert not server.peers()
            assert server.data_count() == 0
            await client.stop()

    play(main, world)


def test_a_certificate_from_elsewhere_does_not_open(
    world: World, authority: Authority, stranger: Authority, version: Any
) -> None:
    async def main(world: World) -> None:
        made = stranger.issue("mallory")
        context = tls.client_context(authority.ca, made.cert, made.key)
        context.maximum_version = version
        async with world.server("P2P", ssl=authority.server(clients=True)) as server:
            with pytest.raises(AuthenticationFailed, match="does not accept the certificate"):
                await world.client("P2P", server.address, ssl=context).start()

    play(main, world)


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
@pytest.mark.parametrize(
    ("name", "hosts", "identity"),
    [
        ("pump", ["pump.lab"], "pump"),
        ("", ["valve.lab", "other.lab"], "valve.lab"),
        ("", ["127.0.0.1"], None),
    ],
)
def test_the_name_in_the_certificate_is_the_identity(
    world: World, authority: Authority, framing: Any, name: str, hosts: list[str], identity: str | None
) -> None:
    """The common name, or else the first DNS name."""

    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        async with world.server("P2P", ssl=authority.server(clients=True), **settings) as server:
            client = world.client(
                "P2P", server.address, name="anybody", ssl=authority.client(name, *hosts), **settings
            )
            async with client:
                await server.wait_connected(timeout=5)
                assert [peer.identity for peer in server.peers()] == [identity]
                assert server.peers()[0].address.startswith("tls://127.0.0.1:")

    play(main, world)


# --- the secret and the certificate ----------------------------------------------------------------


def test_a_secret_over_tls(world: World) -> None:
    async def main(world: World) -> None:
        async with world.server("P2P", Json, secret={"pump": "s1"}.get) as server:
            async with world.client("P2P", server.address, Json, name="pump", secret="s1") as client:
                await client.send(1)
                assert (await server.message_get(5)).peer.identity == "pump"
            with pytest.raises(AuthenticationFailed, match="secret"):
                await world.client("P2P", server.address, Json, name="pump", secret="s2").start()

    play(main, world)


@contextmanager
def man_in_the_middle(target: str, inside: ssl.SSLContext, outside: ssl.SSLContext) -> Iterator[str]:
    """Takes TLS apart and puts it together again, with a certificate that clients trust."""
    listener = socket.create_server(("127.0.0.1", 0))
    sockets: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
                near = inside.wrap_socket(raw, server_side=True)
                far = outside.wrap_socket(dial(target), server_hostname="127.0.0.1")
            except OSError:
                return
            sockets.extend((near, far))
            for way in ((near, far), (far, near)):
                threads.append(threading.Thread(target=pump, args=way, daemon=True))
                threads[-1].start()

    threads = [threading.Thread(target=serve, daemon=True)]
    threads[0].start()
    try:
        yield f"tls://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in threads:
            thread.join(5)
        for each in sockets:
            each.close()


def test_a_secret_does_not_pass_through_somebody_elses_certificate(
    world: World, authority: Authority
) -> None:
    """The one in between has a certificate that the client trusts, and passes every byte on."""

    async def main(world: World) -> None:
        made = authority.issue("in between", "127.0.0.1")
        inside = tls.server_context(made.cert, made.key)
        async with world.server("P2P", Json, secret="s") as server:
            with man_in_the_middle(server.address, inside, authority.client()) as address:
                with pytest.raises(AuthenticationFailed):
                    await world.client("P2P", address, Json, secret="s").start()
                assert not server.peers()

    play(main, world)


def test_without_a_secret_the_one_in_between_gets_through(front: World, authority: Authority) -> None:
    """So the test above tests what it says."""

    async def main(world: World) -> None:
        made = authority.issue("in between", "127.0.0.1")
        inside = tls.server_context(made.cert, made.key)
        async with world.server("P2P", Json) as server:
            with man_in_the_middle(server.address, inside, authority.client()) as address:
                async with world.client("P2P", address, Json, reconnect=None) as client:
                    await client.send(1)
                    assert await server.data_get(5) == 1

    play(main, front)


# --- accept= -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [None, Lines()], ids=["linked", "lines"])
def test_accept_decides_by_what_the_certificate_says(
    world: World, authority: Authority, framing: Any
) -> None:
    async def main(world: World) -> None:
        settings = {} if framing is None else {"framing": framing}
        asked: list[Any] = []

        def accept(info: Any) -> bool:
            asked.append(info)
            return bool(info.identity == "pump")

        context = authority.server(clients=True)
        async with world.server("P2P", ssl=context, accept=accept, max_peers=2, **settings) as server:
            pump = world.client("P2P", server.address, name="p", ssl=authority.client("pump"), **settings)
            async with pump:
                await pump.send(b"let in")
                assert (await server.message_get(5)).data.startswith(b"let in")
                assert asked[0].identity == "pump"
                assert asked[0].address.startswith("tls://127.0.0.1:")
                assert asked[0].name == ("p" if framing is None else asked[0].address)
                valve = world.client("P2P", server.address, ssl=authority.client("valve"), **settings)
                if framing is None:
                    with pytest.raises(Refused, match="rejected by the server's accept=") as caught:
                        await valve.start()
                    assert caught.value.code == "denied"
                else:
                    async with valve:
                        with pytest.raises((EOFError, PeerLost)):
                            await valve.data_get(5)
                assert [peer.identity for peer in server.peers()] == ["pump"]

    play(main, world)
