"""A torch state dict <-> Network, by names and shapes alone. Imports no framework.

A state dict says no more than its names and shapes. Kind, sizes, layers, directions and projection of one `torch.nn.LSTM`, `GRU` or
`RNN` follow from them; an RNN's nonlinearity, what is returned, and how several modules hang together do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from parity.cell import plain_cell
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.forms import obstacles
from parity.layouts import GATES, KINDS, LAYOUTS, Kind
from parity.network.dropout import Dropout
from parity.network.graph import Network
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack

SUFFIXES: dict[Direction, str] = {"forward": "", "backward": "_reverse"}
"""How torch marks a direction at the end of a parameter's name."""

_TENSORS = LAYOUTS["torch", KINDS[0]].tensors
_WEIGHTS = tuple(tensor.name for tensor in _TENSORS)
(_PROJECTION,) = (tensor.name for tensor in _TENSORS if tensor.members == ("projection",))
_PARAMETER = re.compile(rf"(?:(.*)\.)?({'|'.join(_WEIGHTS)})_l(0|[1-9][0-9]{{0,5}})(_reverse)?", re.DOTALL)
_WHOLE_MODEL = "save the nn.LSTM, nn.GRU or nn.RNN by itself, module.state_dict(), or write the model as .onnx"


@dataclass(frozen=True)
class _Parameter:
    """One tensor, its name taken apart."""

    key: str
    prefix: str
    weight: str
    depth: int
    direction: Direction


def network_from_state_dict(arrays: Mapping[str, Array], name: str) -> Network:
    """Read the state dict of one `torch.nn.LSTM`, `GRU` or `RNN`.

    Args:
        arrays: tensors by name; they may share a prefix, as in "encoder.lstm.weight_ih_l0", which becomes the name.
        name: of the network where there is no such prefix.

    Returns:
        A bare network, one layer named after the prefix or the kind, several with "_l0", "_l1", ... behind it. float16 becomes
        float32, exactly. An RNN has torch's default nonlinearity, tanh: the details say that the file does not.

    Raises:
        UnsupportedError: several recurrent modules or other tensors, or tensors that are no weights; all at once.
        ShapeError: shapes that do not fit each other; all at once.
        FormatError: no recurrent weights at all, or a layer or weight missing.

    Example:
        >>> shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
        >>> network_from_state_dict({key: np.ones(shape, np.float32) for key, shape in shapes.items()}, "file")
        Network('file', gru: Recurrent 3->5)
    """
    parameters = _parameters(arrays, name)
    prefix = parameters[0].prefix
    where = f"state dict '{prefix or name}'"
    slots = {(p.depth, p.direction, p.weight): _widened(arrays[p.key]) for p in parameters}
    depths = max(p.depth for p in parameters) + 1
    directions = DIRECTIONS if any(p.direction == "backward" for p in parameters) else DIRECTIONS[:1]
    biased = any(p.weight.startswith("bias") for p in parameters)
    projected = any(p.weight == _PROJECTION for p in parameters)
    left_out = {name for name in _WEIGHTS if name.startswith("bias") and not biased} | (
        set() if projected else {_PROJECTION}
    )
    names = [weight for weight in _WEIGHTS if weight not in left_out]
    if depths > len(parameters):
        raise FormatError("layers are missing", where, f"a layer 0 to {depths - 1}", f"{len(parameters)} tensors")
    wanted = {(depth, way, weight) for depth in range(depths) for way in directions for weight in names}
    missing = [f"{weight}_l{depth}{SUFFIXES[way]}" for depth, way, weight in sorted(wanted - slots.keys())]
    if missing:
        ways = " and ".join(directions)
        expected = f"{depths} layers, {ways}, {'with' if biased else 'without'} biases"
        raise FormatError(
            "weights are missing", where, expected, f"no {_listed(missing)}", "save the whole module.state_dict()"
        )
    first_layer = {weight: array for (depth, way, weight), array in slots.items() if (depth, way) == (0, "forward")}
    kind, hidden, state = _kind(first_layer, where)
    base = prefix or kind
    layers: list[Recurrent] = []
    problems: list[Problem] = []
    for depth in range(depths):
        first = slots[depth, "forward", "weight_ih"]
        size = first.shape[-1] if depth == 0 and first.ndim == 2 else state * len(directions)
        spec = RecurrentSpec(kind, size, hidden, directions, state if projected else None)
        try:
            weights = _layer_weights(spec, {key[1:]: array for key, array in slots.items() if key[0] == depth})
            layers.append(Recurrent(base if depths == 1 else f"{base}_l{depth}", spec, weights))
        except ShapeError as error:
            problems += [
                Problem(p.what, f"{where}, layer {depth}: {p.where}", p.expected, p.got, p.remedy)
                for p in error.problems
            ]
    if problems:
        raise ShapeError(problems)
    return Network(prefix or name, tuple(layers), (), "torch", _details(kind, arrays))


