"""Recurrent layers: `layers.LSTM`, `GRU`, `SimpleRNN` and `Bidirectional` wherever they can say it, else a cell in the module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parity.conventions import Fill, MergeMode
from parity.deferred import Blocks, blocks_of
from parity.graph.graph import Node, Wire
from parity.graph.keras_code.functions import activation_argument
from parity.graph.keras_code.text import Group, call, number, text, texts
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.layouts import Kind, keras_layout
from parity.network import Bidirectional, Recurrent
from parity.network.keras.layer_writing import one_way
from parity.network.keras.options import KIND_OF
from parity.recurrent import DIRECTIONS, packed

_CLASS_OF: dict[Kind, str] = {kind: name for name, kind in KIND_OF.items()}
_CELL_OF: dict[Kind, str] = {"lstm": "ExtendedLSTMCell", "gru": "ExtendedGRUCell", "rnn": "ExtendedRNNCell"}

_MOST_TARGETS = 48
"""Letters of all variables that one call is assigned to."""


def needs_cell(layer: Recurrent) -> bool:
    """Whether a layer of one direction needs a cell of the module's own: options that no layer of Keras has."""
    (cell,), (weights,), kind = layer.cells, layer.weights, layer.spec.kind
    unlike = kind == "lstm" and cell.function(kind, "candidate") != cell.function(kind, "output")
    peepholes = weights.held("peepholes") is not None
    return bool(unlike or peepholes or layer.spec.projection_size or cell.clip is not None or cell.input_forget)


def write_recurrent(writing: Writing, node: Node) -> None:
    """A recurrent layer of one or two directions."""
    layer = node.operation
    assert isinstance(layer, Recurrent)
    _note_of(writing, layer)
    _, mask, *states = (*node.inputs, None)[: max(len(node.inputs), 2)]
    given = [writing.value(state, tensor=True) for state in states if state is not None]
    if not layer.bidirectional:
        _write_one(writing, node, layer, given)
        return
    fill: Fill = "zero" if layer.return_sequences else "repeat"
    if mask is None or layer.fill == fill:
        _write_both(writing, node, layer, given)
        return
    half = len(layer.spec.states)
    ends = [one_way(layer, index) for index in range(2)]
    pairs = [_write_way(writing, node, [end], given[i * half : (i + 1) * half]) for i, end in enumerate(ends)]
    merged = _merged(
        writing, node, [pair[0] for pair in pairs], layer.merge_mode, layer.return_sequences and layer.reverse
    )
    writing.give(node, *merged, *pairs[0][1], *pairs[1][1])


def write_bidirectional(writing: Writing, node: Node) -> None:
    """Two unlike directions: each by itself, for `layers.Bidirectional` tells the layers behind it a wrong size where the units differ."""
    layer = node.operation
    assert isinstance(layer, Bidirectional)
    for part in layer.recurrent:
        _note_of(writing, part)
    pairs = [_write_way(writing, node, stack, []) for stack in layer.stacks]
    writing.give(node, *_merged(writing, node, [pair[0] for pair in pairs], layer.merge_mode, False))


def _note_of(writing: Writing, layer: Recurrent) -> None:
    if layer.stateful:
        writing.notes.append(f"layer '{layer.name}': stateful=True: hand the final state of a call to the next one")
    if layer.unroll:
        writing.notes.append(f"layer '{layer.name}': unroll=True is left out: it changes no numbers")


def _used(writing: Writing, node: Node, layer: Recurrent) -> bool:
    """Whether anything takes a state of the layer, after this call or another one."""
    places = range(len(layer.given), len(layer.values))
    return any(_taken(writing, Wire(one.name, index)) for one in writing.calls_of(node) for index in places)


def _taken(writing: Writing, wire: Wire) -> bool:
    """Whether anything takes a value."""
    return wire in writing.takers or wire in writing.graph.outputs.values()


def _masked(node: Node) -> bool:
    return len(node.inputs) > 1 and node.inputs[1] is not None


def _ever_masked(writing: Writing, node: Node) -> bool:
    return any(_masked(one) for one in writing.calls_of(node))


