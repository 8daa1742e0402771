"""What every engine returns for a recurrent layer, and where the same numbers stand in the others."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from parity.conventions import (
    MERGE_MODES,
    PADDING,
    MergeMode,
    Padding,
    Value,
    keras_cells_returns,
    keras_returns,
    onnx_returns,
    torch_cell_returns,
    torch_returns,
)
from parity.errors import ParityError, Problem
from parity.layouts import Kind
from parity.network import Bidirectional, Dropout, Masking, Network, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec

Shape = tuple[int | str, ...]
Returned = tuple[tuple[str, Shape], ...]
"""Values by the framework's own names, with their shapes."""

Call = Literal["batched", "unbatched", "packed", "single step"]
"""How the torch layer is called; "single step" means a cell (`torch.nn.LSTMCell`)."""

CALLS: tuple[Call, ...] = ("batched", "unbatched", "packed", "single step")

_WIDE = 140
"""Columns that a line of text may have."""

_VALUE_TITLES = ["", "value", "shape", "what it is", "in torch", "in ONNX"]
_PADDING_TITLES = ["framework", "called with", "padded steps hold", "final state from", "without a valid step"]

_KERAS_CLASSES: dict[Kind, str] = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}


@dataclass(frozen=True)
class Explained:
    """One value of Keras's return, and where it is in the other frameworks.

    Args:
        name: what it is.
        shape: with numbers where they are known.
        meaning: in a sentence.
        torch: an expression over what `Returns.torch_call` gives.
        onnx: an expression over `Y`, `Y_h` and `Y_c` as NumPy arrays; empty where ONNX has no such layer.
        group: index of the nested list that holds it (Keras nests the states of a list of cells), None if it stands by itself.
    """

    name: str
    shape: Shape
    meaning: str
    torch: str
    onnx: str
    group: int | None = None


@dataclass(frozen=True)
class Way:
    """Another way to call a framework's layer, and what it returns then.

    Args:
        framework: "torch" or "onnx".
        call: in the framework's own words.
        values: by name and shape.
        note: what else to know.
    """

    framework: str
    call: str
    values: Returned
    note: str = ""


