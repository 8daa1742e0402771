"""Recurrent layers and cells, with states given or not, h_n and c_n, and packed sequences."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from parity.cell import Cell, plain_cell
from parity.frameworks.torch.building import FUNCTION_OF_RNN
from parity.frameworks.torch.whole.operator_call import Call, Refused, array_of, operator
from parity.frameworks.torch.whole.operators.layers import identity
from parity.frameworks.torch.whole.values import Filled, Known, Ordered, Packed, Stacked, Value
from parity.functions import Function
from parity.graph import Wire
from parity.layouts import LAYOUTS, STATES, Kind
from parity.network import Dropout, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights, unpack

_KINDS: dict[str, tuple[Kind, str]] = {
    "lstm": ("lstm", ""),
    "gru": ("gru", ""),
    "rnn_tanh": ("rnn", "tanh"),
    "rnn_relu": ("rnn", "relu"),
}


@operator("recurrent")
def recurrent(call: Call) -> Value:
    """`nn.LSTM`, `nn.GRU` or `nn.RNN`: one layer after the other."""
    kind, word = _KINDS[call["kind"]]
    layers, packed = int(call["layers"]), call["input"]
    if call["train"] and call["dropout"] and layers > 1:
        raise Refused(
            "dropout between layers that is at work in evaluation, too", "a program exported from module.eval()"
        )
    ways = 2 if call["bidirectional"] else 1
    time_major = not isinstance(packed, Packed) and not call["batch_first"]
    name = _name(call)
    x = packed.x if isinstance(packed, Packed) else call.as_wire(packed, call.raw["input"])
    mask = packed.mask if isinstance(packed, Packed) else None
    if time_major:
        x = call.build.transpose(x, (1, 0, 2))
    states = _given_states(call, kind, layers * ways, isinstance(packed, Packed))
    taken = len(call["weights"]) // (layers * ways)
    finals: list[list[Wire]] = [[] for _ in STATES[kind]]
    size = int(call["weights"][0].tensor.shape[1])
    for depth in range(layers):
        weights = call["weights"][depth * ways * taken : (depth + 1) * ways * taken]
        own = f"{name}_l{depth}" if layers > 1 else name
        layer = call.shared(
            ("recurrent", kind, word, *map(identity, weights)),
            partial(_layer, call, own, (kind, word), size, weights, ways),
        )
        size = layer.spec.output_size
        start = [one[depth * ways + way] for way in range(ways) for one in states]
        last = depth == layers - 1
        source = _source(call) if last and not time_major and not isinstance(packed, Packed) else ""
        x = call.build.call(layer, x, mask, *start, source=source)
        for index in range(ways * len(finals)):
            finals[index % len(finals)].append(Wire(x.node, 1 + index))
        if call["dropout"] and not last:
            x = call.build.call(Dropout(call.build.unique(f"{own}_dropout"), size, float(call["dropout"])), x)
    stacked = [Stacked(tuple(wires)) for wires in finals]
    if isinstance(packed, Packed):
        after: list[Value] = [Ordered(one, 1) for one in stacked] if packed.ordered else list(stacked)
        return [replace(packed, x=x), *after]
    return [call.build.transpose(x, (1, 0, 2), source=_source(call)) if time_major else x, *stacked]


def _name(call: Call) -> str:
    """The module that has the weights; a copy of parameters elsewhere is named as the call."""
    first = call["weights"][0]
    if isinstance(first, Known) and first.name:
        return first.name.rpartition(".")[0] or str(call["kind"]).partition("_")[0]
    return call.name


def _source(call: Call) -> str:
    """The call of `nn.LSTM`, `nn.GRU` or `nn.RNN` that this is the output of; "" where it is a function's."""
    stack = call.node.meta.get("nn_module_stack") or {}
    key, (_, kind) = list(stack.items())[-1] if stack else ("", ("", ""))
    word = kind if isinstance(kind, str) else kind.__qualname__
    return call.making.call_names.get(key, "") if word.rpartition(".")[2] in ("LSTM", "GRU", "RNN") else ""


