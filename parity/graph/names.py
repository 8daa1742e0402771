"""Names that nothing else has, and names of models that somebody chose."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

_MADE_UP = re.compile(
    r"((functional|sequential|model|main|graph|main[_-]?graph|subgraph|module|onnx|onnx[_-]?graph|tf2onnx|torch[_-]jit([_-]export)?"
    r"|graph_?module|(recursive_?)?script_?module|exported_?program|saved_model)([_-]?[0-9]+)?)?",
    re.IGNORECASE,
)
"""What Keras, exporters of ONNX and torch call a model that nobody has named."""


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


def chosen_name(name: str, file: str = "") -> str:
    """The name of a model: its own; that of its file where a framework has made it up; else "model".

    Args:
        name: what the model says.
        file: the file's name, if there is one.

    Example:
        >>> chosen_name("tagger", "a.onnx"), chosen_name("functional_1", "ethnicolr.weights.h5"), chosen_name("main_graph")
        ('tagger', 'ethnicolr', 'model')
    """
    if not _MADE_UP.fullmatch(name.strip()):
        return name
    return Path(file).stem.removesuffix(".weights").strip(".") or "model"


__all__ = ["chosen_name", "unused_name"]
