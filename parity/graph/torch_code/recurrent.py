"""Recurrent layers: torch's own wherever they can say it, else a cell of the module's own in a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parity.conventions import MergeMode, Value
from parity.deferred import Blocks
from parity.files.state_dict import SUFFIXES
from parity.graph.graph import Node, Wire
from parity.graph.torch_code.cells import cell_class
from parity.graph.torch_code.expressions import Expr, binary, call, index, method
from parity.graph.torch_code.groups import Group, is_native, missing_in_torch
from parity.graph.torch_code.shaping import whole_rows
from parity.graph.torch_code.weights import recurrent_blocks
from parity.graph.torch_code.writer import Rows, Writer
from parity.layouts import STATES
from parity.network import Bidirectional, Dropout, Recurrent
from parity.recurrent import DIRECTIONS, Direction

_LAYER = 2


@dataclass(frozen=True)
class _Given:
    """What a layer is called with.

    Args:
        x: a variable.
        mask: a variable or None.
        states: the wires of the initial states in Keras's order, one list for each layer of a stack; none of them or all.
    """

    x: Expr
    mask: Expr | None
    states: tuple[tuple[Wire, ...], ...] = ()


class _Run:
    """A layer that was called: what there is to take from it."""

    def __init__(self, w: Writer, layer: Recurrent, given: _Given) -> None:
        self.w, self.layer, self.given = w, layer, given
        self.size = layer.spec.state_size

    def joint(self) -> Expr:
        """Every step of all directions."""
        raise NotImplementedError

    def halves(self) -> list[Expr]:
        """Every step of each direction."""
        raise NotImplementedError

    def ends(self) -> list[Expr]:
        """For each direction the output at the step that it processes last."""
        raise NotImplementedError

    def state(self, kind: str, depth: int, way: int) -> tuple[Expr, Rows]:
        """A final state of a layer of a stack, and of which array it is a row."""
        raise NotImplementedError

    def value(self, value: Value, depth: int) -> Expr:
        """A value as `Recurrent.values` describes it."""
        if value.quantity in STATES["lstm"]:
            return self.state(value.quantity, depth, _way(value))[0]
        if value.quantity == "sequence":
            found = self.joint() if value.select == "all" else _picked(value, self.halves())
            return method(found, "flip", "1") if value.reverse else found
        ends = self.ends()
        if value.select == "all":
            return ends[0] if len(ends) == 1 else _cat(ends)
        return _picked(value, ends)

    def last(self, end: Expr) -> Expr:
        """The final h as the last output: zero where no step is valid."""
        if self.given.mask is None or not self.given.states:
            return end
        return call("torch.where", method(self.given.mask, "any", "dim=1", "keepdim=True"), end, "0.0")


def _picked(value: Value, halves: Sequence[Expr]) -> Expr:
    if value.select in DIRECTIONS:
        return halves[DIRECTIONS.index(value.select)]
    return _merged(halves, value.select)  # type: ignore[arg-type]


def _merged(halves: Sequence[Expr], mode: MergeMode | None) -> Expr:
    if mode == "concat":
        return _cat(halves)
    both = binary("*" if mode == "mul" else "+", *halves)
    return binary("/", both, Expr("2")) if mode == "ave" else both


def _cat(values: Sequence[Expr]) -> Expr:
    weight = 1 + sum(value.weight for value in values)
    return Expr(f"torch.cat([{', '.join(value.text for value in values)}], dim=-1)", weight=weight)


class _Native(_Run):
    """nn.LSTM, nn.GRU or nn.RNN, of one direction or two, of one layer or several."""

    def __init__(
        self,
        w: Writer,
        layers: Sequence[Recurrent],
        module: str,
        given: _Given,
        names: list[str],
        shown: Wire | None = None,
    ) -> None:
        super().__init__(w, layers[-1], given)
        self.depth, self.ways = len(layers), len(self.layer.spec.directions)
        self.turned = self.layer.spec.directions == DIRECTIONS[1:]
        x, self.mask = given.x, given.mask
        if self.turned:
            x = method(x, "flip", "1")
            self.mask = (
                None if given.mask is None else w.body.assign(method(given.mask, "flip", "1"), ["mask_backward"])
            )
        kind, states = self.layer.spec.kind, self.layer.spec.states
        wanted = [names, *([state, f"{names[-1]}_{state}"] for state in states)]
        called, pattern = self._called(module, x), "{}, ({}, {})" if kind == "lstm" else "{}, {}"
        plain = self.layer.return_sequences and not self.layer.merges and not self.layer.reverse
        comment = w.change(shown, called) if shown is not None and plain and w.uses[shown] else ""
        self.output, *found = w.body.unpack(pattern, called, wanted, 1, comment)
        self.states = dict(zip(states, found, strict=True))
        self._halves: list[Expr] | None = None

    def _called(self, module: str, x: Expr) -> Expr:
        hx = _initial(self.w, self.layer, self.given)
        if self.mask is None:
            return call(module, x, *hx, weight=_LAYER)
        helper = self.w.helper("masked_lstm" if self.layer.spec.kind == "lstm" else "masked_rnn")
        return call(helper, module, x, self.mask, *hx, weight=_LAYER)

    def _both(self) -> list[Expr]:
        """The directions apart, each in the order of the input's steps; of one direction in the order of processing."""
        if self._halves is None:
            self._halves = [self.output]
            if self.ways == 2:
                call_ = method(self.output, "chunk", "2", "dim=-1")
                self._halves = list(self.w.body.unpack("{}, {}", call_, [["forward"], ["backward"]], 0))
        return self._halves

    @property
    def _repeats(self) -> bool:
        return self.given.mask is not None and self.layer.fill == "repeat"

    def halves(self) -> list[Expr]:
        if not self._repeats:
            return [method(half, "flip", "1") if self.turned else half for half in self._both()]
        assert self.given.mask is not None
        assert self.mask is not None
        helper = self.w.helper("repeat_last")
        if self.ways == 1:
            found = call(helper, self.output, self.mask)
            return [method(found, "flip", "1") if self.turned else found]
        forward, backward = self._both()
        turned = call(helper, method(backward, "flip", "1"), method(self.given.mask, "flip", "1"))
        return [call(helper, forward, self.given.mask), method(turned, "flip", "1")]

    def joint(self) -> Expr:
        if self.ways == 1:
            return self.halves()[0]
        return _cat(self.halves()) if self._repeats else self.output

    def value(self, value: Value, depth: int) -> Expr:
        # What was computed backward stands in the order of processing already.
        if value.quantity == "sequence" and self.turned and value.reverse:
            if self.mask is None or not self._repeats:
                return self.output
            return call(self.w.helper("repeat_last"), self.output, self.mask)
        return super().value(value, depth)

    def ends(self) -> list[Expr]:
        if self.given.mask is None or self._repeats:
            return [self.last(self.state("h", self.depth - 1, way)[0]) for way in range(self.ways)]
        if self.ways == 1:
            return [index(self.output, ":", "-1")]
        return [index(self.output, ":", "-1", f":{self.size}"), index(self.output, ":", "0", f"{self.size}:")]

    def state(self, kind: str, depth: int, way: int) -> tuple[Expr, Rows]:
        count, row = self.depth * self.ways, depth * self.ways + way
        array = self.states[kind]
        shown_row = row - count if depth == self.depth - 1 else row
        # A row costs nothing: it may be written wherever it is needed.
        return Expr(f"{array.text}[{shown_row}]"), Rows(array, row, count)


