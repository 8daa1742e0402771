"""A torch state dict -> Network, by names and shapes alone. Imports no framework.

A state dict says no more than its names and shapes. Kind, sizes, layers, directions and projection of one `torch.nn.LSTM`, `GRU` or
`RNN` follow from them; an RNN's nonlinearity, what is returned, and how several modules hang together do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from parity.cell import Cell, plain_cell
from parity.errors import FormatError, ParityError, Problem, ShapeError, UnsupportedError
from parity.files.stored import BFLOAT16, Stored, type_name, widened
from parity.functions import Function
from parity.layouts import GATES, KINDS, LAYOUTS, Kind
from parity.network.graph import Network
from parity.network.opaque import Opaque
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, Direction, RecurrentSpec, Weights, unpack

SUFFIXES: dict[Direction, str] = {"forward": "", "backward": "_reverse"}
"""How torch marks a direction at the end of a parameter's name."""

_TENSORS = LAYOUTS["torch", KINDS[0]].tensors
_WEIGHTS = tuple(tensor.name for tensor in _TENSORS)
(_PROJECTION,) = (tensor.name for tensor in _TENSORS if tensor.members == ("projection",))
_PARAMETER = re.compile(rf"(?:(.*)\.)?({'|'.join(_WEIGHTS)})(?:_l(0|[1-9][0-9]{{0,5}})(_reverse)?)?", re.DOTALL)
_RECURRENT = "weight_ih_l0, weight_hh_l0, ... of an nn.LSTM, nn.GRU or nn.RNN"
_WHOLE_MODEL = "save the nn.LSTM, nn.GRU or nn.RNN by itself, module.state_dict(), or write the model as .onnx"


@dataclass(frozen=True)
class _Parameter:
    """One tensor of a recurrent module, its name taken apart. A cell's tensors (`torch.nn.LSTMCell`) have no layer in their names."""

    key: str
    prefix: str
    weight: str
    depth: int | None
    direction: Direction


def network_from_state_dict(
    tensors: Mapping[str, Stored], name: str, options: Mapping[str, Mapping[str, str]] | None = None
) -> Network:
    """Read the recurrent modules of a torch state dict: `torch.nn.LSTM`, `GRU`, `RNN` and their cells.

    Args:
        tensors: by name, in memory or in a file; a common prefix, as in "encoder.lstm.weight_ih_l0", becomes the module's name.
        name: of the network where there is no such prefix.
        options: what a program says of its modules, by their place: "nonlinearity" of an RNN.

    Returns:
        A bare network where the tensors are those of one module, one layer named after the prefix or the kind, several with "_l0",
        "_l1", ... behind it. Where there are several modules or other tensors the network is partial: a state dict does not say
        how they are connected. float16 and bfloat16 become float32, exactly. An RNN has torch's default nonlinearity, tanh: the
        details say that the file does not.

    Raises:
        UnsupportedError: tensors that are no weights; all at once.
        ShapeError: shapes that do not fit each other; all at once.
        FormatError: no tensors at all, or a layer or weight missing.

    Example:
        >>> import numpy as np
        >>> shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
        >>> network_from_state_dict({key: np.ones(shape, np.float32) for key, shape in shapes.items()}, "file")
        Network('file', gru: Recurrent 3->5)
    """
    where, said = f"state dict '{name}'", options or {}
    modules, others = _sorted(tensors)
    if len(modules) == 1 and not others:
        ((prefix, parameters),) = modules.items()
        layers = _module(tensors, parameters, prefix, name, said.get(prefix, {}))
        return Network(prefix or name, layers, (), "torch", _details(layers, tensors, said))
    if not tensors:
        raise FormatError("no tensors in it", where, _RECURRENT, "nothing", _WHOLE_MODEL)
    problems = [_many(modules, others, where) if modules else _none(tensors, where)]
    found: list[Recurrent] = []
    opaque: list[Opaque] = []
    first_seen = {prefix: position for position, prefix in reversed(list(enumerate(map(_owner, tensors))))}
    for prefix in sorted(modules | others, key=lambda one: first_seen.get(one, 0)):
        if prefix in others:
            own = {key[len(prefix) + 1 if prefix else 0 :]: tensors[key] for key in others[prefix]}
            opaque.append(Opaque(prefix, "", own, place=len(found)))
        if prefix in modules:
            try:
                found += _module(tensors, modules[prefix], prefix, name, said.get(prefix, {}))
            except ParityError as error:
                problems += error.problems
                own = {p.key[len(prefix) + 1 if prefix else 0 :]: tensors[p.key] for p in modules[prefix]}
                opaque.append(Opaque(prefix, "", own, place=len(found)))
    details = _details(found, tensors, said)
    return Network(name, tuple(found), (), "torch", details, opaque=tuple(opaque), problems=tuple(problems))


