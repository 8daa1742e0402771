"""Facts of a record in words: shapes, places, values, and labels that stand for themselves."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from parity.report.numbers import DASH, spell


def isolated(text: str, labels: Iterable[str]) -> Markup:
    """A text in which every label stands for itself, whatever its direction of writing.

    Example:
        >>> isolated("'a' and 'b' agree", ["'a'"])
        Markup('<bdi>&#39;a&#39;</bdi> and &#39;b&#39; agree')
    """
    known = sorted({label for label in labels if label}, key=len, reverse=True)
    if not known:
        return escape(text)
    pieces = re.split(f"({'|'.join(map(re.escape, known))})", text)
    return Markup("").join(
        Markup("<bdi>{}</bdi>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )


def turns(name: str) -> bool:
    """Whether a name has letters that are written from right to left, which can turn what stands beside it.

    Example:
        >>> turns("lstm_1"), turns("\N{HEBREW LETTER ALEF}lef")
        (False, True)
    """
    return any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in name)


def breakable(name: str) -> Markup:
    """A name that may go on in the next line where a word of it begins.

    Example:
        >>> breakable("LayerNormalization"), breakable("blocks.0_norm")
        (Markup('Layer<wbr>Normalization'), Markup('blocks.<wbr>0_<wbr>norm'))
    """
    return Markup("<wbr>").join(re.split(r"(?<=[._/])(?=[^._/])|(?<=[a-z])(?=[A-Z])", name))


def shape_in_words(shape: Sequence[int | str]) -> str:
    """A shape as Python writes it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def place_in_words(place: Mapping[str, Any]) -> str:
    """A place by the names of its axes."""
    return ", ".join(f"{axis} {position}" for axis, position in place.items())


def value_in_words(value: Any) -> str:
    """A fact of any type in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return spell(value, digits=6)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_in_words, value))
    return DASH if value is None else str(value)


__all__ = ["breakable", "isolated", "place_in_words", "shape_in_words", "turns", "value_in_words"]
