"""Helpers for the public classes: methods that a subclass does not support, and abstract bases."""

from __future__ import annotations

from typing import Any

_CONCRETE = {
    "Server": "ServerP2P, ServerP2M or ServerAR",
    "Client": "ClientP2P, ClientP2M or ClientAR",
}


class Unsupported:
    """Replaces a method of the base class that this class does not support.

    ``hasattr`` is False, ``dir()`` omits it, and a type checker objects to calling it.
    """

    def __init__(self, name: str, reason: str) -> None:
        self._name = name
        self._reason = reason

    def __get__(self, instance: object, owner: type | None = None) -> Unsupported:
        kind = (owner or type(instance)).__name__
        raise AttributeError(f"{kind} has no {self._name}(): {self._reason}")


def supported(cls: type, names: list[str]) -> list[str]:
    """The names without those that are `Unsupported` in this class."""
    return [name for name in names if not _is_unsupported(cls, name)]


def _is_unsupported(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name in base.__dict__:
            return isinstance(base.__dict__[name], Unsupported)
    return False


def declare_abstract(cls: type) -> None:
    """Let ``cls()`` raise an error that names the concrete classes instead of abstract methods."""

    def new(made: Any, *arguments: Any, **options: Any) -> Any:
        if made is cls:
            raise abstract_error(cls)
        return object.__new__(made)

    cls.__new__ = new  # type: ignore[assignment,method-assign]


def abstract_error(cls: type) -> TypeError:
    """The error of instantiating an abstract base."""
    return TypeError(f"{cls.__name__} is abstract: use {_CONCRETE.get(cls.__name__, 'a subclass')}")
