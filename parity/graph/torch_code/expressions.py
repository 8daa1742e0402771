"""Expressions of Python, with brackets where they need them and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How tightly an expression holds together; source: the Python language reference, "Operator precedence"."""

    COMPARISON = 0
    OR = 1
    AND = 2
    SUM = 3
    PRODUCT = 4
    SIGN = 5
    POWER = 6
    ATOM = 7


_LEVELS = {
    "==": Level.COMPARISON,
    "!=": Level.COMPARISON,
    ">": Level.COMPARISON,
    ">=": Level.COMPARISON,
    "<": Level.COMPARISON,
    "<=": Level.COMPARISON,
    "|": Level.OR,
    "&": Level.AND,
    "+": Level.SUM,
    "-": Level.SUM,
    "*": Level.PRODUCT,
    "/": Level.PRODUCT,
    "@": Level.PRODUCT,
}
_JOINS = {"+", "*", "&", "|"}
"""Chains of these are written without brackets; the value is that of the chain from left to right."""

_SIMPLE = re.compile(r"-?[\w.\ue000\ue001]+\Z")


@dataclass(frozen=True)
class Expr:
    """An expression.

    Args:
        text: of it; variables that have no name yet are tokens, see `parity.graph.torch_code.body`.
        level: how tightly it holds together.
        weight: how much happens in it: nothing in a name or a number, one in a function, two in a layer.
    """

    text: str
    level: Level = Level.ATOM
    weight: int = 0

    def at(self, level: Level) -> str:
        """Its text where something at least so tight has to stand.

        Example:
            >>> binary("+", Expr("a"), Expr("b")).at(Level.PRODUCT)
            '(a + b)'
        """
        return self.text if self.level >= level else f"({self.text})"

    @property
    def is_name(self) -> bool:
        """Whether it costs nothing to write it again."""
        return self.weight == 0


def total(operands: Iterable[Expr], own: int = 1) -> int:
    """The weight of something with operands."""
    return own + sum(operand.weight for operand in operands)


def binary(operator: str, left: Expr, right: Expr) -> Expr:
    """Two operands with an operator between.

    Example:
        >>> binary("-", Expr("a"), binary("-", Expr("b"), number(-2.0))).text
        'a - (b + 2.0)'
    """
    level = _LEVELS[operator]
    if operator in "+-" and right.text.startswith("-") and right.level == Level.SIGN:
        operator, right = "-" if operator == "+" else "+", Expr(right.text[1:], Level.ATOM, right.weight)
    tight = Level(level + 1)
    first = tight if level == Level.COMPARISON else level
    return Expr(f"{left.at(first)} {operator} {right.at(tight)}", level, total([left, right]))


def chain(operator: str, operands: list[Expr]) -> Expr:
    """Several operands with one operator between, from left to right.

    Example:
        >>> chain("*", [Expr("a"), Expr("b"), binary("+", Expr("c"), Expr("d"))]).text
        'a * b * (c + d)'
    """
    assert operator in _JOINS
    found = operands[0]
    for operand in operands[1:]:
        found = binary(operator, found, operand)
    return found


def power(base: Expr, exponent: Expr) -> Expr:
    """Formatters write the spaces only around operands that are no names or numbers.

    Example:
        >>> power(Expr("x"), Expr("2")).text, power(call("f", "x"), Expr("2")).text
        ('x**2', 'f(x) ** 2')
    """
    left, right = base.at(Level.ATOM), exponent.at(Level.SIGN)
    space = "" if _SIMPLE.match(left) and _SIMPLE.match(right) else " "
    return Expr(f"{left}{space}**{space}{right}", Level.POWER, total([base, exponent]))


def prefixed(sign: str, operand: Expr) -> Expr:
    """An operand behind "-" or "~"."""
    return Expr(f"{sign}{operand.at(Level.SIGN)}", Level.SIGN, total([operand]))


def call(function: str, *arguments: Expr | str, weight: int = 1) -> Expr:
    """A call; arguments that are text are written as they are.

    Example:
        >>> call("torch.softmax", binary("+", Expr("a"), Expr("b")), "dim=-1").text
        'torch.softmax(a + b, dim=-1)'
    """
    texts = [one if isinstance(one, str) else one.text for one in arguments]
    return Expr(
        f"{function}({', '.join(texts)})",
        Level.ATOM,
        total([one for one in arguments if isinstance(one, Expr)], weight),
    )


def method(owner: Expr, name: str, *arguments: Expr | str) -> Expr:
    """A call of a method.

    Example:
        >>> method(binary("+", Expr("a"), Expr("b")), "sum", "dim=1").text
        '(a + b).sum(dim=1)'
    """
    made = call(f"{owner.at(Level.ATOM)}.{name}", *arguments)
    return Expr(made.text, made.level, made.weight + owner.weight)


def index(owner: Expr, *places: str) -> Expr:
    """A subscript.

    Example:
        >>> index(Expr("x"), ":", "-1").text
        'x[:, -1]'
    """
    return Expr(f"{owner.at(Level.ATOM)}[{', '.join(places)}]", Level.ATOM, owner.weight + 1)


def number(value: float | bool, single: bool = False) -> Expr:
    """A number; a negative one holds together as a sign does.

    Args:
        value: of any kind.
        single: whether float32's digits are enough.

    Example:
        >>> number(-0.5).text, number(True).text, number(float("inf")).text, number(1e30).text
        ('-0.5', 'True', 'math.inf', '1e30')
    """
    if isinstance(value, bool):
        return Expr(str(value))
    if value != value:  # noqa: PLR0124  the only number unlike itself
        return Expr("math.nan")
    if value in (float("inf"), float("-inf")):
        return Expr("math.inf") if value > 0 else Expr("-math.inf", Level.SIGN)
    text = (_shortest(value) if single and isinstance(value, float) else repr(value)).replace("e+", "e")
    return Expr(text, Level.SIGN if text.startswith("-") else Level.ATOM)


def _shortest(value: float) -> str:
    """The fewest digits that are the same number in float32.

    Example:
        >>> import numpy as np
        >>> _shortest(float(np.float32(0.2)))
        '0.2'
    """
    import numpy as np

    return repr(float(str(np.float32(value))))


__all__ = [
    "Expr",
    "Level",
    "binary",
    "call",
    "chain",
    "index",
    "method",
    "number",
    "power",
    "prefixed",
    "total",
]
