"""What is measured while inputs run: the longest that one peer has kept an endpoint from the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

PATH = "LINKBOX_FUZZ_FIGURES"
"""In the environment of a long run: where its figures are written."""
WORTH_TELLING = 1.05
"""Only what is so much worse is written down: a file for each millisecond would cost more than it tells."""


class Figures:
    """The worst of each kind so far; kept in a file, because a fuzzer's process ends without a word."""

    def __init__(self) -> None:
        self.worst: dict[str, float] = {}
        self.path = Path(os.environ[PATH]) if PATH in os.environ else None

    @property
    def is_campaign(self) -> bool:
        """Is this one of the long runs? Then what takes too long is a finding."""
        return self.path is not None

    def note(self, kind: str, seconds: float) -> None:
        """Something has taken so long."""
        worst = self.worst.get(kind, 0.0)
        if seconds > worst:
            self.worst[kind] = seconds
            if self.path is not None and seconds > worst * WORTH_TELLING:
                self.path.write_text(json.dumps(self.worst))


def read(path: Path) -> dict[str, float]:
    """What a process has noted."""
    if not path.exists():
        return {}
    found: dict[str, float] = json.loads(path.read_text() or "{}")
    return found


figures = Figures()
"""Those of this process."""
