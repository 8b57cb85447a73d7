"""The folder with the sockets of this user's monitored processes, which no other user can open."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from linkbox.errors import StateError

_SOCKET = re.compile(r"([0-9]{1,10})\.sock")


def folder() -> Path:
    """The folder: below the user's runtime folder, or below the folder for temporary files."""
    if not hasattr(os, "getuid"):
        raise StateError("linkbox.monitor needs unix sockets, which this platform does not have")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if _is_own(Path(runtime)):
        return Path(runtime) / "linkbox"
    return Path(tempfile.gettempdir()) / f"linkbox-{os.getuid()}"


def make_folder() -> Path:
    """Make the folder if it is missing. `StateError` if another user could have prepared it."""
    path = folder()
    path.mkdir(mode=0o700, exist_ok=True)
    return check(path)


def check(path: Path) -> Path:
    """The same folder. `StateError` if it is not a folder of this user that no other user can open."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StateError(f"{path} is not a folder of this user: remove it, or set XDG_RUNTIME_DIR")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StateError(f"other users can open {path}: chmod 700 {path}")
    return path


def sockets() -> dict[int, Path]:
    """The sockets of the monitored processes, by the ids of the processes."""
    path = folder()
    if not path.is_dir():
        return {}
    found = {}
    for entry in os.scandir(check(path)):
        match = _SOCKET.fullmatch(entry.name)
        if match and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            found[int(match[1])] = Path(entry.path)
    return dict(sorted(found.items()))


def _is_own(path: Path) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
