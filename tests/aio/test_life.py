"""Starting, stopping, and starting again: in one event loop or in several."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import warnings
from typing import Any

import pytest

from linkbox import AddressError, Backoff, ConnectFailed, Framing, Json, Limits, Lines, Linked, StateError
from linkbox.aio import Client, ClientAR, ClientP2M, ClientP2P, Server, ServerAR, ServerP2M, ServerP2P
from tests.conformance.fronts import until
from tests.faults.bare import opening
from tests.threaded.helpers import Relay, descriptors, dial

ANY = "tcp://127.0.0.1:0"


def test_the_bases_are_abstract_and_inherited_as_promised() -> None:
    settings: dict[str, Any] = dict.fromkeys(("framing", "limits", "overflow", "name", "ssl", "secret"))
    with pytest.raises(TypeError, match="abstract"):
        Server(ANY, Json, accept=None, insecure=False, max_peers=1, **settings)
    with pytest.raises(TypeError, match="abstract"):
        Client(ANY, Json, connect_timeout=1.0, reconnect=None, **settings)
    assert issubclass(ServerP2M, ServerP2P)
    assert all(issubclass(each, Server) for each in (ServerP2P, ServerAR))
    assert all(issubclass(each, Client) for each in (ClientP2P, ClientP2M, ClientAR))


def test_an_endpoint_may_live_in_one_loop_after_another() -> None:
    server = ServerP2P(ANY, Json)
    addresses = set()

    async def once(number: int) -> None:
        async with server, ClientP2P(server.address, Json) as client:
            await client.send(number)
            assert await server.data_get(5) == number
            addresses.add(server.address)

    for number in range(3):
        asyncio.run(once(number))
    assert len(addresses) == 1, "the port stays the same"


def test_a_dead_connection_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A write fails before asyncio says that the connection is lost: what follows must not go into it."""

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server:
            with Relay(server.address) as relay:
                client = ClientP2P(relay.address, Json, reconnect=Backoff(initial=0.01, maximum=0.05))
                async with client:
                    await client.send("before")
                    assert await server.data_get(5) == "before"
                    relay.cut()  # in the loop, which hears nothing of it
                    for number in range(100):
                        await client.send(number)  # there is room: it does not let the loop run
                    assert [await server.data_get(5) for _ in range(100)] == list(range(100))

    with caplog.at_level(logging.WARNING, "asyncio"):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_client_that_starts_before_its_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async def main() -> None:
        client = ClientP2P(("127.0.0.1", port), Json)
        await client.start(wait=False)
        with pytest.raises(StateError, match="wait_connected"):
            await client.send(1)
        async with ServerP2P(("127.0.0.1", port), Json) as server:
            await client.wait_connected(timeout=10)
            await client.send(2)
            assert await server.data_get(5) == 2
            await client.stop()

    asyncio.run(main())


def test_names_are_looked_up() -> None:
    async def main() -> None:
        async with ServerP2P(ANY, Json) as server:
            port = server.address.rpartition(":")[2]
            async with ClientP2P(f"tcp://localhost:{port}", Json) as client:
                await client.send("by name")
                assert await server.data_get(5) == "by name"
        async with ServerP2P("tcp://localhost:0", Json) as server:
            assert server.address.startswith("tcp://")
        client = ClientP2P("tcp://no-such-host.invalid:1", connect_timeout=2, reconnect=None)
        with pytest.raises(ConnectFailed, match="no such host name"):
            await client.start()

    asyncio.run(main())


def test_a_listening_socket_may_be_handed_in() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as given:
            async with ServerP2P(given, Json) as server, ClientP2P(server.address, Json) as client:
                await client.send(1)
                assert await server.data_get(5) == 1

    asyncio.run(main())


def test_nothing_is_left_open() -> None:
    async def main() -> None:
        async with ServerAR(ANY, Json, handler=lambda request: request.data) as server:
            stranger = await asyncio.to_thread(dial, server.address)
            async with ClientAR(server.address, Json) as client:
                for number in range(20):
                    assert await client.ask(number) == number
            stranger.close()

    asyncio.run(main())
    gc.collect()
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
    assert {each.split()[1] for each in descriptors()} <= {each.split()[1] for each in before}
    assert len(descriptors()) <= len(before)


def test_strangers_are_told_off_and_disturb_nobody() -> None:
    limits = Limits(handshake=0.2)

    async def main() -> None:
        async with ServerP2P(ANY, Json, limits=limits) as server:
            rude = await asyncio.to_thread(dial, server.address)
            rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
            silent = await asyncio.to_thread(dial, server.address)
            async with ClientP2P(server.address, Json) as client:
                await client.send("well")
                assert await server.data_get(5) == "well"
                assert await asyncio.to_thread(rude.recv, 100) == b""
                assert await asyncio.to_thread(silent.recv, 100) == b""
            rude.close()
            silent.close()

    asyncio.run(main())


def test_more_connections_than_may_wait_get_their_turn() -> None:
    limits = Limits(unwelcomed=3)

    async def main() -> None:
        async with ServerP2M(ANY, Json, limits=limits) as server:
            clients = [ClientP2M(server.address, Json) for _ in range(30)]
            await asyncio.gather(*(client.send(number) for number, client in enumerate(clients)))
            assert sorted(server.data_get_all()) == list(range(30))
            await asyncio.gather(*(client.stop() for client in clients))

    asyncio.run(main())


def test_disconnecting_a_peer_tells_it_why() -> None:
    async def main() -> None:
        async with ServerP2P(ANY, Json) as server:
            client = await ClientP2P(server.address, Json).start()
            server.disconnect(server.peers()[0], "enough")
            await until(lambda: not client.peers())
            await client.stop()

    asyncio.run(main())


def test_open_to_the_network_only_on_purpose() -> None:
    with pytest.raises(AddressError, match="insecure=True"):
        ServerP2P("tcp://0.0.0.0:0")
    ServerP2P("tcp://0.0.0.0:0", insecure=True)


def test_importing_linkbox_does_not_import_asyncio() -> None:
    import subprocess
    import sys

    code = "import linkbox, sys; print('asyncio' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("framing", [Linked(), Lines()], ids=lambda framing: framing.name)
def test_a_connection_whose_task_has_not_begun_is_closed_at_the_end(framing: Framing) -> None:
    """A task that is cancelled before its first step cannot close what it was given."""

    async def main() -> None:
        server = ServerP2P(ANY, framing=framing)
        await server.start()
        network: Any = server._operations.runtime.driver.network  # type: ignore[union-attr]
        with dial(server.address) as sock:
            if framing.linked:
                sock.sendall(opening())
            # Without a turn of the loop in between:
            network._accept()
            for handshake in list(network._handshakes.all):
                handshake.read()
            (accepted,) = network._not_begun
            await network.close()
            assert accepted.fileno() == -1
        await server.stop(0)

    asyncio.run(main())
