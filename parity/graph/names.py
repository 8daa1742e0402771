"""Names that nothing else has."""

from __future__ import annotations

from collections.abc import Container


def unused_name(wanted: str, taken: Container[str]) -> str:
    """The wanted name, or the first with a number that nothing has yet.

    Example:
        >>> unused_name("add", {"add", "add_2"}), unused_name("sum", {"add"})
        ('add_3', 'sum')
    """
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


__all__ = ["unused_name"]
