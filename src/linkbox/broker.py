"""`Nats`: credentials and settings of the broker behind a ``nats://`` address."""

from __future__ import annotations

import os
import re
from typing import Any, Final

import msgspec

from .errors import AddressError

__all__ = ["Nats", "split_credentials"]

_PREFIX: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
_URL: Final = r"(?i:(nats(?:\+tls)?)://([^/]*)@)"
_SECRETS: Final = ("token", "password", "nkey")
MOST_REPLICAS: Final = 5
"""More copies of a stream than this are not possible in NATS."""


class Nats(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials and settings for a ``nats://`` address: ``broker=Nats(token="…")``.

    At most one kind of credentials: a token, a user with a password, an nkey or a credentials file. TLS is
    set with ``ssl=``, as for every address. Secrets are shown nowhere, in ``repr()`` neither.
    """

    token: str | None = None
    user: str | None = None
    password: str | None = None
    nkey: str | None = None
    """The seed itself (it begins with "SU"), or the path of a file that contains it."""
    creds: str | os.PathLike[str] | None = None
    """The path of a credentials file (a JWT and its seed), as the tool `nsc` writes it."""
    replicas: int = 1
    """P2M: on how many nodes of a cluster each message is kept."""
    prefix: str = "lb"
    """The first part of every subject that linkbox uses; another prefix is another set of names."""

    def __post_init__(self) -> None:
        for name in ("token", "user", "password", "nkey", "prefix"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise TypeError(f"Nats({name}=…) takes a text that is not empty, not {type(value).__name__}")
        if self.creds is not None and not isinstance(self.creds, str | os.PathLike):
            raise TypeError(f"Nats(creds=…) takes the path of a file, not {type(self.creds).__name__}")
        if (self.user is None) != (self.password is None):
            raise ValueError("Nats(user=…) and Nats(password=…) belong together")
        if sum(self._has(name) for name in ("token", "user", "nkey", "creds")) > 1:
            raise ValueError("Nats(…) takes one kind of credentials: token, user and password, nkey or creds")
        if type(self.replicas) is not int or not 1 <= self.replicas <= MOST_REPLICAS:
            raise ValueError(f"Nats(replicas={self.replicas!r}): 1 to {MOST_REPLICAS} are possible")
        if not re.fullmatch(_PREFIX, self.prefix):
            raise ValueError(
                f"Nats(prefix={self.prefix!r:.80}): letters, digits, '_', '-', in parts joined by '.'"
            )

    def __repr__(self) -> str:
        shown = []
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            if value != default:
                shown.append(f"{name}={'…' if name in _SECRETS else repr(value)}")
        return f"Nats({', '.join(shown)})"

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    @property
    def has_credentials(self) -> bool:
        """Are there any credentials?"""
        return any(map(self._has, ("token", "user", "nkey", "creds")))

    @property
    def has_file(self) -> bool:
        """Are the credentials in a file?"""
        return self.creds is not None or (self.nkey is not None and not self.nkey.startswith("SU"))


def split_credentials(address: Any, given: Nats | None) -> tuple[Any, Nats | None]:
    """Take ``user:password@`` or ``token@`` out of a ``nats://`` URL, so that nothing shows them.

    Returns the address without them, and the settings with them.
    """
    found = re.match(_URL, address) if isinstance(address, str) and "@" in address else None
    if found is None:
        return address, given
    bare = f"{found[1]}://{address[found.end() :]}"
    if given is not None and given.has_credentials:
        raise AddressError(f"{bare}: there are credentials in the address and in broker=; leave one out")
    user, colon, password = found[2].partition(":")
    if not user or (colon and not password):
        raise AddressError(f"{bare}: before the '@' comes user:password or a token")
    from urllib.parse import unquote  # seldom needed

    others = {"replicas": given.replicas, "prefix": given.prefix} if given is not None else {}
    if not colon:
        return bare, Nats(token=unquote(user), **others)  # type: ignore[arg-type]
    return bare, Nats(user=unquote(user), password=unquote(password), **others)  # type: ignore[arg-type]
