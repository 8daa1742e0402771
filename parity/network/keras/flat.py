"""Models inside models, and layers that are called several times, as one model without either. Imports no framework.

Source: Keras 3 `Functional.get_config` (a call is [layer, call, index]; a nested model is a layer with calls), `Sequential.get_config`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parity.errors import FormatError, Problem
from parity.network.keras.calls import CallNumbers, calls_in, is_model
from parity.network.keras.chain import MODEL_READERS, MOST_LAYERS, class_name_of, layers_in, name_of, where_of
from parity.network.keras.chain import field as member
from parity.network.keras.masks import history
from parity.network.keras.options import Config, shown
from parity.network.keras.running import running_order

Reference = tuple[int, int]
"""A tensor: the entry that gives it, and which of its values."""


@dataclass
class Entry:
    """One call of one layer.

    Args:
        path: the names of the models it stands in, then its own.
        layer: its configuration.
        call: args and kwargs, whose tensors are `Reference`s; None for an input.
    """

    path: tuple[str, ...]
    layer: Config
    call: Mapping[str, Any] | None


@dataclass(frozen=True)
class Handed:
    """The masks that a model inside is called with: Keras sets each at its tensor before the model runs.

    Args:
        given: (layer, index) of what the model takes.
        masks: (layer, index) of the mask of each; None for none.
    """

    given: Sequence[tuple[str, int]]
    masks: Sequence[tuple[str, int] | None]


@dataclass(frozen=True)
class Flat:
    """A model without models inside.

    Args:
        serialized: its configuration, every layer called once.
        paths: for each layer's name, the names that lead to its weights, joined by slashes.
        order: the names of the layers in the order in which Keras runs them, and what happens to masks in between; not all layers need be
            there.
        handed: names of layers whose argument `mask` is that of the model they stand in, not of their own call.
    """

    serialized: Config
    paths: Mapping[str, str]
    order: Sequence[str | Handed] = ()
    handed: frozenset[str] = frozenset()


def flattened(serialized: Config, problems: list[Problem]) -> Flat:
    """One model of all the layers in a model, in the order of its configuration.

    A layer keeps its name where no other has it; else it is called by its path, `encoder/dense`. A second call of a layer is a layer of
    its own that has the same path, so the same weights.

    Raises:
        FormatError: calls that lead nowhere or in a circle.

    Example:
        >>> layer = {"class_name": "LSTM", "config": {"name": "lstm"}}
        >>> inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [layer]}}
        >>> outer = {"module": "keras", "class_name": "Sequential", "config": {"name": "outer", "layers": [inner]}}
        >>> dict(flattened(outer, []).paths)
        {'lstm': 'inner/lstm'}
    """
    class_name, layers = (
        class_name_of(serialized),
        layers_in(member(serialized, "config", Mapping, "the model"), "the model"),
    )
    if class_name not in MODEL_READERS or not any(_needs(layer) for layer in layers):
        return Flat(serialized, {name_of(layer): name_of(layer) for layer in layers}, _plain_order(serialized, layers))
    made = _Flattening(problems)
    if class_name == "Sequential" and all(_plain_sequential(layer) for layer in layers):
        made.stack(layers, ())
        names = made.names()
        renamed = [_renamed(entry.layer, name) for entry, name in zip(made.entries, names, strict=True)]
        return _flat(serialized, made, names, {"layers": renamed})
    try:
        outputs, steps = made.model(serialized, (), None, {})
    except RecursionError:
        raise FormatError(
            "the models are nested too deeply", "the model", "models one in another", "too many levels"
        ) from None
    names = made.names()
    found = _returned(serialized["config"].get("output_layers"), outputs, names)
    calls = [
        {
            **_renamed(entry.layer, name),
            "name": name,
            "inbound_nodes": [] if entry.call is None else [_said(entry.call, names)],
        }
        for entry, name in zip(made.entries, names, strict=True)
    ]
    flat = _flat({**serialized, "class_name": "Functional"}, made, names, {"layers": calls, "output_layers": found})
    order = [names[step] if isinstance(step, int) else step.named(names) for step in steps]
    return replace(flat, order=order, handed=frozenset(names[entry] for entry in made.handed))


def _plain_order(serialized: Config, layers: Sequence[Config]) -> list[str]:
    """The order of a model without models inside, every layer called once."""
    if class_name_of(serialized) not in MODEL_READERS or class_name_of(serialized) == "Sequential":
        return []
    return [name for name, _ in running_order(serialized["config"], {name_of(layer): layer for layer in layers})]


def _flat(serialized: Config, made: _Flattening, names: Sequence[str], new: Mapping[str, Any]) -> Flat:
    paths = {name: "/".join(entry.path) for entry, name in zip(made.entries, names, strict=True)}
    return Flat({**serialized, "config": {**serialized["config"], **new}}, paths)


def _needs(layer: Config) -> bool:
    nodes = layer.get("inbound_nodes")
    return is_model(layer) or (isinstance(nodes, (list, tuple)) and len(nodes) > 1)


def _plain_sequential(layer: Config) -> bool:
    """Whether it is a layer, or a Sequential of such."""
    if not is_model(layer):
        return True
    return layer["class_name"] == "Sequential" and all(
        map(_plain_sequential, layers_in(layer["config"], name_of(layer)))
    )


@dataclass(frozen=True)
class _Masked:
    """A `Handed` with references."""

    given: Sequence[Reference]
    masks: Sequence[Reference | None]

    def named(self, names: Sequence[str]) -> Handed:
        """With the names of the layers."""
        masks = [None if one is None else (names[one[0]], one[1]) for one in self.masks]
        return Handed([(names[entry], index) for entry, index in self.given], masks)


Steps = list["int | _Masked"]
"""Calls in the order in which Keras runs them."""


@dataclass
class _Flattening:
    """The calls found so far, and those that get the mask of the model they stand in."""

    problems: list[Problem]
    entries: list[Entry] = field(default_factory=list)
    handed: set[int] = field(default_factory=set)
    paths: set[tuple[str, ...]] = field(default_factory=set)
    calls: int = 0

    def add(self, path: tuple[str, ...], layer: Config, call: Mapping[str, Any] | None) -> int:
        """A call, and the number it gets."""
        self.count(path)
        if call is not None and _stateful(layer) and path in self.paths:
            remedy = "set stateful=False, or give each call a layer of its own"
            self.problems.append(
                Problem("a stateful layer is called several times", where_of(layer), "one call", "several", remedy)
            )
        self.entries.append(Entry(path, layer, call))
        self.paths.add(path)
        return len(self.entries) - 1

    def count(self, path: tuple[str, ...]) -> None:
        """One call more of a layer or a model: those that call each other can claim any number, even without a layer in them."""
        self.calls += 1
        if self.calls > MOST_LAYERS:
            raise FormatError("the model has too many layers", "/".join(path), f"at most {MOST_LAYERS}", "more")

    def stack(self, layers: Sequence[Config], path: tuple[str, ...]) -> None:
        """The layers of Sequentials in Sequentials, the very first InputLayer among them."""
        for layer in layers:
            if is_model(layer):
                self.stack(layers_in(layer["config"], name_of(layer)), (*path, name_of(layer)))
            elif class_name_of(layer) != "InputLayer" or not self.entries:
                self.add((*path, name_of(layer)), layer, None)

    def model(
        self, serialized: Config, path: tuple[str, ...], given: list[Reference] | None, options: Mapping[str, Any]
    ) -> tuple[list[Reference], Steps]:
        """The calls of a model that takes the given tensors, or inputs of its own; what it gives, and the order of its calls."""
        self.count(path)
        if class_name_of(serialized) == "Sequential":
            return self._sequential(serialized, path, given, options)
        calls = _Calls(self, serialized, path, given, options)
        return calls.outputs(), calls.steps()

    def _sequential(
        self, serialized: Config, path: tuple[str, ...], given: list[Reference] | None, options: Mapping[str, Any]
    ) -> tuple[list[Reference], Steps]:
        steps: Steps = []
        layers = layers_in(serialized["config"], name_of(serialized))
        if given is None:
            own = layers[:1] if layers and class_name_of(layers[0]) == "InputLayer" else []
            entry: Config = own[0] if own else _free_input(serialized)
            steps.append(self.add((*path, name_of(entry)), entry, None))
            given = [(len(self.entries) - 1, 0)]
        for layer in layers:
            if class_name_of(layer) == "InputLayer":
                continue
            if is_model(layer):
                given, inner = self.model(layer, (*path, name_of(layer)), given, options)
                steps += inner
            else:
                made = self.add((*path, name_of(layer)), layer, {"args": given[:1], "kwargs": dict(options)})
                self.handed |= {made} if options else set()
                steps.append(made)
                given = [(made, 0)]
            options = {}
        return given, steps

    def names(self) -> list[str]:
        """A name for each call: the layer's own where only one has it."""
        homes = Counter(path[-1] for path in {entry.path for entry in self.entries})
        calls: Counter[tuple[str, ...]] = Counter()
        first = {
            entry.path: entry.path[-1] if len(entry.path) == 1 or homes[entry.path[-1]] == 1 else "/".join(entry.path)
            for entry in self.entries
        }
        taken, names = set(first.values()), []
        for entry in self.entries:
            calls[entry.path] += 1
            name, number = first[entry.path], calls[entry.path]
            while number > 1 and name in taken:
                name, number = f"{first[entry.path]}_{number}", number + 1
            taken.add(name)
            names.append(name)
        return names