def _details(kind: Kind, arrays: Mapping[str, Array]) -> dict[str, str]:
    """What a reader should know that the network itself does not say."""
    types = sorted({str(array.dtype) for array in arrays.values()} - {"float32"})
    details = {"stored as": ", ".join(types)} if types else {}
    return details | ({"nonlinearity": "tanh, torch's default: a state dict does not say it"} if kind == "rnn" else {})


def state_dict_from_network(network: Network) -> dict[str, Array]:
    """The tensors of the `torch.nn.LSTM`, `GRU` or `RNN` that holds the network's layers, named and ordered as torch does.

    Raises:
        UnsupportedError: layers that one such module cannot hold; all problems at once.

    Example:
        >>> weights = Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5)))
        >>> network = Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),))
        >>> {name: array.shape for name, array in state_dict_from_network(network).items()}
        {'weight_ih_l0': (15, 2), 'weight_hh_l0': (15, 5)}
    """
    problems = _unwritable(network)
    if problems:
        raise UnsupportedError(problems)
    arrays: dict[str, Array] = {}
    for depth, layer in enumerate(network.recurrent):
        layout = LAYOUTS["torch", layer.spec.kind]
        for direction, own in zip(layer.spec.directions, layer.weights, strict=True):
            lacks_bias = layer.has_bias and own.bias_input is None
            zeros = np.zeros(layer.spec.shape("bias_input"), own.kernel.dtype) if lacks_bias else own.bias_input
            for name, array in pack(layout, layer.spec, [replace(own, bias_input=zeros)]).items():
                arrays[f"{name}_l{depth}{SUFFIXES[direction]}"] = array
    return arrays


def _parameters(arrays: Mapping[str, Array], name: str) -> list[_Parameter]:
    """The tensors with their names taken apart, once they are known to be one recurrent module's weights."""
    matches = {key: _PARAMETER.fullmatch(key) for key in arrays}
    parameters = [
        _Parameter(key, found[1] or "", found[2], int(found[3]), "backward" if found[4] else "forward")
        for key, found in matches.items()
        if found
    ]
    where = f"state dict '{name}'"
    if not parameters:
        raise FormatError(
            "no recurrent weights in it",
            where,
            "weight_ih_l0, weight_hh_l0, ...",
            _listed(list(arrays)) or "nothing",
            _WHOLE_MODEL,
        )
    problems: list[Problem] = []
    prefixes = sorted({p.prefix for p in parameters})
    others = [key for key, found in matches.items() if not found]
    if len(prefixes) > 1 or others:
        what = "a state dict does not say how several modules are connected"
        shown = [*(f"recurrent module '{prefix}'" for prefix in prefixes), *others]
        problems.append(
            Problem(what, where, "the weights of one nn.LSTM, nn.GRU or nn.RNN", _listed(shown), _WHOLE_MODEL)
        )
    doubtful = [f"{key}: {array.dtype}" for key, array in arrays.items() if array.dtype.kind != "f"]
    types = {str(_widened(array).dtype) for array in arrays.values() if array.dtype.kind == "f"}
    if doubtful:
        problems.append(
            Problem(
                "tensors that are no weights", where, "float32, float64 or float16", _listed(doubtful), _WHOLE_MODEL
            )
        )
    elif len(types) > 1:
        remedy = "save module.float().state_dict()"
        problems.append(Problem("weights of several types", where, "one type", ", ".join(sorted(types)), remedy))
    if problems:
        raise UnsupportedError(problems)
    return parameters


