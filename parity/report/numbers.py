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


def _plain(x: float, digits: int) -> str:
    if abs(x) < 0.01:  # of one digit: zeros behind it would claim more
        return spell(x, digits)
    return f"{x:.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


__all__ = ["DASH", "MINUS", "TIMES", "aligned", "is_finite", "number", "spell"]
