"""Recurrent layers of the three frameworks, written from one set of gates; every order of gates and axes is written anew here, by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mutating.cells import Array, Cell, Cells, Gates
from mutating.real import real_cells

ENGINES = ("torch", "keras", "onnxruntime")

ORDERS: dict[str, dict[str, str]] = {
    "torch": {"lstm": "ifgo", "gru": "rzn", "rnn": "n"},
    "keras": {"lstm": "ifgo", "gru": "zrn", "rnn": "n"},
    "onnxruntime": {"lstm": "iofg", "gru": "zrn", "rnn": "n"},
}
"""How each framework stacks its gates: i input, f forget, g candidate, o output; r reset, z update, n candidate."""

_KERAS_FUNCTIONS = {"hard_sigmoid 3": "hard_sigmoid", "linear": None}
_ONNX_FUNCTIONS: dict[str, tuple[str, float | None, float | None]] = {
    "sigmoid": ("Sigmoid", None, None),
    "tanh": ("Tanh", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid 2": ("HardSigmoid", 0.2, 0.5),
    "hard_sigmoid 3": ("HardSigmoid", 1 / 6, 0.5),
}


class Inexpressible(Exception):  # noqa: N818  # no error: the framework has no such option
    """A framework cannot express what was asked for."""


@dataclass(frozen=True)
class Options:
    """What a layer has beside weights.

    Args:
        reset_after: of a GRU.
        gate, other: functions of the gates and of the rest.
        clip, input_forget: of ONNX.
    """

    reset_after: bool = True
    gate: str = "sigmoid"
    other: str = "tanh"
    clip: float | None = None
    input_forget: bool = False


@dataclass(frozen=True)
class Recipe:
    """A random model.

    Args:
        kind: "lstm", "gru" or "rnn".
        layers, ways: how many layers and directions.
        features, units, batch, time: sizes, all different.
        lengths: of the samples; None for whole ones.
        options: of all layers.
        reference, engine: frameworks of the right model and of the suspect.
        seed: of weights and inputs.
        peepholes: whether an LSTM has them.
        biases, states: whether they are not zero.
        real: the trained model whose weights it has; "" for random ones.
    """

    kind: str
    layers: int = 1
    ways: int = 1
    features: int = 3
    units: int = 5
    batch: int = 4
    time: int = 9
    lengths: tuple[int, ...] | None = None
    options: Options = Options()
    reference: str = "torch"
    engine: str = "torch"
    seed: int = 0
    peepholes: bool = False
    biases: bool = True
    states: bool = True
    real: str = ""

    def __str__(self) -> str:
        words = [self.kind, f"{self.layers} x {self.ways}", f"{self.reference}>{self.engine}", f"seed {self.seed}"]
        words = [self.real, *words] if self.real else words
        more = [f"lengths {self.lengths}"] if self.lengths else []
        return ", ".join([*words, *more, *([str(self.options)] if self.options != Options() else [])])


def random_cells(recipe: Recipe, gain: float = 0.9) -> Cells:
    """Weights that all show.

    A layer of Keras has one bias where the reset gate does not tell two apart: then the other one is zero.
    """
    if recipe.real:
        return _one_bias(copied(real_cells(recipe.real))) if _is_one(recipe) else real_cells(recipe.real)
    random = np.random.default_rng([recipe.seed, 1])
    gates = ORDERS["torch"][recipe.kind]
    one_bias = _is_one(recipe)

    def drawn(*shape: int, size: float = gain) -> Gates:
        return {gate: random.uniform(-size, size, shape).astype(np.float32) for gate in gates}

    found: Cells = []
    for layer in range(recipe.layers):
        width = recipe.features if layer == 0 else recipe.units * recipe.ways
        found.append([])
        for _ in range(recipe.ways):
            size = gain if recipe.biases else 0.0
            cell = Cell(
                drawn(recipe.units, width),
                drawn(recipe.units, recipe.units),
                drawn(recipe.units, size=size),
                drawn(recipe.units, size=0.0 if one_bias else size),
            )
            if recipe.peepholes:
                cell.p = {gate: random.uniform(-1, 1, recipe.units).astype(np.float32) for gate in "iof"}
            found[-1].append(cell)
    return found


def _is_one(recipe: Recipe) -> bool:
    return "keras" in (recipe.reference, recipe.engine) and not (recipe.kind == "gru" and recipe.options.reset_after)


def _one_bias(cells: Cells) -> Cells:
    for cell in [cell for layer in cells for cell in layer]:
        cell.b = {gate: cell.b[gate] + cell.c[gate] for gate in cell.b}
        cell.c = {gate: np.zeros_like(array) for gate, array in cell.c.items()}
    return cells


def stacked(gates: Gates, order: str) -> Array:
    """Gates one above the other."""
    return np.concatenate([gates[gate] for gate in order])


def torch_layer(kind: str, cells: Cells, options: Options) -> Any:
    """`nn.LSTM`, `nn.GRU` or `nn.RNN`.

    Raises:
        Inexpressible: other functions, a reset gate before the product, peepholes.
    """
    import torch

    plain = replace(options, other="tanh") if kind == "rnn" and options.other == "relu" else options
    if plain != Options() or cells[0][0].p:
        raise Inexpressible("torch has no such cell")
    order = ORDERS["torch"][kind]
    units, features = cells[0][0].w[order[0]].shape
    more = {"nonlinearity": options.other} if kind == "rnn" else {}
    layer = getattr(torch.nn, kind.upper())(
        features, units, len(cells), bidirectional=len(cells[0]) == 2, batch_first=True, **more
    )
    arrays = {}
    for number, ways in enumerate(cells):
        for cell, suffix in zip(ways, ("", "_reverse"), strict=False):
            for name, gates in (("weight_ih", cell.w), ("weight_hh", cell.r), ("bias_ih", cell.b), ("bias_hh", cell.c)):
                arrays[f"{name}_l{number}{suffix}"] = torch.from_numpy(stacked(gates, order).copy())
    layer.load_state_dict(arrays)
    return layer.eval()


def keras_arrays(kind: str, cell: Cell, options: Options) -> list[Array]:
    """What `set_weights` takes for one direction."""
    order = ORDERS["keras"][kind]
    if kind == "gru" and options.reset_after:
        bias = np.stack([stacked(cell.b, order), stacked(cell.c, order)])
    else:
        bias = stacked(cell.b, order) + stacked(cell.c, order)
    return [stacked(cell.w, order).T, stacked(cell.r, order).T, bias]


def keras_layer(kind: str, ways: list[Cell], options: Options, name: str = "layer", **more: Any) -> Any:
    """`LSTM`, `GRU` or `SimpleRNN`, in a `Bidirectional` where there are two directions.

    Raises:
        Inexpressible: options of ONNX alone; more than one layer.
    """
    import keras

    if options.clip is not None or options.input_forget or ways[0].p or options.gate == "hard_sigmoid 2":
        raise Inexpressible("Keras has no such cell")
    units, features = ways[0].w["n" if kind != "lstm" else "i"].shape
    given = {
        "return_sequences": True,
        "return_state": True,
        "activation": _KERAS_FUNCTIONS.get(options.other, options.other),
    }
    if kind != "rnn":
        given["recurrent_activation"] = _KERAS_FUNCTIONS.get(options.gate, options.gate)
    if kind == "gru":
        given["reset_after"] = options.reset_after
    merge = more.pop("merge_mode", "concat")
    kind_of = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[kind]
    both = len(ways) == 2
    layer = kind_of(units, **{**given, **more}, **({} if both else {"name": name}))
    layer = keras.layers.Bidirectional(layer, merge_mode=merge, name=name) if both else layer
    layer.build((None, None, features))
    layer.set_weights([array for cell in ways for array in keras_arrays(kind, cell, options)])
    return layer


def onnx_stack(kind: str, cells: Cells, options: Options) -> Any:
    """A model of recurrent nodes, each behind the other; X is (time, batch, features).

    Raises:
        Inexpressible: a function that ONNX has not under this name.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    units, features = cells[0][0].w["n" if kind != "lstm" else "i"].shape
    ways, value = len(cells[0]), "X"
    nodes, arrays = [], {"shape": np.array([0, 0, -1], np.int64)}
    attributes = {"hidden_size": units, "direction": "bidirectional" if ways == 2 else "forward"}
    attributes |= _onnx_functions(kind, options, ways)
    if options.clip is not None:
        attributes["clip"] = options.clip
    if options.input_forget:
        attributes["input_forget"] = 1
    if kind == "gru":
        attributes["linear_before_reset"] = int(options.reset_after)
    for number, layer in enumerate(cells):
        arrays |= _onnx_arrays(kind, layer, number)
        names = [f"{name}{number}" for name in ("W", "R", "B")]
        peepholes = ["", "", "", f"P{number}"] if layer[0].p else []
        outputs = [f"{name}{number}" for name in ("Y", "H", "C")[: 3 if kind == "lstm" else 2]]
        nodes.append(
            helper.make_node(kind.upper(), [value, *names, *peepholes], outputs, name=f"{kind}{number}", **attributes)
        )
        nodes.append(helper.make_node("Transpose", [f"Y{number}"], [f"T{number}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"T{number}", "shape"], [f"S{number}"]))
        value = f"S{number}"
    del nodes[-2:]
    shown = helper.make_tensor_value_info(f"Y{len(cells) - 1}", TensorProto.FLOAT, ["time", ways, "batch", units])
    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "batch", features])
    initializers = [
        numpy_helper.from_array(array, name) for name, array in arrays.items() if name != "shape" or len(cells) > 1
    ]
    graph = helper.make_graph(nodes, "stack", [given], [shown], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


def _onnx_functions(kind: str, options: Options, ways: int) -> dict[str, Any]:
    slots = {
        "lstm": (options.gate, options.other, options.other),
        "gru": (options.gate, options.other),
        "rnn": (options.other,),
    }[kind]
    if slots == {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}[kind]:
        return {}
    try:
        rows = [_ONNX_FUNCTIONS[slot] for slot in slots] * ways
    except KeyError as error:
        raise Inexpressible(str(error)) from None
    found: dict[str, Any] = {"activations": [name for name, _, _ in rows]}
    if any(alpha is not None for _, alpha, _ in rows):
        # Functions without parameters still hold a place in both lists.
        found["activation_alpha"] = [0.0 if alpha is None else alpha for _, alpha, _ in rows if alpha is not None]
        found["activation_beta"] = [0.0 if beta is None else beta for _, _, beta in rows if beta is not None]
    return found


def _onnx_arrays(kind: str, layer: list[Cell], number: int) -> dict[str, Array]:
    order = ORDERS["onnxruntime"][kind]
    found = {
        f"W{number}": np.stack([stacked(cell.w, order) for cell in layer]),
        f"R{number}": np.stack([stacked(cell.r, order) for cell in layer]),
        f"B{number}": np.stack([np.concatenate([stacked(cell.b, order), stacked(cell.c, order)]) for cell in layer]),
    }
    if layer[0].p:
        found[f"P{number}"] = np.stack([stacked(cell.p, "iof") for cell in layer])
    return found


def built(engine: str, recipe: Recipe, cells: Cells, options: Options | None = None) -> Any:
    """The layer or stack of a recipe in a framework.

    Raises:
        Inexpressible: the framework has no such layer.
    """
    options = options or recipe.options
    if engine == "torch":
        return torch_layer(recipe.kind, cells, options)
    if engine == "onnxruntime":
        return onnx_stack(recipe.kind, cells, options)
    if len(cells) == 1:
        return keras_layer(recipe.kind, cells[0], options, recipe.kind)
    return keras_stack(recipe.kind, cells, options)


def keras_stack(kind: str, cells: Cells, options: Options) -> Any:
    """A `Sequential` of layers, the last of which gives every step."""
    import keras

    layers = [
        keras_layer(kind, ways, options, f"{kind}_{number}", return_state=False) for number, ways in enumerate(cells)
    ]
    features = cells[0][0].w["n" if kind != "lstm" else "i"].shape[1]
    return keras.Sequential([keras.Input((None, features)), *layers], name="stack")


def random_run(recipe: Recipe, salt: int = 2, time: int | None = None) -> tuple[Array, tuple[Array, ...] | None]:
    """Inputs (batch, time, features), and initial states (layer, direction, batch, units) each; None for a model that takes none."""
    random = np.random.default_rng([recipe.seed, salt])
    x = random.normal(size=(recipe.batch, time or recipe.time, recipe.features)).astype(np.float32)
    if "keras" in (recipe.reference, recipe.engine) and recipe.layers > 1:
        return x, None
    size = 0.9 if recipe.states else 0.0
    shape = (recipe.layers, recipe.ways, recipe.batch, recipe.units)
    count = 2 if recipe.kind == "lstm" else 1
    return x, tuple(random.uniform(-size, size, shape).astype(np.float32) for _ in range(count))


def copied(cells: Cells) -> Cells:
    """A copy to edit."""
    return copy.deepcopy(cells)
