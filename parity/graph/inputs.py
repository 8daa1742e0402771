"""Inputs of a whole model: checked, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.errors import Problem, ShapeError
from parity.graph.graph import Graph, GraphInput, Wire
from parity.graph.lengths import shown
from parity.graph.operations import Constant, Elementwise, Reduction
from parity.graph.reading_notes import beyond_limits
from parity.recurrent import Array
from parity.result import Inputs, as_numbers

_KINDS = {"float32": "numbers", "int64": "integers", "bool": "truth values"}
_USUAL_VOCABULARY = 10


def check_graph_inputs(graph: Graph, inputs: Inputs, dtype: str = "float32") -> dict[str, Array]:
    """Inputs as users give them, by the graph's names.

    Args:
        graph: of the model.
        inputs: one array, a list or tuple of arrays in the model's order, or a dict by name.
        dtype: of floats.

    Raises:
        ShapeError: wrong number, names, axes or sizes, empty, not finite, or not in the vocabulary; all at once.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> left, right = build.input("left", ("batch", 2)), build.input("right", ("batch", 2))
        >>> graph = build.graph({"sum": build.add(left, right)})
        >>> {name: array.shape for name, array in check_graph_inputs(graph, [np.ones((3, 2)), np.ones((3, 2))]).items()}
        {'left': (3, 2), 'right': (3, 2)}
    """
    found = {name: as_numbers(value, f"input '{name}'") for name, value in _by_name(graph, inputs).items()}
    problems: list[Problem] = []
    lengths: dict[str, tuple[int, str]] = {}
    for one in graph.inputs:
        problems += _problems(one, found[one.name], lengths)
    problems = problems or beyond_limits(graph, {word: length for word, (length, _) in lengths.items()})
    if problems:
        raise ShapeError(problems)
    with np.errstate(over="ignore"):
        made = {
            one.name: found[one.name].astype(dtype if one.dtype == "float32" else one.dtype) for one in graph.inputs
        }
    beyond = [name for name, array in made.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if beyond:
        remedy = "replace or drop them: every engine would spread them differently"
        raise ShapeError(
            "the inputs are not finite", ", ".join(beyond), f"finite numbers in {dtype}", "NaN or infinity", remedy
        )
    return made


def _by_name(graph: Graph, inputs: Inputs) -> dict[str, Any]:
    names = [one.name for one in graph.inputs]
    if isinstance(inputs, Mapping):
        given = {str(name): value for name, value in inputs.items()}
        if len(names) == 1 and len(given) == 1:
            return {names[0]: next(iter(given.values()))}
        if set(given) != set(names):
            raise ShapeError("other inputs than the model's", graph.name, ", ".join(names), ", ".join(given) or "none")
        return given
    several = isinstance(inputs, (list, tuple)) and any(
        hasattr(item, "__array__") or hasattr(item, "detach") for item in inputs
    )
    values = list(inputs) if several and isinstance(inputs, (list, tuple)) else [inputs]
    if len(values) != len(names):
        remedy = f"give {len(names)} arrays in a list, or a dict by name"
        raise ShapeError(
            "another number of inputs than the model's", graph.name, ", ".join(names), f"{len(values)} arrays", remedy
        )
    return dict(zip(names, values, strict=True))


def _problems(one: GraphInput, array: Array, lengths: dict[str, tuple[int, str]]) -> list[Problem]:
    where = f"input '{one.name}'"
    expected = shown(one.shape)
    if array.ndim != len(one.shape) or any(
        isinstance(wanted, int) and wanted != length for wanted, length in zip(one.shape, array.shape, strict=False)
    ):
        return [Problem("the input has the wrong shape", where, expected, str(array.shape))]
    found = []
    if 0 in array.shape:
        found.append(Problem("the input is empty", where, "at least one sample and one step", str(array.shape)))
    for word, length in zip(one.shape, array.shape, strict=True):
        if isinstance(word, str):
            known, other = lengths.setdefault(word, (length, where))
            if known != length:
                what = f"inputs of one {word} differ in its length"
                found.append(Problem(what, f"{other} and {where}", str(known), str(length)))
    if one.dtype == "int64" and array.size:
        limit = np.inf if one.below is None else one.below
        low = 0 if one.below is not None else -np.inf
        outside = array[(array != np.trunc(array)) | (array < low) | (array >= limit)]
        if outside.size:
            wanted = _KINDS[one.dtype] if one.below is None else f"integers 0 to {one.below - 1}"
            found.append(Problem("numbers that the model does not take", where, wanted, str(outside.flat[0])))
    return found


def random_graph_inputs(graph: Graph, lengths: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Standard normal inputs, uniform integers below the vocabulary, coins for truth values.

    Where the model makes a mask out of an input, some samples have steps that it leaves out: at the end, at the start, in the middle.

    Args:
        graph: of the model.
        lengths: of "batch", "time", ...
        seed: of the numbers.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.activation("tanh", build.input("x", ("batch", "time", 4)))})
        >>> random_graph_inputs(graph, {"batch": 2, "time": 5})["x"].shape
        (2, 5, 4)
    """
    random = np.random.default_rng(seed)
    values = masked_inputs(graph)
    found: dict[str, Array] = {}
    for one in graph.inputs:
        shape = tuple(lengths[length] if isinstance(length, str) else length for length in one.shape)
        if one.dtype == "int64":
            array = random.integers(0, one.below or _USUAL_VOCABULARY, shape)
        elif one.dtype == "bool":
            array = random.integers(0, 2, shape).astype(bool)
        else:
            array = random.standard_normal(shape).astype(np.float32)
        if one.name in values and len(shape) > 1:
            _leave_out(array, values[one.name])
        found[one.name] = array
    return found


def _leave_out(array: Array, value: float) -> None:
    """Steps of every sample but the first get the value that marks them."""
    third = -(-array.shape[1] // 3)
    holes = (slice(array.shape[1] - third, None), slice(0, third), slice(third, max(2 * third, third + 1)))
    for sample in range(1, len(array)):
        array[sample, holes[(sample - 1) % len(holes)]] = value


def masked_inputs(graph: Graph) -> dict[str, float]:
    """Inputs out of which the model makes a mask, and what marks a step there.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> tokens = build.input("tokens", ("batch", "time"), "int64", 9)
        >>> masked_inputs(build.graph({"mask": build.elementwise("not_equal", tokens, 0)}))
        {'tokens': 0.0}
    """
    names = {one.name for one in graph.inputs}
    constants = {Wire(node.name): node.operation for node in graph.nodes if isinstance(node.operation, Constant)}
    takers = graph.takers()
    found: dict[str, float] = {}
    for node in graph.nodes:
        if not isinstance(node.operation, Elementwise) or node.operation.function != "not_equal":
            continue
        left, right = node.inputs
        if left is None or right is None or left.node not in names or right not in constants:
            continue
        value = constants[right].value
        if value.size == 1 and (
            len(_input(graph, left).shape) == 2
            or any(isinstance(taker.operation, Reduction) for taker in takers.get(Wire(node.name), ()))
        ):
            found[left.node] = float(value.reshape(-1)[0])
    return found


def _input(graph: Graph, wire: Wire) -> GraphInput:
    return next(one for one in graph.inputs if one.name == wire.node)


__all__ = ["check_graph_inputs", "masked_inputs", "random_graph_inputs"]