def _arguments(writing: Writing, node: Node, x: Value, states: Sequence[Value]) -> tuple[list[str | Group], list[int]]:
    """What a layer is called with, and the calls that give it, in the order in which Keras sorts keywords."""
    mask = node.inputs[1] if _masked(node) else None
    x = writing.without_mask(x) if mask is None else x
    found: list[str | Group] = [str(x)]
    calls = [*x.calls]
    if states:
        group = texts([str(state) for state in states])
        found.append(replace(group, start=f"initial_state={group.start}"))
        calls += [one for state in states for one in state.calls]
    if mask is not None:
        value = writing.value(mask, tensor=True)
        found.append(f"mask={value}")
        calls += value.calls
    return found, calls


def _made(writing: Writing, layer: Recurrent, states: bool, masked: bool, name: str) -> Made:
    """A layer of one direction."""
    loop = [
        *(["return_sequences=True"] if layer.return_sequences else []),
        *(["return_state=True"] if states else []),
        *(["go_backwards=True"] if layer.spec.directions == DIRECTIONS[1:] else []),
        *(["zero_output_for_mask=True"] if masked and layer.fill == "zero" else []),
    ]
    more = writing.more(name)
    if needs_cell(layer):
        return Made("RNN", (_cell(writing, layer), *loop, *more), {"cell/vars": _cell_blocks(layer)})
    (cell,), kind = layer.cells, layer.spec.kind
    own = [str(layer.spec.hidden_size), *_activations(writing, layer, {"candidate": "tanh", "gate": "sigmoid"})]
    own += [] if layer.has_bias else ["use_bias=False"]
    own += ["reset_after=False"] if kind == "gru" and not cell.reset_after else []
    rates = ("dropout", "recurrent_dropout")
    own += [f"{rate}={getattr(layer, rate):g}" for rate in rates if getattr(layer, rate)]
    blocks = packed(keras_layout(kind, cell.reset_after), layer.spec, [layer.weights[0]])
    return Made(_CLASS_OF[kind], (*own, *loop, *more), {"cell/vars": list(blocks.values())}, masks=True)


def _activations(writing: Writing, layer: Recurrent, usual: dict[str, str]) -> list[str]:
    """The functions that are not the usual ones."""
    (cell,), kind = layer.cells, layer.spec.kind
    options = {"candidate": "activation", "gate": "recurrent_activation", "output": "output_activation"}
    found = []
    for slot, name in usual.items():
        if slot == "gate" and kind == "rnn":
            continue
        function = cell.function(kind, slot)
        if function.keras_name != name:
            found.append(f"{options[slot]}={activation_argument(writing, function)}")
    return found


def _cell(writing: Writing, layer: Recurrent) -> Group:
    """A cell of the module's own."""
    (cell,), (weights,), kind = layer.cells, layer.weights, layer.spec.kind
    writing.snippets[f"{kind}_cell"] = None
    usual = {"candidate": "tanh", "gate": "sigmoid", **({"output": "tanh"} if kind == "lstm" else {})}
    options = [str(layer.spec.hidden_size), *_activations(writing, layer, usual)]
    options += [] if layer.has_bias else ["use_bias=False"]
    options += ["reset_after=False"] if kind == "gru" and not cell.reset_after else []
    options += [] if cell.clip is None else [f"clip={number(float(cell.clip))}"]
    options += ["coupled=True"] if cell.input_forget else []
    options += ["peepholes=True"] if weights.held("peepholes") is not None else []
    options += [f"projection={layer.spec.projection_size}"] if layer.spec.projection_size else []
    return call(_CELL_OF[kind], *options, *writing.more(""))


def _cell_blocks(layer: Recurrent) -> list[Blocks]:
    (weights,), kind = layer.weights, layer.spec.kind
    found = list(packed(keras_layout(kind, layer.cells[0].reset_after), layer.spec, [weights]).values())
    if weights.held("peepholes") is not None:
        found.append(blocks_of(weights.held("peepholes")))
    if weights.projection is not None:
        found.append(blocks_of(weights.projection.T))
    return found


