"""What parity writes into an ONNX model about the network behind it, and how it is believed on reading.

A composed graph cannot be read by following its tensors. It carries a description of its network without weights. On reading, the
weights come from the initializers, the graph is built anew from both, and the description counts only if that is the very same
graph: whoever changes anything in the model makes it a model like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from parity.errors import ParityError
from parity.forms import Form
from parity.frameworks.onnx.building import FORM_KEY, OPSETS, Builder
from parity.frameworks.onnx.cells import parts_of, unpacked_arrays
from parity.frameworks.onnx.cleaning import clean_network
from parity.frameworks.onnx.single import as_float32
from parity.network import Bidirectional, Dense, Embedding, Layer, Network, Recurrent
from parity.recurrent import Array, Weights
from parity.serialized import from_data, to_data

NETWORK_KEY = "parity.network"


def build_graph(network: Network, opset: int) -> onnx.ModelProto:
    """The network as a model, with its description where the graph by itself does not tell it."""
    network = clean_network(as_float32(network))
    builder = Builder(network, opset)
    model = builder.model()
    if builder.is_composed:
        model.metadata_props.add(key=NETWORK_KEY, value=_described(network))
    return model


def form(source: onnx.ModelProto) -> Form | None:
    """How parity said the network in this model; None if parity did not build it."""
    text = _property(source, FORM_KEY)
    if text is None:
        return None
    try:
        found = json.loads(text)
        return Form(tuple(map(str, found["composed"])), tuple(map(str, found["notes"])))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


def is_described(model: onnx.ModelProto) -> bool:
    """Whether a model carries a description, true or not."""
    return _property(model, NETWORK_KEY) is not None


def network_of(model: onnx.ModelProto) -> Network | None:
    """The network that a model's description and initializers say, if the model is exactly what parity builds from it; else None."""
    text = _property(model, NETWORK_KEY)
    if text is None:
        return None
    try:
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        skeleton = _skeleton(json.loads(text), sum(array.size for array in arrays.values()))
        builder = Builder(skeleton, opset_of(model))
        builder.model()
        layers = tuple(_filled(layer, builder.homes, arrays) for layer in skeleton.layers)
        network = replace(skeleton, layers=layers)
    except (
        Exception
    ):  # whatever a description from outside breaks on the way, it only shows that it is not parity's own
        return None
    return network if is_built_from(model, network) else None


def is_built_from(model: onnx.ModelProto, network: Network) -> bool:
    """Whether building the network gives this very graph: the same nodes, initializers, inputs and outputs."""
    opset = opset_of(model)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        return False
    try:
        built = Builder(clean_network(as_float32(network)), opset).model()
    except ParityError:
        return False
    pairs = (
        (getattr(one.graph, part) for one in (model, built)) for part in ("node", "initializer", "input", "output")
    )
    return all(left == right for left, right in pairs)


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators; 0 if the model states none."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _property(model: onnx.ModelProto, key: str) -> str | None:
    return next((item.value for item in model.metadata_props if item.key == key), None)


def _described(network: Network) -> str:
    """The network in JSON, every array by its shape alone."""
    data, arrays = to_data(replace(network, origin="", details={}))
    return json.dumps({"network": data, "arrays": {name: list(array.shape) for name, array in arrays.items()}})


def _skeleton(content: Mapping[str, Any], limit: int) -> Network:
    """The described network with zeros for weights, which take no memory; at most as many as the model has numbers."""
    shapes = {str(name): tuple(int(size) for size in shape) for name, shape in content["arrays"].items()}
    if any(min(shape, default=1) < 0 for shape in shapes.values()):
        raise ValueError("a negative size")
    if sum(int(np.prod(shape, dtype=object)) for shape in shapes.values()) > limit:
        raise ValueError("more weights than the model holds")
    zero = np.zeros((), np.float32)
    return from_data(content["network"], {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()})


Homes = Mapping[tuple[str, int], Mapping[str, str]]


def _filled(layer: Layer, homes: Homes, arrays: Mapping[str, Array]) -> Layer:
    if isinstance(layer, Bidirectional):
        forward, backward = (tuple(_filled_recurrent(one, homes, arrays) for one in stack) for stack in layer.stacks)
        return replace(layer, forward=forward, backward=backward)
    if isinstance(layer, Recurrent):
        return _filled_recurrent(layer, homes, arrays)
    if not isinstance(layer, (Dense, Embedding)):
        return layer
    own: dict[str, Any] = {key: arrays[name] for key, name in homes[layer.name, 0].items()}
    return replace(layer, **own)


def _filled_recurrent(layer: Recurrent, homes: Homes, arrays: Mapping[str, Array]) -> Recurrent:
    weights: list[Weights] = []
    for index, part in enumerate(parts_of(layer)):
        own = {key: arrays[name] for key, name in homes[layer.name, index].items()}
        weights += unpacked_arrays(part, own)
    return replace(layer, weights=tuple(weights))
