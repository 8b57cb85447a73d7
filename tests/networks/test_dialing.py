"""Looking up addresses: those that need no name server cost neither a thread nor a second look."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from linkbox import ConnectFailed, aio
from linkbox.address import Address
from linkbox.networks import sockets
from linkbox.networks.sockets import KnownTargets, connect_now


@pytest.mark.parametrize(
    ("url", "lookups"),
    [("tcp://127.0.0.1:9", 1), ("tcp://[::1]:9", 1), ("unix:///nothing", 1), ("tcp://localhost:9", 3)],
)
@pytest.mark.patches
def test_what_is_looked_up_again(monkeypatch: pytest.MonkeyPatch, url: str, lookups: int) -> None:
    seen: list[Address] = []

    def resolve(address: Address) -> list[Any]:
        seen.append(address)
        return [(socket.AF_INET, ("127.0.0.1", 9))]

    monkeypatch.setattr(sockets, "resolve", resolve)
    known, address = KnownTargets(), Address.parse(url)
    for _ in range(3):
        assert known.asks_name_server(address) is ("localhost" in url)
        assert known.find(address) == [(socket.AF_INET, ("127.0.0.1", 9))]
    assert len(seen) == lookups


def test_the_number_of_an_interface_is_looked_up_again() -> None:
    """It is another one after the interface was made anew."""
    address = Address("tcp", "fe80::1%lo", 9)
    known = KnownTargets()
    assert known.find(address) == [(socket.AF_INET6, ("fe80::1", 9, 0, socket.if_nametoindex("lo")))]
    assert known._known == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_only_names_take_a_thread_of_the_loop(host: str) -> None:
    looked_up = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        whole = loop.getaddrinfo

        async def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            looked_up.append(host)
            return await whole(host, *args, **options)

        async def echo(request: aio.Request[Any]) -> Any:
            return request.data

        async with aio.ServerAR("tcp://127.0.0.1:0", handler=echo) as server:
            port = server.address.rpartition(":")[2]
            loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
            async with aio.ClientAR(f"tcp://{host}:{port}") as client:
                assert [await client.ask(b"%d" % number) for number in range(3)] == [b"0", b"1", b"2"]

    asyncio.run(main())
    assert looked_up == (["localhost"] * 3 if host == "localhost" else [])


def test_a_closed_port_is_an_error_at_once() -> None:
    async def main() -> None:
        async with aio.ClientAR("tcp://127.0.0.1:9", reconnect=None) as client:
            with pytest.raises(ConnectFailed, match="nobody listens there"):
                await client.ask(b"", timeout=20)

    with socket.socket() as probe:
        probe.setblocking(False)
        assert connect_now(probe, ("127.0.0.1", 9)) in (errno.ECONNREFUSED, errno.EINPROGRESS)
    asyncio.run(main())
