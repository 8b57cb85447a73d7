"""Scenes and ways of the races, for the asyncio endpoints."""

from __future__ import annotations

from soak.races_peer import Round

SCENES: tuple[str, ...] = ()
WAYS: tuple[str, ...] = ()


def play(round_: Round) -> None:
    """One round, in this process."""
