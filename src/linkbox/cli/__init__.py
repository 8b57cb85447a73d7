"""The ``linkbox`` command: send, listen, ask and chat from a shell, and a demo. Needs the extra ``cli``.

- ``app``: the complete command. ``options``: options that several commands share.
- ``listen``, ``send``, ``ask``, ``chat``, ``record``, ``replay``, ``proxy``, ``cert``: one command each.
- ``framings``: the framings by name, for ``--framing``.
- ``spool``: shows, sends and exports a store. ``keeping``: ``--store`` of the other commands.
- ``text``: messages on stdin and stdout. ``status``: messages on stderr, and the exit status.
- ``demo``: runs all patterns between processes and checks the results.

stdout carries data, stderr everything else. Exit status: 0 success, 1 the connection failed, 2 wrong use.
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