class _Apart(_Run):
    """Each direction by a module of its own."""

    def __init__(self, w: Writer, layer: Recurrent, given: _Given, names: list[str], name: str) -> None:
        super().__init__(w, layer, given)
        self.runs: list[_Native] = []
        per_way = len(layer.spec.states)
        for position, way in enumerate(layer.spec.directions):
            states = tuple(tuple(wires[position * per_way : (position + 1) * per_way]) for wires in given.states)
            part = way if len(layer.spec.directions) > 1 else ""
            one = one_way(layer, position)
            module = _declared(w, [one], layer, name, part)
            own = _Given(given.x, given.mask, states)
            named = [f"{names[-1]}_{part}"] if part else names
            run = _Native if is_native(one) else _Looped
            self.runs.append(run(w, [one], module, own, named))

    def halves(self) -> list[Expr]:
        return [run.halves()[0] for run in self.runs]

    def joint(self) -> Expr:
        return self.runs[0].joint() if len(self.runs) == 1 else _cat(self.halves())

    def value(self, value: Value, depth: int) -> Expr:
        if len(self.runs) == 1 and value.quantity == "sequence":
            return self.runs[0].value(value, depth)
        return super().value(value, depth)

    def ends(self) -> list[Expr]:
        return [run.ends()[0] for run in self.runs]

    def state(self, kind: str, depth: int, way: int) -> tuple[Expr, Rows]:
        return self.runs[way].state(kind, 0, 0)


