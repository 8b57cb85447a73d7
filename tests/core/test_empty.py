"""The empty queue that idle conversations share."""

from __future__ import annotations

import pytest

from linkbox.core.empty import EMPTY
from linkbox.core.source import Source
from linkbox.events import Peer


@pytest.mark.parametrize("add", ["append", "appendleft", "extend", "extendleft", "insert", "__iadd__"])
def test_nothing_gets_into_it(add: str) -> None:
    with pytest.raises(TypeError):
        getattr(EMPTY, add)("a message of somebody")
    assert not EMPTY


def test_idle_conversations_share_it() -> None:
    assert Source(Peer("a", "tcp://a:1", "0" * 32, 0.0)).batches is EMPTY
