"""Where the values that Keras returns stand in torch and ONNX: expressions, and the calls that give the names in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from parity.conventions import (
    MERGE_MODES,
    MergeMode,
    Value,
    keras_cells_returns,
    keras_returns,
    onnx_returns,
    torch_cell_returns,
    torch_returns,
)
from parity.layouts import Kind
from parity.recurrent import DIRECTIONS, RecurrentSpec

Call = Literal["batched", "unbatched", "packed", "single step"]
"""How the torch layer is called; "single step" means a cell (`torch.nn.LSTMCell`)."""

CALLS: tuple[Call, ...] = ("batched", "unbatched", "packed", "single step")

KERAS_CLASSES: dict[Kind, str] = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}


@dataclass(frozen=True)
class Stack:
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
        """Kind and sizes of the last layer, whose sequence is returned."""
        return self.specs[-1]

    @property
    def bidirectional(self) -> bool:
        """Whether the layers have both directions."""
        return len(self.last.directions) == 2

    @property
    def backward(self) -> bool:
        """Whether they have the backward direction alone."""
        return self.last.directions == DIRECTIONS[1:]

    @property
    def alike(self) -> bool:
        """Whether torch says it in one layer of `num_layers`."""
        return len({replace(spec, input_size=1) for spec in self.specs}) == 1

    @property
    def in_onnx(self) -> bool:
        """Whether ONNX has such layers."""
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
            return f"{KERAS_CLASSES[self.kind]}Cell({self.last.hidden_size})"
        options = {
            "return_sequences": return_sequences,
            "return_state": return_state,
            "go_backwards": self.backward,
            "zero_output_for_mask": self.call == "packed" and return_sequences and not self.bidirectional,
        }
        flags = [f"{name}=True" for name, on in options.items() if on]
        masked = " called with a mask" if self.call == "packed" else ""
        if not self.bidirectional and not self.single:
            cells = ", ".join(f"{KERAS_CLASSES[spec.kind]}Cell({_sizes(spec)})" for spec in self.specs)
            return f"RNN({', '.join([f'[{cells}]', *flags])}){masked}"
        if not self.bidirectional:
            return one_layer(self.last, flags) + masked
        if self.single:
            return f"Bidirectional({one_layer(self.last, flags)}, merge_mode={merge_mode!r}){masked}"
        units = [f"Bidirectional({one_layer(spec, ())})" for spec in self.specs]
        return f"{len(units)} stacked layers" + f" {units[0]}" if self.alike else f"stacked {' and '.join(units)}"


def one_layer(spec: RecurrentSpec, flags: Sequence[str]) -> str:
    """One layer as one would write it in Keras.

    Example:
        >>> one_layer(RecurrentSpec("rnn", 3, 5), ["return_state=True"])
        'SimpleRNN(5, return_state=True)'
    """
    return f"{KERAS_CLASSES[spec.kind]}({', '.join([_sizes(spec), *flags])})"


def _sizes(spec: RecurrentSpec) -> str:
    return f"{spec.hidden_size}, proj_size={spec.projection_size}" if spec.projection_size else str(spec.hidden_size)


QUANTITIES = {
    "sequence": "h of every step",
    "last": "h after the last step",
    "h": "h after the last step",
    "c": "c (the cell state) after the last step",
}
MERGED = {"concat": "side by side", "sum": "added", "mul": "multiplied", "ave": "averaged"}
_MERGES = {"concat": "{join}([{0}, {1}], {axis})", "sum": "{0} + {1}", "mul": "{0} * {1}", "ave": "({0} + {1}) / 2"}
TORCH_JOIN, ONNX_JOIN = ("torch.cat", "dim=-1"), ("np.concatenate", "axis=-1")


def merged(parts: Sequence[str], merge_mode: MergeMode, join: tuple[str, str]) -> str:
    """An expression for both directions out of those for each."""
    return _MERGES[merge_mode].format(*parts, join=join[0], axis=join[1])


def meaning(value: Value, stack: Stack) -> str:
    """What a value is, in words."""
    text = QUANTITIES[value.quantity]
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
    return f"{text}{ends}, both directions {MERGED[_merge_of(value)]}"


def torch_expression(value: Value, stack: Stack) -> str:
    """A value as an expression over the names that `torch_call` gives."""
    if value.quantity == "sequence" and value.select == "all":
        return _torch_sequence(value, stack, "")
    return _expression(value, stack, _torch_piece, TORCH_JOIN)


def _torch_sequence(value: Value, stack: Stack, half: str) -> str:
    batched = "output[None]" if stack.call == "unbatched" else "output"
    return f"{batched}{half}{'.flip(1)' if value.reverse else ''}"


def _torch_piece(value: Value, stack: Stack, direction: int) -> str:
    """One direction of a value, batch first."""
    width = stack.last.state_size
    if value.quantity == "sequence":
        return _torch_sequence(value, stack, f"[..., {direction * width}:{(direction + 1) * width}]")
    name = "c" if value.quantity == "c" else "h"
    if stack.call == "single step":
        return name
    row = f"{name}_n{stack.row(value.layer, direction)}"
    return f"{row}[None]" if stack.call == "unbatched" else row


def _onnx_piece(value: Value, stack: Stack, direction: int) -> str:
    if value.quantity == "sequence":
        return f"Y[{'::-1' if value.reverse else ':'}, {direction}].transpose(1, 0, 2)"
    return f"Y_{'c' if value.quantity == 'c' else 'h'}{stack.row(value.layer, direction)}"


def onnx_expression(value: Value, stack: Stack) -> str:
    """A value as an expression over the names that `onnx_call` gives; empty where ONNX has no such layer."""
    return _expression(value, stack, _onnx_piece, ONNX_JOIN) if stack.in_onnx else ""


def _expression(value: Value, stack: Stack, piece: Callable[[Value, Stack, int], str], join: tuple[str, str]) -> str:
    if value.select in DIRECTIONS:
        return piece(value, stack, DIRECTIONS.index(value.select))
    parts = [piece(value, stack, index) for index in range(len(stack.last.directions))]
    if len(parts) == 1:
        return parts[0]
    return merged(parts, _merge_of(value), join)


def _merge_of(value: Value) -> MergeMode:
    """How a value that is none of the two directions alone holds both."""
    merges: dict[str, MergeMode] = {str(mode): mode for mode in MERGE_MODES if mode is not None}
    return merges.get(value.select, "concat")


def _states(kind: Kind) -> str:
    names = [value.name for value in torch_returns(kind)[1:]]
    return f"({', '.join(names)})" if len(names) > 1 else names[0]


def torch_call(stack: Stack) -> Iterator[str]:
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


def onnx_call(stack: Stack) -> Iterator[str]:
    """Lines that give the names in the ONNX expressions; x is a NumPy array, (batch, time, features)."""
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