@dataclass(frozen=True)
class Returns:
    """What a recurrent layer, or a stack of them, returns in each framework.

    Args:
        layer: the Keras layer in words.
        keras: Keras's values in order, each with its equivalents.
        torch: torch's values by name and shape, from `(output, (h_n, c_n))`.
        onnx: ONNX's values by name and shape; none where ONNX has no such layer.
        notes: what people trip over here.
        torch_call: lines of Python that give the names in the torch expressions, x being batch first.
        onnx_call: the same for ONNX, x being a batch-first NumPy array.
        rows: what each row of a stacked h_n and c_n is, in order; none where there is one.
        ways: what other ways to call the layer return.
        padding: what padded steps hold and where the final state is taken, in each framework.
    """

    layer: str
    keras: tuple[Explained, ...]
    torch: Returned
    onnx: Returned
    notes: tuple[str, ...]
    torch_call: tuple[str, ...] = ()
    onnx_call: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()
    padding: tuple[Padding, ...] = PADDING

    @property
    def shapes(self) -> str:
        """Keras's return as one would see it: a shape, or a list of them, nested where Keras nests.

        Example:
            >>> explain_layer(RecurrentSpec("lstm", 20, 64), batch=32, time=10).shapes
            '(32, 64)'
            >>> cells = [RecurrentSpec("gru", 20, 64), RecurrentSpec("rnn", 64, 8)]
            >>> explain_layer(cells, return_state=True, batch=32).shapes
            '[(32, 8), [(32, 64)], [(32, 8)]]'
        """
        texts: list[str] = []
        for position, members in self._positions():
            inner = ", ".join(shape_text(value.shape) for value in members)
            texts.append(f"[{inner}]" if self.keras[position].group is not None else inner)
        return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"

    @property
    def places(self) -> tuple[str, ...]:
        """Where each value stands in what Keras returns: "[1]", or "[1][0]" in a nested list; empty for a single value."""
        if len(self.keras) == 1:
            return ("",)
        return tuple(
            f"[{index}]" + (f"[{inner}]" if value.group is not None else "")
            for index, (_, members) in enumerate(self._positions())
            for inner, value in enumerate(members)
        )

    def _positions(self) -> list[tuple[int, list[Explained]]]:
        """Keras's items: the position of the first value of each, and its values."""
        items: list[tuple[int, list[Explained]]] = []
        for position, value in enumerate(self.keras):
            if items and value.group is not None and items[-1][1][-1].group == value.group:
                items[-1][1].append(value)
            else:
                items.append((position, [value]))
        return items

    def text(self, context: bool = True) -> str:
        """The whole in words, aligned.

        Args:
            context: whether to add what is the same for every layer: other ways to call it, and padding.
        """
        count = len(self.keras)
        returns = "return" if self.layer.endswith("s") else "returns"
        lines = [f"{self.layer} {returns} {count} value{'s' if count > 1 else ''}: {self.shapes}", "", *self._values()]
        for name, call, values in (("torch", self.torch_call, self.torch), ("onnx", self.onnx_call, self.onnx)):
            if values:
                lines += ["", f"{name} returns {_listed(values)}", *(f"  {line}" for line in call)]
        if self.rows:
            lines += ["", "rows of h_n" + (" and c_n" if len(self.torch) > 2 else "")]
            lines += _aligned((f"[{index}]", row) for index, row in enumerate(self.rows))
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, *(["", *self.context()] if context else [])])

    def _cells(self) -> list[list[str]]:
        return [
            [place, value.name, shape_text(value.shape), value.meaning, value.torch, value.onnx]
            for place, value in zip(self.places, self.keras, strict=True)
        ]

    def _values(self) -> list[str]:
        """Keras's values: one line each where there is room, else three."""
        cells = self._cells()
        table = _aligned([_VALUE_TITLES, *cells])
        if max(map(len, table)) <= _WIDE:
            return table
        heads = _aligned(row[:4] for row in cells)
        lines: list[str] = []
        for head, (*_, torch, onnx) in zip(heads, cells, strict=True):
            lines += [head, f"      torch  {torch}", *([f"      onnx   {onnx}"] if onnx else [])]
        return lines

    def context(self) -> list[str]:
        """Other ways to call the layer, and padding, line by line."""
        lines = ["called in another way", *_aligned(self._way(way) for way in self.ways)] if self.ways else []
        if self.padding:
            rows = [_PADDING_TITLES, *map(_padding_row, self.padding)]
            lines += [*([""] if lines else []), "padded steps", *_aligned(rows)]
        return lines

    def _way(self, way: Way) -> list[str]:
        """A way in words, without the values that are the same as in the usual one."""
        usual = self.torch if way.framework == "torch" else self.onnx
        other = tuple(value for value in way.values if value not in usual)
        same = ["the rest as above"] if len(other) < len(way.values) else []
        return [way.framework, way.call, "; ".join([_listed(other), *same, *([way.note] if way.note else [])])]

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        values = self._cells()
        ways = [self._way(way) for way in self.ways]
        padding = [_padding_row(row) for row in self.padding]
        caption = f"{self.layer} returns {self.shapes}"
        tables = [_table(caption, _VALUE_TITLES, values)]
        if self.rows:
            rows = [[str(index), row] for index, row in enumerate(self.rows)]
            tables.append(_table("rows of h_n", ["", "what"], rows))
        if ways:
            tables.append(_table("called in another way", ["framework", "call", "returns"], ways))
        if padding:
            tables.append(_table("padded steps", _PADDING_TITLES, padding))
        return "".join(tables)


