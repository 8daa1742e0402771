"""Names: the words for axes, and those of inputs and outputs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from parity.frameworks.torch.whole.tracing import Traced, expressions, user_inputs

_USUAL, _MOST = 2, 2**31
"""A trace never holds for lengths below 2; the graph does, unless it says more."""

_CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


def axis_words(traced: Traced) -> dict[Any, str]:
    """A word for every free axis of the inputs: "batch" and "time" as the recurrent layers use them, else for the axes 0 and 1.

    First axes of several inputs that have one length in the example are one batch, also where nothing in the module compares them.
    """
    shapes = list(zip(traced.axes, (one.shape for one in traced.example.tensors), strict=True))
    free = [length for shape in traced.axes for length in shape if not isinstance(length, int)]
    batches, time = _as_used(traced.program)
    found = [one for one in batches if one in free]
    found = found or [shape[0] for shape in traced.axes if shape and shape[0] in free and shape[0] != time][:1]
    batch = found[0] if found else None
    words: dict[Any, str] = dict.fromkeys(found, "batch")
    if time in free and time not in words:
        words[time] = "time"
    sizes = {shape[axis]: real[axis] for shape, real in shapes for axis in range(len(shape))}
    for place, shape in enumerate(traced.axes):
        # The last axis of an image or a spectrogram is the longer one, mostly.
        for axis, length in reversed(list(enumerate(shape))) if len(shape) == 4 else enumerate(shape):
            if isinstance(length, int) or length in words:
                continue
            if axis == 0 and batch is not None and sizes[length] == sizes[batch]:
                words[length] = "batch"
            else:
                alone = all(isinstance(one, int) or words.get(one) == "batch" for one in shape if one != length)
                words[length] = _free_word(words, user_inputs(traced.program)[place].name, axis, alone)
    return words


def _free_word(words: dict[Any, str], name: str, axis: int, alone: bool) -> str:
    """ "time" for the first free axis behind the batch, then the input's own; the number of the axis for further ones."""
    taken = set(words.values())
    candidates = ("time", f"{name}_time") if alone else ("time",)
    return next((word for word in candidates if word not in taken), f"{name}_length_{axis}")


def _as_used(program: Any) -> tuple[list[Any], Any]:
    """The lengths that the first recurrent layer takes for batch (one, or two that torch does not compare) and time."""
    for node in program.graph.nodes:
        if node.op != "call_function" or not hasattr(node.target, "_schema"):
            continue
        kind = node.target._schema.name
        if kind == "parity::recurrent" and node.args[2] is None:
            batch, time = _in_order(node.args[1], node.args[-1])
            return [batch], time
        if kind == "parity::pack":
            batch, time = _in_order(node.args[0], node.args[2])
            inner = node.args[0].args[0] if "index_select" in str(node.args[0].target) else node.args[0]
            return [batch, _in_order(inner, node.args[2])[0]], time
        if kind.removeprefix("aten::") in _CELLS:
            return [_symbol(expressions(node.args[0].meta["val"].shape)[0])], None
    return [], None


def _in_order(node: Any, batch_first: bool) -> tuple[Any, Any]:
    """The free lengths behind batch and time of a sequence."""
    first, second = map(_symbol, expressions(node.meta["val"].shape)[:2])
    return (first, second) if batch_first else (second, first)


def _symbol(length: Any) -> Any:
    """The one free length that an expression depends on."""
    found = set() if isinstance(length, int) else length.free_symbols
    return found.pop() if len(found) == 1 else None


def limits_of(traced: Traced, words: dict[Any, str]) -> str:
    """Between which lengths the trace holds: an `if` on a length, or a window, may stand behind them. "" where it always does."""
    found: dict[str, None] = {}
    for length, bounds in traced.program.range_constraints.items():
        word, low, high = words.get(length), bounds.lower, bounds.upper
        if word and low.is_Integer and low > _USUAL:
            found[f"{word} at least {int(low)}"] = None
        if word and high.is_Integer and high < _MOST:
            found[f"{word} at most {int(high)}"] = None
    return ", ".join(found)


def call_words(traced: Traced, names: list[str]) -> str:
    """How the module is called, as Python says it: "x, (hx_0, hx_1)"; numbers and None as they are.

    Returns:
        The arguments of the call, good for `ast.parse`.
    """
    following = iter(names)
    args, kwargs = pytree.tree_map(
        lambda leaf: _Word(next(following)) if isinstance(leaf, Tensor) else leaf,
        (traced.example.args, traced.example.kwargs),
    )
    return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])


class _Word(str):
    """A name that shows itself without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def output_names(spec: Any) -> list[str]:
    """Names of what a module returns: the keys of a dict, the fields of a named tuple, else "output", "output_1", ...

    Args:
        spec: the tree of the return, as `torch.export` keeps it.
    """
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths, _ = pytree.tree_flatten_with_path(tree)
    found: list[str] = []
    for position, (path, _) in enumerate(paths):
        words = list(itertools.dropwhile(str.isdigit, _words(path)))
        name = "_".join(words) or (f"output_{position}" if position else "output")
        while name in found:
            name += "_"
        found.append(name)
    return found


def _words(path: Any) -> Iterator[str]:
    for step in path:
        own = getattr(step, "key", getattr(step, "name", getattr(step, "idx", None)))
        yield re.sub(r"\s+", "_", str(own))


__all__ = ["axis_words", "call_words", "limits_of", "output_names"]
