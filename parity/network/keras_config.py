"""Keras configurations (what `config.json` in a `.keras` file holds) -> Network. Imports no framework.

Which options keep the numbers is data: `parity.network.keras_options`. A configuration is read in three steps: its
chain of layers (`parity.network.keras_chain`), every layer against its row of the table (`_plan`), the weights (`_with_weights`). The
first two collect every problem of the whole model before anything is raised.

Source: Keras 3 `serialize_keras_object`, `Functional.get_config`, and the `get_config` of each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from parity.conventions import Value, keras_returns
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.layouts import LAYOUTS, Kind, Tensor
from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network, Output
from parity.network.keras_chain import (
    MODEL_READERS,
    Chain,
    chain_of,
    class_name_of,
    field,
    name_of,
    size_of,
    where_of,
)
from parity.network.keras_options import (
    BACKWARD,
    CELL_KINDS,
    CLASSES,
    COMMON,
    FORWARD,
    OTHER_CLASSES,
    Config,
    check_options,
    plain,
)
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, tensor_shape, unpack


class Stored(Protocol):
    """A weight, perhaps still in a file: its shape and dtype are looked at before `numpy.asarray` reads it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""


_OTHER_CLASS = "convert the part of the model around its LSTM and GRU layers by itself: keras.Model(inputs, outputs)"