def explain_layer(
    spec: RecurrentSpec | Sequence[RecurrentSpec],
    return_sequences: bool = False,
    return_state: bool = False,
    merge_mode: MergeMode | None = "concat",
    batch: int | str = "batch",
    time: int | str = "time",
    call: Call = "batched",
) -> Returns:
    """Explain a layer, or a stack of layers, by its sizes and options.

    Args:
        spec: kind, sizes, and one or two directions; the backward direction alone is Keras's `go_backwards=True`. Several are a stack:
            `keras.layers.RNN` of a list of cells, or stacked `Bidirectional` layers; torch's `num_layers` where they are alike.
        return_sequences, return_state, merge_mode: the options of the Keras layer.
        batch, time: numbers, or names to print in their place.
        call: how the torch layer is called; "packed" gives Keras a mask and ONNX lengths, "unbatched" takes the first sample.

    Raises:
        ParityError: an unknown merge mode, or options that no framework has together; all problems at once.

    Example:
        >>> returns = explain_layer(RecurrentSpec("lstm", 20, 64), True, True, batch=32, time=10)
        >>> returns.shapes
        '[(32, 10, 64), (32, 64), (32, 64)]'
        >>> returns.keras[1].torch
        'h_n[0]'
        >>> backwards = RecurrentSpec("gru", 20, 64, ("backward",))
        >>> explain_layer(backwards, return_sequences=True).keras[0].torch
        'output.flip(1)'
    """
    stack = _Stack((spec,) if isinstance(spec, RecurrentSpec) else tuple(spec), isinstance(spec, RecurrentSpec), call)
    if call == "unbatched" and isinstance(batch, str):
        batch = 1
    problems = [*_problems(stack, return_sequences, merge_mode, batch)]
    if problems:
        raise ParityError(problems)
    sizes: dict[str, int | str] = {"layer": len(stack.specs), "batch": batch, "time": time, "packed": "valid steps"}
    values = stack.keras(return_sequences, return_state, merge_mode)
    explained = tuple(
        Explained(
            value.name,
            value.shape({**stack.specs[value.layer].sizes, **sizes}),
            _meaning(value, stack),
            _torch_expression(value, stack),
            _onnx_expression(value, stack),
            stack.group(value),
        )
        for value in values
    )
    return Returns(
        stack.words(return_sequences, return_state, merge_mode),
        explained,
        _in_torch(stack, sizes, call),
        _in_onnx(stack, sizes),
        tuple(_notes(stack, return_sequences, return_state)),
        tuple(_torch_call(stack)) if stack.alike else (),
        tuple(_onnx_call(stack)) if stack.alike and stack.in_onnx else (),
        stack.rows,
        tuple(_ways(stack, sizes)),
        () if call == "single step" else PADDING,
    )


def explain_network(network: Network, batch: int | str = "batch", time: int | str = "time") -> Iterator[Returns]:
    """Explain every recurrent layer of a network, as the Keras layer that it is or would be; a bare stack as a whole.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> [returns.shapes for returns in explain_network(read(torch.nn.GRU(20, 64, num_layers=2)))]
        ['[(batch, time, 64), [(batch, 64)], [(batch, 64)]]']
    """
    stack = [layer for layer in network.layers if not isinstance(layer, (Dropout, Masking))]
    whole = network.bare and len(stack) > 1 and all(isinstance(layer, Recurrent) for layer in stack)
    if whole and len({len(layer.spec.directions) for layer in network.recurrent}) == 1:
        layers = network.recurrent
        state = network.origin != "keras" or any(layer.return_state for layer in layers)
        specs = [layer.spec for layer in layers]
        yield explain_layer(specs, layers[-1].return_sequences, state, layers[-1].merge_mode, batch, time)
        return
    for layer in network.layers:
        if isinstance(layer, Bidirectional):
            yield explain_unlike(layer, batch, time)
        elif isinstance(layer, Recurrent):
            # Outside Keras a recurrent layer always hands over its states.
            state = layer.return_state or layer.single_step or network.origin != "keras"
            call: Call = "single step" if layer.single_step else "batched"
            steps = layer.return_sequences and not layer.single_step
            yield explain_layer(layer.spec, steps, state, layer.merge_mode, batch, time, call)


