"""The empty queue that all conversations share which have none of their own yet.

An empty deque takes 760 bytes, and most of the connections of a large server are idle.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from linkbox.core.values import Value


class _Empty(deque[Value]):
    """Nothing can be added: a conversation that has something to keep first makes a deque of its own."""

    append = appendleft = extend = extendleft = insert = __iadd__ = None  # type: ignore[assignment]


EMPTY: Final = _Empty()