@dataclass(frozen=True)
class _Plan:
    """A layer whose options are known and whose weights are not read yet.

    `rank_in` and `rank_out` are the dimensions of what it takes and gives; None where any will do and come out again.
    """

    name: str
    where: str

    rank_in: int | None = None

    @property
    def rank_out(self) -> int | None:
        return None

    def shapes(self, input_size: int) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every weight, in Keras's order."""
        raise NotImplementedError

    def build(self, arrays: Sequence[Array]) -> Layer:
        """The layer with its weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class _RecurrentPlan(_Plan):
    kind: Kind = "lstm"
    units: int = 0
    biases: tuple[bool, ...] = (True,)
    return_sequences: bool = False
    return_state: bool = False
    rank_in: int | None = 3

    @property
    def rank_out(self) -> int | None:
        return 3 if self.return_sequences else 2

    @property
    def directions(self) -> tuple[Direction, ...]:
        return DIRECTIONS[: len(self.biases)]

    @property
    def values(self) -> tuple[Value, ...]:
        """What the layer hands over, as `Recurrent.values`."""
        return keras_returns(self.kind, len(self.biases) == 2, self.return_sequences, self.return_state)

    def shapes(self, input_size: int) -> list[tuple[str, tuple[int, ...]]]:
        spec = RecurrentSpec(self.kind, input_size, self.units)
        return [
            (tensor.name, tensor_shape(spec, tensor, 1)) for bias in self.biases for tensor in _tensors(self.kind, bias)
        ]

    def build(self, arrays: Sequence[Array]) -> Recurrent:
        """The layer, from its weights in the order of `layer.get_weights()`."""
        spec = RecurrentSpec(self.kind, arrays[0].shape[0], self.units)
        weights: list[Weights] = []
        rest = iter(arrays)
        for bias in self.biases:
            named = {tensor.name: next(rest) for tensor in _tensors(self.kind, bias)}
            weights += unpack(LAYOUTS["keras", self.kind], spec, named)
        spec = replace(spec, directions=self.directions)
        return Recurrent(self.name, spec, tuple(weights), self.return_sequences, self.return_state)


@dataclass(frozen=True)
class _DensePlan(_Plan):
    units: int = 0
    use_bias: bool = True
    activation: str = "linear"

    def shapes(self, input_size: int) -> list[tuple[str, tuple[int, ...]]]:
        return [("kernel", (input_size, self.units)), *([("bias", (self.units,))] if self.use_bias else [])]

    def build(self, arrays: Sequence[Array]) -> Dense:
        return Dense(self.name, arrays[0].copy(), arrays[1].copy() if self.use_bias else None, self.activation)


@dataclass(frozen=True)
class _EmbeddingPlan(_Plan):
    rows: int = 0
    features: int = 0
    rank_in: int | None = 2

    @property
    def rank_out(self) -> int | None:
        return 3

    def shapes(self, _: int) -> list[tuple[str, tuple[int, ...]]]:
        return [("embeddings", (self.rows, self.features))]

    def build(self, arrays: Sequence[Array]) -> Embedding:
        return Embedding(self.name, arrays[0].copy())


def _tensors(kind: Kind, bias: bool) -> list[Tensor]:
    """A cell's weights in Keras's order."""
    return [tensor for tensor in LAYOUTS["keras", kind].tensors if bias or tensor.name != "bias"]


def network_from_keras(
    serialized: Config, arrays: Callable[[str], Sequence[Stored]], name: str | None = None
) -> Network:
    """Read a Sequential or Functional model.

    Args:
        serialized: what `keras.saving.serialize_keras_object(model)` gives and `config.json` holds.
        arrays: the weights of a layer by its name, in the order of `layer.get_weights()`; they are read only after all
            their shapes have been checked.
        name: of the network; the model's own by default.

    Returns:
        A network with the model's outputs, named after their layers (`lstm`, or `lstm.state_h` for a state).

    Raises:
        UnsupportedError: anything that is not kept exactly; all problems of the model at once.
        ShapeError: weights that do not fit the configuration; all at once.
        FormatError: not a configuration of a Keras model.

    Example:
        >>> config = {"units": 1, "use_bias": False, "name": "lstm"}
        >>> layer = {"module": "keras.layers", "class_name": "LSTM", "config": config, "registered_name": None}
        >>> model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
        >>> kernel, recurrent_kernel = np.ones((2, 4), np.float32), np.ones((1, 4), np.float32)
        >>> network_from_keras(model, lambda name: [kernel, recurrent_kernel]).specs["lstm"].input_size
        2
    """
    problems: list[Problem] = []
    chain = chain_of(serialized, problems)
    plans = [plan for plan in (_plan(layer, problems) for layer in chain.layers) if plan]
    complete = len(plans) == len(chain.layers)
    by_name = {plan.name: plan for plan in plans}
    problems += _wiring_problems(chain, by_name)
    if complete and not problems:
        problems += _rank_problems(chain, plans)
    outputs = _outputs(chain, plans, problems)
    if problems:
        raise UnsupportedError(problems)
    shape = chain.input_shape
    size = shape[-1] if shape and isinstance(shape[-1], int) and not isinstance(plans[0], _EmbeddingPlan) else None
    title = name or str(serialized["config"].get("name") or "model")
    time = shape[1] if shape and len(shape) > 1 and isinstance(shape[1], int) else None
    return Network(title, tuple(_with_weights(plans, arrays, size)), outputs, "keras", time=time)


def layer_from_keras(serialized_layer: Config, arrays: Sequence[Array]) -> Layer:
    """Read a single LSTM, GRU, Bidirectional, Dense or Embedding layer.

    Args:
        serialized_layer: what `keras.saving.serialize_keras_object(layer)` gives.
        arrays: the layer's weights, as `layer.get_weights()` gives them.

    Raises:
        UnsupportedError: another class, or options that are not kept exactly; all problems at once.
        ShapeError: weights that do not fit the configuration.
    """
    problems: list[Problem] = []
    plan = _plan(serialized_layer, problems)
    if plan is None or problems:
        raise UnsupportedError(problems)
    return next(_with_weights([plan], lambda _: arrays, None))


def weight_paths(serialized: Config) -> dict[str, tuple[str, ...]]:
    """Where a `.weights.h5` file keeps each layer: the groups of its cells, in the order of `layer.get_weights()`.

    Groups are named after the class, numbered in the order of the configuration, whatever the layers are called.

    Example:
        >>> layers = [{"class_name": "GRU", "config": {"name": name}} for name in ("zeta", "alpha")]
        >>> weight_paths({"config": {"layers": layers}})
        {'zeta': ('layers/gru/cell/vars',), 'alpha': ('layers/gru_1/cell/vars',)}
    """
    seen: Counter[str] = Counter()
    paths: dict[str, tuple[str, ...]] = {}
    for layer in serialized["config"]["layers"]:
        if layer["class_name"] not in CLASSES:
            continue
        stem = layer["class_name"].lower()
        group = f"layers/{stem}_{seen[stem]}" if seen[stem] else f"layers/{stem}"
        seen[stem] += 1
        cells = CLASSES[layer["class_name"]].cells
        paths[layer["config"]["name"]] = tuple(f"{group}/{cell}/vars" if cell else f"{group}/vars" for cell in cells)
    return paths


def _with_weights(
    plans: Sequence[_Plan], arrays: Callable[[str], Sequence[Stored]], input_size: int | None
) -> Iterator[Layer]:
    stored = [arrays(plan.name) for plan in plans]
    problems: list[Problem] = []
    size = input_size
    for plan, weights in zip(plans, stored, strict=True):
        if size is None:
            size = weights[0].shape[0] if weights and len(weights[0].shape) == 2 else 1
        shapes = plan.shapes(size)
        problems += _weight_problems(plan, shapes, weights)
        size = plan.units * len(plan.biases) if isinstance(plan, _RecurrentPlan) else shapes[0][1][-1]
    if problems:
        raise ShapeError(problems)
    for plan, weights in zip(plans, stored, strict=True):
        yield plan.build([np.asarray(weight) for weight in weights])


def _weight_problems(
    plan: _Plan, shapes: list[tuple[str, tuple[int, ...]]], weights: Sequence[Stored]
) -> Iterator[Problem]:
    if len(weights) != len(shapes):
        expected = f"{len(shapes)}: {', '.join(name for name, _ in shapes)}"
        yield Problem("wrong number of weights", plan.where, expected, str(len(weights)))
        return
    for (name, shape), weight in zip(shapes, weights, strict=True):
        if tuple(weight.shape) != shape:
            yield Problem(f"weight '{name}' has the wrong shape", plan.where, str(shape), str(tuple(weight.shape)))
        if weight.dtype != np.float32:
            yield Problem(
                f"weight '{name}' is not float32", plan.where, "float32", str(weight.dtype), COMMON["dtype"].remedy
            )


def _plan(layer: Config, problems: list[Problem]) -> _Plan | None:
    """What a layer's configuration says; what cannot be kept goes to `problems`."""
    class_name, config = class_name_of(layer), field(layer, "config", Mapping, "a layer")
    where = where_of(layer)
    if not _own_class(layer, class_name, where, problems):
        return None
    known = CLASSES[class_name]
    check_options(config, known.options, where, problems)
    numbers = [size_of(config, key, where) for key in known.sizes]
    name = name_of(layer)
    if class_name == "Embedding":
        return _EmbeddingPlan(name, where, rows=numbers[0], features=numbers[1])
    if class_name == "Dense":
        activation = str(plain(config.get("activation", "linear")))
        return _DensePlan(
            name, where, units=numbers[0], use_bias=bool(config.get("use_bias", True)), activation=activation
        )
    if class_name == "Bidirectional":
        return _bidirectional(config, name, where, problems)
    return _recurrent(class_name, config, name, where)


