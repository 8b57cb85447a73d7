"""Type checkers know the type of everything that linkbox exports: ``pyright --verifytypes``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# pyright does not look for the type of `self.count += 1` in the base class, which declares it.
ACCEPTED = {
    "linkbox.core.bytes_mailbox.BytesMailbox.count",
    "linkbox.core.request_mailbox.RequestMailbox.count",
    "linkbox.core.request_mailbox.RequestMailbox.nbytes",
}
# What only refers to a type that is not known is not the cause.
CONSEQUENCES = ("is partially unknown", "No docstring found")


@pytest.mark.timeout(300)
def test_every_exported_type_is_known(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    command = [sys.executable, "-m", "pyright", "--verifytypes", "linkbox"]
    # It asks the first `python` of PATH for the installed packages: --pythonpath is ignored here.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, "--ignoreexternal", "--outputjson"],
        check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(SOURCE)},
        cwd=tmp_path,  # in the sources it does not find py.typed
        capture_output=True,
        text=True,
        timeout=280,
    )
    report = json.loads(done.stdout)
    found = report["typeCompleteness"]
    assert Path(found["packageRootDirectory"]) == SOURCE / "linkbox", report["generalDiagnostics"]
    assert found["exportedSymbolCounts"]["withUnknownType"] == 0
    causes = {
        symbol["name"]: [each["message"] for each in symbol["diagnostics"]]
        for symbol in found["symbols"]
        if symbol["isExported"]
        and symbol["isTypeAmbiguous"]
        and not all(any(text in each["message"] for text in CONSEQUENCES) for each in symbol["diagnostics"])
    }
    assert set(causes) == ACCEPTED, causes
