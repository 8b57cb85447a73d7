"""Text from a peer, made safe for a log line, an error message or a terminal.

Names, reasons and error texts arrive from peers that may be hostile. A newline in one forges a log line, an
escape sequence controls the terminal, a lone surrogate makes printing fail. Every string that a peer controls
goes through `printable` before it is shown. Attributes such as ``Peer.name`` keep the original text.
"""

from __future__ import annotations

LONGEST = 200


def printable(text: str, limit: int = LONGEST) -> str:
    r"""Escape unprintable characters (``\n``, ``\x1b``, ``\ud800``) and cut the text at ``limit`` characters.

    Only spaces, letters, digits, punctuation and symbols remain: control characters, line separators,
    invisible and direction-changing characters become backslash escapes. Backslashes are left as they are.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escaped(char) for char in text])


def text_of(error: BaseException) -> str:
    """``str(error)``, also for an exception of the application whose ``__str__`` fails."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
