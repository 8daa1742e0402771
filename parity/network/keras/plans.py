"""What the configuration of a Keras layer says, before its weights are read. Imports no framework.

Source: Keras 3 `RNN.call`, `StackedRNNCells`, `Bidirectional.__init__` and `Bidirectional.call`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from parity.conventions import Fill, MergeMode, Value, keras_returns
from parity.deferred import Stored
from parity.errors import Problem
from parity.network.bidirectional import Bidirectional
from parity.network.dense import Dense
from parity.network.dropout import Dropout
from parity.network.embedding import Embedding
from parity.network.graph import Layer
from parity.network.keras.cells import CellPlan
from parity.network.keras.stored import held
from parity.network.masking import Masking
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS

Shapes = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Plan:
    """A layer whose options are known and whose weights are not read yet.

    Args:
        name: the user's name for it.
        where: it stands, for messages.
        rank_in: the dimensions of what it takes; None where any will do and come out again.
    """

    name: str
    where: str
    rank_in: int | None = None

    @property
    def rank_out(self) -> int | None:
        """The dimensions of what it gives; None for those of what it takes."""
        return None

    @property
    def makes_mask(self) -> bool:
        """Whether it marks steps to leave out."""
        return False

    @property
    def values(self) -> list[tuple[str, str, Value | None]]:
        """What it hands over in Keras's order, flattened: (name, node it comes from, which of its values)."""
        return [(self.name, self.name, None)]

    def output_size(self, input_size: int) -> int:
        """Features it gives, of so many that it takes."""
        return input_size

    def shapes(self, input_size: int) -> Shapes:
        """Name and shape of every weight, in Keras's order."""
        return []

    def fitted(self, shapes: Sequence[tuple[int, ...]]) -> Plan:
        """The plan that weights of these shapes, in Keras's order, tell: the same, but for biases that cuDNN keeps apart."""
        return self

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:
        """The nodes of the network that say the layer, with its weights in the order of `layer.get_weights()`."""
        raise NotImplementedError


@dataclass(frozen=True)
class DensePlan(Plan):
    """`keras.layers.Dense`."""

    units: int = 0
    use_bias: bool = True
    activation: str = "linear"

    def output_size(self, input_size: int) -> int:  # noqa: D102  as Plan says
        return self.units

    def shapes(self, input_size: int) -> Shapes:  # noqa: D102
        return [("kernel", (input_size, self.units)), *([("bias", (self.units,))] if self.use_bias else [])]

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:  # noqa: D102
        kernel, *biases = (held(array, self.where) for array in arrays)
        return (Dense(self.name, kernel, biases[0] if biases else None, self.activation),)


@dataclass(frozen=True)
class EmbeddingPlan(Plan):
    """`keras.layers.Embedding`."""

    rows: int = 0
    features: int = 0
    mask_zero: bool = False
    rank_in: int | None = 2

    @property
    def rank_out(self) -> int | None:  # noqa: D102
        return 3

    @property
    def makes_mask(self) -> bool:  # noqa: D102
        return self.mask_zero

    def output_size(self, input_size: int) -> int:  # noqa: D102
        return self.features

    def shapes(self, input_size: int) -> Shapes:  # noqa: D102
        return [("embeddings", (self.rows, self.features))]

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:  # noqa: D102
        return (Embedding(self.name, held(arrays[0], self.where), self.mask_zero),)


@dataclass(frozen=True)
class MaskingPlan(Plan):
    """`keras.layers.Masking`."""

    mask_value: float = 0.0
    rank_in: int | None = 3

    @property
    def makes_mask(self) -> bool:  # noqa: D102
        return True

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:  # noqa: D102
        return (Masking(self.name, input_size, self.mask_value),)


@dataclass(frozen=True)
class DropoutPlan(Plan):
    """`keras.layers.Dropout`."""

    rate: float = 0.0

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:  # noqa: D102
        return (Dropout(self.name, input_size, self.rate),)


