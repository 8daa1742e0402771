"""Options that are attributes of live layers and modules, set by a line of code."""

from __future__ import annotations

from collections.abc import Mapping


def attribute_lines(
    words: str, owner: object, names: Mapping[str, tuple[str, str]], option: str, right: object
) -> list[str]:
    """The line that gives a live layer an option that the right model has; none where either of them has no such.

    Args:
        words: Python for the layer.
        owner: the layer; None where there is none.
        names: what layers call an option, and what the graph's operations call it, by its name in canonical terms.
        option: in canonical terms.
        right: the operation of the right model.

    Example:
        >>> from types import SimpleNamespace
        >>> names = {"epsilon": ("eps", "epsilon")}
        >>> attribute_lines("suspect.norm", SimpleNamespace(eps=1e-5), names, "epsilon", SimpleNamespace(epsilon=1e-3))
        ['suspect.norm.eps = 0.001']
    """
    name, own = names.get(option, ("", ""))
    if not name or not hasattr(owner, name) or not hasattr(right, own):
        return []
    value = getattr(right, own)
    said = f"{float(f'{value:.7g}')!r}" if isinstance(value, float) else repr(value)
    return [f"{words}.{name} = {said}"]


__all__ = ["attribute_lines"]
