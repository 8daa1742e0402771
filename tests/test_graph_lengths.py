"""Lengths of all values in words, found by trying lengths."""

from __future__ import annotations

import numpy as np
import pytest

from parity.errors import ShapeError
from parity.floor import Quantity
from parity.graph import Builder, Graph, GraphInput, Node, Wire
from parity.graph.facts import graph_facts
from parity.graph.floors import axis_names, measure
from parity.graph.lengths import axes_of, lengths_of
from parity.graph.operations import Length, Reshape
from parity.graph.torch_code import torch_code


def _reshaped(*sizes: int | Length) -> Graph:
    """A reshape of (batch, time, 4), whatever lengths it takes."""
    x = GraphInput("x", ("batch", "time", 4))
    node = Node("y", Reshape("y", sizes), (Wire("x"),), "y")
    return Graph("model", (x,), (node,), {"y": Wire("y")})


def test_lengths_in_words() -> None:
    build = Builder("model")
    x = build.input("x", ("batch", "time", 4))
    rows = build.reshape(x, (-1, 4))
    values = {
        ("batch", "time - 3", 4): build.slice(x, 1, 3),
        ("batch", "time/4", 4): build.slice(x, 1, None, None, 4),
        ("batch", "3*time/2 + 1", 4): build.concatenate(
            [build.slice(x, 1, None, None, 2), build.slice(x, 1, None, 1), x], axis=1
        ),
        ("batch", "~time", 4): build.repeat(build.slice(x, 1, None, None, 4), 1, 4),
        ("batch*time", 4): rows,
        ("2*batch*time", 2): build.reshape(x, (-1, 2)),
        ("~batch*time/2", 4): build.reshape(build.slice(x, 1, None, None, 2), (-1, 4)),
        ("?", 4): build.concatenate([rows, build.select(x, 0, 0)], axis=0),
    }
    found = axes_of(build.graph({str(words): wire for words, wire in values.items()}))
    assert [found[wire] for wire in values.values()] == list(values)


def test_words_of_a_model_that_takes_only_multiples() -> None:
    graph = _reshaped(Length(0, 0), -1, 24)
    assert axes_of(graph)[Wire("y")] == ("batch", "time/6", 24)
    assert {len(set(lengths)) > 1 for lengths in lengths_of(graph)[Wire("y")][:2]} == {True}
    assert "(batch, time/6, 24)" in torch_code(graph).source


def test_words_of_batch_and_time_together() -> None:
    assert axes_of(_reshaped(-1, 8))[Wire("y")] == ("batch*time/2", 8)


def test_no_words_where_no_lengths_are_found() -> None:
    graph = _reshaped(3, 20)  # takes one number of numbers only
    assert axes_of(graph) == {} == lengths_of(graph)
    assert [facts["name"] for facts in graph_facts(graph)] == ["y"]
    inputs = {"x": np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)}
    band = measure(graph, inputs, {"output y": Wire("y")}, 2).bands["output y"]
    assert band.quantity == Quantity("output y", ("axis 0", "unit"))


def test_onnx_says_that_no_lengths_are_found() -> None:
    from parity.frameworks.onnx.whole.writing import model_of

    with pytest.raises(ShapeError, match="not known"):
        model_of(_reshaped(3, 20))


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        (("batch", "~time/2", 64), ("batch", "time", "unit")),
        (("batch", "?", 4, 64), ("batch", "axis 1", "axis 2", "unit")),
        (("time", "batch", 64), ("time", "batch", "unit")),
        (("batch", "2*time - 1", "time"), ("batch", "time", "unit")),
        ((3, 5), ("axis 0", "unit")),
        (("~batch*time/2", 8), ("batch", "unit")),
    ],
)
def test_axes_have_names(axes: tuple[int | str, ...], names: tuple[str, ...]) -> None:
    assert axis_names(axes) == names
