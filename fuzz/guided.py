"""One target under atheris: ``python -m fuzz.guided TARGET [libFuzzer's arguments]``. See driver.py."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["linkbox"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: target.run(bytes(data)))
    atheris.Fuzz()
