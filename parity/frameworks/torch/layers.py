"""PyTorch: the modules that a converted model is made of where torch has no layer of its own.

A recurrent layer that `nn.LSTM`, `nn.GRU` or `nn.RNN` cannot say is a `RecurrentLayer`: for each direction torch's own module where
its cell is plain, else a `Loop` over the steps of one of the cells in `parity.frameworks.torch.cells`.
`parity.frameworks.torch.chain` calls layers in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from parity.conventions import CANONICAL_AXES, Fill, MergeMode, Select, Value, keras_returns, merge
from parity.frameworks.torch.calling import called
from parity.frameworks.torch.cells import GeneralCell
from parity.layouts import STATES, Kind
from parity.recurrent import DIRECTIONS, Direction

NATIVE: dict[Kind, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
"""torch's own layers."""

Hx: TypeAlias = "Tensor | tuple[Tensor, ...]"
"""States as torch hands them over: (h, c) of an LSTM, h of the others."""


class Run(NamedTuple):
    """What one recurrent layer computed, in the canonical axes.

    Args:
        sequence: (batch, time, direction, features), every step where the input has it.
        states: h, and c of an LSTM, (direction, batch, features) each.
        last: (direction, batch, features), the sequence at the step that each direction processes last.
    """

    sequence: Tensor
    states: tuple[Tensor, ...]
    last: Tensor


