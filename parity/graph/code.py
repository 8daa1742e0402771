"""What the writers of source code have in common: the answer, identifiers, calls that are wrapped as formatters wrap them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.deferred import Blocks
from parity.graph.graph import Graph
from parity.graph.names import chosen_name, unused_name

SOURCE_FILE = "source file"
"""The name of the file of a graph, among its details."""

_FRAMEWORKS = {"keras": "Keras", "torch": "PyTorch", "onnx": "ONNX", "onnxruntime": "ONNX"}

WIDTH = 88
"""Columns of the code that is written: the default of ruff and black."""


@dataclass(frozen=True, eq=False)
class Code:
    """A module that was written, and what it loads.

    Args:
        source: of the module.
        weights: by the names that the module gives them, in the order and layout in which it keeps them.
        notes: what else to know: options that do nothing at inference and were left out, layers said by several of the target's.
        stubs: layers that raise until somebody writes them.
        attributes: what the module calls each operation that it keeps, by the operation's name.
    """

    source: str
    weights: dict[str, Blocks]
    notes: tuple[str, ...] = ()
    stubs: tuple[str, ...] = field(default=())
    attributes: dict[str, str] = field(default_factory=dict)


def identifiers(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """A Python identifier for every name, all different, as like the names as can be.

    Args:
        names: of layers or values, each once, from anywhere.
        reserved: what must not be taken.

    Example:
        >>> identifiers(["encoder/lstm", "lstm 2", "class", "größe"], reserved={"forward"})
        {'encoder/lstm': 'encoder_lstm', 'lstm 2': 'lstm_2', 'class': 'class_', 'größe': 'gr_e'}
    """
    taken = set(reserved)
    found: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60] or "layer"
        base = f"layer_{base}" if base[0].isdigit() else base
        base = f"{base}_" if keyword.iskeyword(base) or keyword.issoftkeyword(base) else base
        own = unused_name(base, taken)
        taken.add(own)
        found[name] = own
    return found


def wrapped(start: str, arguments: Sequence[str], end: str, indent: int = 0) -> list[str]:
    """A call (or any bracket) in one line where it fits, else as ruff and black wrap it.

    Args:
        start: up to and with the opening bracket, such as "self.lstm = nn.LSTM(".
        arguments: each without a comma.
        end: the closing bracket and what follows it.
        indent: spaces before it.

    Example:
        >>> wrapped("x = f(", ["1", "units=2"], ")")
        ['x = f(1, units=2)']
        >>> wrapped("x = f(", ["a" * 50, "b" * 50], ")")[0::3]
        ['x = f(', ')']
    """
    space = " " * indent
    line = f"{space}{start}{', '.join(arguments)}{end}"
    if len(line) <= WIDTH or not arguments:
        return [line]
    inside = f"{space}    {', '.join(arguments)}"
    if len(inside) <= WIDTH:
        return [f"{space}{start}", inside, f"{space}{end}"]
    return [f"{space}{start}", *(f"{space}    {argument}," for argument in arguments), f"{space}{end}"]


def prose(text: object, most: int = 100) -> str:
    """A text from anywhere, fit for a comment or a docstring: one line of plain characters without quotes or backslashes.

    Example:
        >>> prose("a \\"\\"\\" b\\\\n")
        "a ''' b/n"
    """
    plain = "".join(letter if " " <= letter <= "~" else " " for letter in str(text))
    found = " ".join(plain.replace('"', "'").replace("\\", "/").split())
    return found if len(found) <= most else f"{found[: most - 3]}..."


def named_for_code(graph: Graph, path: Path | None = None) -> Graph:
    """A graph with the name and the origin that its code says.

    Args:
        graph: as it was read.
        path: of the file that it was read from, if there is one; only its name appears in the code.

    Example:
        >>> named = named_for_code(Graph("functional_1", (), (), {}, "keras"), Path("models/ethnicolr.h5"))
        >>> named.name, converted_from(named)
        ('ethnicolr', 'converted from Keras (ethnicolr.h5)')
    """
    details = {**graph.details, **({SOURCE_FILE: path.name} if path is not None else {})}
    return replace(graph, name=chosen_name(graph.name, path.name if path is not None else ""), details=details)


def converted_from(graph: Graph) -> str:
    """Where a graph comes from, in words; "" where nobody knows."""
    file = prose(graph.details.get(SOURCE_FILE, ""), 40)
    origin = _FRAMEWORKS.get(graph.origin, prose(graph.origin, 40))
    words = f"{origin} ({file})" if origin and file else origin or file
    return f"converted from {words}" if words else ""


def first_lines(graph: Graph, after: str = "") -> list[str]:
    """How the docstring of a module begins: what the model is called, and where it comes from.

    Args:
        graph: see `named_for_code`.
        after: what follows the name.

    Example:
        >>> first_lines(Graph("tagger", (), (), {}, "onnxruntime"), " in Keras 3"), first_lines(Graph("model", (), (), {}))
        (['\"\"\"The model tagger in Keras 3, converted from ONNX.'], ['\"\"\"The model.'])
    """
    title = "The model" if graph.name.lower() == "model" else f"The model {prose(graph.name, 50)}"
    start, origin = f'"""{title}{after}', converted_from(graph)
    together = f"{start}, {origin}." if origin else f"{start}."
    return [together] if len(together) <= WIDTH else [f"{start}.", "", f"{origin[0].upper()}{origin[1:]}."]


__all__ = [
    "SOURCE_FILE",
    "WIDTH",
    "Code",
    "converted_from",
    "first_lines",
    "identifiers",
    "named_for_code",
    "prose",
    "wrapped",
]
