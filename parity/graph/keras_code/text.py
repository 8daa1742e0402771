"""Statements as ruff and black leave them: in one line where that fits, else with one argument a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.graph.code import WIDTH


@dataclass(frozen=True)
class Group:
    """What stands between brackets, which may be laid out over several lines.

    Args:
        start: up to and with the opening bracket.
        items: each without a comma.
        end: the closing bracket.

    Example:
        >>> str(Group("layers.Dense(", ("4", Group("name=(", ("'a'",), ")")), ")"))
        "layers.Dense(4, name=('a'))"
    """

    start: str
    items: tuple[str | Group, ...]
    end: str = ")"

    def __str__(self) -> str:
        return f"{self.start}{', '.join(map(str, self.items))}{self.end}"

    def over_lines(self, indent: int, before: str = "", after: str = "") -> list[str]:
        """One item a line, with a comma behind the last, which keeps formatters from joining them."""
        space = " " * indent
        lines = [f"{space}{before}{self.start}"]
        for item in self.items:
            flat = f"{space}    {item},"
            if len(flat) <= WIDTH or isinstance(item, str) or not item.items:
                lines.append(flat)
            else:
                lines += item.over_lines(indent + 4, after=",")
        return [*lines, f"{space}{self.end}{after}"]


def statement(target: str, first: Group, second: Group | None = None, comment: str = "", indent: int = 4) -> list[str]:
    """`target = first second  # comment`.

    Example:
        >>> statement("x", Group("layers.Dense(", ("4",)), Group("(", ("x",)), "(batch, 4)", 0)
        ['x = layers.Dense(4)(x)  # (batch, 4)']
        >>> print(*statement("x", Group("layers.Dense(", ("4", f"name='{'n' * 80}'")), Group("(", ("x",)))[::3], sep="\\n")
            x = layers.Dense(
            )(x)
    """
    space, remark = " " * indent, f"  # {comment}" if comment else ""
    before = f"{target} = " if target else ""
    flat = f"{space}{before}{first}{second or ''}"
    if len(flat + remark) <= WIDTH:
        return [flat + remark]
    above = [f"{space}# {comment}"] if comment else []
    if len(flat) <= WIDTH or not (first.items or (second and second.items)):
        return [*above, flat]
    if not first.items and second is not None:
        return [*above, *second.over_lines(indent, f"{before}{first}")]
    lines = first.over_lines(indent, before, str(second or ""))
    if len(lines[-1] + remark) <= WIDTH:
        return [*lines[:-1], lines[-1] + remark]
    if len(lines[-1]) <= WIDTH or second is None:
        return [*above, *lines]
    tail = second.over_lines(indent)
    return [*above, *lines[:-1], f"{space}{first.end}{tail[0].lstrip()}", *tail[1:]]


def call(function: str, *arguments: str | Group) -> Group:
    """A call of a function."""
    return Group(f"{function}(", tuple(arguments))


def texts(items: Sequence[str], brackets: str = "[]") -> Group:
    """A list, or with other brackets a tuple."""
    return Group(brackets[0], tuple(items), brackets[1])


def text(value: str) -> str:
    """A string of the code, in double quotes as formatters have it.

    Example:
        >>> print(text('a"b'), text("name"))
        'a"b' "name"
    """
    shown = ascii(value)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in value and "\\" not in shown else shown


def number(value: object) -> str:
    """A number of the code; a float32 with no more digits than it has.

    Example:
        >>> number(np.float32(0.1)), number(0.001), number(np.int64(3)), number(True)
        ('0.1', '0.001', '3', 'True')
    """
    item = value.item() if isinstance(value, np.generic) else value
    if isinstance(item, bool) or not isinstance(item, float):
        return str(item)
    if not np.isfinite(item):
        return f'float("{item}")'
    shown = str(value) if isinstance(value, np.float32) else repr(item)
    return re.sub(r"e([+-])0*(\d)", r"e\1\2", shown).replace("e+", "e")


def sizes(values: Sequence[int]) -> str:
    """Lengths for each spatial axis; one number where they are all the same.

    Example:
        >>> sizes((2, 2)), sizes((2, 3))
        ('2', '(2, 3)')
    """
    return str(values[0]) if len(set(values)) == 1 else str(tuple(int(value) for value in values))


__all__ = ["Group", "call", "number", "sizes", "statement", "text", "texts"]
