"""How an object shows itself in a notebook, or as a page: what draws it stands above everything that can be drawn, and is loaded then."""

from __future__ import annotations

import importlib
from html import escape
from pathlib import Path

_DRAWN_IN = "notebook"
"""The module, looked up by its name when it is needed, as those of the public names are."""

_DRAWN_BY = {
    "Comparison": "comparison_html",
    "Diagnosis": "diagnosis_html",
    "Network": "network_html",
    "Returns": "returns_html",
    "Transfer": "transfer_html",
}
"""Kinds of objects, and the functions that draw them there."""


_PAGES = {"Transfer": ("report.mapping", "transfer_page")}
"""Kinds of objects that have a page, and where the function stands that draws it."""


def html_of(shown: object) -> str:
    """An object as a fragment of HTML, for `_repr_html_`.

    Args:
        shown: of a kind that `parity.notebook` draws, or of one derived from it.

    Example:
        >>> html_of("a < b")
        '<pre>&#x27;a &lt; b&#x27;</pre>'
    """
    names = [_DRAWN_BY[kind.__name__] for kind in type(shown).__mro__ if kind.__name__ in _DRAWN_BY]
    if not names:
        return f"<pre>{escape(repr(shown))}</pre>"
    drawn: str = getattr(importlib.import_module(f"parity.{_DRAWN_IN}"), names[0])(shown)
    return drawn


def save_page(shown: object, path: Path, overwrite: bool = False) -> Path:
    """Write an object as a page.

    Args:
        shown: of a kind that has a page.
        path: of the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        ParityError: the file exists and `overwrite` is False, or cannot be written.
    """
    module, function = _PAGES[type(shown).__name__]
    page: str = getattr(importlib.import_module(f"parity.{module}"), function)(shown)
    written: Path = importlib.import_module("parity.report").write_text(path, page, overwrite)
    return written


__all__ = ["html_of", "save_page"]