def _many(modules: Iterable[str], others: Mapping[str, Sequence[str]], where: str) -> Problem:
    what = "a state dict does not say how several modules are connected"
    shown = [
        *(f"recurrent module '{prefix}'" for prefix in modules),
        *(key for keys in others.values() for key in keys),
    ]
    return Problem(what, where, "the weights of one nn.LSTM, nn.GRU or nn.RNN", _listed(shown), _WHOLE_MODEL)


def _none(tensors: Mapping[str, Stored], where: str) -> Problem:
    return Problem("no recurrent weights in it", where, _RECURRENT, _listed(list(tensors)), _WHOLE_MODEL)


def _sorted(tensors: Mapping[str, Stored]) -> tuple[dict[str, list[_Parameter]], dict[str, list[str]]]:
    """The tensors of recurrent modules by module, and the names of all others by theirs."""
    modules: dict[str, list[_Parameter]] = {}
    others: dict[str, list[str]] = {}
    for key in tensors:
        match = _PARAMETER.fullmatch(key)
        if match:
            depth = None if match[3] is None else int(match[3])
            way: Direction = "backward" if match[4] else "forward"
            modules.setdefault(match[1] or "", []).append(_Parameter(key, match[1] or "", match[2], depth, way))
        else:
            others.setdefault(_owner(key), []).append(key)
    for prefix, parameters in list(modules.items()):
        # weight_ih and its like may belong to something else; a cell has both of its matrices.
        if not {"weight_ih", "weight_hh"} <= {p.weight for p in parameters if p.depth is None} and all(
            p.depth is None for p in parameters
        ):
            others.setdefault(prefix, []).extend(p.key for p in modules.pop(prefix))
    return modules, others


def _owner(key: str) -> str:
    """The module that a tensor belongs to, by its name."""
    return key.rpartition(".")[0]


def _module(
    tensors: Mapping[str, Stored],
    parameters: Sequence[_Parameter],
    prefix: str,
    name: str,
    options: Mapping[str, str],
) -> tuple[Recurrent, ...]:
    """The layers of one recurrent module."""
    where = f"state dict '{prefix or name}'"
    _check_types({p.key: tensors[p.key] for p in parameters}, where)
    single_step = any(p.depth is None for p in parameters)
    slots = {(p.depth or 0, p.direction, p.weight): widened(tensors[p.key]) for p in parameters}
    depths = max(p.depth or 0 for p in parameters) + 1
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
    first_layer = {weight: tensor for (depth, way, weight), tensor in slots.items() if (depth, way) == (0, "forward")}
    kind, hidden, state = _kind(first_layer, where)
    base = prefix or kind
    of_layer: list[dict[tuple[Direction, str], Stored]] = [{} for _ in range(depths)]
    for (depth, way, weight), tensor in slots.items():
        of_layer[depth][way, weight] = tensor
    layers: list[Recurrent] = []
    problems: list[Problem] = []
    for depth in range(depths):
        first = slots[depth, "forward", "weight_ih"]
        size = first.shape[-1] if depth == 0 and len(first.shape) == 2 else state * len(directions)
        spec = RecurrentSpec(kind, size, hidden, directions, state if projected else None)
        try:
            weights = _layer_weights(spec, of_layer[depth])
            title = base if depths == 1 else f"{base}_l{depth}"
            cells = (_cell(kind, options),) * len(directions)
            layers.append(Recurrent(title, spec, weights, cells=cells, single_step=single_step))
        except ShapeError as error:
            problems += [
                Problem(p.what, f"{where}, layer {depth}: {p.where}", p.expected, p.got, p.remedy)
                for p in error.problems
            ]
    if problems:
        raise ShapeError(problems)
    return tuple(layers)