def explain_unlike(layer: Bidirectional, batch: int | str = "batch", time: int | str = "time") -> Returns:
    """Explain a `Bidirectional` whose two directions are unlike: two layers, or two stacks, in torch and ONNX.

    The expressions are over lists: output and Y have an entry for each direction, h_n, c_n, Y_h and Y_c for each layer.
    """
    sizes: dict[str, int | str] = {"batch": batch, "time": time}
    ends = [stack[-1].given[0] for stack in layer.stacks]
    lasts = (len(layer.forward) - 1, len(layer.recurrent) - 1)
    quantity, merge = _QUANTITIES[ends[0].quantity], layer.merge_mode
    torch, onnx = [], []
    for side, (value, last) in enumerate(zip(ends, lasts, strict=True)):
        steps = value.quantity == "sequence"
        turned, order = (".flip(1)", "::-1") if value.reverse else ("", ":")
        torch.append(f"output[{side}]{turned}" if steps else f"h_n[{last}][0]")
        onnx.append(f"Y[{side}][{order}, 0].transpose(1, 0, 2)" if steps else f"Y_h[{last}][0]")
    shapes = [end.shape({**stack[-1].spec.sizes, **sizes}) for end, stack in zip(ends, layer.stacks, strict=True)]
    if merge is None:
        outputs = [
            Explained(f"{side}_output", shapes[index], f"{side} {quantity}", torch[index], onnx[index])
            for index, side in enumerate(DIRECTIONS)
        ]
    else:
        shape = (*shapes[0][:-1], layer.output_size)
        both, elsewhere = _merged(torch, merge, _TORCH_JOIN), _merged(onnx, merge, _ONNX_JOIN)
        outputs = [Explained("output", shape, f"{quantity}, both directions {_MERGED[merge]}", both, elsewhere)]
    sides = [side for side, stack in zip(DIRECTIONS, layer.stacks, strict=True) for _ in stack]
    states = [
        Explained(
            f"{side}_{value.name}",
            value.shape({**inner.spec.sizes, **sizes}),
            f"{side} {_QUANTITIES[value.quantity]}",
            f"{value.quantity}_n[{index}][0]",
            f"Y_{value.quantity}[{index}][0]",
        )
        for index, (side, inner) in enumerate(zip(sides, layer.recurrent, strict=True))
        for value in keras_returns(inner.spec.kind, return_state=True)[1:]
    ]
    words = [" and ".join(_one(inner.spec, ()) for inner in stack) for stack in layer.stacks]
    return Returns(
        f"Bidirectional({words[0]}, backward_layer={words[1]}, merge_mode={merge!r})",
        (*outputs, *(states if layer.return_state else ())),
        (),
        (),
        (
            f"In torch and ONNX these are {len(sides)} layers: output and Y stand for a list with the sequence of each direction, "
            "aligned with the input; h_n, c_n, Y_h and Y_c for lists with the states of each layer, the forward ones first.",
        ),
    )


def specs_of(
    kind: Kind,
    features: int,
    units: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    go_backwards: bool = False,
    projection: int | None = None,
) -> RecurrentSpec | tuple[RecurrentSpec, ...]:
    """A layer as `explain_layer` takes it, or a stack of like ones.

    Raises:
        ParityError: two directions that both run backwards.

    Example:
        >>> [spec.input_size for spec in specs_of("gru", 20, 64, num_layers=2, bidirectional=True)]
        [20, 128]
    """
    if bidirectional and go_backwards:
        remedy = "Bidirectional adds the backward direction to a layer that runs forward"
        raise ParityError("both directions would run backwards", "bidirectional and go_backwards", remedy=remedy)
    directions = DIRECTIONS if bidirectional else DIRECTIONS[1:] if go_backwards else DIRECTIONS[:1]
    first = RecurrentSpec(kind, features, units, directions, projection)
    return (first, *[replace(first, input_size=first.output_size)] * (num_layers - 1)) if num_layers > 1 else first


