"""Inputs of a whole model: checked, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.errors import Problem, ShapeError
from parity.graph.graph import Graph, GraphInput, Node, Wire
from parity.graph.lengths import shown
from parity.graph.operations import Cast, Constant, Elementwise, ExpandDims, Range, Reduction, Reshape, Squeeze
from parity.graph.reading_notes import beyond_limits
from parity.network import Network
from parity.recurrent import Array
from parity.result import Inputs, as_numbers

_KINDS = {"float32": "numbers", "int64": "integers", "bool": "truth values"}
_USUAL_VOCABULARY = 10


def input_of_chain(network: Network) -> GraphInput:
    """What a chain of layers takes: (batch, time) tokens, or (batch, time, features)."""
    features = () if network.tokens else (network.layers[0].input_size,)
    return GraphInput("input", ("batch", "time", *features))


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


def random_graph_inputs(
    graph: Graph, lengths: Mapping[str, int], seed: int = 0, padded_at_end: bool = False
) -> dict[str, Array]:
    """Standard normal inputs, uniform integers below the vocabulary, coins for truth values.

    Where the model makes a mask out of an input, some samples have steps that it leaves out: at the end, at the start, in the middle.
    What counts lengths in place of a mask takes padding at the end alone.
    Where it compares an input with the numbers of the steps, that is how many steps each sample has: all of them in the first, and fewer
    in later ones, but one at least. A mask out of which it makes such numbers has the first sample whole, too.

    Args:
        graph: of the model.
        lengths: of "batch", "time", ...
        seed: of the numbers.
        padded_at_end: whether such steps stand at the end alone: samples of unequal lengths, the first one whole, none empty.

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
            if padded_at_end and array.dtype.kind in "if":
                pad_at_end(array, values[one.name], one.below or _USUAL_VOCABULARY, random)
            else:
                _leave_out(array, values[one.name])
        found[one.name] = array
    for name, steps in step_counts(graph, lengths).items():
        _fill(found, graph, name, steps, values.get(name), random)
    return found


def _fill(
    found: dict[str, Array], graph: Graph, name: str, steps: int, mark: float | None, random: np.random.Generator
) -> None:
    """Numbers of steps, of which the first is all of them, or the mask that they are counted in."""
    array = found[name]
    if array.ndim == 1 and array.dtype.kind == "i":
        array[:] = -np.sort(-random.integers(1, steps + 1, array.shape))
        array[0] = steps
    elif array.ndim == 2 and array.dtype.kind == "b":
        array[0], array[:, 0] = True, True
    elif array.ndim == 2 and mark is not None:
        below = _input(graph, Wire(name)).below or _USUAL_VOCABULARY
        other = 1 if mark == 0 or array.dtype.kind == "f" else (mark + 1) % below
        array[0][array[0] == mark] = other
        array[:, 0][array[:, 0] == mark] = other


def _leave_out(array: Array, value: float) -> None:
    """Steps of every sample but the first get the value that marks them."""
    third = -(-array.shape[1] // 3)
    holes = (slice(array.shape[1] - third, None), slice(0, third), slice(third, max(2 * third, third + 1)))
    for sample in range(1, len(array)):
        array[sample, holes[(sample - 1) % len(holes)]] = value


def pad_at_end(array: Array, value: float, below: int, random: np.random.Generator) -> None:
    """Every sample but the first ends in steps with the value that marks them; it stands nowhere else.

    Args:
        array: (batch, time, ...), changed in place.
        value: what marks a step.
        below: for integers: they must be below this.
        random: draws the lengths, all different where there are so many, none of them zero.

    Example:
        >>> tokens = np.array([[1, 0, 2], [2, 2, 1], [1, 1, 1]])
        >>> pad_at_end(tokens, 0, 3, np.random.default_rng(0))
        >>> (tokens == 0).sum(axis=1).tolist()
        [0, 2, 1]
    """
    batch, time = array.shape[:2]
    if array.dtype.kind == "i":
        marked = array == value
        array[marked] = (int(value) + random.integers(1, max(below, 2), int(marked.sum()))) % max(below, 2)
    few = time - 1 < batch - 1
    ends = random.choice(max(time - 1, 1), batch - 1, replace=few) + 1
    for sample, end in enumerate(ends, 1):
        array[sample, end:] = value


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


def step_counts(graph: Graph, lengths: Mapping[str, int]) -> dict[str, int]:
    """Inputs that say how many steps each sample has: compared with the numbers of the steps, as they are or summed up; with all steps.

    Args:
        graph: of the model.
        lengths: of "batch", "time", ...

    Example:
        >>> from parity.graph import Builder
        >>> from parity.graph.operations import Length, Range
        >>> build = Builder("model")
        >>> x, counts = build.input("x", ("batch", "time", 4)), build.input("lengths", ("batch",), "int64")
        >>> steps = build.call(Range("steps", Length(0, 1)), x)
        >>> mask = build.elementwise("less", steps, build.expand_dims(counts, 1))
        >>> step_counts(build.graph({"mask": mask}), {"batch": 2, "time": 5})
        {'lengths': 5}
    """
    nodes = {node.name: node for node in graph.nodes}
    pairs = [
        node.inputs
        for node in graph.nodes
        if isinstance(node.operation, Elementwise) and node.operation.function == "less" and len(node.inputs) == 2
    ]
    found: dict[str, int] = {}
    for steps, counts in pairs:
        start, end = (_origin(nodes, wire) for wire in (steps, counts))
        if start in nodes and end not in nodes:
            operation = nodes[start].operation
            if isinstance(operation, Range) or (isinstance(operation, Constant) and _counting(operation.value)):
                found[end] = graph.shapes(lengths)[Wire(start)][0]
    return found


def _origin(nodes: Mapping[str, Node], wire: Wire | None) -> str:
    """The node or the input that a value comes from through moves of its axes, sums of truth values and casts alone."""
    name = wire.node if wire is not None else ""
    while name in nodes:
        operation = nodes[name].operation
        compared = isinstance(operation, Elementwise) and operation.function == "not_equal"
        summed = isinstance(operation, Reduction) and operation.function == "sum"
        first = nodes[name].inputs[0] if nodes[name].inputs else None
        if first is None or not (compared or summed or isinstance(operation, (Cast, ExpandDims, Reshape, Squeeze))):
            return name
        name = first.node
    return name


def _counting(value: Array) -> bool:
    return value.ndim == 1 and len(value) > 0 and np.array_equal(value, np.arange(len(value)))


def _input(graph: Graph, wire: Wire) -> GraphInput:
    return next(one for one in graph.inputs if one.name == wire.node)


__all__ = ["check_graph_inputs", "input_of_chain", "masked_inputs", "pad_at_end", "random_graph_inputs", "step_counts"]
