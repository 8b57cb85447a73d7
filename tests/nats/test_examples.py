"""The README's examples of the three patterns run with nothing changed but the address."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PRINTS = {
    "ServerP2P": ["server got {'speed': 3}", "client got {'speed': 'ok'}"],
    "ServerP2M": ["north says {'celsius': 21.5}", "south says {'celsius': 21.5}"],
    "ServerAR": ["b'IS ANYBODY THERE?'"],
}


@pytest.mark.parametrize(("server", "prints"), PRINTS.items(), ids=list(PRINTS))
def test_the_examples_of_the_readme(server: str, prints: list[str], url: str) -> None:
    example = next(block for block in BLOCKS if f'{server}("tcp://127.0.0.1:0"' in block)
    code = example.replace("tcp://127.0.0.1:0", url)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.splitlines(), done.returncode) == (prints, 0), done.stderr
