"""How an error that linkbox keeps is raised."""

from __future__ import annotations

from copy import copy

from linkbox.errors import LinkboxError


def to_raise(error: Exception) -> Exception:
    """A copy to raise, of an error that a session, receipt or request keeps.

    A raised error gets a traceback, and so refers to the frames it has passed: if they refer to the keeper,
    only the garbage collector can free it. Of an error raised twice the traceback would get longer, too.
    """
    if not isinstance(error, LinkboxError):
        return error
    copied = copy(error)
    if error.__cause__ is not None:
        copied.__cause__ = error.__cause__
    return copied
