"""Keras configurations (what `config.json` in a `.keras` file holds) <-> Network. Imports no framework.

Which options keep the numbers is data: `parity.network.keras_options`. A configuration is read in three steps: its
chain of layers (`_chain_of`), every layer against its row of the table (`_plan`), the weights (`_with_weights`). The
first two collect every problem of the whole model before anything is raised.

Source: Keras 3 `serialize_keras_object`, `Functional.get_config`, and the `get_config` of each layer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from parity.conventions import Value, keras_returns
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.layouts import LAYOUTS, Kind, Tensor, axis_groups
from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer, Network, Output
from parity.network.keras_options import (
    BACKWARD,
    CELL_KINDS,
    CLASSES,
    COMMON,
    FORWARD,
    INPUT,
    MASKED,
    OTHER_CLASSES,
    TOKENS,
    Config,
    check_options,
    plain,
    shown,
)
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack


class Stored(Protocol):
    """A weight, perhaps still in a file: its shape and dtype are looked at before `numpy.asarray` reads it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""


_CELL_CLASSES: dict[Kind, str] = {kind: name for name, kind in CELL_KINDS.items()}

_OTHER_CLASS = "convert the part of the model around its LSTM and GRU layers by itself: keras.Model(inputs, outputs)"
_NO_CHAIN = "convert each chain of layers by itself: keras.Model(inputs, outputs)"
_WIRED = {
    "initial_state": (
        "the initial state is an input of the model",
        "leave initial_state out and give it when running: run(..., initial_state=...)",
    ),
    "mask": ("a mask goes into the layer", MASKED),
}
_INPUT_NAMES = ("sequence", "sequences", "inputs")


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
        sizes = RecurrentSpec(self.kind, input_size, self.units).sizes
        return [
            (tensor.name, tuple(math.prod(sizes[axis] for axis in group) for group in axis_groups(tensor.axes)))
            for bias in self.biases
            for tensor in _tensors(self.kind, bias)
        ]

    def build(self, arrays: Sequence[Array]) -> Recurrent:
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


@dataclass(frozen=True)
class _Chain:
    """The layers of a model in the order of the data."""

    layers: list[Config]
    input_shape: Sequence[Any] | None
    sources: dict[str, tuple[str, int]]
    outputs: list[tuple[str, int]] | None


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
    chain = _chain_of(serialized, problems)
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
    return Network(title, tuple(_with_weights(plans, arrays, size)), outputs, "keras")


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


# ---- options


def _plan(layer: Config, problems: list[Problem]) -> _Plan | None:
    """What a layer's configuration says; what cannot be kept goes to `problems`."""
    class_name, config = _class_name(layer), _field(layer, "config", Mapping, "a layer")
    where = _where(layer)
    if not _own_class(layer, class_name, where, problems):
        return None
    known = CLASSES[class_name]
    check_options(config, known.options, where, problems)
    numbers = [_size(config, key, where) for key in known.sizes]
    name = _name(layer)
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
        units=_size(config, "units", where),
        biases=(bool(config.get("use_bias", True)),),
        return_sequences=bool(config.get("return_sequences", False)),
        return_state=bool(config.get("return_state", False)),
    )