def _cell(kind: Kind, options: Mapping[str, str]) -> Cell:
    """torch's own cell; an RNN's nonlinearity is an option."""
    plain, named = plain_cell(kind), options.get("nonlinearity")
    return plain if kind != "rnn" or named is None else replace(plain, functions=(Function(named),))


def _check_types(tensors: Mapping[str, Stored], where: str) -> None:
    doubtful = [f"{key}: {type_name(tensor)}" for key, tensor in tensors.items() if not _is_weight(tensor)]
    if doubtful:
        expected = "float32, float64, float16 or bfloat16"
        raise UnsupportedError("tensors that are no weights", where, expected, _listed(doubtful), _WHOLE_MODEL)
    types = {str(widened(tensor).dtype) for tensor in tensors.values()}
    if len(types) > 1:
        remedy = "save module.float().state_dict()"
        raise UnsupportedError("weights of several types", where, "one type", ", ".join(sorted(types)), remedy)


def _is_weight(tensor: Stored) -> bool:
    return bool(tensor.dtype == BFLOAT16 or tensor.dtype.kind == "f")


def _details(
    layers: Sequence[Recurrent], tensors: Mapping[str, Stored], options: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """What a reader should know that the network itself does not say."""
    types = sorted({type_name(tensor) for tensor in tensors.values() if _is_weight(tensor)} - {"float32"})
    details = {"stored as": ", ".join(types)} if types else {}
    said = any("nonlinearity" in own for own in options.values())
    if any(layer.spec.kind == "rnn" for layer in layers) and not said:
        details["nonlinearity"] = "tanh, torch's default: a state dict does not say it"
    return details


def _kind(first_layer: Mapping[str, Stored], where: str) -> tuple[Kind, int, int]:
    """Kind, hidden size and size of h, from the rows of the first layer's matrices."""
    weight_ih, weight_hh, weight_hr = first_layer["weight_ih"], first_layer["weight_hh"], first_layer.get(_PROJECTION)
    gates = {len(GATES[kind]): kind for kind in KINDS}
    if len(weight_hh.shape) != 2 or not weight_hh.shape[1]:
        raise ShapeError("weight_hh_l0 is not a matrix", where, "(gates * hidden, hidden)", str(weight_hh.shape))
    rows, state = weight_hh.shape
    hidden = state if weight_hr is None else weight_hr.shape[-1] if len(weight_hr.shape) == 2 else 0
    if weight_hr is not None and tuple(weight_hr.shape) != (state, hidden):
        raise ShapeError("weight_hr_l0 has the wrong shape", where, f"({state}, hidden)", str(weight_hr.shape))
    if not hidden or rows % hidden or rows // hidden not in gates:
        expected = " or ".join(f"({count * hidden}, {state}) for {kind}" for count, kind in gates.items())
        raise ShapeError("weight_hh_l0 belongs to no recurrent module", where, expected, str(weight_hh.shape))
    kind = gates[rows // hidden]
    if weight_hr is not None and kind != "lstm":
        raise ShapeError("only an LSTM has a projection", where, f"({4 * hidden}, {state})", str(weight_hh.shape))
    if len(weight_ih.shape) != 2:
        raise ShapeError("weight_ih_l0 is not a matrix", where, "(gates * hidden, input)", str(weight_ih.shape))
    return kind, int(hidden), int(state)


def _layer_weights(spec: RecurrentSpec, slots: Mapping[tuple[Direction, str], Stored]) -> tuple[Weights, ...]:
    weights: list[Weights] = []
    for direction in spec.directions:
        named = {weight: array for (way, weight), array in slots.items() if way == direction}
        weights += unpack(LAYOUTS["torch", spec.kind], spec, named)
    return tuple(weights)


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more