@dataclass(frozen=True)
class StackPlan(Plan):
    """A layer of one direction: `LSTM`, `GRU`, `SimpleRNN`, or `RNN` around one cell or a list of them.

    Args:
        cells: the one that takes the inputs first.
        go_backwards, return_sequences, return_state, stateful, unroll: the options of the layer.
        fill: what its output holds at masked steps.
        reverse: whether its output is left in the opposite order of the inputs.
        single_step: whether it is a cell by itself.
    """

    cells: tuple[CellPlan, ...] = ()
    go_backwards: bool = False
    return_sequences: bool = False
    return_state: bool = False
    stateful: bool = False
    unroll: bool = False
    fill: Fill = "repeat"
    reverse: bool = False
    single_step: bool = False
    rank_in: int | None = 3

    @property
    def rank_out(self) -> int | None:  # noqa: D102
        return 3 if self.return_sequences else 2

    @property
    def nodes(self) -> list[str]:
        """The names of its nodes: its own name, or one for each of several cells."""
        if len(self.cells) == 1:
            return [self.name]
        names: list[str] = []
        for cell in self.cells:
            wanted = f"{self.name}.{cell.name}"
            names.append(wanted if wanted not in names else f"{wanted}_{len(names)}")
        return names

    @property
    def values(self) -> list[tuple[str, str, Value | None]]:  # noqa: D102
        return [(self.name, self.nodes[-1], None), *(self.states(self.name) if self.return_state else ())]

    def states(self, prefix: str, label: str = "") -> Iterator[tuple[str, str, Value | None]]:
        """Its states in Keras's order, named `prefix.state_h`, or `prefix.cell_0_state_h` where there are several cells."""
        for index, (cell, node) in enumerate(zip(self.cells, self.nodes, strict=True)):
            position = f"cell_{index}_" if len(self.cells) > 1 else ""
            for value in keras_returns(cell.kind, return_state=True)[1:]:
                yield f"{prefix}.{label}{position}{value.name}", node, value

    def output_size(self, input_size: int) -> int:  # noqa: D102
        return self.cells[-1].output_size

    def inputs(self, input_size: int) -> list[int]:
        """Features that each cell takes."""
        return [input_size, *(cell.output_size for cell in self.cells[:-1])]

    def shapes(self, input_size: int) -> Shapes:  # noqa: D102
        sizes = zip(self.cells, self.inputs(input_size), strict=True)
        return [shape for cell, size in sizes for shape in cell.shapes(size)]

    def fitted(self, shapes: Sequence[tuple[int, ...]]) -> StackPlan:  # noqa: D102
        rest, cells = list(shapes), []
        for cell in self.cells:
            names = [name for name, _ in cell.shapes(1)]
            bias = rest[names.index("bias")] if "bias" in names and len(names) <= len(rest) else ()
            cells.append(replace(cell, two_biases=len(bias) == 2))
            del rest[: len(names)]
        return replace(self, cells=tuple(cells))

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Recurrent, ...]:
        """One layer for each cell, from their weights one after the other."""
        rest, nodes = iter(arrays), []
        last = len(self.cells) - 1
        sizes = self.inputs(input_size)
        for index, (cell, size, name) in enumerate(zip(self.cells, sizes, self.nodes, strict=True)):
            weights = cell.weights(size, [next(rest) for _ in cell.shapes(size)])
            nodes.append(
                Recurrent(
                    name,
                    replace(cell.spec(size), directions=DIRECTIONS[int(self.go_backwards) :][:1]),
                    (weights,),
                    return_sequences=self.return_sequences or index < last,
                    return_state=self.return_state,
                    cells=(cell.cell,),
                    reverse=self.reverse and index == last,
                    fill=self.fill,
                    stateful=self.stateful,
                    unroll=self.unroll,
                    dropout=cell.dropout,
                    recurrent_dropout=cell.recurrent_dropout,
                    single_step=self.single_step,
                )
            )
        return tuple(nodes)