def _states(writing: Writing, node: Node, names: Sequence[str], first: int) -> tuple[list[str], list[str]]:
    """What the states are assigned to, the first of them standing at a place among the values, and how each is called afterwards."""
    title = writing.identifier(node)
    if len(names) > 2:
        rest = writing.variable(f"{title}_states")
        return [f"*{rest}"], [f"{rest}[{index}]" for index in range(len(names))]
    own = []
    for index, name in enumerate(names):
        taken = _taken(writing, Wire(node.name, first + index))
        own.append(writing.variable(f"{title}_{name.removeprefix('state_')}") if taken else "_")
    return own, own


def _call(
    writing: Writing,
    node: Node,
    layer: Recurrent,
    made: Made,
    key: str,
    targets: Sequence[str],
    states: Sequence[Value],
    x: Value,
) -> tuple[list[Value], list[Value]]:
    """A call of a layer: what it gives, and its states if anything takes them."""
    arguments, calls = _arguments(writing, node, x, states)
    needed = _used(writing, node, layer) if isinstance(node.operation, Recurrent) else False
    count = len(layer.values) - len(layer.given)
    states_of = [value.name for value in layer.values[-count:]]
    own, names = _states(writing, node, states_of, len(targets)) if needed else ([], [])
    if needed and not _taken(writing, Wire(node.name)) and len(targets) == 1:
        targets = ["_"]
    if len(", ".join([*targets, *own])) > _MOST_TARGETS:
        whole = writing.variable(f"{writing.identifier(node)[:20]}_values")
        own, names = [], [f"{whole}[{len(targets) + index}]" for index in range(len(names))]
        targets, assigned = [f"{whole}[{index}]" for index in range(len(targets))], whole
    else:
        assigned = ", ".join([*targets, *own])
    comment = writing.shape_comment(Wire(node.name)) if not key else ""
    call_ = writing.apply(made, (id(node.operation), key), assigned, arguments, calls, comment)
    masked = _masked(node) and layer.return_sequences
    return [Value(target, (call_,), masked) for target in targets], [Value(name, (call_,)) for name in names]


def _write_one(writing: Writing, node: Node, layer: Recurrent, states: Sequence[Value]) -> None:
    """A layer of one direction; where nothing takes more than the last h, one that gives that."""
    assert node.inputs[0] is not None
    if _only_last(writing, node, layer):
        made = _made(writing, replace(layer, return_sequences=False), False, False, writing.title(node))
        arguments, calls = _arguments(writing, node, writing.value(node.inputs[0], tensor=True), states)
        target, comment = writing.target(node, 1, main=1), writing.shape_comment(Wire(node.name, 1))
        last = Value(target, (writing.apply(made, (id(node.operation), ""), target, arguments, calls, comment),))
        writing.give(node, last, last)
        return
    made = _made(writing, layer, _used(writing, node, layer), _ever_masked(writing, node), writing.title(node))
    target = writing.target(node)
    (value,), given = _call(
        writing, node, layer, made, "", [target], states, writing.value(node.inputs[0], tensor=True)
    )
    backward = layer.spec.directions == DIRECTIONS[1:]
    if layer.return_sequences and layer.reverse != backward:
        value = _flipped(writing, node, value)
    writing.give(node, value, *given)


def _only_last(writing: Writing, node: Node, layer: Recurrent) -> bool:
    """Whether the state h after the last step is all that is taken: without a mask it is the output of the last step."""
    values = range(len(layer.values))
    taken = {i for one in writing.calls_of(node) for i in values if _taken(writing, Wire(one.name, i))}
    return taken == {len(layer.given)} and not _ever_masked(writing, node)


