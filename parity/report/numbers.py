"""Numbers of the record for people: three digits, decimal points one below the other."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from parity.spelling import MINUS, is_plain, number, scientific, spell

TIMES, DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


def is_finite(value: Any) -> bool:
    """Whether a number of the record is an ordinary one."""
    return math.isfinite(number(value))


def aligned(value: Any, digits: int = 3) -> Markup:
    """A number in two parts, cut before its decimal point, for a column whose points stand one below the other.

    Args:
        value: a number of the record.
        digits: how many significant ones.

    Example:
        >>> aligned(0.25)
        Markup('0<i>.250</i>')
        >>> aligned(6.5263e-8), aligned(1.174)
        (Markup('6<i>.53e-8</i>'), Markup('1<i>.17</i>'))
    """
    x = number(value)
    if not math.isfinite(x) or x == 0:
        return Markup("{}<i></i>").format(spell(x))
    text = _plain(x, digits) if is_plain(x) else scientific(x, digits)
    whole, _, rest = text.partition(".")
    return Markup("{}<i>{}</i>").format(whole, f".{rest}" if rest else "")


def exact(value: Any, digits: int = 3) -> str:
    """A number for a table of nothing but numbers: always with an exponent, so that the points stand one below the other.

    Args:
        value: a number of the record; None is no number, and words stay what they are.
        digits: how many significant ones.

    Example:
        >>> [exact(value) for value in (0.25, 6.5263e-8, 0, None, "inf", "padding")]
        ['2.50e-1', '6.53e-8', '0', '–', '∞', 'padding']
    """
    if value is None or value == "padding":
        return DASH if value is None else str(value)
    x = number(value)
    return scientific(x, digits) if math.isfinite(x) and x else spell(x)


def _plain(x: float, digits: int) -> str:
    if abs(x) < 0.01:  # of one digit: zeros behind it would claim more
        return spell(x, digits)
    return f"{x:.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


__all__ = ["DASH", "MINUS", "TIMES", "aligned", "exact", "is_finite", "number", "spell"]
