"""An authority and a certificate for 127.0.0.1, made once a run with ``linkbox cert``."""

from __future__ import annotations

import atexit
import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = "LINKBOX_BENCH_CERTIFICATES"


def prepare() -> None:
    """Make them; the processes of the roles find them by the environment."""
    if FOLDER in os.environ:
        return
    kept = tempfile.TemporaryDirectory(prefix="certificates-")
    atexit.register(kept.cleanup)
    for words in (["init"], ["issue", "127.0.0.1"]):
        command = [sys.executable, "-m", "linkbox.cli", "cert", *words, "--quiet", "--folder", kept.name]
        subprocess.run(command, check=True)
    os.environ[FOLDER] = kept.name


def authority() -> Path:
    """The file that a client trusts."""
    return Path(os.environ[FOLDER], "ca.pem")


def own() -> tuple[Path, Path]:
    """The server's certificate and its key."""
    return Path(os.environ[FOLDER], "127.0.0.1.pem"), Path(os.environ[FOLDER], "127.0.0.1.key")


def server_context() -> ssl.SSLContext:
    """As the standard library makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own())
    return context


def client_context() -> ssl.SSLContext:
    """As the standard library makes it."""
    return ssl.create_default_context(cafile=authority())