class _Looped(_Native):
    """A layer of the module's own, called as torch's own are, with the mask as one more argument."""

    def _called(self, module: str, x: Expr) -> Expr:
        mask = [] if self.mask is None else [f"mask={self.mask.text}"]
        return call(module, x, *_initial(self.w, self.layer, self.given), *mask, weight=_LAYER)


def one_way(layer: Recurrent, position: int) -> Recurrent:
    """One direction of a layer, by itself.

    Example:
        >>> import numpy as np
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> layer = Recurrent("gru", RecurrentSpec("gru", 2, 5, ("forward", "backward")), (weights, weights))
        >>> one_way(layer, 1).spec.directions
        ('backward',)
    """
    if len(layer.spec.directions) == 1:
        return layer
    way: Direction = layer.spec.directions[position]
    spec = replace(layer.spec, directions=(way,))
    own = replace(layer, spec=spec, weights=(layer.weights[position],), cells=(layer.cells[position],), reverse=False)
    return replace(own, merge_mode="concat")


def _declared(
    w: Writer, layers: Sequence[Recurrent], owner: object, name: str, part: str = "", dropout: float = 0.0
) -> str:
    """The attribute of a layer, or of the layers of a stack."""
    first, depth = layers[0], len(layers)
    spec, kind, native = first.spec, first.spec.kind, is_native(first)
    arguments = [str(spec.input_size), str(spec.hidden_size)]
    if native:
        arguments += [f"num_layers={depth}"] if depth > 1 else []
        arguments += ['nonlinearity="relu"'] if kind == "rnn" and first.cells[0].functions[0].name == "relu" else []
        arguments += [] if first.has_bias else ["bias=False"]
        arguments += ["batch_first=True"]
        arguments += [f"dropout={dropout:.6g}"] if dropout else []
        arguments += ["bidirectional=True"] if len(spec.directions) == 2 else []
        arguments += [f"proj_size={spec.projection_size}"] if spec.projection_size else []
        value = f"nn.{kind.upper()}({', '.join(arguments)})"
    else:
        arguments += [str(spec.projection_size)] if spec.projection_size else []
        value = f"{cell_class(w, first)}({', '.join(arguments)})"
    weights: dict[str, Blocks] = {}
    for number, layer in enumerate(layers):
        for position, own in enumerate(layer.weights):
            end = f"_l{number}{SUFFIXES[DIRECTIONS[position]]}" if native else ""
            for tensor, blocks in recurrent_blocks(layer.spec, own, layer.has_bias).items():
                weights[f"{tensor}{end}"] = blocks
    return w.module(owner, value, weights, part, name)


def _initial(w: Writer, layer: Recurrent, given: _Given) -> list[Expr | str]:
    """The initial states as torch takes them; nothing for zeros."""
    if not given.states or not given.states[0]:
        return []
    kinds = layer.spec.states
    found = []
    for position in range(len(kinds)):
        wires = [wire for states in given.states for wire in states[position :: len(kinds)]]
        array = whole_rows(w, wires)
        if array is None:
            values = [w.name(wire) for wire in wires]
            array = (
                method(values[0], "unsqueeze", "0")
                if len(values) == 1
                else Expr(f"torch.stack([{', '.join(v.text for v in values)}])")
            )
        found.append(array.text)
    return [found[0] if len(found) == 1 else f"({', '.join(found)})"]


