"""The lines of a function: variables get their names when it is known how long each of them lives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from parity.graph.code import WIDTH
from parity.graph.torch_code.expressions import Expr
from parity.graph.torch_code.formatting import formatted, last_bracket

_TOKEN = re.compile("\ue000(\\d+)\ue001")
_INDENT = 8
_CHAIN = "x"
"""The name of what the next line takes and no other."""


@dataclass(frozen=True)
class _Variable:
    wanted: tuple[str, ...]
    given: bool
    chained: bool


@dataclass(frozen=True)
class _Statement:
    left: str
    right: str
    comment: str
    returns: bool = False

    @property
    def targets(self) -> list[int]:
        return _tokens(self.left)

    @property
    def sources(self) -> list[int]:
        return _tokens(self.right)


def _tokens(text: str) -> list[int]:
    return [int(found) for found in _TOKEN.findall(text)]


def variables(text: str) -> list[str]:
    """The variables in an expression, as it writes them."""
    return [found[0] for found in _TOKEN.finditer(text)]


class Body:
    """The lines of `forward`, in the making.

    Args:
        inputs: the names of its arguments, by what they stand for.
        reserved: names that no variable may have.

    Example:
        >>> body = Body(["x"], ())
        >>> value = body.assign(Expr(f"torch.relu({body.inputs['x'].text})"), ["relu"], "(batch, 3)")
        >>> body.returns(Expr(f"{value.text} + {value.text}"), "")
        >>> print("\\n".join(body.lines()))
                x = torch.relu(x)  # (batch, 3)
                return x + x
    """

    def __init__(self, inputs: Iterable[str], reserved: Iterable[str]) -> None:
        self._variables: list[_Variable] = []
        self._statements: list[_Statement] = []
        self._reserved = frozenset(reserved)
        self.inputs = {name: self._new((name,), given=True) for name in inputs}

    def _new(self, wanted: Sequence[str], given: bool = False, chained: bool = True) -> Expr:
        self._variables.append(_Variable(tuple(wanted), given, chained))
        return Expr(f"\ue000{len(self._variables) - 1}\ue001")

    def assign(self, value: Expr, wanted: Sequence[str], comment: str = "") -> Expr:
        """A line that gives a value a name; `wanted` are names that would suit it, the best first."""
        found = self._new(wanted)
        self._statements.append(_Statement(found.text, value.text, comment))
        return found

    def unpack(
        self, pattern: str, value: Expr, wanted: Sequence[Sequence[str]], chained: int = 0, comment: str = ""
    ) -> tuple[Expr, ...]:
        """A line that gives names to parts of a value.

        Args:
            pattern: of its left side; `{}` stands for each part.
            value: what has parts.
            wanted: names that would suit each part.
            chained: so many of the parts, from the first on, may be what the next line takes and no other.
            comment: on the line.
        """
        found = tuple(self._new(names, chained=place < chained) for place, names in enumerate(wanted))
        self._statements.append(_Statement(pattern.format(*(one.text for one in found)), value.text, comment))
        return found

    def returns(self, value: Expr, comment: str) -> None:
        """The last line."""
        self._statements.append(_Statement("", value.text, comment, returns=True))

    def width(self, text: str) -> int:
        """About how long a text will be."""
        return len(_TOKEN.sub(lambda found: max(self._variables[int(found[1])].wanted[-1:], default="x"), text))

    # ---- names

    def lines(self) -> list[str]:
        """The lines, indented as those of a method."""
        statements = self._needed()
        names = self._names(statements)
        found: list[str] = []
        for statement in statements:
            found += _written(statement, lambda text: _TOKEN.sub(lambda token: names.get(int(token[1]), "_"), text))
        return found

    def _needed(self) -> list[_Statement]:
        """Without lines whose values nobody takes."""
        taken: set[int] = set()
        kept: list[_Statement] = []
        for statement in reversed(self._statements):
            if statement.returns or taken & set(statement.targets):
                kept.append(statement)
                taken |= set(statement.sources)
        return kept[::-1]

    def _names(self, statements: Sequence[_Statement]) -> dict[int, str]:
        uses: dict[int, list[int]] = {}
        for place, statement in enumerate(statements):
            for source in statement.sources:
                uses.setdefault(source, []).append(place)
        inputs = {token: one.wanted[0] for token, one in enumerate(self._variables) if one.given}
        live = {token: name for token, name in inputs.items() if token in uses}
        found = dict(inputs)
        unused = {name for token, name in inputs.items() if token not in uses}
        for place, statement in enumerate(statements):
            live = {token: name for token, name in live.items() if uses[token][-1] > place}
            for token in statement.targets:
                if token not in uses:
                    continue
                near = uses[token][-1] == place + 1 and self._variables[token].chained
                wanted = ((_CHAIN,) if near else ()) + self._variables[token].wanted
                free = [name for name in wanted if name not in self._reserved | unused | set(live.values())]
                found[token] = live[token] = free[0] if free else self._numbered(wanted[-1], set(live.values()))
        return found

    def _numbered(self, name: str, taken: set[str]) -> str:
        number = 2
        while f"{name}_{number}" in taken | self._reserved:
            number += 1
        return f"{name}_{number}"


def _written(statement: _Statement, named: Callable[[str], str]) -> list[str]:
    left = re.sub(r"\((_, )+_\)", "_", named(statement.left))
    right = named(statement.right)
    if left == right:
        return []
    start = "return " if statement.returns else f"{left} = "
    halves = _in_two(right, _CHAIN if statement.returns else left)
    if halves is not None and len(start) + len(right) + _INDENT > WIDTH:
        first = _Statement(halves[1], halves[0], "")
        return _written(first, str) + _written(replace(statement, left=left, right="".join(halves[1:])), str)
    lines = formatted(start, right, _INDENT)
    if not statement.comment:
        return lines
    comment = f"# {statement.comment}"
    if len(lines) == 1 and len(lines[0]) + 2 + len(comment) <= WIDTH:
        return [f"{lines[0]}  {comment}"]
    above = " " * _INDENT + comment
    return [above, *lines] if len(above) <= WIDTH else lines


def _in_two(text: str, name: str) -> tuple[str, str, str] | None:
    """A method of what is no name, for two lines: what it is called on, the name that this gets, the method.

    Example:
        >>> _in_two("f(a).g(b)", "x"), _in_two("a.g(b)", "x"), _in_two("f(x).g(x)", "x")
        (('f(a)', 'x', '.g(b)'), None, None)
    """
    opening = last_bracket(text)
    if opening is None or not name.isidentifier():
        return None
    head = re.match(r"(.*?)(\.\w+)?\Z", text[:opening], re.DOTALL)
    assert head is not None
    owner, trailer = head[1], f"{head[2] or ''}{text[opening:]}"
    is_whole = last_bracket(owner) is not None and (head[2] or text[opening] == "[")
    return (owner, name, trailer) if is_whole and not re.search(rf"\b{name}\b", text[opening:]) else None


__all__ = ["Body", "variables"]
