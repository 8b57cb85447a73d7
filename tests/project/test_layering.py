"""The layers: which module may import which. How big things may get is in test_structure.py.

The rule is the table below; docs/architecture.md says the same in words. A module that is in no row has
no place yet: give it one here before it is written.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

VALUES = {
    "errors",
    "address",
    "broker",
    "dialogue",
    "formats",
    "format_types",
    "events",
    "limits",
    "native",
    "extras",
    "text",
} | {
    "format_checks",
    "format_costs",
    "msgpack_survey",
    "snapshots",
    "proxy_header",
}
LOG = {"signals", "logs", "surviving"}
BELOW = VALUES | LOG | {"tls", "core", "networks", "operations"}

# Layer -> the layers of linkbox it may import. "linkbox" is the top package, linkbox/__init__.py.
MAY_IMPORT = {
    **dict.fromkeys(VALUES, VALUES),
    "tls": VALUES,
    "signals": VALUES,
    "logs": VALUES | {"signals"},
    "surviving": VALUES | {"signals", "logs", "core"},
    "core": VALUES | {"core"},
    "store": VALUES | {"core", "store"},
    "networks": VALUES | LOG | {"tls", "core", "networks", "nats"},
    "nats": VALUES | LOG | {"tls", "core", "networks", "nats"},
    "operations": BELOW | {"store"},
    "threaded": BELOW | {"threaded"},
    "aio": BELOW | {"aio"},
    "linkbox": BELOW | {"threaded", "monitor"},
    "monitor": BELOW | {"linkbox", "monitor", "threaded"},
    "metrics": BELOW | {"linkbox", "monitor"},
    "testing": BELOW | {"store", "linkbox", "testing", "threaded", "aio"},
    "cli": BELOW | {"store", "linkbox", "testing", "cli", "threaded", "aio", "monitor", "nats"},
    "__main__": {"cli"},
}

# The interface of the core for operations and endpoints. Sessions, links, tables and frames are behind it.
SEAM = set(
    """arrival backlog backoff connection decoding durable.entries durable.journal durable.recovery effects
    endpoint patterns settings statistics timers values wait_queue wire.authentication
    wire.framing wire.framings""".split()
)
ABOVE_THE_SEAM = {"operations", "threaded", "aio"}
# Sockets are behind the lower seam. A user may pass a listening socket of its own: these name its type.
SOCKETS = {"socket", "selectors"}
TAKE_A_SOCKET = {"operations/options.py", "operations/addresses.py", "threaded/server.py", "aio/server.py"}

# What has no input, no output, no clock, no chance and no threads.
PURE = set(
    """__future__ abc array base64 binascii bisect collections contextlib copy dataclasses enum functools
    hashlib heapq hmac itertools json math numbers operator re string struct types typing unicodedata
    warnings weakref zlib""".split()
)
# Layers that may import only these of the standard library; the others may import all of it.
STANDARD = {
    "core": PURE,
    **dict.fromkeys(
        VALUES, PURE | {"codecs", "ipaddress", "os", "pathlib", "queue", "socket", "sys", "urllib"}
    ),
}

EVERYWHERE = {"msgspec"}
ONLY_IN = {
    **dict.fromkeys(("typer", "rich", "psutil", "cryptography", "textual", "starlette", "uvicorn"), "cli"),
    "prometheus_client": "metrics",
    "nats": "nats",
}
FOR_TYPES_ONLY = {"typing_extensions", "mypy_extensions"}


class Import(NamedTuple):
    module: str
    line: int
    for_types: bool  # under `if TYPE_CHECKING:`


def modules(source: Path) -> Iterator[tuple[Path, tuple[str, ...], ast.Module]]:
    """Every file under `source` with its dotted name, as parts: ("linkbox", "core", "link")."""
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        yield file, parts, ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(tree: ast.Module, parts: tuple[str, ...]) -> Iterator[Import]:
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=module, level=level):
                base = ".".join([*(parts[:-level] if level else ()), *([module] if module else ())])
                names = [f"{base}.{alias.name}" for alias in node.names]
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(function).split(".")[-1] in ("import_module", "__import__"):
                    level = len(name) - len(name.lstrip("."))
                    names = [".".join([*(parts[:-level] if level else ()), name.lstrip(".")])]
        for name in names:
            yield Import(name, node.lineno, id(node) in for_types)  # type: ignore[attr-defined]


def layer_of(parts: tuple[str, ...]) -> str:
    return parts[1] if len(parts) > 1 and parts[1] != "__init__" else "linkbox"


def is_in_seam(parts: tuple[str, ...]) -> bool:
    """Is it a module of the core that may be used from above?"""
    below = ".".join(parts[2:])
    return any(below == module or below.startswith(f"{module}.") for module in SEAM)


def objection(layer: str, wanted: Import, file: str) -> str | None:
    """Why this layer may not import that, or None."""
    parts = tuple(wanted.module.split("."))
    package = parts[0]
    if package == "linkbox":
        # `from linkbox import Bytes` names no layer: it takes the whole top package.
        target = layer_of(parts) if layer_of(parts) in MAY_IMPORT else "linkbox"
        if target not in MAY_IMPORT[layer]:
            return f"{layer} may not import {target}"
        if target == "core" and layer in ABOVE_THE_SEAM and not is_in_seam(parts):
            return f"{layer} may not import {'.'.join(parts[:-1])}: it is behind the seam"
        return None
    if package in SOCKETS and layer in ABOVE_THE_SEAM:
        return (
            None if file in TAKE_A_SOCKET else f"{layer} may not import {package}: networks have the sockets"
        )
    if package in sys.stdlib_module_names:
        allowed = package in STANDARD.get(layer, sys.stdlib_module_names)
        return None if allowed else f"{layer} may not import {package}: it has to stay pure"
    if package in FOR_TYPES_ONLY:
        return None if wanted.for_types else f"{package} is for `if TYPE_CHECKING:` only"
    if package in EVERYWHERE or ONLY_IN.get(package) == layer:
        return None
    return f"{layer} may not import {package}, which is no part of linkbox or of Python"


def broken_walls(source: Path) -> list[str]:
    found = []
    for file, parts, tree in modules(source):
        layer = layer_of(parts)
        if layer not in MAY_IMPORT:
            found.append(f"{file}: {layer} has no place in MAY_IMPORT")
            continue
        for wanted in imports(tree, parts):
            if why := objection(layer, wanted, "/".join(file.parts[-2:])):
                found.append(f"{file}:{wanted.line}: {why}")
    return found


def test_walls_stand(root: Path) -> None:
    assert not broken_walls(root / "src")


def test_only_one_module_logs(root: Path) -> None:
    """`linkbox.logs` escapes what peers have sent, and survives handlers that raise: nobody logs past it."""
    source = root / "src"
    loggers = {
        "/".join(parts[1:])
        for _, parts, tree in modules(source)
        for wanted in imports(tree, parts)
        if wanted.module.partition(".")[0] == "logging"
    }
    assert loggers == {"logs", "cli/status", "cli/demo/child"}


def test_aio_is_under_a_third_of_core(root: Path) -> None:
    """Whatever has a meaning stands in core, once: a front end that grows is repeating it."""

    def lines(folder: str) -> int:
        files = (root / "src/linkbox" / folder).rglob("*.py")
        return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)

    aio, core = lines("aio"), lines("core")
    if not aio:
        pytest.skip("there is no aio yet")
    assert aio * 3 < core


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("errors.py", "from .core import link", "errors may not import core"),
        ("core/link.py", "from linkbox import logs", "core may not import logs"),
        ("events.py", "import time", "events may not import time"),
        ("limits.py", "from linkbox import ServerP2P", "limits may not import linkbox"),
        ("core/link.py", "import socket", "core may not import socket"),
        ("core/link.py", "import os.path", "core may not import os"),
        ("core/link.py", "from queue import Queue", "core may not import queue"),
        ("core/link.py", "def late():\n    from time import monotonic", "core may not import time"),
        ("core/link.py", "from ..threaded.engine import Engine", "core may not import threaded"),
        ("core/link.py", "from .. import aio", "core may not import aio"),
        ("core/__init__.py", "from ..store import Spool", "core may not import store"),
        ("core/link.py", "from typing_extensions import TypeVar", "TYPE_CHECKING"),
        ("threaded/server.py", "from linkbox.core.session import Session", "behind the seam"),
        ("operations/sending.py", "from ..core import linked_link", "behind the seam"),
        ("aio/driver.py", "from linkbox.core.wire.frames import DATA", "behind the seam"),
        ("aio/driver.py", "from linkbox import core", "behind the seam"),
        ("operations/sending.py", "import socket", "networks have the sockets"),
        ("threaded/engine.py", "from selectors import DefaultSelector", "networks have the sockets"),
        ("networks/sockets.py", "import linkbox.operations.steps", "networks may not import operations"),
        ("threaded/server.py", "from linkbox.aio import server", "threaded may not import aio"),
        ("threaded/server.py", "from linkbox.testing import Proxy", "threaded may not import testing"),
        ("aio/client.py", "import linkbox.threaded.engine", "aio may not import threaded"),
        ("aio/client.py", "x = __import__('linkbox.threaded')", "aio may not import threaded"),
        ("aio/client.py", "import_module('..threaded', __package__)", "aio may not import threaded"),
        ("store/spool.py", "from linkbox import Bytes", "store may not import linkbox"),
        ("testing/proxy.py", "from linkbox.cli import main", "testing may not import cli"),
        ("testing/proxy.py", "import rich.table", "testing may not import rich"),
        ("__init__.py", "from .aio import ServerP2P", "linkbox may not import aio"),
        ("threaded/server.py", "import requests", "threaded may not import requests"),
        ("attic.py", "", "attic has no place"),
    ],
)
def test_a_broken_wall_is_seen(tmp_path: Path, file: str, code: str, why: str) -> None:
    path = tmp_path / "linkbox" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    (found,) = broken_walls(tmp_path)
    assert why in found


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    for file, code in {
        "__init__.py": "from .errors import LinkboxError\nfrom .threaded.server import ServerP2P",
        "errors.py": "import queue",
        "core/link.py": "import struct, msgspec\nfrom ..errors import PeerLost\nfrom . import frames",
        "core/__init__.py": "import typing\nif typing.TYPE_CHECKING:\n    import typing_extensions",
        "threaded/server.py": "import socket, threading\nfrom ..core.endpoint import Channel",
        "cli/main.py": "import typer\nfrom linkbox import Bytes, aio",
    }.items():
        path = tmp_path / "linkbox" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    assert not broken_walls(tmp_path)
