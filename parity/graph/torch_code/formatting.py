"""Lines that are too long, wrapped as ruff and black wrap them."""

from __future__ import annotations

from parity.graph.code import WIDTH

_OPENING, _CLOSING = "([{", ")]}"


def formatted(start: str, text: str, indent: int, end: str = "") -> list[str]:
    """An expression behind a start such as "x = ", in one line where it fits, else its last bracket opened.

    Args:
        start: what stands before it in its line.
        text: the expression: a call, or anything that ends with a bracket; others stay in one line.
        indent: spaces before it.
        end: what follows it.

    Example:
        >>> print("\\n".join(formatted("x = ", f"torch.cat([{'a' * 38}, {'b' * 38}], dim=-1)", 0)))
        x = torch.cat(
            [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb],
            dim=-1,
        )
    """
    space = " " * indent
    line = f"{space}{start}{text}{end}"
    opening = last_bracket(text)
    if len(line) <= WIDTH or opening is None or opening == len(text) - 2:
        return [line]
    head, inside, tail = text[: opening + 1], text[opening + 1 : -1], text[-1]
    whole = f"{space}    {inside}"
    arguments = _parts(inside)
    if len(whole) <= WIDTH:
        # A single generator or argument has no comma behind it, nor have arguments that stand in one line.
        return [f"{space}{start}{head}", whole, f"{space}{tail}{end}"]
    lines = [f"{space}{start}{head}"]
    for argument in arguments:
        name, equals, value = argument.partition("=")
        keyword = bool(equals) and name.isidentifier()
        lines += formatted(f"{name}=" if keyword else "", value if keyword else argument, indent + 4, ",")
    return [*lines, f"{space}{tail}{end}"]


def last_bracket(text: str) -> int | None:
    """Where the bracket opens that the text ends with.

    Example:
        >>> last_bracket("f(a).g(b)"), last_bracket("(a) + b")
        (6, None)
    """
    if not text or text[-1] not in _CLOSING:
        return None
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] in _CLOSING) - (text[place] in _OPENING)
        if depth == 0:
            return place
    return None


def _parts(text: str) -> list[str]:
    """What stands between the commas that are in no bracket.

    Example:
        >>> _parts("[a, b], dim=1")
        ['[a, b]', 'dim=1']
    """
    found, depth, start, quoted = [], 0, 0, False
    for place, letter in enumerate(text):
        quoted ^= letter == '"'
        depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0 and not quoted:
            found.append(text[start:place].strip())
            start = place + 1
    return [*found, text[start:].strip()]


__all__ = ["formatted", "last_bracket"]
