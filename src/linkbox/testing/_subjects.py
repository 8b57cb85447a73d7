"""Subjects of NATS and their wildcards."""

from __future__ import annotations


def matches(pattern: str, subject: str) -> bool:
    """Does a subject fit? ``*`` fits one part of it, ``>`` at the end all that follow."""
    wanted, parts = pattern.split("."), subject.split(".")
    for number, each in enumerate(wanted):
        if each == ">":
            return len(parts) > number
        if number >= len(parts) or each not in ("*", parts[number]):
            return False
    return len(wanted) == len(parts)
