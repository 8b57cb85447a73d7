"""A failed message is below every other stage, so that ``stage >= RECEIVED`` is False for it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from linkbox import ClientP2P, DecodeError, Json, ServerP2P, Stage, aio


class NotJson:
    """Claims to be JSON and is not: the peer rejects every message."""

    name = "json"

    def encode(self, value: bytes) -> bytes:
        return b"{"

    def decode(self, data: bytes) -> bytes:
        return data


def test_stages_are_ordered() -> None:
    stages = [Stage.FAILED, Stage.QUEUED, Stage.SENT, Stage.RECEIVED, Stage.TAKEN]
    assert list(Stage) == stages
    assert all(before < after for before, after in pairwise(stages))
    assert (Stage.FAILED, Stage.QUEUED) == (-1, 0)


def test_a_rejected_message_has_failed() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json()) as server, ClientP2P(server.address, NotJson()) as client:
        receipt = client.send(b"")
        for stage in (None, Stage.QUEUED, Stage.TAKEN):
            with pytest.raises(DecodeError):
                receipt.wait(stage or Stage.RECEIVED, timeout=10)
        assert receipt.failed
        assert receipt.stage is Stage.FAILED
        assert not receipt.stage >= Stage.RECEIVED
        good = server.send({"a": 1}, to=server.peers()[0])
        good.wait(timeout=10)
        assert not good.failed


def test_a_rejected_message_has_failed_in_asyncio() -> None:
    async def main() -> None:
        async with (
            aio.ServerP2P("tcp://127.0.0.1:0", Json()) as server,
            aio.ClientP2P(server.address, NotJson()) as client,
        ):
            receipt = await client.send(b"")
            for stage in (Stage.RECEIVED, Stage.QUEUED, Stage.TAKEN):
                with pytest.raises(DecodeError):
                    await receipt.wait(stage, 10)
            assert receipt.failed
            assert receipt.stage is Stage.FAILED

    asyncio.run(main())