class Loop(nn.Module):
    """Steps a cell through a sequence; takes and returns what a batch-first `nn.LSTM` or `nn.GRU` of one layer does.

    `mask` is (batch, time), True where a step is valid: the others keep the states, and zeros stand in the output.

    Example:
        >>> from parity.cell import plain_cell
        >>> from parity.frameworks.torch.cells import GeneralGRUCell
        >>> output, h_n = Loop(GeneralGRUCell(3, 5, plain_cell("gru")))(torch.ones(2, 7, 3))
        >>> output.shape, h_n.shape
        (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(self, cell: GeneralCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(
        self, x: Tensor | PackedSequence, hx: Hx | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Hx]:
        """x: (batch, time, features), (time, features) of one sample, or packed."""
        return called(self, self._steps, x, hx, as_truth(mask))

    def _steps(self, x: Tensor, hx: Hx | None, mask: Tensor | None) -> tuple[Tensor, Hx]:
        states = self.cell.zeros(x[:, 0]) if hx is None else tuple(state[0] for state in states_of(hx))
        inputs = self.cell.of_input(x)
        outputs = []
        for step in range(x.shape[1]):
            after = self.cell.step(inputs[:, step], *states)
            output = after[0]
            if mask is not None:
                valid = mask[:, step, None]
                after = tuple(torch.where(valid, new, old) for new, old in zip(after, states, strict=True))
                output = torch.where(valid, output, 0.0)
            states = after
            outputs.append(output)
        return torch.stack(outputs, dim=1), as_hx(state[None] for state in states)


class RecurrentLayer(nn.Module):
    """A recurrent layer that is put together from one module for each direction.

    `forward(x, hx=None, mask=None)` takes x (batch, time, features), initial states (direction, batch, features), and a mask (batch, time)
    that is True where a step is valid. It returns `(output, (h_n, c_n))` or `(output, h_n)` as a batch-first `nn.LSTM` or `nn.GRU` does;
    as those it also takes one sample without the batch axis, or a `PackedSequence` (unless it reverses its steps).

    Args:
        kind: of the cells.
        layers: for each direction a batch-first `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer and one direction, or a `Loop`.
        directions: which way each of them goes.
        merge_mode: what becomes of the outputs of two directions; None returns both in a tuple.
        return_sequences: whether the output has every step, or only the one that each direction processes last.
        reverse: whether the output's steps stand in the opposite order of the input's.
        fill: what stands in the output where the mask is False: zero, or the output of the step processed before.
    """

    def __init__(
        self,
        kind: Kind,
        layers: Sequence[nn.Module],
        directions: tuple[Direction, ...],
        merge_mode: MergeMode | None = "concat",
        return_sequences: bool = True,
        reverse: bool = False,
        fill: Fill = "zero",
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.layers = nn.ModuleList(layers)
        self.directions = directions
        self.merge_mode: MergeMode | None = merge_mode
        self.return_sequences, self.reverse = return_sequences, reverse
        self.fill: Fill = fill

    def forward(self, x: Tensor | PackedSequence, hx: Hx | None = None, mask: Tensor | None = None) -> tuple[Any, Hx]:
        """The output and the final states."""
        reverse = self.reverse and self.return_sequences
        return called(self, self._batch, x, hx, as_truth(mask), reverse=reverse)

    def _batch(self, x: Tensor, hx: Hx | None, mask: Tensor | None) -> tuple[Any, Hx]:
        return self.returned(self.run(x, hx, mask))

    def run(self, x: Tensor, hx: Hx | None = None, mask: Tensor | None = None) -> Run:
        """Everything it computes."""
        sequences, states = [], []
        for index, direction in enumerate(self.directions):
            own = None if hx is None else as_hx(state[index : index + 1] for state in states_of(hx))
            output, final = _one_way(self.layers[index], direction, x, own, mask)
            sequences.append(output)
            states.append(states_of(final))
        joined = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        return _run(torch.stack(sequences, dim=2), joined, self.directions, mask, self.fill)

    def given(self, run: Run) -> tuple[Tensor, ...]:
        """The output; with merge_mode None both outputs."""
        both = len(self.directions) == len(DIRECTIONS)
        values = keras_returns(self.kind, both, self.return_sequences, merge_mode=self.merge_mode, reverse=self.reverse)
        return tuple(shown(value, run) for value in values)

    def returned(self, run: Run) -> tuple[Any, Hx]:
        """What `forward` makes of it."""
        return alone(self.given(run)), as_hx(run.states)

    def extra_repr(self) -> str:
        """The options that `print(module)` shows."""
        options = f"merge_mode={self.merge_mode!r}, return_sequences={self.return_sequences}, reverse={self.reverse}"
        return f"directions={self.directions}, {options}, fill={self.fill!r}"


class Bidirectional(nn.Module):
    """Two stacks of recurrent layers on one input (Keras's Bidirectional with a `backward_layer` unlike its `layer`).

    `forward(x, hx=None, mask=None)` returns `(output, states)`: a list of each layer's states, the forward stack first, as `hx` takes it.

    Args:
        forward_layers, backward_layers: the stacks, each layer under its name.
        merge_mode: what becomes of both outputs; None returns both in a tuple.
    """

    def __init__(
        self,
        forward_layers: Mapping[str, RecurrentLayer],
        backward_layers: Mapping[str, RecurrentLayer],
        merge_mode: MergeMode | None = "concat",
    ) -> None:
        super().__init__()
        self.forward_layers = nn.ModuleList(forward_layers.values())
        self.backward_layers = nn.ModuleList(backward_layers.values())
        self.names = (tuple(forward_layers), tuple(backward_layers))
        self.merge_mode: MergeMode | None = merge_mode

    @property
    def stacks(self) -> tuple[list[tuple[str, Any]], ...]:
        """Both stacks: each layer with its name."""
        modules = (self.forward_layers, self.backward_layers)
        return tuple(list(zip(names, stack, strict=True)) for names, stack in zip(self.names, modules, strict=True))

    def forward(
        self, x: Tensor | PackedSequence, hx: Sequence[Hx] | None = None, mask: Tensor | None = None
    ) -> tuple[Any, list[Hx]]:
        """The output and every layer's final states."""
        reverse = any(layer.reverse and layer.return_sequences for stack in self.stacks for _, layer in stack)
        return called(self, self._batch, x, hx, as_truth(mask), reverse=reverse)

    def _batch(self, x: Tensor, hx: Sequence[Hx] | None, mask: Tensor | None) -> tuple[Any, list[Hx]]:
        names = [name for stack in self.names for name in stack]
        return self.returned(self.run(x, {} if hx is None else dict(zip(names, hx, strict=True)), mask))

    def run(self, x: Tensor, states: Mapping[str, Hx], mask: Tensor | None = None) -> dict[str, Run]:
        """Everything its layers compute, by name, from initial states by name."""
        runs: dict[str, Run] = {}
        for stack in self.stacks:
            value = x
            for name, layer in stack:
                runs[name] = layer.run(value, states.get(name), mask)
                (value,) = layer.given(runs[name])[:1]
        return runs

    def given(self, runs: Mapping[str, Run]) -> tuple[Tensor, ...]:
        """The output; with merge_mode None both outputs."""
        ends = [stack[-1] for stack in self.stacks]
        forward, backward = (layer.given(runs[name])[0] for name, layer in ends)
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return (torch.cat([forward, backward], dim=-1),)
        return (merge(forward, backward, self.merge_mode),)

    def returned(self, runs: Mapping[str, Run]) -> tuple[Any, list[Hx]]:
        """What `forward` makes of it."""
        return alone(self.given(runs)), [as_hx(run.states) for run in runs.values()]

    def extra_repr(self) -> str:
        """The options that `print(module)` shows."""
        return f"merge_mode={self.merge_mode!r}"


class Masking(nn.Module):
    """Marks the steps all of whose features equal a value, and sets them to zero (`keras.layers.Masking`).

    Example:
        >>> masking = Masking(9.0)
        >>> masking.mask(torch.tensor([[[9.0, 9.0], [9.0, 1.0]]])).tolist()
        [[False, True]]
    """

    def __init__(self, mask_value: float = 0.0) -> None:
        super().__init__()
        self.mask_value = mask_value
        # Keras keeps the value in float32, whatever the inputs are.
        self._rounded = torch.tensor(mask_value, dtype=torch.float32).item()

    def mask(self, x: Tensor) -> Tensor:
        """Which steps of x, (batch, time, features), are valid: (batch, time)."""
        return (x != self._rounded).any(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """x, (batch, time, features), with zeros at the steps that are left out."""
        return torch.where(self.mask(x)[..., None], x, 0.0)

    def extra_repr(self) -> str:
        """The options that `print(module)` shows."""
        return f"mask_value={self.mask_value}"


class MaskedEmbedding(nn.Embedding):
    """An embedding in which the integer 0 marks a step to leave out (`keras.layers.Embedding(mask_zero=True)`)."""

    def mask(self, x: Tensor) -> Tensor:
        """Which steps of x, (batch, time), are valid."""
        return x != 0


def states_of(hx: Hx) -> tuple[Tensor, ...]:
    """(h, c) or (h,), whichever torch handed over."""
    return hx if isinstance(hx, tuple) else (hx,)


def as_hx(states: Iterable[Tensor]) -> Hx:
    """States as torch hands them over: a tuple only of two.

    Example:
        >>> as_hx([torch.ones(2)]).shape
        torch.Size([2])
    """
    together = tuple(states)
    return together[0] if len(together) == 1 else together


def run_native(layer: Any, x: Tensor, hx: Hx | None, mask: Tensor | None, fill: Fill) -> Run:
    """Run a batch-first `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer on x, (batch, time, features)."""
    output, states = layer(x, hx) if mask is None else on_valid_steps(layer, x, hx, mask)
    directions = DIRECTIONS if layer.bidirectional else DIRECTIONS[:1]
    axes = f"batch time (direction hidden) -> {CANONICAL_AXES['sequence']}"
    sequence = rearrange(output, axes, direction=len(directions))
    return _run(sequence, states_of(states), directions, mask, fill)


def on_valid_steps(layer: Any, x: Tensor, hx: Hx | None, mask: Tensor) -> tuple[Tensor, Hx]:
    """What torch's own layer computes from the valid steps alone.

    Where the valid steps do not all come first they are moved there, and their outputs back. torch packs no empty sequence: a sample
    without any valid step keeps its initial state.

    Args:
        layer: an `nn.LSTM`, `nn.GRU` or `nn.RNN`, batch-first or not.
        x: (batch, time, features).
        hx: initial states, None for zeros.
        mask: (batch, time), True where a step is valid.

    Returns:
        The output, (batch, time, features), with zeros where the mask is False, and the states after the last valid step.
    """
    lengths = mask.sum(dim=1)
    rows = lengths.nonzero()[:, 0]
    states = _zeros(layer, x) if hx is None else states_of(hx)
    output = x.new_zeros(*x.shape[:2], _output_size(layer))
    if not len(rows):
        return output, as_hx(states)
    steps = x[rows] if is_right_padded(mask) else _along_time(x, (~mask).int().argsort(dim=1, stable=True))[rows]
    packed = pack_padded_sequence(steps, lengths[rows].cpu(), batch_first=True, enforce_sorted=is_sorted(lengths[rows]))
    packed_output, after = layer(packed, as_hx(state[:, rows].contiguous() for state in states))
    computed, _ = pad_packed_sequence(packed_output, batch_first=True, total_length=x.shape[1])
    spread = _along_time(computed, (mask[rows].cumsum(dim=1) - 1).clamp(min=0))
    output = output.index_copy(0, rows, torch.where(mask[rows][..., None], spread, 0.0))
    final = (old.index_copy(1, rows, new) for old, new in zip(states, states_of(after), strict=True))
    return output, as_hx(final)


def is_right_padded(mask: Tensor) -> bool:
    """Whether the valid steps of every sample come first."""
    return not bool((mask[:, 1:] & ~mask[:, :-1]).any())


def is_sorted(lengths: Tensor) -> bool:
    """Whether no sample is longer than the one before it."""
    return bool((lengths[1:] <= lengths[:-1]).all())


def shown(value: Value, run: Run) -> Tensor:
    """One value of a layer as a framework returns it; `parity.conventions.Value.of` for tensors."""
    quantities = {"sequence": run.sequence, "last": run.last, **dict(zip(STATES["lstm"], run.states, strict=False))}
    tensor = quantities[value.quantity]
    axes = [axis for axis in CANONICAL_AXES[value.quantity].split() if axis != "layer"]
    if value.reverse:
        tensor = tensor.flip(axes.index("time"))
    if value.select != "all":
        tensor = _selected(tensor, axes.index("direction"), value.select)
        axes.remove("direction")
    if "layer" in value.axes:
        tensor, axes = tensor[None], ["layer", *axes]
    rearranged: Tensor = rearrange(tensor, f"{' '.join(axes)} -> {value.axes}")
    return rearranged


def _one_way(
    layer: nn.Module, direction: Direction, x: Tensor, hx: Hx | None, mask: Tensor | None
) -> tuple[Tensor, Hx]:
    """Run a module that goes forward in a direction; its output stands where the input has the steps."""
    x, mask = _turned(x, direction), None if mask is None else _turned(mask, direction)
    if mask is None:
        output, states = layer(x, hx)
    else:
        output, states = layer(x, hx, mask) if isinstance(layer, Loop) else on_valid_steps(layer, x, hx, mask)
    return _turned(output, direction), states


def _turned(tensor: Tensor, direction: Direction) -> Tensor:
    return tensor.flip(1) if direction == "backward" else tensor


def _run(
    sequence: Tensor, states: tuple[Tensor, ...], directions: Sequence[Direction], mask: Tensor | None, fill: Fill
) -> Run:
    """Of a sequence, (batch, time, direction, features), that has zeros where the mask is False."""
    if mask is None:
        return Run(sequence, states, states[0])
    ways = list(zip(directions, sequence.unbind(2), strict=True))
    if fill == "repeat":
        ways = [(way, _turned(_repeated(_turned(h, way), _turned(mask, way)), way)) for way, h in ways]
    last = torch.stack([_turned(h, way)[:, -1] for way, h in ways])
    return Run(torch.stack([h for _, h in ways], dim=2), states, last)


def _repeated(output: Tensor, mask: Tensor) -> Tensor:
    """The output, (batch, time, features), with that of the valid step before at every masked one; zero before the first of them."""
    steps = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return _along_time(output, torch.where(mask, steps, 0).cummax(dim=1).values)


def _along_time(x: Tensor, steps: Tensor) -> Tensor:
    """The steps of x, (batch, time, features), that `steps`, (batch, time), names."""
    return x.gather(1, steps[..., None].expand(-1, -1, x.shape[-1]))


def _selected(tensor: Tensor, axis: int, select: Select) -> Tensor:
    if select in DIRECTIONS:
        return tensor.select(axis, DIRECTIONS.index(select))
    merged: Tensor = merge(tensor.select(axis, 0), tensor.select(axis, 1), select)
    return merged


def as_truth(mask: Tensor | None) -> Tensor | None:
    """A mask of zeros and ones, as tokenizers give it, as bool."""
    return None if mask is None else mask.bool()


def alone(values: Sequence[Tensor]) -> Any:
    """The only one of several values, or all of them."""
    return values[0] if len(values) == 1 else values


def _output_size(layer: Any) -> int:
    return int((layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1))


def _zeros(layer: Any, x: Tensor) -> tuple[Tensor, ...]:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = (layer.proj_size or layer.hidden_size, *((layer.hidden_size,) if isinstance(layer, nn.LSTM) else ()))
    return tuple(x.new_zeros(rows, x.shape[0], size) for size in sizes)
