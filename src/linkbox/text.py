"""Text from a peer, made safe for a log line, an error message or a terminal.

Names, reasons and error texts arrive from peers that may be hostile. A newline in one forges a log line, an
escape sequence controls the terminal, a lone surrogate makes printing fail. Every string that a peer controls
goes through `printable` before it is shown: in ``str(error)`` of every error of linkbox, in ``str(peer)``, in
log lines with their tracebacks (logs.py), and on stderr (cli/status.py). Attributes such as ``Peer.name``
keep the original text.
"""

from __future__ import annotations

LONGEST = 200
"""Most characters that are shown of one name or reason."""
LONGEST_MESSAGE = 2000
"""Most characters of a log line, or of the text of an error."""


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


def shown(error: Exception) -> Exception | None:
    """The cause of an error, if its text is safe: a traceback shows it as it is."""
    text = text_of(error)
    return error if printable(text, LONGEST_MESSAGE) == text else None


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