def _bidirectional(config: Config, name: str, where: str, problems: list[Problem]) -> _RecurrentPlan | None:
    forward: Config = _field(config, "layer", Mapping, where)
    if config.get("backward_layer") is None:
        flipped = {**_field(forward, "config", Mapping, where), "go_backwards": True}
        backward: Config = {**forward, "config": flipped}
        labels = ["layer"]
    else:
        backward = _field(config, "backward_layer", Mapping, where)
        labels = ["layer", "backward_layer"]
    cells: list[_RecurrentPlan] = []
    for label, layer, options in zip(labels, (forward, backward), (FORWARD, BACKWARD), strict=False):
        class_name = _class_name(layer)
        inside = f"{where}, {label} ({class_name})"
        if class_name not in CELL_KINDS:
            remedy = "use keras.layers.LSTM or GRU inside the Bidirectional"
            problems.append(
                Problem("this layer inside a Bidirectional is not converted", inside, "LSTM or GRU", class_name, remedy)
            )
        elif _own_class(layer, class_name, inside, problems):
            inner: Config = _field(layer, "config", Mapping, inside)
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
    if not operation and (module != "keras.layers" or registered is not None) and class_name not in _MODEL_READERS:
        got = f"{class_name} of module {module}, registered as {registered}"
        remedy = "use the class of keras.layers itself: an own call() is not read"
        problems.append(Problem("a custom layer class is not converted", where, "a class of keras.layers", got, remedy))
        return False
    if class_name not in CLASSES:
        remedy = OTHER_CLASSES.get(class_name, _OTHER_CLASS)
        problems.append(Problem("this layer class is not converted", where, ", ".join(CLASSES), class_name, remedy))
        return False
    return True


# ---- the chain


def _chain_of(serialized: Config, problems: list[Problem]) -> _Chain:
    class_name, where = _class_name(serialized), "the model"
    module, registered = serialized.get("module"), serialized.get("registered_name")
    custom = str(module).split(".")[0] != "keras" or registered not in (None, class_name)
    if custom or class_name not in _MODEL_READERS:
        layer = class_name in CLASSES and not custom
        raise UnsupportedError(
            "a single layer, not a model" if layer else "only Sequential and Functional models are read",
            where,
            "Sequential or Functional",
            f"{class_name} of module {module}",
            "put it into keras.Sequential"
            if layer
            else "rebuild it as keras.Model(inputs, outputs): an own call() is not read",
        )
    config: Config = _field(serialized, "config", Mapping, where)
    layers = _field(config, "layers", (list, tuple), where)
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise FormatError("a layer of the model is not a JSON object", where, "an object", shown(layer))
    twice = [name for name, count in Counter(_name(layer) for layer in layers).items() if count > 1]
    if twice:
        raise FormatError("several layers have one name", where, "unique names", ", ".join(twice), "rename the layers")
    for layer in layers:
        if _class_name(layer) == "InputLayer":
            tokens = any(_class_name(other) == "Embedding" for other in layers)
            options = {**INPUT, "dtype": TOKENS} if tokens else INPUT
            check_options(_field(layer, "config", Mapping, _where(layer)), options, _where(layer), problems)
    return _MODEL_READERS[class_name](config, layers, problems)


def _sequential(config: Config, layers: Sequence[Config], problems: list[Problem]) -> _Chain:
    has_input = bool(layers) and _class_name(layers[0]) == "InputLayer"
    shape = _input_shape(layers[0]) if has_input else config.get("build_input_shape")
    inner = list(layers[1:] if has_input else layers)
    names = [_name(layer) for layer in inner]
    for layer in inner[:-1]:
        if _inner_option(layer, "return_state"):
            expected, remedy = "return_state=False", "build the model with keras.Model(inputs, outputs)"
            problems.append(
                Problem(
                    "a Sequential hands only one value on, as Keras says",
                    _where(layer),
                    expected,
                    "return_state=True",
                    remedy,
                )
            )
    sources = {after: (before, 0) for before, after in pairwise(names)}
    return _Chain(inner, shape if isinstance(shape, (list, tuple)) else None, sources, None)


