"""How a notebook's HTML is drawn: templates, text that stays text, and cuts that keep large things small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Generic, TypeVar

from jinja2 import Environment
from markupsafe import Markup, escape

from parity.inspection.text import printable
from parity.report.in_words import isolated
from parity.report.templating import environment_with

CELL, LINE = 400, 1200
"""So many characters of a table's cell, and of a sentence, are shown."""

_AROUND_A_CELL = 32
"""Bytes of HTML around each text, on average."""

Shown = TypeVar("Shown")
Item = TypeVar("Item", str, tuple[str, ...])


def never_raising(draw: Callable[[Shown], str]) -> Callable[[Shown], str]:
    """The same drawing, but `repr` where it fails: an object that cannot be displayed would hide the result behind a traceback.

    Example:
        >>> never_raising(lambda shown: str(1 / 0))("<b>")
        '<pre>&#39;&lt;b&gt;&#39;</pre>'
    """

    @wraps(draw)
    def drawn(shown: Shown) -> str:
        try:
            return draw(shown)
        except Exception:
            return f"<pre>{escape(printable(_repr(shown), LINE))}</pre>"

    return drawn


def _repr(shown: object) -> str:
    try:
        return repr(shown)
    except Exception:
        return object.__repr__(shown)


@dataclass(frozen=True)
class Cut(Generic[Item]):
    """Rows or lines, as many as there is room for.

    Args:
        first: the first ones.
        left_out: how many are not shown.
        last: the last ones, behind the gap.
    """

    first: tuple[Item, ...]
    left_out: int = 0
    last: tuple[Item, ...] = ()


def cut(items: Iterable[Item], room: int, last: int = 0) -> Cut[Item]:
    """Rows or lines within some bytes of HTML; the first is shown in any case.

    Args:
        items: texts, or rows of texts.
        room: bytes.
        last: how many from the end are shown where some are left out.

    Example:
        >>> cut(["a" * 10, "b", "c", "d"], room=80, last=1)
        Cut(first=('aaaaaaaaaa',), left_out=2, last=('d',))
        >>> cut(["a", "b"], room=80).left_out
        0
    """
    every = tuple(items)
    sizes = [_size(item) for item in every]
    if sum(sizes) <= room:
        return Cut(every)
    tail = min(last, max(0, len(every) - 1))
    room -= sum(sizes[len(every) - tail :])
    count = 0
    while count < len(every) - tail and (room >= sizes[count] or not count):
        room -= sizes[count]
        count += 1
    return Cut(every[:count], len(every) - count - tail, every[len(every) - tail :])


def _size(item: str | tuple[str, ...]) -> int:
    cells, most = ((item,), LINE) if isinstance(item, str) else (item, CELL)
    return sum(len(escape(printable(text, most)).encode()) + _AROUND_A_CELL for text in cells)


def lines(text: str) -> str:
    """Text of several lines in which control characters are written out; an end of line stays one.

    Example:
        >>> lines("a\\n\\x1b[31mb")
        'a\\n\\\\x1b[31mb'
    """
    return "\n".join(printable(line, LINE) for line in text.split("\n"))


def _isolated(text: str, names: Sequence[str]) -> Markup:
    return isolated(text, [printable(name, LINE) for name in names])


@cache
def _environment() -> Environment:
    return environment_with(
        cell=lambda text: printable(text, CELL),
        line=lambda text: printable(text, LINE),
        lines=lines,
        isolated=_isolated,
    )


def rendered(template: str, **view: Any) -> str:
    """A template of `parity/report/templates` with what it shows."""
    return _environment().get_template(template).render(view)


__all__ = ["CELL", "LINE", "Cut", "cut", "lines", "never_raising", "rendered"]