class _Calls:
    """The calls inside one Functional model, each looked at when its values are asked for."""

    def __init__(
        self,
        made: _Flattening,
        serialized: Config,
        path: tuple[str, ...],
        given: list[Reference] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._made, self._path, self._given, self._options = made, path, given, options
        self._taken = set(given or ())
        self._config: Config = serialized["config"]
        self._layers = {name_of(layer): layer for layer in layers_in(serialized["config"], name_of(serialized))}
        inputs = [name for name, _, _ in calls_in(self._config.get("input_layers"))]
        self._inputs = {name: place for place, name in reversed(list(enumerate(inputs)))}
        self._done: dict[tuple[str, int], list[Reference]] = {}
        self._open: set[tuple[str, int]] = set()
        self._inner: dict[tuple[str, int], Steps] = {}
        self._numbers = CallNumbers(self._config, self._layers)

    def outputs(self) -> list[Reference]:
        """Every call of every layer, in order; what the model gives."""
        for name, layer in self._layers.items():
            nodes = layer.get("inbound_nodes")
            if class_name_of(layer) == "InputLayer":
                self._call(name, 0)
            elif not isinstance(nodes, (list, tuple)) or not all(isinstance(node, Mapping) for node in nodes):
                raise FormatError(
                    "the calls of a layer are not in Keras 3 form",
                    where_of(layer),
                    "inbound_nodes with args and kwargs",
                    shown(nodes),
                )
            else:
                for call in range(len(nodes)):
                    self._call(name, call)
        return [
            self._tensor(name, self._numbers.of_output(name, call), index)
            for name, call, index in calls_in(self._config.get("output_layers"))
        ]

    def steps(self) -> Steps:
        """The calls in the order in which Keras runs them, those of a model inside together; to be asked for after `outputs`."""
        found: Steps = []
        for name, call in running_order(self._config, self._layers, self._numbers):
            if (name, call) in self._inner:
                found += self._inner[(name, call)]
            elif self._given is None or class_name_of(self._layers[name]) != "InputLayer":
                found.append(self._done[(name, call)][0][0])
        return found

    def _argument(self, name: str, call: int, index: int) -> Reference:
        return self._tensor(name, self._numbers.of_argument(name, call), index)

    def _tensor(self, name: str, call: int, index: int) -> Reference:
        values = self._call(name, call)
        if is_model(self._layers[name]) or class_name_of(self._layers[name]) == "InputLayer":
            if index >= len(values):
                raise FormatError(
                    "a value that the model does not give",
                    where_of(self._layers[name]),
                    f"an index below {len(values)}",
                    str(index),
                )
            return values[index]
        return values[0][0], index

    def _call(self, name: str, call: int) -> list[Reference]:
        key = (name, call)
        found = self._done.get(key)
        if found is not None:
            return found
        layer = self._layers.get(name)
        nodes = layer.get("inbound_nodes") if layer is not None else None
        if layer is None or key in self._open:
            what = (
                "a layer takes a value of a layer that is not there"
                if layer is None
                else "layers take values of each other"
            )
            raise FormatError(what, "/".join(self._path) or "the model", ", ".join(self._layers), name)
        self._open.add(key)
        path = (*self._path, name)
        if class_name_of(layer) == "InputLayer":
            result = self._input(name, path, layer)
        elif not isinstance(nodes, (list, tuple)) or not 0 <= call < len(nodes):
            raise FormatError("a call that is not there", where_of(layer), "a call of the layer", str(call))
        else:
            args, kwargs = (_mapped(nodes[call].get(part), self._argument) for part in ("args", "kwargs"))
            kwargs = kwargs if isinstance(kwargs, dict) else {}
            if is_model(layer):
                given = _tensors(args) or _tensors({key: kwargs.pop(key) for key in ("inputs",) if key in kwargs})
                masks = _masks(kwargs.get("mask"))
                options = {"mask": kwargs["mask"]} if any(one is not None for one in masks) else {}
                result, inner = self._made.model(layer, path, given, options)
                self._inner[key] = [_Masked(given, masks), *inner] if options else inner
            else:
                made = [each for each in _tensors(args) if each in self._taken]
                wanted = self._options if made else {}
                number = self._made.add(path, layer, {"args": args, "kwargs": {**wanted, **kwargs}})
                self._made.handed |= {number} if wanted and kwargs.get("mask") is None else set()
                result = [(number, 0)]
        self._done[key] = result
        return result

    def _input(self, name: str, path: tuple[str, ...], layer: Config) -> list[Reference]:
        if self._given is None:
            return [(self._made.add(path, layer, None), 0)]
        place = self._inputs.get(name, len(self._given))
        if place >= len(self._given):
            got = f"{len(self._given)} tensors"
            raise FormatError(
                "a model does not get the inputs it has", "/".join(self._path), ", ".join(self._inputs), got
            )
        return [self._given[place]]


class _Tensor(tuple[int, int]):
    """A reference inside the arguments of a call, and what the configuration states of the tensor."""

    stated: Mapping[str, Any]


def _mapped(value: object, tensor: Callable[[str, int, int], Reference]) -> Any:
    """Arguments with every serialized tensor of the model replaced."""
    if history(value) is not None and isinstance(value, Mapping):
        name, call, index = value["config"]["keras_history"]
        found = _Tensor(tensor(name, call, index))
        found.stated = {key: value["config"][key] for key in ("shape", "dtype") if key in value["config"]}
        return found
    if isinstance(value, Mapping):
        return {key: _mapped(item, tensor) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, tensor) for item in value]
    return value


