"""The type of the values that users send and receive: the only use of ``Any`` in the core."""

from __future__ import annotations

from typing import Any

Value = Any
"""A decoded message, as the endpoint's format returns it."""