@dataclass(frozen=True)
class BidirectionalPlan(Plan):
    """`keras.layers.Bidirectional`.

    Args:
        forward, backward: its `layer` and its `backward_layer`, named as their nodes are where the two are unlike.
        merge_mode: what becomes of both outputs.
    """

    forward: StackPlan = StackPlan("", "")
    backward: StackPlan = StackPlan("", "")
    merge_mode: MergeMode | None = "concat"
    rank_in: int | None = 3

    @property
    def rank_out(self) -> int | None:  # noqa: D102
        return self.forward.rank_out

    @property
    def alike(self) -> bool:
        """Whether one node of two directions says it."""
        first, second = self.forward, self.backward
        if len(first.cells) > 1 or len(second.cells) > 1 or first.go_backwards:
            return False
        sizes = [
            (s.unroll, c.kind, c.units, c.projection_size, c.dropout, c.recurrent_dropout)
            for s in (first, second)
            for c in s.cells
        ]
        return sizes[0] == sizes[1]

    @property
    def values(self) -> list[tuple[str, str, Value | None]]:
        """What both directions hand over, merged as the layer says."""
        first, second = self.forward, self.backward
        if self.alike:
            kind, several = first.cells[0].kind, self.merge_mode is None
            returned = keras_returns(kind, True, first.return_sequences, first.return_state, self.merge_mode)
            named: list[tuple[str, str, Value | None]] = [(f"{self.name}.{v.name}", self.name, v) for v in returned]
            return named if several else [(self.name, self.name, None), *named[1:]]
        outputs: list[tuple[str, str, Value | None]] = [(self.name, self.name, None)]
        if self.merge_mode is None:
            outputs = [
                (f"{self.name}.{label}_output", stack.nodes[-1], _given(stack))
                for label, stack in (("forward", first), ("backward", second))
            ]
        if not first.return_state:
            return outputs
        return [*outputs, *first.states(self.name, "forward_"), *second.states(self.name, "backward_")]

    def output_size(self, input_size: int) -> int:  # noqa: D102
        sizes = [stack.output_size(input_size) for stack in (self.forward, self.backward)]
        return sum(sizes) if self.merge_mode == "concat" else sizes[0]

    def shapes(self, input_size: int) -> Shapes:  # noqa: D102
        return self.forward.shapes(input_size) + self.backward.shapes(input_size)

    def fitted(self, shapes: Sequence[tuple[int, ...]]) -> BidirectionalPlan:  # noqa: D102
        half = len(self.forward.shapes(1))
        return replace(self, forward=self.forward.fitted(shapes[:half]), backward=self.backward.fitted(shapes[half:]))

    def problems(self) -> Iterator[Problem]:
        """What Keras itself would refuse, or compute otherwise than anybody expects."""
        first, second = self.forward, self.backward
        if first.go_backwards == second.go_backwards:
            got = f"go_backwards={first.go_backwards} in both"
            remedy = "a backward layer has go_backwards=True"
            yield Problem("both layers have one direction", self.where, "one of them backwards", got, remedy)
        for key in ("return_sequences", "return_state", "stateful"):
            if getattr(first, key) != getattr(second, key):
                expected = f"{key}={getattr(first, key)}, as its forward layer"
                got = f"{key}={getattr(second, key)}"
                remedy = f"give both the same {key}: Keras refuses anything else"
                yield Problem("the backward layer differs from the forward layer", self.where, expected, got, remedy)
        sizes = [stack.output_size(1) for stack in (first, second)]
        if self.merge_mode not in ("concat", None) and sizes[0] != sizes[1]:
            expected, got = f"{sizes[0]} units, as its forward layer", f"{sizes[1]} units"
            remedy = f"merge_mode={self.merge_mode!r} needs outputs of one size: make both alike, or use 'concat'"
            yield Problem("outputs of different sizes are merged", self.where, expected, got, remedy)

    def build(self, arrays: Sequence[Stored], input_size: int) -> tuple[Layer, ...]:
        """One layer of two directions where they are alike, else a `Bidirectional`."""
        half = len(self.forward.shapes(input_size))
        forward = self.forward.build(arrays[:half], input_size)
        backward = self.backward.build(arrays[half:], input_size)
        if not self.alike:
            state = self.forward.return_state
            return (Bidirectional(self.name, forward, backward, self.merge_mode, state),)
        (first,), (second,) = forward, backward
        both = replace(
            first,
            name=self.name,
            spec=replace(first.spec, directions=DIRECTIONS),
            weights=first.weights + second.weights,
            cells=first.cells + second.cells,
            merge_mode=self.merge_mode,
            reverse=False,
        )
        return (both,)


def _given(stack: StackPlan) -> Value:
    """What a layer gives on, as `Recurrent.given`."""
    kind = stack.cells[-1].kind
    return keras_returns(kind, return_sequences=stack.return_sequences, reverse=stack.reverse)[0]


def rank_problems(plans: Sequence[Plan], rank: int | None) -> Iterator[Problem]:
    """Layers that get another number of dimensions than they take; `rank` is that of the input where it is known."""
    rank = rank or (plans[0].rank_in or 3 if plans else 0)
    for position, plan in enumerate(plans):
        if isinstance(plan, EmbeddingPlan) and position:
            got = f"layer {position + 1}"
            yield Problem("an Embedding after another layer", plan.where, "the first layer", got, "put it first")
        elif plan.rank_in not in (None, rank):
            axes = "(batch, time)" if isinstance(plan, EmbeddingPlan) else "(batch, time, features)"
            remedy = "set return_sequences=True on the recurrent layer before it" if position else f"give inputs {axes}"
            expected, got = f"{plan.rank_in}: {axes}", str(rank)
            yield Problem("the layer gets another number of dimensions", plan.where, expected, got, remedy)
        rank = plan.rank_out or rank


def masking_problems(plans: Sequence[Plan]) -> Iterator[Problem]:
    """What the model's own masks make of it that nobody could keep."""
    maker: Plan | None = None
    for plan in plans:
        if plan.makes_mask:
            if maker is not None:
                remedy = "keep one of them: the second mask replaces the first"
                yield Problem("several layers make masks", plan.where, "one", f"also {maker.where}", remedy)
            maker = plan
        stacks = (
            [plan.forward, plan.backward]
            if isinstance(plan, BidirectionalPlan)
            else [plan]
            if isinstance(plan, StackPlan)
            else []
        )
        backward = any(stack.go_backwards for stack in stacks)
        if maker is not None and backward and any(stack.unroll for stack in stacks):
            got = f"unroll=True under the mask of {maker.where}"
            remedy = "set unroll=False: unrolled, Keras puts the zeros of the backward direction at the wrong steps"
            yield Problem("a masked backward direction is unrolled", plan.where, "unroll=False", got, remedy)
        if plan.rank_out == 2:
            maker = None
