"""Numbers of the record for people: three digits, decimal points one below the other."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

TIMES, MINUS, DASH = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}", "\N{EN DASH}"

_PLAIN = (0.01, 10_000.0)


def number(value: Any) -> float:
    """A number of the record, where numbers that are not finite stand as strings and NaN may stand as None.

    Example:
        >>> number("inf"), number(0.5)
        (inf, 0.5)
    """
    return math.nan if value is None else float(value)


def is_finite(value: Any) -> bool:
    """Whether a number of the record is an ordinary one."""
    return math.isfinite(number(value))


def spell(value: Any, digits: int = 3) -> str:
    """A number with that many significant digits, scientific where it is small or large.

    Example:
        >>> [spell(x) for x in (0.21811, 2.0, 563.9003, 6.5263e-8, 123456, 0, "nan", "inf")]
        ['0.218', '2', '564', '6.53e-8', '1.23e5', '0', 'NaN', '∞']
    """
    x = number(value)
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "∞" if x > 0 else f"{MINUS}∞"
    if x == 0:
        return "0"
    if _PLAIN[0] <= abs(x) < _PLAIN[1]:
        text = f"{x:.{digits}g}"
        return f"{x:.0f}" if "e" in text else text
    mantissa, _, exponent = f"{x:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def aligned(value: Any, scientific: bool = False) -> Markup:
    """A number in two parts, cut before its decimal point, for a column whose points stand one below the other.

    Args:
        value: a number of the record.
        scientific: always with an exponent, so that a column of small and large numbers can be read downwards.

    Example:
        >>> aligned(0.25)
        Markup('0<i>.250</i>')
        >>> aligned(6.5263e-8, scientific=True)
        Markup('6<i>.53e-8</i>')
    """
    x = number(value)
    if not math.isfinite(x) or x == 0:
        return Markup("{}<i></i>").format(spell(x))
    if scientific or not _PLAIN[0] <= abs(x) < _PLAIN[1]:
        mantissa, _, exponent = f"{x:.2e}".partition("e")
        text = f"{mantissa}e{int(exponent)}"
    else:
        text = f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}"
    whole, _, rest = text.partition(".")
    return Markup("{}<i>{}</i>").format(whole, f".{rest}" if rest else "")


__all__ = ["DASH", "MINUS", "TIMES", "aligned", "is_finite", "number", "spell"]
