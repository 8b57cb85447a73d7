"""The hints in errors of the library, as one would follow them on the command line.

An error says ``use framing=LengthPrefixed()``, because most of its readers write Python. Here it must be
``use --framing length-prefixed``. A hint to raise a limit is left out: the command line has no such option.
"""

from __future__ import annotations

import re

from linkbox.cli.framings import KINDS

_LIMIT = re.compile(r"[;,] (?:or )?raise Limits\([^)]*\)[^;]*")
_FRAMINGS = {kind.make.__name__: name for name, kind in KINDS.items()}
_FORMATS = {"Bytes": "bytes", "Json": "json", "MsgPack": "msgpack"}
_CALL = re.compile(rf"(framing=|format=)?\b({'|'.join(_FRAMINGS | _FORMATS)})\(([^()]*)\)")


def for_shell(text: str) -> str:
    """The text of an error of the library, with hints that can be followed in a shell."""
    return _CALL.sub(_option, _LIMIT.sub("", text))


def _option(match: re.Match[str]) -> str:
    before, name, argument = match.groups()
    if name in _FORMATS:
        return f"--format {_FORMATS[name]}"
    values = re.sub(r"\b\w+=|\bb?(['\"])(.*?)\1", r"\2", argument)
    return f"{'--framing ' if before else ''}{_FRAMINGS[name]}{':' if values else ''}{values}"
