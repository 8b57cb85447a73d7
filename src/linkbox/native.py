"""What only the compiler reads. Interpreted code does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414 - exported
else:

    def mypyc_attr(**options):
        """A mark on a class, which only the compiler reads: so the package needs no mypy_extensions."""
        return lambda cls: cls