def merge_mode_named(name: str) -> MergeMode | None:
    """A merge mode by the word a user types, "none" being None.

    Raises:
        ParityError: an unknown word.

    Example:
        >>> merge_mode_named("none") is None, merge_mode_named("sum")
        (True, 'sum')
    """
    modes = {str(mode).lower(): mode for mode in MERGE_MODES}
    if name.lower() not in modes:
        raise ParityError("unknown merge mode", expected=", ".join(modes), got=name)
    return modes[name.lower()]


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as Python prints it, names unquoted.

    Example:
        >>> shape_text(("batch", 10, 64))
        '(batch, 10, 64)'
    """
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@dataclass(frozen=True)
class _Stack:
    """Layers one after the other, all of as many directions, and how torch is called.

    Args:
        specs: of the layers.
        single: whether it is one layer by itself, and not a list of one cell.
        call: of the torch layer.
    """

    specs: tuple[RecurrentSpec, ...]
    single: bool
    call: Call

    @property
    def kind(self) -> Kind:
        """Of the last layer; where layers differ, LSTM if any is one, so that c is explained."""
        kinds = [spec.kind for spec in self.specs]
        return "lstm" if "lstm" in kinds else kinds[-1]

    @property
    def last(self) -> RecurrentSpec:
        return self.specs[-1]

    @property
    def bidirectional(self) -> bool:
        return len(self.last.directions) == 2

    @property
    def backward(self) -> bool:
        return self.last.directions == DIRECTIONS[1:]

    @property
    def alike(self) -> bool:
        """Whether torch says it in one layer of `num_layers`."""
        return len({replace(spec, input_size=1) for spec in self.specs}) == 1

    @property
    def in_onnx(self) -> bool:
        return not any(spec.projection_size for spec in self.specs)

    @property
    def rows(self) -> tuple[str, ...]:
        """What each row of h_n is, for one torch layer."""
        if not self.alike or len(self.specs) * len(self.last.directions) == 1:
            return ()
        several, sides = len(self.specs) > 1, self.last.directions
        return tuple(
            ", ".join(
                [*([f"layer {index}"] if several else []), *([side] if self.bidirectional or not several else [])]
            )
            for index in range(len(self.specs))
            for side in sides
        )

    def row(self, layer: int, direction: int) -> str:
        """Index of a state in h_n: the row of a stacked one, or the layer, then the direction."""
        layer %= len(self.specs)
        return f"[{layer * len(self.last.directions) + direction}]" if self.alike else f"[{layer}][{direction}]"

    def keras(self, return_sequences: bool, return_state: bool, merge_mode: MergeMode | None) -> tuple[Value, ...]:
        """What Keras returns, flattened."""
        if self.single:
            kind, reverse = self.last.kind, self.backward
            return keras_returns(kind, self.bidirectional, return_sequences, return_state, merge_mode, reverse)
        if not self.bidirectional:
            kinds = [spec.kind for spec in self.specs]
            return keras_cells_returns(kinds, return_sequences, return_state, self.backward)
        output = keras_returns(self.last.kind, True, return_sequences)
        states = [
            replace(value, name=f"layer_{index}_{value.name}", layer=index)
            for index, spec in enumerate(self.specs)
            for value in keras_returns(spec.kind, True, return_state=True)[1:]
        ]
        return (*output, *(states if return_state else ()))

    def group(self, value: Value) -> int | None:
        """Index of the list that Keras puts a value into; cells hand their states over in one."""
        if self.call == "single step":
            return 0 if value.select in DIRECTIONS else None
        return value.layer if value.layer >= 0 and not self.bidirectional else None

    def words(self, return_sequences: bool, return_state: bool, merge_mode: MergeMode | None) -> str:
        """The Keras layer in words."""
        if self.call == "single step":
            return f"{_KERAS_CLASSES[self.kind]}Cell({self.last.hidden_size})"
        options = {
            "return_sequences": return_sequences,
            "return_state": return_state,
            "go_backwards": self.backward,
            "zero_output_for_mask": self.call == "packed" and return_sequences and not self.bidirectional,
        }
        flags = [f"{name}=True" for name, on in options.items() if on]
        masked = " called with a mask" if self.call == "packed" else ""
        if not self.bidirectional and not self.single:
            cells = ", ".join(f"{_KERAS_CLASSES[spec.kind]}Cell({_sizes(spec)})" for spec in self.specs)
            return f"RNN({', '.join([f'[{cells}]', *flags])}){masked}"
        if not self.bidirectional:
            return _one(self.last, flags) + masked
        if self.single:
            return f"Bidirectional({_one(self.last, flags)}, merge_mode={merge_mode!r}){masked}"
        units = [f"Bidirectional({_one(spec, ())})" for spec in self.specs]
        return f"{len(units)} stacked layers" + f" {units[0]}" if self.alike else f"stacked {' and '.join(units)}"


def _one(spec: RecurrentSpec, flags: Sequence[str]) -> str:
    return f"{_KERAS_CLASSES[spec.kind]}({', '.join([_sizes(spec), *flags])})"


def _sizes(spec: RecurrentSpec) -> str:
    return f"{spec.hidden_size}, proj_size={spec.projection_size}" if spec.projection_size else str(spec.hidden_size)


def _problems(
    stack: _Stack, return_sequences: bool, merge_mode: MergeMode | None, batch: int | str
) -> Iterator[Problem]:
    """What cannot be had together."""
    call = stack.call
    if merge_mode not in MERGE_MODES:
        yield Problem("unknown merge_mode", expected=", ".join(map(repr, MERGE_MODES)), got=repr(merge_mode))
    if merge_mode != "concat" and not stack.single:
        remedy = "stacked layers hand on both directions side by side"
        yield Problem("merge_mode of a stack", expected="'concat'", got=repr(merge_mode), remedy=remedy)
    if len({spec.directions for spec in stack.specs}) > 1:
        got = ", ".join(" and ".join(spec.directions) for spec in stack.specs)
        yield Problem("layers of a stack with different directions", got=got, remedy="explain them one by one")
    for spec in dict.fromkeys(replace(spec, input_size=1) for spec in stack.specs):
        projection = spec.projection_size
        if projection and (spec.kind != "lstm" or projection >= spec.hidden_size):
            got = f"{spec.kind} with {spec.hidden_size} units and a projection to {projection}"
            yield Problem(
                "no framework has this projection", expected="an LSTM, projected to fewer than its units", got=got
            )
    if call == "unbatched" and batch != 1:
        yield Problem("unbatched input is one sample", expected="batch 1", got=f"batch {batch}")
    if call == "packed" and stack.backward:
        remedy = "take the backward half of a bidirectional layer"
        yield Problem("packed sequences run forward in torch", got="the backward direction alone", remedy=remedy)
    if call == "single step" and (not stack.single or stack.last.directions != DIRECTIONS[:1] or return_sequences):
        yield Problem("a cell takes one step", expected="one layer, forward, without return_sequences")
    if call == "single step" and stack.last.projection_size:
        yield Problem("torch.nn.LSTMCell has no projection", got=f"proj_size={stack.last.projection_size}")


_QUANTITIES = {
    "sequence": "h of every step",
    "last": "h after the last step",
    "h": "h after the last step",
    "c": "c (the cell state) after the last step",
}
_MERGED = {"concat": "side by side", "sum": "added", "mul": "multiplied", "ave": "averaged"}
_MERGES = {"concat": "{join}([{0}, {1}], {axis})", "sum": "{0} + {1}", "mul": "{0} * {1}", "ave": "({0} + {1}) / 2"}
_TORCH_JOIN, _ONNX_JOIN = ("torch.cat", "dim=-1"), ("np.concatenate", "axis=-1")


def _merged(parts: Sequence[str], merge_mode: MergeMode, join: tuple[str, str]) -> str:
    """An expression for both directions out of those for each."""
    return _MERGES[merge_mode].format(*parts, join=join[0], axis=join[1])


def _meaning(value: Value, stack: _Stack) -> str:
    text = _QUANTITIES[value.quantity]
    if stack.call == "single step":
        return {"h": "the new h", "c": "the new c"}.get(value.quantity, "the new h")
    if stack.call == "packed":
        text = text.replace("the last step", "the last valid step")
    side = f"{value.select} " if stack.bidirectional and value.select in DIRECTIONS else ""
    text = (f"layer {value.layer}: " if value.layer >= 0 else "") + side + text
    if not stack.bidirectional:
        order = ", in the order of processing" if value.reverse else ""
        ends = ", which is input step 0" if stack.backward and value.quantity != "sequence" else ""
        return text + order + ends
    if value.select in DIRECTIONS:
        first = value.quantity != "sequence" and value.select == "backward"
        return text + (", which is input step 0" if first else "")
    last = "the last valid one" if stack.call == "packed" else "input step T-1"
    ends = "" if value.quantity == "sequence" else f" each processes: {last} forward, step 0 backward"
    return f"{text}{ends}, both directions {_MERGED[_merge_of(value)]}"


def _torch_expression(value: Value, stack: _Stack) -> str:
    if value.quantity == "sequence" and value.select == "all":
        return _torch_sequence(value, stack, "")
    return _expression(value, stack, _torch_piece, _TORCH_JOIN)


def _torch_sequence(value: Value, stack: _Stack, half: str) -> str:
    batched = "output[None]" if stack.call == "unbatched" else "output"
    return f"{batched}{half}{'.flip(1)' if value.reverse else ''}"


def _torch_piece(value: Value, stack: _Stack, direction: int) -> str:
    """One direction of a value, batch first."""
    width = stack.last.state_size
    if value.quantity == "sequence":
        return _torch_sequence(value, stack, f"[..., {direction * width}:{(direction + 1) * width}]")
    name = "c" if value.quantity == "c" else "h"
    if stack.call == "single step":
        return name
    row = f"{name}_n{stack.row(value.layer, direction)}"
    return f"{row}[None]" if stack.call == "unbatched" else row


def _onnx_piece(value: Value, stack: _Stack, direction: int) -> str:
    if value.quantity == "sequence":
        return f"Y[{'::-1' if value.reverse else ':'}, {direction}].transpose(1, 0, 2)"
    return f"Y_{'c' if value.quantity == 'c' else 'h'}{stack.row(value.layer, direction)}"


def _onnx_expression(value: Value, stack: _Stack) -> str:
    return _expression(value, stack, _onnx_piece, _ONNX_JOIN) if stack.in_onnx else ""


def _expression(value: Value, stack: _Stack, piece: Callable[[Value, _Stack, int], str], join: tuple[str, str]) -> str:
    if value.select in DIRECTIONS:
        return piece(value, stack, DIRECTIONS.index(value.select))
    parts = [piece(value, stack, index) for index in range(len(stack.last.directions))]
    if len(parts) == 1:
        return parts[0]
    return _merged(parts, _merge_of(value), join)


def _merge_of(value: Value) -> MergeMode:
    """How a value that is none of the two directions alone holds both."""
    merges: dict[str, MergeMode] = {str(mode): mode for mode in MERGE_MODES if mode is not None}
    return merges.get(value.select, "concat")


def _states(kind: Kind) -> str:
    names = [value.name for value in torch_returns(kind)[1:]]
    return f"({', '.join(names)})" if len(names) > 1 else names[0]


def _torch_call(stack: _Stack) -> Iterator[str]:
    """Lines that give the names in the torch expressions; `layer` is the batch-first torch layer, x (batch, time, features)."""
    kind, states = stack.kind, _states(stack.kind)
    if stack.call == "single step":
        state = "(h, c)" if kind == "lstm" else "h"
        after = ", ".join(_names(torch_cell_returns(kind)))
        yield f"{after} = cell(x, {state})"
    elif stack.call == "packed":
        yield f"packed, {states} = layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))"
        yield "output, lengths = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])"
    elif stack.backward:
        given = "x[0].flip(0)" if stack.call == "unbatched" else "x.flip(1)"
        turned = "output.flip(0)" if stack.call == "unbatched" else "output.flip(1)"
        yield f"output, {states} = layer({given})"
        yield f"output = {turned}  # aligned with the input, as ONNX gives it"
    else:
        yield f"output, {states} = layer({'x[0]' if stack.call == 'unbatched' else 'x'})"


def _onnx_call(stack: _Stack) -> Iterator[str]:
    names = ", ".join(value.name for value in onnx_returns(stack.kind))
    if len(stack.specs) > 1:
        yield "# one node after the other: Y of the last, the states of all along the first axis, as in h_n"
    x = "x[None]" if stack.call == "single step" else "x.transpose(1, 0, 2)"
    feed = {"X": x}
    if stack.call == "packed":
        feed["sequence_lens"] = "lengths"
    if stack.call == "single step":
        feed |= {f"initial_{name}": f"{name}[None]" for name in _names(torch_cell_returns(stack.kind))}
    given = ", ".join(f'"{name}": {text}' for name, text in feed.items())
    comment = "  # direction=reverse" if stack.backward else ""
    yield f"{names} = session.run(None, {{{given}}}){comment}"


def _names(values: Iterable[Value]) -> list[str]:
    """Names that Python takes: torch's documentation writes h'."""
    return [value.name.rstrip("'") for value in values]


def _shapes(values: Sequence[Value], stack: _Stack, sizes: Mapping[str, int | str]) -> Returned:
    return tuple((value.name, value.shape({**stack.last.sizes, **sizes})) for value in values)


def _in_torch(stack: _Stack, sizes: Mapping[str, int | str], call: Call) -> Returned:
    """What torch itself hands over, called in some way; none where the stack is several torch layers."""
    if not stack.alike:
        return ()
    if call == "single step":
        return _shapes(torch_cell_returns(stack.kind), stack, sizes)
    if call == "unbatched":
        return _shapes(torch_returns(stack.kind, batched=False), stack, {**sizes, "batch": 1})
    return _shapes(torch_returns(stack.kind, packed=call == "packed"), stack, sizes)


def _in_onnx(stack: _Stack, sizes: Mapping[str, int | str], layout: int = 0) -> Returned:
    """What ONNX hands over; the states of stacked nodes stand along the first axis."""
    if not stack.in_onnx or not stack.alike:
        return ()
    values = onnx_returns(stack.kind, layout)
    if stack.call == "single step":
        sizes = {**sizes, "time": 1}
    output, *states = _shapes(values, stack, sizes)
    if len(stack.specs) == 1 or layout:
        return (output, *states)
    rows = len(stack.specs) * len(stack.last.directions)
    return (output, *((name, (rows, *shape[1:])) for name, shape in states))


def _ways(stack: _Stack, sizes: Mapping[str, int | str]) -> Iterator[Way]:
    """How else the layer may be called."""
    if stack.call == "single step" or not stack.alike:
        return
    sizes = {**sizes, "batch": "batch"} if stack.call == "unbatched" else sizes
    yield Way("torch", "batch_first=False", _shapes(torch_returns(stack.kind, batch_first=False), stack, sizes))
    cell = stack.single and stack.last.directions == DIRECTIONS[:1] and stack.in_onnx
    possible = {"packed": not stack.backward, "single step": cell}
    for call, words, note in _CALLS:
        if call != stack.call and possible.get(call, True):
            name = words.format(torch=stack.kind.upper())
            yield Way("torch", name, _in_torch(stack, sizes, call), note)
    if stack.in_onnx and len(stack.specs) == 1:
        yield Way("onnx", "layout=1", _in_onnx(stack, sizes, layout=1), "ONNX Runtime refuses it")


_CALLS: tuple[tuple[Call, str, str], ...] = (
    ("batched", "batch_first=True", ""),
    ("unbatched", "(time, features), one sample", ""),
    ("packed", "PackedSequence", "pad_packed_sequence puts 0 where padded"),
    ("single step", "{torch}Cell, one step", ""),
)


def _notes(stack: _Stack, return_sequences: bool, return_state: bool) -> Iterator[str]:
    states = [value.quantity for value in torch_returns(stack.kind)[1:]]
    if stack.call == "single step":
        yield "Keras hands the states over as a list, ready for the next step; torch returns them alone."
        return
    if return_state and stack.single and not stack.bidirectional:
        where = "the last step of the first value" if return_sequences else "the first value"
        yield f"state_h equals {where}" + ("; state_c is never part of the output." if "c" in states else ".")
    if stack.backward and return_sequences:
        yield "Keras leaves the output of go_backwards=True in the order of processing; torch and ONNX align it with the input."
    if stack.bidirectional:
        yield "The backward direction ends at step 0: its final h is its half of the output at [:, 0], not at [:, -1]."
        if return_state:
            yield "Keras lists the states direction by direction; torch stacks h_n and c_n with one row per direction."
    if not stack.single and not stack.bidirectional and return_state:
        yield "Keras nests the states of a list of cells: one list for each cell."
    if not stack.alike:
        yield (
            f"In torch and ONNX these are {len(stack.specs)} layers one after the other: h_n[k], c_n[k], Y_h[k] and Y_c[k] are the states "
            "of layer k, output and Y those of the last."
        )
    if any(spec.projection_size for spec in stack.specs):
        yield (
            f"The projection makes h, and so the output, {stack.last.state_size} wide; c keeps {stack.last.hidden_size}. "
            "Only torch has such a layer."
        )
    if stack.call == "packed":
        yield "The mask is True at the first lengths[i] steps of sample i." + (
            " Without zero_output_for_mask Keras repeats the last output at padded steps."
            if return_sequences and not stack.bidirectional
            else ""
        )


_FILLS = {"zero": "0", "repeat": "the last output again", None: "what it computes there"}


def _padding_row(row: Padding) -> list[str]:
    return [row.engine, row.call, _FILLS[row.steps], row.state, row.empty]


def _listed(values: Returned) -> str:
    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in values)


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of a table, indented, every column but the last padded to its width."""
    table = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))] if table else []
    return ["  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def _table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