def _functional(config: Config, layers: Sequence[Config], problems: list[Problem]) -> _Chain:
    before = len(problems)
    by_name = {_name(layer): layer for layer in layers}
    inputs = [_name(layer) for layer in layers if _class_name(layer) == "InputLayer"]
    if len(inputs) != 1:
        problems.append(
            Problem("the model has several inputs", "the model", "one", ", ".join(inputs) or "none", _NO_CHAIN)
        )
    sources: dict[str, tuple[str, int]] = {}
    for layer in layers:
        if _class_name(layer) != "InputLayer":
            source = _source(layer, by_name, problems)
            if source:
                sources[_name(layer)] = source
    consumers: dict[str, list[str]] = {}
    for name, (source_name, _) in sources.items():
        consumers.setdefault(source_name, []).append(name)
    for name, takers in consumers.items():
        if len(takers) > 1:
            problems.append(
                Problem("several layers take its values", _where(by_name[name]), "one", ", ".join(takers), _NO_CHAIN)
            )
    order = [inputs[0]] if inputs else []
    while order and consumers.get(order[-1]):
        order.append(consumers[order[-1]][0])
    outside = [layer for name, layer in by_name.items() if name not in order and name not in inputs]
    if len(problems) == before and outside:
        got = ", ".join(_where(layer) for layer in outside)
        problems.append(
            Problem("layers that the input does not reach", "the model", "one chain of layers", got, _NO_CHAIN)
        )
    outputs = _references(config.get("output_layers"), by_name, problems)
    shape = _input_shape(by_name[inputs[0]]) if inputs else None
    return _Chain([*(by_name[name] for name in order[1:]), *outside], shape, sources, outputs)


_MODEL_READERS: dict[str, Callable[[Config, Sequence[Config], list[Problem]], _Chain]] = {
    "Sequential": _sequential,
    "Functional": _functional,
}


def _source(layer: Config, by_name: Mapping[str, Config], problems: list[Problem]) -> tuple[str, int] | None:
    """The layer and the index of the value that a layer takes; anything but exactly one value is a problem."""
    where, nodes = _where(layer), layer.get("inbound_nodes")
    if not isinstance(nodes, (list, tuple)) or not nodes or not all(isinstance(node, Mapping) for node in nodes):
        raise FormatError(
            "the calls of a layer are not in Keras 3 form", where, "inbound_nodes with args and kwargs", shown(nodes)
        )
    if len(nodes) > 1:
        problems.append(
            Problem("a layer shared by several calls is not converted", where, "one call", str(len(nodes)), _NO_CHAIN)
        )
        return None
    args = _field(nodes[0], "args", (list, tuple), where)
    kwargs = dict(_field(nodes[0], "kwargs", Mapping, where))
    given = [*args, *(kwargs.pop(key) for key in _INPUT_NAMES if key in kwargs)]
    found = [reference for reference in map(_history, given[:1]) if reference]
    extra = {**{f"argument {position}": value for position, value in enumerate(given[1:], 2)}, **kwargs}
    for key, value in extra.items():
        if value is not None and key != "training" and not (key.startswith("argument") and isinstance(value, bool)):
            what, remedy = _WIRED.get(key, ("the layer takes more than one input", _NO_CHAIN))
            problems.append(Problem(what, where, "one input", f"{key}={shown(value)}", remedy))
    if not found:
        problems.append(
            Problem("the layer does not take exactly one tensor", where, "one", shown(given[:1]), _NO_CHAIN)
        )
        return None
    name, index = found[0]
    if name not in by_name:
        raise FormatError("a layer takes a value of a layer that is not there", where, ", ".join(by_name), name)
    return name, index


def _history(value: object) -> tuple[str, int] | None:
    if (
        not isinstance(value, Mapping)
        or value.get("class_name") != "__keras_tensor__"
        or not isinstance(value.get("config"), Mapping)
    ):
        return None
    return _reference(value["config"].get("keras_history"))


def _reference(value: object) -> tuple[str, int] | None:
    """(layer, index) of Keras's [layer, call, index]."""
    if isinstance(value, (list, tuple)) and len(value) == 3:
        name, call, index = value
        if isinstance(name, str) and isinstance(call, int) and isinstance(index, int) and index >= 0:
            return name, index
    return None


