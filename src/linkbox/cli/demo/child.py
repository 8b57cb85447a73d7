"""The child processes of the demo: ``python -m linkbox.cli.demo.child PART NAME ADDRESS SECONDS …``.

The child writes its report to stdout, as one JSON object.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from linkbox.cli.demo import ar, crash, device, p2m, p2p

WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "p2m": p2m.push,
    "p2p": p2p.converse,
    "ar": ar.ask_a_lot,
    "device": device.emit,
    "crash": crash.log,
}


def run(part: str, name: str, address: str, seconds: str, *more: str) -> None:
    """Do the work and write the report."""
    logging.getLogger("linkbox").addHandler(logging.NullHandler())
    print(json.dumps(WORK[part](name, address, float(seconds), *more)))


if __name__ == "__main__":
    run(*sys.argv[1:])
