"""How to install what only some parts of linkbox need. There is no release yet, so: from a checkout."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that installs an extra, or several with commas between them, for error messages."""
    return f"in a checkout of linkbox, pip install '.[{extra}]'"
