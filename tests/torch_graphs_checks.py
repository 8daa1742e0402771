"""A torch module and its graph, side by side in float64, at other lengths than the module was traced with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.frameworks.torch.whole import call, graph_of, intermediate
from parity.graph import Graph, Wire
from parity.recurrent import Array

LENGTHS = {"batch": 4, "time": 40}
LIMIT = 1e-10


def check(module: nn.Module, inputs: Any = None, given: Mapping[str, Array] | None = None) -> Graph:
    """The graph of a module computes what the module does, inside and outside."""
    module = module.double().eval()
    graph = graph_of(module, inputs)
    drawn = {**draw(graph), **(given or {})}
    close(graph.run(drawn), call(module, graph, drawn))
    values, seen = graph.values(drawn), intermediate(module, graph, drawn)
    close({node.source: values[Wire(node.name)] for node in graph.nodes if node.source}, seen)
    return graph


def draw(graph: Graph) -> dict[str, Array]:
    """Random inputs for a graph."""
    random = np.random.default_rng(5)
    found: dict[str, Array] = {}
    for one in graph.inputs:
        shape = tuple(LENGTHS.get(n, 13) if isinstance(n, str) else n for n in one.shape)
        found[one.name] = (
            random.integers(0, one.below or 5, shape)
            if one.dtype == "int64"
            else random.standard_normal(shape)
            if one.dtype == "float32"
            else random.random(shape) < 0.5
        )
    return found


def close(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    """Every array is the other one."""
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape, name
        np.testing.assert_allclose(found[name], array, rtol=LIMIT, atol=LIMIT, err_msg=name)


def tensors(shapes: Any) -> tuple[Tensor, ...]:
    """Random tensors of some shapes; "tokens" are integers."""
    random = torch.Generator().manual_seed(3)
    return tuple(
        torch.randint(0, 20, (3, 11), generator=random) if shape == "tokens" else torch.randn(shape, generator=random)
        for shape in shapes
    )
