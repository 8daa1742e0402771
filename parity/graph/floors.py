"""The measured float32 floor of a whole model: what rounding alone does to each of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.floor import LOST, UNIT, Band, Float32Rounding, Floor, Quantity, filled, widening
from parity.graph.graph import Graph, GraphInput, Node, Wire
from parity.graph.lengths import Axis, axes_of
from parity.graph.noise import Float32Noise
from parity.graph.steps import steps_of
from parity.network import Dense, Dropout, Embedding, Masking, Recurrent
from parity.recurrent import Array
from parity.reference import Float64
from parity.result import Result

GIVEN = "given "
"""Begins the names of a part's inputs."""

REPLICAS = 16
"""Perturbed runs; every second one keeps its signs from step to step."""


_DENORMAL = 4 * float(np.finfo(np.float32).tiny)
"""Numbers below the smallest normal one are zero in kernels that flush them."""


def axis_names(axes: Sequence[Axis], time: int | None = None) -> tuple[str, ...]:
    """Names for the axes of a value: the words of its lengths, "unit" for the last one, "axis 1", ... for any other.

    Args:
        axes: lengths, or words.
        time: the axis of steps, where it is known; see `parity.graph.steps`. Else the one whose word says so.

    Example:
        >>> axis_names(("batch", "~time/2", 4, 64)), axis_names(("batch", "time")), axis_names(("batch", "?", 8))
        (('batch', 'time', 'axis 2', 'unit'), ('batch', 'time'), ('batch', 'axis 1', 'unit'))
        >>> axis_names(("batch", "width/2", 64), time=1)
        ('batch', 'time', 'unit')
    """
    names: list[str] = []
    for axis, length in enumerate(axes):
        words = ("batch", "time") if time is None else ("batch",)
        word = next((word for word in words if isinstance(length, str) and word in length), None)
        word = "time" if axis == time else word
        usual = "unit" if axis == len(axes) - 1 else f"axis {axis}"
        names.append(word if word is not None and word not in names else usual)
    return tuple(names)


def measure(
    graph: Graph,
    inputs: Mapping[str, Array],
    wanted: Mapping[str, Wire],
    replicas: int = REPLICAS,
    seed: int = 0,
    axes: Mapping[Wire, tuple[int | str, ...]] | None = None,
    together: bool = False,
    steps: Mapping[Wire, int] | None = None,
) -> Floor:
    """Run the reference and its replicas.

    Args:
        graph: what was run.
        inputs: by name.
        wanted: the values to be judged, by the names of the quantities.
        replicas: how many perturbed runs.
        seed: of the rounding signs.
        axes: the lengths of the values in words, where the graph itself does not say them.
        together: whether the replicas run as one batch, several times faster: for graphs whose every value has the batch first and whose
            operations keep samples apart; see `keeps_samples_apart`.
        steps: the axis of time of the values, where the graph itself does not tell them.

    Returns:
        The reference and the floor of each value. Where the floor has grown to the size of the signal, a value is not comparable.
    """
    axes = axes_of(graph) if axes is None else axes
    steps = steps_of(graph, axes) if steps is None else steps
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        runs = _together(graph, inputs, replicas, seed) if together else _one_by_one(graph, inputs, replicas, seed)
        exact = next(runs)
        spreads = {name: np.zeros(_reduced(exact[wire].shape)) for name, wire in wanted.items()}
        for found in runs:
            for name, wire in wanted.items():
                off = _apart(found[wire], exact[wire])
                spreads[name] = np.maximum(spreads[name], off.max(axis=-1, keepdims=True) if off.ndim else off)
    names = {name: axis_names(axes.get(wire, exact[wire].shape), steps.get(wire)) for name, wire in wanted.items()}
    bands = {
        name: _band(Quantity(name, names[name]), exact[wire], spreads[name], replicas) for name, wire in wanted.items()
    }
    outputs = {name: exact[wire] for name, wire in graph.outputs.items()}
    settings = {"numpy": np.__version__, "dtype": "float64", "device": "cpu"}
    firsts = [first for band in bands.values() if (first := _first_lost(band)) is not None]
    return Floor(Result("reference", outputs, {}, settings=settings), {}, bands, replicas, min(firsts, default=None))


def _one_by_one(graph: Graph, inputs: Mapping[str, Array], replicas: int, seed: int) -> Iterator[Mapping[Wire, Array]]:
    """The exact run, then the replicas."""
    yield graph.values(inputs)
    for replica in range(replicas):
        yield graph.values(inputs, Float32Noise(seed + replica, frozen=bool(replica % 2)))


