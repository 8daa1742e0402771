"""How an object shows itself in a notebook. What draws it stands above everything that can be drawn, and is loaded when something is."""

from __future__ import annotations

import importlib
from html import escape

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


__all__ = ["html_of"]
