"""How the templates of pages and notebooks are read: everything escaped, nothing undefined passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent / "templates"
"""Where the templates are."""


def environment_with(**filters: Callable[..., Any]) -> Environment:
    """An environment for the templates, with filters of its own."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


__all__ = ["FOLDER", "environment_with"]