def _layer(call: Call, name: str, kind: tuple[Kind, str], size: int, weights: list[Value], ways: int) -> Recurrent:
    """One layer out of its tensors, in torch's order: input, recurrent, both biases, the projection."""
    own, word = kind
    per_way = len(weights) // ways
    found: list[Weights] = []
    spec = None
    for way in range(ways):
        spec, canonical = _weights(
            own, size, weights[way * per_way : (way + 1) * per_way], bool(call.get("has_biases", True))
        )
        found.append(canonical)
    assert spec is not None
    whole = replace(spec, directions=DIRECTIONS[:ways])
    return Recurrent(call.build.unique(name), whole, tuple(found), cells=(_cell(own, word),) * ways)


def _weights(kind: Kind, size: int, values: list[Value], biased: bool) -> tuple[RecurrentSpec, Weights]:
    if not all(isinstance(one, Known) for one in values):
        raise Refused("weights that are computed from the inputs", "parameters")
    tensors = [array_of(one) for one in values]
    layout = LAYOUTS["torch", kind]
    names = [tensor.name for tensor in layout.tensors if biased or not tensor.name.startswith("bias")]
    arrays = dict(zip(names, tensors, strict=False))
    hidden, state = len(tensors[0]) // RecurrentSpec(kind, 1, 1).sizes["gate"], tensors[1].shape[1]
    spec = RecurrentSpec(kind, size, hidden, projection_size=state if state != hidden else None)
    (weights,) = unpack(layout, spec, arrays)
    return spec, weights


def _cell(kind: Kind, word: str) -> Cell:
    plain = plain_cell(kind)
    if not word:
        return plain
    own = {torch_word: Function(function) for function, torch_word in FUNCTION_OF_RNN.items()}
    return replace(plain, functions=(own[word],))


def _given_states(call: Call, kind: Kind, count: int, packed: bool) -> list[list[Wire | None]]:
    """For every state ("h", "c") those of all layers and directions; nothing where they are all zero."""
    given, raw = list(call["hx"]), list(call.raw["hx"])
    if all(map(is_zero, given)):
        return [[None] * count for _ in STATES[kind]]
    found: list[list[Wire | None]] = []
    for value, node in zip(given, raw, strict=True):
        own = value.value if packed and isinstance(value, Ordered) else value
        if isinstance(own, Stacked):
            found.append(list(own.wires))
            continue
        wire = call.as_wire(own, node)
        found.append([call.build.select(wire, 0, index) for index in range(count)])
    return found


def is_zero(value: Any) -> bool:
    """Whether a value is zero everywhere, at every call."""
    if isinstance(value, Filled):
        return value.number == 0
    return isinstance(value, Known) and not value.trained and not bool(value.tensor.any())


@operator("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def cell(call: Call) -> Value:
    """`nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell`: a layer on one step."""
    kind, word = _KINDS[call.operator.removesuffix("_cell")]
    weights = [call[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh") if call.get(name) is not None]
    layer = call.shared(("cell", kind, word, *map(identity, weights)), lambda: _single(call, (kind, word), weights))
    raw = call.raw["hx"] if isinstance(call.raw["hx"], (list, tuple)) else [call.raw["hx"]]
    given = call["hx"] if isinstance(call["hx"], (list, tuple)) else [call["hx"]]
    start = (
        [None for _ in given]
        if all(map(is_zero, given))
        else [call.as_wire(value, node) for value, node in zip(given, raw, strict=True)]
    )
    x = call.build.call(layer, call.build.expand_dims(call.wire("input"), 1), None, *start)
    finals = tuple(Wire(x.node, 1 + index) for index in range(len(STATES[kind])))
    return finals if len(finals) > 1 else finals[0]


def _single(call: Call, kind: tuple[Kind, str], weights: list[Value]) -> Recurrent:
    own, word = kind
    biased = call.get("b_ih") is not None
    spec, canonical = _weights(own, int(weights[0].tensor.shape[-1]), weights, biased)
    name = weights[0].name.rpartition(".")[0] or call.name
    return Recurrent(call.build.unique(name), spec, (canonical,), cells=(_cell(own, word),), single_step=True)


__all__ = ["cell", "is_zero", "recurrent"]