def _references(value: object, by_name: Mapping[str, Config], problems: list[Problem]) -> list[tuple[str, int]]:
    if isinstance(value, Mapping):
        remedy = "give keras.Model a list of outputs"
        problems.append(
            Problem(
                "outputs in a dict are not converted",
                "the model's outputs",
                "a list",
                ", ".join(map(str, value)),
                remedy,
            )
        )
        return []
    single = _reference(value)
    items = [single] if single else [_reference(item) for item in value] if isinstance(value, (list, tuple)) else []
    found = [item for item in items if item and item[0] in by_name]
    if not found or len(found) != len(items):
        raise FormatError(
            "the outputs are not [layer, call, index]", "the model's outputs", "layers of the model", shown(value)
        )
    return found


def _wiring_problems(chain: _Chain, plans: Mapping[str, _Plan]) -> Iterator[Problem]:
    for name, (source, index) in chain.sources.items():
        plan = plans.get(source)
        if index and name in plans and not (isinstance(plan, _RecurrentPlan) and _same_as_output(plan, index)):
            got = f"value {index} of layer '{source}'"
            remedy = "take the layer's first value; with return_sequences=False that is the final h"
            yield Problem("the layer takes a state instead of the output", plans[name].where, "value 0", got, remedy)


def _same_as_output(plan: _RecurrentPlan, index: int) -> bool:
    return index == 1 and plan.return_state and not plan.return_sequences and len(plan.biases) == 1


def _rank_problems(chain: _Chain, plans: Sequence[_Plan]) -> Iterator[Problem]:
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


def _outputs(chain: _Chain, plans: Sequence[_Plan], problems: list[Problem]) -> tuple[Output, ...]:
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
            if not any(_name(layer) == name for layer in chain.layers):
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


def _input_shape(layer: Config) -> Sequence[Any] | None:
    config = _field(layer, "config", Mapping, _where(layer))
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    return shape if isinstance(shape, (list, tuple)) else None


def _inner_option(layer: Config, key: str) -> bool:
    config = layer.get("config")
    inner = config.get("layer", layer) if isinstance(config, Mapping) else None
    inner_config = inner.get("config") if isinstance(inner, Mapping) else None
    return isinstance(inner_config, Mapping) and bool(inner_config.get(key))


