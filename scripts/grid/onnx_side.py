"""ONNX: builds a configuration as a graph and lets ONNX Runtime compute it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from grid.cases import ALPHA_BETA, BATCH, FEATURES, LENGTHS, TIME, UNITS, Config
from grid.live import CALM_GAIN, GAIN, Array, Live, Shown, Values, ends_of, given_inputs, mask_of, rows_of, uniform

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}
_FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
_TAME = {"Tanh", "Sigmoid", "Softsign", "HardSigmoid", "ScaledTanh"}


def live(config: Config) -> Live:
    """Build a configuration with random weights, and let ONNX Runtime compute it."""
    random = np.random.default_rng(config.seed)
    return _stack(config, random) if config.family == "stack" else _node(config, random)


@cache
def _quiet() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options


def _run(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    names = [item.name for item in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _weights(
    config: Config, layer: str, features: int, directions: int, random: np.random.Generator
) -> dict[str, Array]:
    rows = _GATES[layer] * UNITS
    gain = GAIN if set(config.get("activations", ())) <= _TAME else CALM_GAIN
    shapes: dict[str, tuple[int, ...]] = {"W": (rows, features), "R": (rows, UNITS)}
    if config.get("B", True):
        shapes["B"] = (2 * rows,)
    if config.get("P"):
        shapes["P"] = (3 * UNITS,)
    return {name: uniform(random, (directions, *shape), gain) for name, shape in shapes.items()}


def _attributes(config: Config, layer: str, directions: int) -> dict[str, Any]:
    own = ("direction", "clip", "input_forget", "linear_before_reset")
    attributes = {name: config.get(name) for name in own if config.get(name) is not None}
    functions = config.get("activations")
    if functions:
        functions = functions * directions if len(functions) == _FUNCTIONS[layer] else functions
        taken = [ALPHA_BETA.get(name, ()) for name in functions]
        attributes |= {"activations": list(functions)}
        attributes |= {"activation_alpha": alphas} if (alphas := [given[0] for given in taken if given]) else {}
        attributes |= {"activation_beta": betas} if (betas := [given[1] for given in taken if len(given) > 1]) else {}
    return {"hidden_size": UNITS, **attributes}


def _model(
    nodes: list[Any], inputs: list[Any], outputs: list[str], weights: dict[str, Array], opset: int
) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "grid", inputs, infos, tensors)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=max(7, helper.find_min_ir_version_for(imports)))


def _node(config: Config, random: np.random.Generator) -> Live:
    layer = config["layer"]
    directions = 2 if config.get("direction") == "bidirectional" else 1
    weights = _weights(config, layer, FEATURES, directions, random)
    x = given_inputs(random)
    lengths = LENGTHS[config["sequence_lens"]] if config.get("sequence_lens") else None
    named = (config.get("initial") or "").split()
    states = {name: uniform(random, (directions, BATCH, UNITS), 1.0) for name in named}
    names = [f"Y_{state}" for state in _STATES[layer]]
    shown = (config.get("outputs") or " ".join(["Y", *names])).split()
    model = _graph(config, weights, shown, config.get("layout", 0))
    feeds = {"X": x.swapaxes(0, 1), **{f"initial_{name}": state for name, state in states.items()}}
    if lengths is not None:
        feeds["sequence_lens"] = np.array(lengths, np.int32)
    # ONNX Runtime runs no layout 1: there the same node with layout 0 is the judge.
    judge = model if not config.get("layout") else _graph(config, weights, shown, 0)
    found = _run(judge, {name: np.ascontiguousarray(array) for name, array in feeds.items()})
    outputs: tuple[Shown, ...] = ()
    if "Y" in found:
        outputs = (Shown(found["Y"].transpose(2, 0, 1, 3).reshape(BATCH, TIME, directions * UNITS)),)
    final = tuple(found[name][row] if name in found else None for row in range(directions) for name in names)
    zero = np.zeros((directions, BATCH, UNITS), np.float32)
    initial = None
    if states:
        initial = tuple(tuple(states.get(name, zero)[row] for name in _STATES[layer]) for row in range(directions))
    return Live(model, x, outputs, final, initial, None if lengths is None else mask_of(lengths))


def _graph(config: Config, weights: dict[str, Array], shown: list[str], layout: int) -> onnx.ModelProto:
    layer = config["layer"]
    directions = 2 if config.get("direction") == "bidirectional" else 1
    state: list[str | int] = ["batch", directions, UNITS] if layout else [directions, "batch", UNITS]
    named = (config.get("initial") or "").split()
    inputs = [
        helper.make_tensor_value_info(
            "X", TensorProto.FLOAT, ["batch", "time", FEATURES] if layout else ["time", "batch", FEATURES]
        ),
        *(helper.make_tensor_value_info(f"initial_{name}", TensorProto.FLOAT, state) for name in named),
    ]
    if config.get("sequence_lens"):
        inputs.append(helper.make_tensor_value_info("sequence_lens", TensorProto.INT32, ["batch"]))
    places = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    present = {*weights, *(item.name for item in inputs)}
    given = [name if name in present else "" for name in places]
    while not given[-1]:
        given.pop()
    returned = [name if name in shown else "" for name in ("Y", "Y_h", "Y_c")[: 1 + len(_STATES[layer])]]
    while not returned[-1]:
        returned.pop()
    attributes = _attributes(config, layer, directions) | ({"layout": layout} if layout else {})
    node = helper.make_node(layer, given, returned, name="recurrent", **attributes)
    return _model([node], inputs, shown, weights, config.get("opset", 14))


def _stack(config: Config, random: np.random.Generator) -> Live:
    """Two nodes, the second of its own kind and direction forward, with the axes shifted between them as torch's exporter does."""
    layer, second = config["layer"], config["second"]
    directions = 2 if config.get("direction") == "bidirectional" else 1
    one = _weights(config, layer, FEATURES, directions, random)
    two = {f"{name}2": array for name, array in _weights(config, second, directions * UNITS, 1, random).items()}
    weights = {**one, **two, "shape": np.array([0, 0, -1], np.int64)}
    finals = [f"Y_{state}" for state in _STATES[second]]
    nodes = [
        helper.make_node(
            layer, ["X", "W", "R", "B"], ["first"], name="first", **_attributes(config, layer, directions)
        ),
        helper.make_node("Transpose", ["first"], ["moved"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["moved", "shape"], ["joined"]),
        helper.make_node(second, ["joined", "W2", "R2", "B2"], ["Y", *finals], name="second", hidden_size=UNITS),
    ]
    x = given_inputs(random)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "batch", FEATURES])]
    model = _model(nodes, inputs, ["Y"], weights, 14)
    found = _run(model, {"X": np.ascontiguousarray(x.swapaxes(0, 1))})
    return Live(model, x, (Shown(found["Y"][:, 0].swapaxes(0, 1)),))


