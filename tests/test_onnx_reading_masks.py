"""ONNX that parity wrote of recurrent layers with masks is read as these layers again; anything but those very nodes is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from parity.errors import UnsupportedError
from parity.frameworks.onnx.nodes import BOOL
from parity.frameworks.onnx.whole import writing
from parity.frameworks.onnx.whole.reading import graph_of
from parity.graph import Builder, Graph
from parity.network import Bidirectional, Embedding, Recurrent
from tests.onnx_graphs_cases import BOTH, CASES, VOCABULARY, inputs_for, numbers, recurrent
from tests.onnx_graphs_cases import graph_of as case_of
from tests.onnx_reading_judge import judged

SIZES = ({"batch": 3, "time": 7, "steps": 5}, {"batch": 2, "time": 12, "steps": 4})
KEPT = ("projection given states", "functions of no operator")
"""A product behind the node, and a loop of its own: without a mask these are not read as one layer, either."""


def is_masked(graph: Graph) -> bool:
    return any(
        isinstance(node.operation, (Recurrent, Bidirectional)) and len(node.inputs) > 1 and node.inputs[1] is not None
        for node in graph.nodes
    )


MASKED = [name for name in CASES if name not in KEPT and is_masked(case_of(name))]


def test_there_are_cases() -> None:
    assert len(MASKED) > 12


@pytest.mark.parametrize("name", MASKED)
def test_it_is_the_graph_that_it_was_written_from(name: str) -> None:
    graph = case_of(name)
    for opset in (13, 17, 22):
        found = graph_of(writing.model_of(graph, opset))
        fills = {layer.fill for layer in found.operations if isinstance(layer, Recurrent)}
        assert fills == {
            layer.fill
            for one in graph.operations
            if isinstance(one, (Recurrent, Bidirectional))
            for layer in (one.recurrent if isinstance(one, Bidirectional) else (one,))
        }
        for lengths in SIZES:
            inputs = inputs_for(graph, lengths)
            wanted, given = graph.run(inputs), found.run(inputs)
            assert list(wanted) == list(given)
            for key, value in wanted.items():
                assert given[key].shape == value.shape
                assert np.allclose(given[key], value, rtol=1e-12, atol=1e-12)


def stacked(second: str = "mask") -> Graph:
    """A layer of two directions behind another one, with one mask or with two, and states of both."""
    build, random = Builder("stacked"), np.random.default_rng(11)
    tokens = build.input("tokens", ("batch", "time"), "int64", VOCABULARY)
    masks = {name: build.input(name, ("batch", "time"), "bool") for name in dict.fromkeys(("mask", second))}
    x = build.call(Embedding("table", numbers(random, VOCABULARY, 4)), tokens)
    first = build.call(recurrent(random, "lstm", "first", directions=BOTH, fill="repeat"), x, masks["mask"])
    layer = recurrent(random, "gru", "second", features=10, units=3, return_sequences=False)
    return build.graph({"sequence": first, "last": build.call(layer, first, masks[second])})


@pytest.mark.parametrize("second", ["mask", "other"])
def test_masks_of_several_layers(second: str) -> None:
    graph = stacked(second)
    model = writing.model_of(graph)
    for lengths in SIZES:
        inputs = inputs_for(graph, lengths)
        found = judged(model, inputs)
        for key, value in graph.run(inputs).items():
            assert np.allclose(found.run(inputs)[key], value, rtol=1e-12, atol=1e-12)
    layers = [node for node in found.nodes if isinstance(node.operation, Recurrent)]
    assert [node.operation.name for node in layers] == ["first", "second"]
    assert len({node.inputs[1] for node in layers}) == (1 if second == "mask" else 2)
    assert not any(node.source for node in layers)


# ---- what is not exactly what parity writes


def pattern_constants(model: onnx.ModelProto) -> list[str]:
    """The constants of the nodes that only stand there for the mask."""
    words = ("mask", "compact", "spread", "filled", "zero", "valid", "places", "kept", "none", "empty")
    return [
        tensor.name
        for tensor in model.graph.initializer
        if any(word in tensor.name for word in words) and np.prod(tensor.dims) <= 1
    ]


@pytest.mark.parametrize("name", ["masked zero True", "lstm masked given states"])
def test_another_constant_is_never_taken_for_the_pattern(name: str) -> None:
    model = writing.model_of(case_of(name))
    places = pattern_constants(model)
    assert len(places) > 6
    inputs, refused = inputs_for(case_of(name), SIZES[0]), 0
    for place in places:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        tensor = next(one for one in changed.graph.initializer if one.name == place)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, place))
        try:
            graph_of(changed)
        except UnsupportedError:
            refused += 1
        else:
            judged(changed, inputs)  # another fill or another state, which the nodes by themselves say
    assert refused > len(places) / 2


@pytest.mark.parametrize(
    ("op", "attribute", "value"),
    [("TopK", "largest", 1), ("GatherElements", "axis", 1), ("GRU", "layout", 1), ("Concat", "axis", 0)],
)
def test_another_option_is_never_taken_for_the_pattern(op: str, attribute: str, value: int) -> None:
    model = writing.model_of(case_of("masked zero True"))
    places = [index for index, node in enumerate(model.graph.node) if node.op_type == op]
    assert places
    for index in places:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        own = changed.graph.node[index]
        rest = [one for one in own.attribute if one.name != attribute]
        del own.attribute[:]
        own.attribute.extend([*rest, helper.make_attribute(attribute, value)])
        with pytest.raises(UnsupportedError):
            graph_of(changed)


def test_steps_by_one_mask_and_lengths_of_another() -> None:
    model = writing.model_of(stacked("other"))
    nodes = [node for node in model.graph.node if node.op_type in ("LSTM", "GRU")]
    nodes[1].input[4] = nodes[0].input[4]
    with pytest.raises(UnsupportedError):
        graph_of(model)


def test_who_takes_the_compacted_steps_sees_them() -> None:
    model = writing.model_of(case_of("masked repeat True backward"))
    node = next(one for one in model.graph.node if one.op_type in ("LSTM", "GRU", "RNN"))
    model.graph.node.append(helper.make_node("Tanh", [node.output[0]], ["more"], "more"))
    model.graph.output.append(helper.make_tensor_value_info("more", 1, None))
    with pytest.raises(UnsupportedError):
        graph_of(model)


def test_a_mask_that_is_taken_elsewhere_too_stays() -> None:
    model = writing.model_of(case_of("masked repeat True backward"))
    counted = next(one for one in model.graph.node if one.op_type == "ReduceSum")
    model.graph.node.append(helper.make_node("Cast", [counted.output[0]], ["more"], "more", to=1))
    model.graph.output.append(helper.make_tensor_value_info("more", 1, ["batch"]))
    inputs: dict[str, Any] = inputs_for(case_of("masked repeat True backward"), SIZES[0])
    assert judged(model, inputs).run(inputs)["more"].tolist() == inputs["mask"].sum(1).tolist()
    assert BOOL in {one.type.tensor_type.elem_type for one in model.graph.input}