def _field(mapping: Config, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = mapping.get(key)
    if not isinstance(value, kind):
        raise FormatError(
            f"no '{key}' in the configuration", where, "as keras.saving.serialize_keras_object writes it", shown(value)
        )
    return value


def _class_name(serialized: Config) -> str:
    return str(_field(serialized, "class_name", str, "the configuration"))


def _name(layer: Config) -> str:
    return str(
        _field(_field(layer, "config", Mapping, "a layer"), "name", str, f"a layer of class {_class_name(layer)}")
    )


def _where(layer: Config) -> str:
    return f"layer '{_name(layer)}' ({_class_name(layer)})"


def _size(config: Config, key: str, where: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(f"{key} is not a size", where, "a whole number above zero", shown(value))
    return value


# ---- writing


def keras_arrays(layer: Layer) -> list[Array]:
    """A layer's weights in the order of `layer.get_weights()`; the forward layer's first in a Bidirectional.

    Example:
        >>> [array.shape for array in keras_arrays(Dense("dense", np.ones((3, 2)), np.ones(2)))]
        [(3, 2), (2,)]
    """
    return [array for cell in cell_arrays(layer) for array in cell]


def cell_arrays(layer: Layer) -> list[list[Array]]:
    """The same arrays, one list for each cell, as `weight_paths` gives their places."""
    if isinstance(layer, Embedding):
        return [[layer.table]]
    if isinstance(layer, Dense):
        return [[layer.kernel, *([] if layer.bias is None else [layer.bias])]]
    layout = LAYOUTS["keras", layer.spec.kind]
    one = replace(layer.spec, directions=DIRECTIONS[:1])
    return [list(pack(layout, one, [weights]).values()) for weights in layer.weights]


def keras_from_layer(layer: Layer) -> dict[str, Any]:
    """The configuration of one layer, as `keras.layers.deserialize` takes it; its weights are `keras_arrays`.

    Raises:
        UnsupportedError: a backward direction alone, or weights that are not float32.

    Example:
        >>> keras_from_layer(Dense("out", np.ones((3, 2), np.float32)))["config"]["units"]
        2
    """
    problems = list(_unwritable(layer))
    if problems:
        raise UnsupportedError(problems)
    return _layer(layer, layer.name.replace("/", "_") or "layer", needs_state=False)


def keras_from_network(network: Network) -> dict[str, Any]:
    """The configuration of a Functional model that computes the same.

    A bare network gives the sequence of its last layer, then every recurrent layer's states in Keras's order.

    Returns:
        What `config.json` holds: `keras.saving.deserialize_keras_object` builds the model of it; its layers take
        `keras_arrays`.

    Raises:
        UnsupportedError: what Keras's own layers cannot say; all problems at once.
    """
    problems = [problem for layer in network.layers for problem in _unwritable(layer)]
    references = _output_references(network, problems)
    if problems:
        raise UnsupportedError(problems)
    names = _own_names(network)
    state_of = {name for name, index in references if index}
    tokens = network.tokens
    shape: list[int | None] = [None, None] if tokens else [None, None, network.layers[0].input_size]
    dtype = "int32" if tokens else "float32"
    taken = {"batch_shape": shape, "dtype": dtype, "sparse": False, "ragged": False}
    previous = _free_name("input_layer", set(names.values()))
    layers = [{**_serialized("InputLayer", {**taken, "name": previous}), "name": previous, "inbound_nodes": []}]
    inputs = [previous, 0, 0]
    for layer in network.layers:
        name = names[layer.name]
        history = {"shape": list(shape), "dtype": dtype, "keras_history": [previous, 0, 0]}
        node = {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}
        layers.append({**_layer(layer, name, layer.name in state_of), "name": name, "inbound_nodes": [node]})
        keeps_time = not isinstance(layer, Recurrent) or layer.return_sequences
        time: list[int | None] = [None] if keeps_time and (len(shape) == 3 or isinstance(layer, Embedding)) else []
        shape, dtype, previous = [None, *time, layer.output_size], "float32", name
    outputs = [[names[name], 0, index] for name, index in references]
    title = network.name.replace("/", "_") or "model"
    config = {
        "name": title,
        "trainable": True,
        "layers": layers,
        "input_layers": inputs,
        "output_layers": outputs[0] if len(outputs) == 1 else outputs,
    }
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": "Functional",
    }


def _unwritable(layer: Layer) -> Iterator[Problem]:
    where = f"layer '{layer.name}'"
    if isinstance(layer, Recurrent) and layer.spec.directions not in (DIRECTIONS[:1], DIRECTIONS):
        expected, got = "forward, or forward and backward", ", ".join(layer.spec.directions)
        remedy = "convert in memory: to_keras builds a model of a go_backwards layer and a reversal of its output"
        yield Problem(f"a backward {layer.spec.kind.upper()} alone is no Keras layer", where, expected, got, remedy)
    dtypes = {str(array.dtype) for array in _numbers(layer)} - {"float32"}
    if dtypes:
        remedy = "convert them to float32 first"
        yield Problem("weights that are not float32", where, "float32", ", ".join(sorted(dtypes)), remedy)


def _numbers(layer: Layer) -> list[Array]:
    if isinstance(layer, Recurrent):
        members = [getattr(weights, name) for weights in layer.weights for name in Weights.__dataclass_fields__]
        return [member for member in members if member is not None]
    return (
        [layer.table] if isinstance(layer, Embedding) else [layer.kernel, *([] if layer.bias is None else [layer.bias])]
    )


def _output_references(network: Network, problems: list[Problem]) -> list[tuple[str, int]]:
    """(layer, index of its value) of every output."""
    if network.bare:
        states = [(layer.name, index) for layer in network.recurrent for index in range(1, len(layer.values))]
        return [(network.layers[-1].name, 0), *states]
    by_name = {layer.name: layer for layer in network.layers}
    references: list[tuple[str, int]] = []
    for output in network.outputs:
        layer = by_name[output.layer]
        index = (
            0 if output.value is None else _value_index(layer, output.value) if isinstance(layer, Recurrent) else None
        )
        if index is None:
            expected = (
                ", ".join(f"{value.name} ({value.axes})" for value in layer.values)
                if isinstance(layer, Recurrent)
                else "its output"
            )
            got = f"{output.value.quantity} ({output.value.axes})" if output.value else ""
            remedy = "give the model outputs that a Keras layer returns; states of one direction, batch first"
            where = f"output '{output.name}' of layer '{layer.name}'"
            problems.append(Problem("the output is no value of a Keras layer", where, expected, got, remedy))
        else:
            references.append((output.layer, index))
    return references


def _value_index(layer: Recurrent, value: Value) -> int | None:
    directions = len(layer.spec.directions)
    exact = [(own.quantity, own.axes, own.select) for own in layer.values]
    alike = [_appearance(own, directions) for own in layer.values]
    if (value.quantity, value.axes, value.select) in exact:
        return exact.index((value.quantity, value.axes, value.select))
    wanted = _appearance(value, directions)
    return alike.index(wanted) if wanted in alike else None


def _appearance(value: Value, directions: int) -> tuple[str, list[list[str]], str]:
    """What tells two values apart: for one direction, neither its choice nor its place in a group does."""
    groups = axis_groups(value.axes)
    if directions > 1:
        return value.quantity, groups, value.select
    return value.quantity, [[axis for axis in group if axis != "direction"] or ["1"] for group in groups], "all"


def _layer(layer: Layer, name: str, needs_state: bool) -> dict[str, Any]:
    if isinstance(layer, Embedding):
        table = {"input_dim": layer.input_size, "output_dim": layer.output_size, "mask_zero": False}
        return _serialized("Embedding", _named(name, table))
    if isinstance(layer, Dense):
        config = {"units": layer.output_size, "activation": layer.activation, "use_bias": layer.bias is not None}
        return _serialized("Dense", _named(name, config))
    if not layer.bidirectional:
        return _cell(layer, 0, name, needs_state)
    inner: dict[str, object] = {
        "layer": _cell(layer, 0, f"forward_{name}", needs_state),
        "backward_layer": _cell(layer, 1, f"backward_{name}", needs_state),
    }
    return _serialized("Bidirectional", _named(name, {"merge_mode": "concat", **inner}))


def _cell(layer: Recurrent, direction: int, name: str, needs_state: bool) -> dict[str, Any]:
    weights = layer.weights[direction]
    config: dict[str, object] = {
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state or needs_state,
        "go_backwards": direction == 1,
        "units": layer.spec.hidden_size,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": weights.bias_input is not None or weights.bias_recurrent is not None,
        **({"reset_after": True} if layer.spec.kind == "gru" else {}),
    }
    return _serialized(_CELL_CLASSES[layer.spec.kind], _named(name, config))


def _named(name: str, config: Mapping[str, object]) -> dict[str, object]:
    return {"name": name, "trainable": True, "dtype": "float32", **config}


def _serialized(class_name: str, config: Mapping[str, object]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": dict(config), "registered_name": None}


def _own_names(network: Network) -> dict[str, str]:
    """Keras's name of every layer: the same, unless it has a slash, which Keras refuses."""
    names: dict[str, str] = {}
    for layer in network.layers:
        names[layer.name] = _free_name(layer.name.replace("/", "_") or "layer", set(names.values()))
    return names


def _free_name(wanted: str, taken: set[str]) -> str:
    return next(
        name for name in (wanted, *(f"{wanted}_{number}" for number in range(1, len(taken) + 2))) if name not in taken
    )
