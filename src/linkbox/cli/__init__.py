"""The ``linkbox`` command: send, listen, ask and chat from a shell, and a demo. Needs the extra ``cli``.

- ``app``: the commands, put together. ``options``: what several of them take.
- ``listen``, ``send``, ``ask``, ``chat``: one command each.
- ``spool``: what is in a store. ``keeping``: ``--store`` of the others.
- ``text``: how messages look on stdin and stdout. ``status``: how a command ends.
- ``demo``: all patterns at work between processes, and checked.

stdout is data, stderr is talk. Exit status: 0 fine, 1 the link failed, 2 wrong use.
"""

from __future__ import annotations

import sys
from typing import NoReturn

_NEEDED = ("typer", "rich", "psutil")


def main() -> NoReturn:
    """Run the command line in ``sys.argv`` and exit."""
    try:
        from linkbox.cli.app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        print(f"linkbox: the command line needs {missing}: pip install 'linkbox[cli]'", file=sys.stderr)
        sys.exit(2)
    app(prog_name="linkbox")
    sys.exit(0)  # pragma: no cover  (app() has exited)
