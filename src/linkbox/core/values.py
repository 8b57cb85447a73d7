"""The one place where a type is left open: the values that users send and receive."""

from __future__ import annotations

from typing import Any

Value = Any
"""A value of the user's, as the endpoint's format makes it."""
