"""The calls of a flat model, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.deferred import Stored
from parity.errors import FormatError, Problem
from parity.graph.graph import Wire
from parity.graph.keras.call import Tensor
from parity.graph.keras.inputs import add_input
from parity.graph.keras.model import Model
from parity.graph.names import unused_name
from parity.network.keras.calls import calls_in
from parity.network.keras.chain import class_name_of, layers_in, name_of, where_of
from parity.network.keras.flat import Flat, Handed
from parity.network.keras.masks import history
from parity.network.keras.options import Config, shown
from parity.network.keras.plans import Plan


@dataclass(eq=False)
class Walk:
    """A flat model whose calls are read.

    Args:
        model: the whole of what is read.
        flat: the model without models inside.
        arrays: the weights of a layer by its path in this model.
        given: what it takes; None if it has inputs of its own.
        above: what stands before its layers' paths.
        label: what stands before the names of its calls.
    """

    model: Model
    flat: Flat
    arrays: Callable[[str], Sequence[Stored]]
    given: Sequence[Tensor] | None = None
    above: str = ""
    label: str = ""
    values: dict[str, list[Tensor]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.flat.serialized["config"]
        self._config: Config = config
        self._layers = {name_of(layer): layer for layer in layers_in(config, "the model")}
        self._sequential = class_name_of(self.flat.serialized) == "Sequential"
        calls: Counter[str] = Counter()
        for name in self._layers:
            path = self.flat.paths[name]
            calls[path] += 1
            self.names[name] = f"{self.label}{path}" + (f"_{calls[path]}" if calls[path] > 1 else "")
        used = Counter[str]()
        for name, index in [*_used(config), *_used([layer.get("inbound_nodes") for layer in self._layers.values()])]:
            used[name] = max(used[name], index + 1)
        self._used = used

    def values_given(self) -> list[Tensor]:
        """What the model gives, in order; its calls are read for it."""
        return [tensor for _, tensor in self._given()]

    def outputs(self) -> dict[str, Wire]:
        """What the model gives by name, in order; its calls are read for it."""
        found: dict[str, Wire] = {}
        for name, tensor in self._given():
            found[unused_name(name, found)] = tensor.wire
        return found

    def _given(self) -> list[tuple[str, Tensor]]:
        if self._sequential:
            return self._chain()
        self._inputs()
        for name in self._in_order():
            if isinstance(name, Handed):
                self._hand(name)
            elif name not in self.values:
                layer = self._layers[name]
                node = layer["inbound_nodes"][0]
                args, kwargs = self._resolved(node.get("args") or []), self._resolved(node.get("kwargs") or {})
                if not isinstance(kwargs, Mapping):
                    raise FormatError(
                        "the calls of a layer are not in Keras 3 form",
                        where_of(layer),
                        "args and kwargs",
                        shown(kwargs),
                    )
                if name in self.flat.handed:
                    kwargs = {key: value for key, value in kwargs.items() if key != "mask"}
                self.values[name] = self._call(name, args if isinstance(args, list) else [args], kwargs)
        output = self._config.get("output_layers")
        keys = _keys(output)
        references = [(name, index) for name, _, index in calls_in(output)]
        if not references or any(name not in self._layers for name, _ in references):
            raise FormatError(
                "the outputs are not [layer, call, index]", "the model's outputs", "layers of the model", shown(output)
            )
        if keys and len(keys) != len(references):
            problem = Problem(
                "outputs nested in a dict", "the model's outputs", "one tensor for each name", shown(output)
            )
            self.model.reading.problems.append(problem)
            keys = []
        titles = keys or [self._title(name, index) for name, index in references]
        return [(title, self._value(name, index)) for title, (name, index) in zip(titles, references, strict=True)]

    def _title(self, name: str, index: int) -> str:
        """Of an output: the layer's name, and that of its value where it gives several."""
        held = self.model.layers.get(f"{self.above}{self.flat.paths[name]}")
        made = held.cache.get("layers") if held is not None else None
        own = self.names[name]
        if made is not None and isinstance(made[0], Plan) and index < len(made[0].values):
            return made[0].values[index][0].replace(made[0].name, own, 1)
        return own if index == 0 else f"{own}.{index}"

    def _chain(self) -> list[tuple[str, Tensor]]:
        names = list(self._layers)
        first = self._layers[names[0]] if names else None
        if first is not None and class_name_of(first) == "InputLayer":
            names = names[1:]
        else:
            name = f"{names[0] if names else 'model'}_input"
            own: dict[str, Any] = {
                "name": name,
                "batch_shape": self._config.get("build_input_shape"),
                "dtype": "float32",
            }
            first = {"module": "keras.layers", "class_name": "InputLayer", "config": own, "registered_name": None}
        given = list(self.given) if self.given is not None else add_input(self.model, first)
        last = name_of(first)
        for name in names:
            if len(given) > 1:
                self.model.reading.problems.append(
                    Problem(
                        "a Sequential hands only one value on, as Keras says",
                        where_of(self._layers[last]),
                        "one value",
                        str(len(given)),
                        "build the model with keras.Model(inputs, outputs)",
                    )
                )
            given, last = self._call(name, [given[0]], {}), name
        if not names:
            return [(self.names.get(last, last), given[0])]
        return [(self._title(last, index), tensor) for index, tensor in enumerate(given)]

    def _inputs(self) -> None:
        """The inputs in the model's order, then those that it does not list."""
        listed = [name for name, _, _ in calls_in(self._config.get("input_layers"))]
        own = [name for name, layer in self._layers.items() if class_name_of(layer) == "InputLayer"]
        names = [*dict.fromkeys(name for name in listed if name in own), *(name for name in own if name not in listed)]
        if self.given is not None and len(names) != len(self.given):
            got = f"{len(self.given)} tensors"
            raise FormatError("a model does not get the inputs it has", "the model", ", ".join(names), got)
        for place, name in enumerate(names):
            if self.given is not None:
                self.values[name] = [self.given[place]]
            else:
                self.values[name] = add_input(self.model, self._layers[name])

    def _call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
        layer, path = self._layers[name], self.flat.paths[name]
        plain = {**layer, "config": {**layer["config"], "name": path.rpartition("/")[2]}}
        return self.model.call(
            plain,
            f"{self.above}{path}",
            self.names[name],
            lambda: self.arrays(path),
            args,
            kwargs,
            self._used[name] or 1,
        )

    def _value(self, name: str, index: int) -> Tensor:
        values = self.values[name]
        if index >= len(values):
            raise FormatError(
                "a value that its layer does not give",
                where_of(self._layers[name]),
                f"an index below {len(values)}",
                str(index),
            )
        return values[index]

    def _resolved(self, value: Any) -> Any:
        """Arguments with tensors in the place of what stands for them."""
        found = history(value)
        if found is not None:
            return self._value(*found)
        if isinstance(value, Mapping):
            constant = _constant(value)
            return {key: self._resolved(item) for key, item in value.items()} if constant is None else constant
        return [self._resolved(item) for item in value] if isinstance(value, (list, tuple)) else value

    def _hand(self, handed: Handed) -> None:
        """Set the masks that a model inside is called with."""
        for (name, index), mask in zip(handed.given, handed.masks, strict=False):
            if mask is not None and name in self.values and mask[0] in self.values:
                self._value(name, index).kept.mask = self._value(*mask).wire

    def _in_order(self) -> Iterator[str | Handed]:
        """The calls in the order in which Keras runs them, then those that it does not run, each after those whose values it takes.

        Raises:
            FormatError: calls that lead nowhere or in a circle.
        """
        done = set(self.values)
        for start in [*self.flat.order, *self._layers]:
            if isinstance(start, Handed):
                yield start
                continue
            path, open_ = [start], {start}
            while path:
                name = path[-1]
                missing = [] if name in done else [one for one in self._taken(name) if one not in done]
                if missing and missing[0] in open_:
                    raise FormatError("layers take values of each other", "the model", ", ".join(self._layers), name)
                if missing:
                    path.append(missing[0])
                    open_.add(missing[0])
                    continue
                if name not in done:
                    done.add(name)
                    yield name
                path.pop()

    def _taken(self, name: str) -> list[str]:
        layer = self._layers.get(name)
        if layer is None:
            what = "a layer takes a value of a layer that is not there"
            raise FormatError(what, "the model", ", ".join(self._layers), name)
        nodes = layer.get("inbound_nodes")
        if not isinstance(nodes, (list, tuple)) or len(nodes) != 1 or not isinstance(nodes[0], Mapping):
            raise FormatError(
                "the calls of a layer are not in Keras 3 form",
                where_of(layer),
                "inbound_nodes with args and kwargs",
                shown(nodes),
            )
        return list(dict.fromkeys(name for name, _ in _histories(nodes)))


def _histories(value: object) -> Iterator[tuple[str, int]]:
    found = history(value)
    if found is not None:
        yield found
        return
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _histories(item)


def _used(value: object) -> Iterator[tuple[str, int]]:
    """(layer, index) of every value that is taken, as an argument or as an output."""
    if isinstance(value, Mapping) and "output_layers" in value:
        yield from ((name, index) for name, _, index in calls_in(value["output_layers"]))
    else:
        yield from _histories(value)


def _keys(output: object) -> list[str]:
    return [str(key) for key in output] if isinstance(output, Mapping) else []


def _constant(value: Mapping[str, Any]) -> Any:
    """A constant array in the arguments of a call; None for anything else."""
    config = value.get("config")
    if value.get("class_name") not in ("__tensor__", "__numpy__") or not isinstance(config, Mapping):
        return None
    dtype = str(config.get("dtype"))
    kind = np.bool_ if dtype == "bool" else np.int64 if "int" in dtype else np.float32
    try:
        return np.asarray(config.get("value"), kind)
    except (TypeError, ValueError) as error:
        raise FormatError("this is no array of numbers", "a constant", dtype, str(error)[:200]) from error


__all__ = ["Walk"]