def _tensors(value: object) -> list[Reference]:
    """The tensors in arguments, in order."""
    if isinstance(value, _Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [tensor for item in items for tensor in _tensors(item)]


def _masks(value: object) -> list[Reference | None]:
    """The masks in an argument, in order, one for each tensor."""
    if isinstance(value, Mapping):
        return [mask for key in sorted(value, key=str) for mask in _masks(value[key])]
    if isinstance(value, list):
        return [mask for item in value for mask in _masks(item)]
    return [value if isinstance(value, _Tensor) else None]


def _said(value: Any, names: Sequence[str]) -> Any:
    """Arguments as Keras 3 writes them."""
    if isinstance(value, tuple):
        stated = value.stated if isinstance(value, _Tensor) else {}
        return {"class_name": "__keras_tensor__", "config": {**stated, "keras_history": [names[value[0]], 0, value[1]]}}
    if isinstance(value, Mapping):
        return {key: _said(item, names) for key, item in value.items()}
    return [_said(item, names) for item in value] if isinstance(value, list) else value


def _returned(old: object, outputs: Sequence[Reference], names: Sequence[str]) -> object:
    found = [[names[entry], 0, index] for entry, index in outputs]
    return dict(zip(old, found, strict=False)) if isinstance(old, Mapping) else found


def _renamed(layer: Config, name: str) -> dict[str, Any]:
    return {**layer, "config": {**layer["config"], "name": name}}


def _free_input(serialized: Config) -> Config:
    config: dict[str, Any] = {
        "name": f"{name_of(serialized)}_input",
        "batch_shape": serialized["config"].get("build_input_shape"),
    }
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def _stateful(layer: Config) -> bool:
    config = layer.get("config")
    inner = config.get("layer", layer) if isinstance(config, Mapping) else None
    options = inner.get("config") if isinstance(inner, Mapping) else None
    return isinstance(options, Mapping) and bool(options.get("stateful"))
