"""Converts ``secret=`` to a lookup function. A secret is never in an attribute, a repr or a log."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from linkbox.core.wire.authentication import Lookup

Secret = bytes | str | os.PathLike[str] | Callable[[str], Any] | Sequence[Any]
"""Bytes, a text, the path of a file, ``callable(peer name)``, or a list of accepted secrets."""


def lookup_of(secret: Secret) -> tuple[Lookup, bool]:
    """Return the lookup of secrets by the peer's name, and whether each peer has its own secret.

    Raises ValueError for an empty secret, TypeError for a wrong type, OSError for a file that cannot be read.
    """
    if callable(secret):
        return SecretsOfUser(secret), True
    known = _all_of(secret)
    return lambda name: known, False


class SecretsOfUser:
    """Asks the application for the secrets of each peer."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self._ask = ask
        self.survive: Callable[[str, str, BaseException, bool], None] | None = None
        """`LoopErrors.survive` of the endpoint."""

    def __call__(self, name: str) -> list[bytes]:
        try:
            found = self._ask(name)
            return [] if found is None else _all_of(found)
        except BaseException as error:
            # The name comes from an unauthenticated peer, so an error must have the same effect as an
            # unknown name. Log only its type: the text may contain a secret.
            if self.survive is None:
                raise
            self.survive(
                "secret=", f"secret= raised {type(error).__name__} for the name {name!r}", error, False
            )
            return []


def _all_of(secret: Any) -> list[bytes]:
    if isinstance(secret, list | tuple):
        if not secret:
            raise ValueError("secret=[]: a list of secrets must hold one at least")
        return [each for one in secret for each in _all_of(one)]
    if isinstance(secret, os.PathLike):
        with open(secret, "rb") as file:
            return [_checked(file.read().strip(), f"the file {os.fspath(secret)}")]
    if isinstance(secret, str):
        if any(0xD800 <= ord(character) <= 0xDFFF for character in secret):
            # Checked here because the error of encode() contains the whole text.
            raise ValueError("secret= is a text that is not valid Unicode: give it as bytes")
        secret = secret.encode()
    if not isinstance(secret, bytes | bytearray):
        kind = type(secret).__name__
        raise TypeError(f"secret= takes bytes, str, Path, a callable or a list of these, not {kind}")
    return [_checked(bytes(secret), "secret=")]


def _checked(secret: bytes, where: str) -> bytes:
    if not secret:
        raise ValueError(f"{where} is empty: any client could connect")
    return secret