def _together(graph: Graph, inputs: Mapping[str, Array], replicas: int, seed: int) -> Iterator[Mapping[Wire, Array]]:
    """The same, computed as one batch."""
    batch = len(next(iter(inputs.values())))
    groups = replicas + 1
    tiled = {name: np.tile(array, (groups, *(1,) * (array.ndim - 1))) for name, array in inputs.items()}
    found = graph.values(tiled, Float32Rounding(groups, batch, seed))
    for group in range(groups):
        rows = slice(group * batch, (group + 1) * batch)
        yield {
            wire: value[rows] if len(value) == groups * batch else value for wire, value in found.items() if value.ndim
        }


def keeps_samples_apart(graph: Graph) -> bool:
    """Whether a graph is of layers that take the batch first and treat every sample by itself, so that replicas can run as one batch.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> keeps_samples_apart(build.graph({"y": build.transpose(build.input("x", ("batch", 4)), (1, 0))}))
        False
    """
    words = all(one.shape[:1] == ("batch",) for one in graph.inputs)
    return words and all(isinstance(node.operation, _BY_SAMPLE) for node in graph.nodes)


_BY_SAMPLE = (Recurrent, Dense, Embedding, Masking, Dropout)


def _reduced(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:-1], 1) if shape else ()


def _apart(found: Array, exact: Array) -> Float64:
    """How far a replica is from the exact run; numbers that are none are no distance."""
    apart = np.abs(found.astype(np.float64) - exact.astype(np.float64))
    return np.where(np.isfinite(apart), apart, 0.0)


def _band(quantity: Quantity, exact: Array, spread: Float64, replicas: int) -> Band:
    reference = exact.astype(np.float64)
    if exact.dtype.kind != "f":  # an integer or a truth value is right or wrong
        return Band(quantity, reference, np.zeros_like(spread), spread == 0.0)
    width = reference.shape[-1] if reference.ndim else 1
    size = np.abs(np.where(np.isfinite(reference), reference, 0.0))
    floor = filled(spread, quantity) * widening(replicas * width)
    floor = floor + 2 * UNIT * (size.max(axis=-1, keepdims=True) if size.ndim else size) + _DENORMAL
    others = tuple(axis for axis, name in enumerate(quantity.axes) if name != "batch")
    scale = size.max(axis=others, keepdims=True) if size.ndim else size
    beyond = ~(np.abs(reference) <= np.finfo(np.float32).max)
    overflowed = np.asarray(beyond.any(axis=-1, keepdims=True) if beyond.ndim else beyond)
    lost = ~(floor <= LOST * scale) & (scale > 0) | overflowed
    return Band(quantity, reference, floor, ~lost, None, overflowed if overflowed.any() else None)


def _first_lost(band: Band) -> int | None:
    """The first step at which a value with a time axis is not comparable."""
    if "time" not in band.quantity.axes or band.comparable.all():
        return None
    axis = band.quantity.axes.index("time")
    steps = (~band.comparable).any(axis=tuple(other for other in range(band.comparable.ndim) if other != axis))
    return int(steps.argmax())


def layer_graph(graph: Graph, wire: Wire, known: Mapping[Wire, Array]) -> Graph:
    """The part of a graph that computes one value from values that are known: as few nodes as do it.

    Args:
        graph: the whole.
        wire: the value.
        known: values that are taken as they are, the model's inputs among them.

    Returns:
        A graph whose inputs are called "given " and the wire that they stand for, with the one output "value".

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", 4))
        >>> y = build.activation("tanh", build.add(x, 1.0))
        >>> part = layer_graph(build.graph({"y": y}), y, {x: np.ones((2, 4)), Wire("add"): np.ones((2, 4))})
        >>> [one.name for one in part.inputs], [node.name for node in part.nodes]
        (['given add'], ['tanh'])
    """
    nodes = {node.name: node for node in graph.nodes}
    needed: dict[str, Node] = {}
    taken: dict[Wire, None] = {}
    waiting = [nodes[wire.node]]
    while waiting:
        node = waiting.pop()
        needed[node.name] = node
        for source in node.inputs:
            if source is None:
                continue
            if source in known:
                taken[source] = None
            elif source.node not in needed:
                waiting.append(nodes[source.node])
    names = {source: f"{GIVEN}{source}" for source in taken}
    inputs = tuple(GraphInput(name, known[source].shape, _dtype(known[source])) for source, name in names.items())
    order = tuple(
        replace(node, inputs=tuple(Wire(names[one]) if one in names else one for one in node.inputs))
        for node in graph.nodes
        if node.name in needed
    )
    return Graph(wire.node, inputs, order, {"value": wire}, graph.origin)


def _dtype(array: Array) -> str:
    return {"f": "float32", "b": "bool"}.get(array.dtype.kind, "int64")


__all__ = ["GIVEN", "REPLICAS", "axis_names", "keeps_samples_apart", "layer_graph", "measure"]
