"""A message is put into the fast queue once at most, whichever call takes it."""

from __future__ import annotations

import asyncio
import time

import pytest

from linkbox import ClientP2P, ServerP2P, aio
from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.mailbox import FAST_COUNT, Mailbox

ANY = "tcp://127.0.0.1:0"
MESSAGES = [b"%05d" % number for number in range(20 * FAST_COUNT)]
SIZE = sum(map(len, MESSAGES))


@pytest.fixture
def fillings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages were put into the fast queue, each time that it was filled."""
    found: list[int] = []
    original = Mailbox.open_fast_queue

    def counted(mailbox: Mailbox) -> None:
        original(mailbox)
        found.append(len(mailbox.fast_queue))

    monkeypatch.setattr(BytesMailbox, "open_fast_queue", counted)
    return found


@pytest.mark.patches
@pytest.mark.parametrize("is_iterated", [False, True])
def test_threads(fillings: list[int], is_iterated: bool) -> None:
    with ServerP2P(ANY) as server, ClientP2P(server.address) as client:
        for message in MESSAGES:
            client.send(message)  # nobody asks for receipts: those would keep the fast queue closed
        while server.data_count() < SIZE:
            time.sleep(0.01)
        if is_iterated:
            found = [message for _, message in zip(MESSAGES, server, strict=False)]
        else:
            found = [server.data_get(30) for _ in MESSAGES]
        assert found == MESSAGES
    assert 0 < sum(fillings) <= len(MESSAGES)


@pytest.mark.patches
@pytest.mark.parametrize("is_iterated", [False, True])
def test_tasks(fillings: list[int], is_iterated: bool) -> None:
    async def main() -> None:
        async with aio.ServerP2P(ANY) as server, aio.ClientP2P(server.address) as client:
            for message in MESSAGES:
                await client.send(message)
            while server.data_count() < SIZE:  # noqa: ASYNC110  no waiting call leaves the messages there
                await asyncio.sleep(0.01)
            found: list[bytes] = []
            if is_iterated:
                async for message in server:
                    found.append(message)
                    if len(found) == len(MESSAGES):
                        break
            else:
                found += [await server.data_get(30) for _ in MESSAGES]
            assert found == MESSAGES

    asyncio.run(main())
    assert 0 < sum(fillings) <= len(MESSAGES)