def _widened(array: Array) -> Array:
    """float16 as float32, exactly; all else as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _kind(first_layer: Mapping[str, Array], where: str) -> tuple[Kind, int, int]:
    """Kind, hidden size and size of h, from the rows of the first layer's matrices."""
    weight_ih, weight_hh, weight_hr = first_layer["weight_ih"], first_layer["weight_hh"], first_layer.get(_PROJECTION)
    gates = {len(GATES[kind]): kind for kind in KINDS}
    if weight_hh.ndim != 2 or not weight_hh.shape[1]:
        raise ShapeError("weight_hh_l0 is not a matrix", where, "(gates * hidden, hidden)", str(weight_hh.shape))
    rows, state = weight_hh.shape
    hidden = state if weight_hr is None else weight_hr.shape[-1] if weight_hr.ndim == 2 else 0
    if weight_hr is not None and weight_hr.shape != (state, hidden):
        raise ShapeError("weight_hr_l0 has the wrong shape", where, f"({state}, hidden)", str(weight_hr.shape))
    if not hidden or rows % hidden or rows // hidden not in gates:
        expected = " or ".join(f"({count * hidden}, {state}) for {kind}" for count, kind in gates.items())
        raise ShapeError("weight_hh_l0 belongs to no recurrent module", where, expected, str(weight_hh.shape))
    kind = gates[rows // hidden]
    if weight_hr is not None and kind != "lstm":
        raise ShapeError("only an LSTM has a projection", where, f"({4 * hidden}, {state})", str(weight_hh.shape))
    if weight_ih.ndim != 2:
        raise ShapeError("weight_ih_l0 is not a matrix", where, "(gates * hidden, input)", str(weight_ih.shape))
    return kind, int(hidden), int(state)


def _layer_weights(spec: RecurrentSpec, slots: Mapping[tuple[Direction, str], Array]) -> tuple[Weights, ...]:
    weights: list[Weights] = []
    for direction in spec.directions:
        named = {weight: array for (way, weight), array in slots.items() if way == direction}
        weights += unpack(LAYOUTS["torch", spec.kind], spec, named)
    return tuple(weights)


def _unwritable(network: Network) -> list[Problem]:
    """Why one nn.LSTM or nn.GRU cannot hold the network."""
    where = f"network '{network.name}'"
    others = [layer for layer in network.layers if not isinstance(layer, (Recurrent, Dropout))]
    problems: list[Problem] = []
    if others:
        got = ", ".join(f"{type(layer).__name__} '{layer.name}'" for layer in others)
        remedy = "write .onnx or .keras, which hold the whole model"
        problems.append(
            Problem("a state dict holds one recurrent stack only", where, "recurrent layers only", got, remedy)
        )
    first = network.recurrent[0]
    previous: Recurrent | None = None
    for layer in network.recurrent:
        here, spec = f"layer '{layer.name}'", layer.spec
        for reason in obstacles(layer, "torch", network.masks_itself):
            remedy = "write .onnx or .keras, which say how the weights are used"
            problems.append(
                Problem(f"a state dict cannot say it: {reason}", here, "a layer of torch.nn", remedy=remedy)
            )
        if layer.spec.kind == "rnn" and layer.cells != (plain_cell("rnn"),) * len(layer.cells):
            remedy = "write .onnx or .keras, which say it"
            problems.append(Problem("a state dict does not say the nonlinearity", here, "tanh", "relu", remedy))
        facts, wanted = _facts(layer), _facts(first)
        if facts != wanted:
            expected = ", ".join(f"{key} {wanted[key]}" for key in facts if facts[key] != wanted[key])
            got = ", ".join(f"{key} {facts[key]}" for key in facts if facts[key] != wanted[key])
            remedy = "write .onnx or .keras, whose layers may differ"
            problems.append(
                Problem(
                    f"differs from layer '{first.name}': one torch module cannot hold both", here, expected, got, remedy
                )
            )
        elif previous and not others and spec.input_size != previous.output_size:
            expected = f"{previous.output_size} inputs, the outputs of layer '{previous.name}'"
            problems.append(Problem("the layers do not fit each other", here, expected, str(spec.input_size)))
        dtypes = {weights.kernel.dtype for weights in layer.weights}
        if len(dtypes) > 1:
            problems.append(
                Problem(
                    "weights of several types", here, "one type", ", ".join(map(str, dtypes)), "convert them to float32"
                )
            )
        previous = layer
    return problems


def _facts(layer: Recurrent) -> dict[str, str | int | bool]:
    """What all layers of one torch module have in common."""
    spec = layer.spec
    return {
        "kind": spec.kind,
        "units": spec.hidden_size,
        "projection": spec.projection_size or 0,
        "directions": len(spec.directions),
        "bias": layer.has_bias,
    }


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more