def write_recurrent(w: Writer, group: Group) -> None:
    """The lines of a `Recurrent` node, or of the stack of several."""
    layers = [node.operation for node in group.nodes if isinstance(node.operation, Recurrent)]
    native = all(map(is_native, layers))
    last = group.nodes[-1]
    names = w.wanted(last) if len(layers) == 1 else [group.name]
    given = _given(w, group)
    run: _Run
    if native:
        rates = [node.operation.rate for node in group.inert if isinstance(node.operation, Dropout)]
        module = _declared(w, layers, layers[0], group.name, dropout=max(rates, default=0.0))
        run = _Native(w, layers, module, given, names, Wire(last.name))
    else:
        run = _Apart(w, layers[-1], given, names, layers[-1].name)
    for depth, (node, layer) in enumerate(zip(group.nodes, layers, strict=True)):
        for place, value in enumerate(layer.values):
            wire, is_state = Wire(node.name, place), value.quantity in STATES["lstm"]
            if not w.uses[wire] or (node is not last and not is_state):
                continue
            if is_state:
                w.rows[wire] = run.state(value.quantity, depth, _way(value))[1]
            w.define(wire, run.value(value, depth))
        _notes(w, layer)


def _way(value: Value) -> int:
    return DIRECTIONS.index(value.select) if value.select in DIRECTIONS else 0


def _given(w: Writer, group: Group) -> _Given:
    inputs = group.nodes[0].inputs
    assert inputs[0] is not None
    mask = _mask(w, inputs[1] if len(inputs) > 1 else None)
    x = w.name(inputs[0])
    states = tuple(tuple(one for one in node.inputs[2:] if one is not None) for node in group.nodes)
    return _Given(x, mask, states if any(states) else ())


def _mask(w: Writer, wire: Wire | None) -> Expr | None:
    if wire is None:
        return None
    mask = w.name(wire)
    return mask if w.kinds.get(wire) == "bool" else w.body.assign(method(mask, "bool"), ["mask"])


def write_bidirectional(w: Writer, node: Node) -> None:
    """The lines of a `Bidirectional` node: both stacks, layer by layer."""
    layer = node.operation
    assert isinstance(layer, Bidirectional)
    wire = node.inputs[0]
    assert wire is not None
    x = w.name(wire)
    mask = _mask(w, node.inputs[1] if len(node.inputs) > 1 else None)
    ends = []
    for one in layer.recurrent:
        _notes(w, one)
    for way, stack in zip(DIRECTIONS, layer.stacks, strict=True):
        value = x
        for depth, one in enumerate(stack):
            names = [f"{w.wanted(node)[-1]}_{way}" + (f"_{depth}" if depth else "")]
            part = way if len(stack) == 1 else f"{way}_{depth}"
            run = _Apart(w, one, _Given(value, mask), names, f"{layer.name}_{part}")
            value = run.value(one.given[0], 0)
            if one is not stack[-1] and not value.is_name:
                value = w.body.assign(value, names)
        ends.append(value)
    if layer.merge_mode is None:
        for place, value in enumerate(ends):
            w.define(Wire(node.name, place), value)
    else:
        w.define(Wire(node.name), _merged(ends, layer.merge_mode))


def _notes(w: Writer, layer: Recurrent) -> None:
    w.notes.extend(
        f"layer '{layer.name}' is a class of the module's own: {reason}" for reason in missing_in_torch(layer)
    )
    for name in ("dropout", "recurrent_dropout"):
        if getattr(layer, name):
            w.notes.append(
                f"layer '{layer.name}': {name}={getattr(layer, name):g} is inert at inference and was left out"
            )
    if layer.stateful:
        w.notes.append(
            f"layer '{layer.name}': stateful=True was left out: hand the final state of a call to the next one"
        )


__all__ = ["write_bidirectional", "write_recurrent"]
