"""Layers with random weights, and graphs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.cell import Cell
from parity.graph import Builder, Wire
from parity.graph.graph import Graph
from parity.graph.operations import (
    Convolution,
)
from parity.network import Bidirectional, Dense, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights

RANDOM = np.random.default_rng(11)
Made = Callable[[Builder, Wire], Wire]


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return (0.5 * RANDOM.standard_normal(shape)).astype(np.float32)


def positive(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.uniform(0.5, 1.5, shape).astype(np.float32)


def weights(spec: RecurrentSpec, bias: bool = True, peepholes: bool = False) -> Weights:
    return Weights(
        floats(*spec.shape("kernel")),
        floats(*spec.shape("recurrent")),
        floats(*spec.shape("bias_input")) if bias else None,
        floats(*spec.shape("bias_recurrent")) if bias else None,
        floats(*spec.shape("peepholes")) if peepholes else None,
        floats(*spec.shape("projection")) if spec.projection_size else None,
    )


def recurrent(
    kind: Any,
    *,
    name: str = "encoder",
    size: int = 3,
    units: int = 5,
    directions: Any = DIRECTIONS[:1],
    projection: int | None = None,
    bias: bool = True,
    peepholes: bool = False,
    cell: Cell | None = None,
    **options: Any,
) -> Recurrent:
    spec = RecurrentSpec(kind, size, units, directions, projection)
    own = tuple(weights(spec, bias, peepholes) for _ in directions)
    cells = (cell,) * len(directions) if cell else ()
    return Recurrent(name, spec, own, cells=cells, **options)


def graph_of(make: Made, shape: tuple[int | str, ...] = ("batch", "time", 3), dtype: str = "float32") -> Graph:
    build = Builder("model", "torch")
    x = build.input("x", shape, dtype, 9 if dtype == "int64" else None)
    return build.graph({"y": make(build, x)})


def graph_of_recurrent(layer: Recurrent | Bidirectional, masked: bool = False, started: bool = False) -> Graph:
    """A graph that gives everything the layer gives."""
    build = Builder("model", "keras")
    x = build.input("x", ("batch", "time", layer.input_size))
    tokens = build.input("tokens", ("batch", "time"), "int64", 5) if masked else None
    mask = build.elementwise("not_equal", tokens, 0) if tokens else None
    states = []
    if started:
        assert isinstance(layer, Recurrent)
        sizes = [(d, s, layer.spec.state_shape(s, 1)[-1]) for d in layer.spec.directions for s in layer.spec.states]
        states = [build.input(f"{d}_{s}", ("batch", size)) for d, s, size in sizes]
    build.call(layer, x, mask, *states, source=layer.name)
    if isinstance(layer, Recurrent):
        names = [value.name for value in layer.values]
    else:
        names = ["output"] if layer.merge_mode else ["forward", "backward"]
    return build.graph({name: Wire(layer.name, index) for index, name in enumerate(names)})


def convolution(sizes: tuple[int, ...], taken: int, given: int, **options: Any) -> Convolution:
    usual: dict[str, Any] = {
        "strides": (1,) * len(sizes),
        "dilations": (1,) * len(sizes),
        "padding": ((0, 0),) * len(sizes),
    }
    groups = options.get("groups", 1)
    return Convolution("conv", floats(*sizes, taken // groups, given), floats(given), **{**usual, **options})


def branches() -> Graph:
    """Layers of one class in branches of unlike length, one of them shared, on two inputs."""
    build = Builder("branches", "keras")
    left, right = build.input("left", ("batch", "time", 3)), build.input("right", ("batch", "time", 3))
    shared = Dense("shared", floats(3, 3), floats(3))
    short = build.call(Dense("short", floats(3, 3), floats(3)), left, source="short")
    deep = build.call(shared, left, source="shared")
    for index in range(4):
        deep = build.call(Dense(f"deep_{index}", floats(3, 3), floats(3)), deep, source=f"deep_{index}")
        deep = build.activation("tanh", deep)
    again = build.call(shared, build.multiply(right, 0.5))
    late = build.call(Dense("late", floats(3, 3), floats(3)), build.call(shared, again), source="late")
    odd = build.call(Dense("odd", floats(3, 3)), build.add(short, late), source="odd")
    return build.graph({"odd": odd, "deep": build.add(deep, short), "early": short})
