"""Network namespaces of one's own: addresses that are not loopback, cables that can be pulled."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

_NEW_NETWORK = 0x40000000


class Namespace:
    """A namespace belongs to a thread here: what that thread opens, and the threads it starts, are inside."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self.id: int = self.run(threading.get_native_id)

    def run(self, call: Callable[[], Any]) -> Any:
        """Call something inside."""
        return self._thread.submit(call).result(30)

    def ip(self, *words: str) -> None:
        """The command ``ip``, inside."""
        self.run(lambda: subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10))


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace, its loopback up. Gone with the last socket inside. Skips where it is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("the command ip is missing")
    with ThreadPoolExecutor(1, "namespace") as thread:
        libc = ctypes.CDLL(None, use_errno=True)
        if thread.submit(libc.unshare, _NEW_NETWORK).result():
            pytest.skip("a network namespace needs CAP_SYS_ADMIN")
        found = Namespace(thread)
        found.ip("link", "set", "lo", "up")
        yield found