# ---- conversions to ONNX, called as a user would


def called(converted: onnx.ModelProto, live: Live, bare: bool) -> Values | None:
    """What ONNX Runtime gives for a converted model; None where the graph has no inputs for a state or a mask.

    Args:
        converted: what `parity.to_onnx` gave.
        live: the source it was made of.
        bare: whether that is a recurrent layer by itself, time first, and no model with outputs of its own.
    """
    if live.mask is not None or live.initial is not None or len(converted.graph.input) > 1:
        return None
    x = live.inputs.swapaxes(0, 1) if bare else live.inputs
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    found = _run(converted, {converted.graph.input[0].name: np.ascontiguousarray(x)})
    if not bare:
        return Values(tuple(found.values()), ())
    if set(found) - {"Y", "Y_h", "Y_c"}:
        return None
    states = rows_of([found[name] for name in ("Y_h", "Y_c") if name in found])
    steps = found["Y"]
    directions = steps.shape[1] if steps.ndim == 4 else 1
    if live.outputs and live.outputs[0].array.ndim == 2:
        return Values((ends_of(states, directions, 2 if "Y_c" in found else 1),), states)
    axes = (2, 0, 1, 3) if steps.ndim == 4 else (1, 0, 2)
    return Values((steps.transpose(axes).reshape(BATCH, len(steps), -1),), states)