def _write_both(writing: Writing, node: Node, layer: Recurrent, states: Sequence[Value]) -> None:
    """`layers.Bidirectional`."""
    assert node.inputs[0] is not None
    used, masked = _used(writing, node, layer), False
    forward, backward = (_made(writing, one_way(layer, index), used, masked, "") for index in range(2))
    arguments: list[str | Group] = [forward.group]
    alike = [str(one) for one in backward.arguments if one != "go_backwards=True"]
    if alike != [str(one) for one in forward.arguments]:
        group = backward.group
        arguments.append(replace(group, start=f"backward_layer={group.start}"))
    if layer.merge_mode != "concat":
        arguments.append(f"merge_mode={text(layer.merge_mode) if layer.merge_mode else None}")
    weights = {
        f"{name}_layer/{path}": blocks
        for name, made in zip(DIRECTIONS, (forward, backward), strict=True)
        for path, blocks in made.weights.items()
    }
    made = Made("Bidirectional", (*arguments, *writing.more(writing.title(node))), weights)
    targets = [writing.target(node, index) for index in range(len(layer.given))]
    values, given = _call(writing, node, layer, made, "", targets, states, writing.value(node.inputs[0], tensor=True))
    if layer.return_sequences and layer.reverse:
        values = [_flipped(writing, node, value) for value in values]
    writing.give(node, *values, *given)


def _write_way(
    writing: Writing, node: Node, stack: Sequence[Recurrent], states: Sequence[Value]
) -> tuple[Value, list[Value]]:
    """One direction by itself: its output, and its states."""
    assert node.inputs[0] is not None
    value, given = writing.value(node.inputs[0], tensor=True), list[Value]()
    for number_, layer in enumerate(stack):
        (direction,) = layer.spec.directions
        word = direction if len(stack) == 1 else f"{direction}_{number_ + 1}"
        target = writing.variable(f"{writing.identifier(node)}_{word}")
        whole = node.operation
        used = isinstance(whole, Recurrent) and _used(writing, node, whole)
        made = _made(writing, layer, used, _ever_masked(writing, node), writing.title(node, word))
        arguments, calls = _arguments(writing, node, value, states)
        places = _places(layer, whole) if isinstance(whole, Recurrent) else ()
        names = (
            [
                writing.variable(f"{target}_{state}") if _taken(writing, Wire(node.name, place)) else "_"
                for state, place in zip(layer.spec.states, places, strict=True)
            ]
            if used
            else []
        )
        call_ = writing.apply(made, (id(node.operation), word), ", ".join([target, *names]), arguments, calls)
        value = Value(target, (call_,), _masked(node) and layer.return_sequences)
        given = [Value(name, (call_,)) for name in names]
        # In time order, unless the layer itself is read the other way round, as a stack inside a Bidirectional may be.
        turned = layer.reverse if isinstance(whole, Bidirectional) else False
        if layer.return_sequences and turned != (direction == DIRECTIONS[1]):
            value = _flipped(writing, node, value)
    return value, given


def _places(way: Recurrent, whole: Recurrent) -> range:
    """Where the states of one direction stand among the values of the whole layer."""
    count = len(way.spec.states)
    start = len(whole.given) + count * whole.spec.directions.index(way.spec.directions[0])
    return range(start, start + count)


def _flipped(writing: Writing, node: Node, value: Value) -> Value:
    """The steps in the opposite order."""
    name = value.text if value.text.isidentifier() else writing.variable(f"{writing.identifier(node)}_flipped")
    return writing.function(name, call("ops.flip", value.text, "axis=1"), [value])


def _merged(
    writing: Writing, node: Node, ways: Sequence[Value], mode: MergeMode | None, turned: bool
) -> tuple[Value, ...]:
    """Both outputs as `layers.Bidirectional` would merge them."""
    if turned:
        ways = [_flipped(writing, node, way) for way in ways]
    if mode is None:
        return tuple(ways)
    first, second = ways
    target, comment = writing.target(node), writing.shape_comment(Wire(node.name))
    if mode == "concat":
        group = call("ops.concatenate", texts([str(first), str(second)]), "axis=-1")
        return (writing.function(target, group, ways, comment),)
    function = {"sum": "ops.add", "mul": "ops.multiply", "ave": "ops.add"}[mode]
    value = writing.function(target, call(function, str(first), str(second)), ways, "" if mode == "ave" else comment)
    if mode == "ave":
        value = writing.function(target, call("ops.divide", target, "2"), [value], comment, "divide")
    return (value,)


__all__ = ["needs_cell", "write_bidirectional", "write_recurrent"]