def _recurrent(class_name: str, config: Config, name: str, where: str) -> _RecurrentPlan:
    return _RecurrentPlan(
        name,
        where,
        kind=CELL_KINDS[class_name],
        units=size_of(config, "units", where),
        biases=(bool(config.get("use_bias", True)),),
        return_sequences=bool(config.get("return_sequences", False)),
        return_state=bool(config.get("return_state", False)),
    )


def _bidirectional(config: Config, name: str, where: str, problems: list[Problem]) -> _RecurrentPlan | None:
    forward: Config = field(config, "layer", Mapping, where)
    if config.get("backward_layer") is None:
        flipped = {**field(forward, "config", Mapping, where), "go_backwards": True}
        backward: Config = {**forward, "config": flipped}
        labels = ["layer"]
    else:
        backward = field(config, "backward_layer", Mapping, where)
        labels = ["layer", "backward_layer"]
    cells: list[_RecurrentPlan] = []
    for label, layer, options in zip(labels, (forward, backward), (FORWARD, BACKWARD), strict=False):
        class_name = class_name_of(layer)
        inside = f"{where}, {label} ({class_name})"
        if class_name not in CELL_KINDS:
            remedy = "use keras.layers.LSTM or GRU inside the Bidirectional"
            problems.append(
                Problem("this layer inside a Bidirectional is not converted", inside, "LSTM or GRU", class_name, remedy)
            )
        elif _own_class(layer, class_name, inside, problems):
            inner: Config = field(layer, "config", Mapping, inside)
            check_options(inner, {**CLASSES[class_name].options, **options}, inside, problems)
            cells.append(_recurrent(class_name, inner, name, inside))
    if len(cells) < len(labels):
        return None
    first, last = cells[0], cells[-1]
    for key in ("kind", "units", "return_sequences", "return_state"):
        if getattr(first, key) != getattr(last, key):
            expected, got = f"{key} {getattr(first, key)}, as its forward layer", str(getattr(last, key))
            remedy = "make both alike, or use two layers and two models"
            problems.append(Problem("the backward layer differs from the forward layer", where, expected, got, remedy))
    return replace(first, where=where, biases=(first.biases[0], last.biases[0]))


