"""Numbers and names as every way to show a comparison writes them: in sentences, on the terminal, on pages, in CI."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

MINUS = "\N{MINUS SIGN}"

_PLAIN = (0.01, 10_000.0)
_ROUND = 1e-4
"""From here on a number of one digit, as an option often is, needs no exponent."""


def number(value: Any) -> float:
    """A number of a record, where numbers that are not finite stand as strings and NaN may stand as None.

    Example:
        >>> number("inf"), number(0.5)
        (inf, 0.5)
    """
    return math.nan if value is None else float(value)


def is_plain(x: float) -> bool:
    """Whether a finite number is written without an exponent.

    Example:
        >>> [is_plain(x) for x in (0.2, 0.001, 0.00123, 12345.0)]
        [True, True, False, False]
    """
    if x == 0 or _PLAIN[0] <= abs(x) < _PLAIN[1]:
        return True
    return _ROUND * 0.999999 <= abs(x) < _PLAIN[0] and len(f"{abs(x):.5e}".partition("e")[0].rstrip("0.")) == 1


def scientific(x: float, digits: int) -> str:
    """A finite number with an exponent that has no sign of plus and no zeros in front.

    Example:
        >>> scientific(6.5263e-8, 3), scientific(1e6, 2)
        ('6.53e-8', '1.0e6')
    """
    mantissa, _, exponent = f"{x:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def spell(value: Any, digits: int = 3) -> str:
    """A number with that many significant digits, scientific where it is small or large.

    Example:
        >>> [spell(x) for x in (0.21811, 2.0, 563.9003, 6.5263e-8, 123456, 0, "nan", "inf")]
        ['0.218', '2', '564', '6.53e-8', '1.23e5', '0', 'NaN', '∞']
        >>> [spell(x, 6) for x in (0.001, 0.0001, 0.00015, 1e-5)]
        ['0.001', '0.0001', '1.5e-4', '1e-5']
    """
    x = number(value)
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "∞" if x > 0 else f"{MINUS}∞"
    if is_plain(x):
        text = f"{x:.{digits}g}"
        return f"{x:.0f}" if "e" in text else text
    mantissa, _, exponent = scientific(x, digits).partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"


def spell_ascii(value: Any, digits: int = 3) -> str:
    """What `spell` says, in characters that every terminal and every log has.

    Example:
        >>> spell_ascii(1470000.0), spell_ascii("inf"), spell_ascii(float("nan"))
        ('1.47e6', 'inf', 'nan')
    """
    x = number(value)
    return spell(x, digits) if math.isfinite(x) else str(x)


def named_apart(name: str, taken: Container[str]) -> str:
    """A name, with a number behind it where others have it already.

    Example:
        >>> named_apart("GRU 'gru' (torch)", ["GRU 'gru' (torch)"])
        "GRU 'gru' (torch) #2"
    """
    number, unique = 2, name
    while unique in taken:
        number, unique = number + 1, f"{name} #{number}"
    return unique


__all__ = ["MINUS", "is_plain", "named_apart", "number", "scientific", "spell", "spell_ascii"]