def _own_class(layer: Config, class_name: str, where: str, problems: list[Problem]) -> bool:
    """Whether the layer is one of Keras's own that are read."""
    module, registered = layer.get("module"), layer.get("registered_name")
    operation = str(module).startswith("keras.src.ops")
    if not operation and (module != "keras.layers" or registered is not None) and class_name not in MODEL_READERS:
        got = f"{class_name} of module {module}, registered as {registered}"
        remedy = "use the class of keras.layers itself: an own call() is not read"
        problems.append(Problem("a custom layer class is not converted", where, "a class of keras.layers", got, remedy))
        return False
    if class_name not in CLASSES:
        remedy = OTHER_CLASSES.get(class_name, _OTHER_CLASS)
        problems.append(Problem("this layer class is not converted", where, ", ".join(CLASSES), class_name, remedy))
        return False
    return True


def _wiring_problems(chain: Chain, plans: Mapping[str, _Plan]) -> Iterator[Problem]:
    for name, (source, index) in chain.sources.items():
        plan = plans.get(source)
        if index and name in plans and not (isinstance(plan, _RecurrentPlan) and _same_as_output(plan, index)):
            got = f"value {index} of layer '{source}'"
            remedy = "take the layer's first value; with return_sequences=False that is the final h"
            yield Problem("the layer takes a state instead of the output", plans[name].where, "value 0", got, remedy)


def _same_as_output(plan: _RecurrentPlan, index: int) -> bool:
    return index == 1 and plan.return_state and not plan.return_sequences and len(plan.biases) == 1


def _rank_problems(chain: Chain, plans: Sequence[_Plan]) -> Iterator[Problem]:
    rank = len(chain.input_shape) if chain.input_shape else (plans[0].rank_in or 3) if plans else 0
    for position, plan in enumerate(plans):
        if isinstance(plan, _EmbeddingPlan) and position:
            got = f"layer {position + 1}"
            yield Problem("an Embedding after another layer", plan.where, "the first layer", got, "put it first")
        elif plan.rank_in not in (None, rank):
            axes = "(batch, time)" if isinstance(plan, _EmbeddingPlan) else "(batch, time, features)"
            remedy = "set return_sequences=True on the recurrent layer before it" if position else f"give inputs {axes}"
            expected, got = f"{plan.rank_in}: {axes}", str(rank)
            yield Problem("the layer gets another number of dimensions", plan.where, expected, got, remedy)
        rank = plan.rank_out or rank


def _outputs(chain: Chain, plans: Sequence[_Plan], problems: list[Problem]) -> tuple[Output, ...]:
    where = "the model's outputs"
    by_name = {plan.name: plan for plan in plans}
    references = chain.outputs
    if references is None:
        last = plans[-1] if plans and len(plans) == len(chain.layers) else None
        count = len(last.values) if isinstance(last, _RecurrentPlan) else 1
        references = [(last.name, index) for index in range(count)] if last else []
    outputs: list[Output] = []
    for name, index in references:
        plan = by_name.get(name)
        if plan is None:
            if not any(name_of(layer) == name for layer in chain.layers):
                problems.append(
                    Problem("an output is the input itself", where, "values of layers", name, "leave it out")
                )
            continue
        values = plan.values if isinstance(plan, _RecurrentPlan) else ()
        if index and index >= len(values):
            expected = f"an index below {max(1, len(values))}"
            raise FormatError("an output that its layer does not give", plan.where, expected, str(index))
        outputs.append(Output(f"{name}.{values[index].name}", name, values[index]) if index else Output(name, name))
    for name, count in Counter(output.name for output in outputs).items():
        if count > 1:
            got = f"{count} times '{name}'"
            problems.append(Problem("an output appears several times", where, "once", got, "give it once"))
    return tuple(outputs)
