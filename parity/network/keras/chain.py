"""The chain of layers that a serialized Sequential or Functional model of Keras 3 describes. Imports no framework.

Source: Keras 3 `Sequential.get_config`, `Functional.get_config` and the `inbound_nodes` they write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from parity.errors import FormatError, Problem, UnsupportedError
from parity.network.keras.masks import MASKED, MaskOf, history, mask_operations, mask_problems, reference
from parity.network.keras.options import CELLS, CLASSES, INPUT, TOKENS, Config, check_options, is_own, shown

NO_CHAIN = "convert each chain of layers by itself: keras.Model(inputs, outputs)"
_WIRED = {
    "initial_state": (
        "the initial state is an input of the model",
        "leave initial_state out and give it when running: run(..., initial_state=...)",
    ),
    "mask": ("a mask goes into the layer", MASKED),
}
MOST_LAYERS = 20_000
"""Layers that a model may have, and calls of them."""

_INPUT_NAMES = ("sequence", "sequences", "inputs")


@dataclass(frozen=True)
class Chain:
    """The layers of a model in the order of the data."""

    layers: list[Config]
    input_shape: Sequence[Any] | None
    sources: dict[str, tuple[str, int]]
    outputs: list[tuple[str, int]] | None
    input_name: str = ""


def check_model(serialized: Config) -> None:
    """Refuse what is no Sequential or Functional model of Keras.

    Raises:
        UnsupportedError: not a Sequential or Functional model.
        FormatError: not the configuration of a Keras model.
    """
    class_name, where = class_name_of(serialized), "the model"
    module, registered = serialized.get("module"), serialized.get("registered_name")
    custom = str(module).split(".")[0] != "keras" or registered not in (None, class_name)
    if custom or class_name not in MODEL_READERS:
        layer = is_own(serialized) or (class_name in {**CLASSES, **CELLS} and not custom)
        raise UnsupportedError(
            "a single layer, not a model" if layer else "only Sequential and Functional models are read",
            where,
            "Sequential or Functional",
            f"{class_name} of module {module}",
            "put it into keras.Sequential"
            if layer
            else "rebuild it as keras.Model(inputs, outputs): an own call() is not read",
        )
    config: Config = field(serialized, "config", Mapping, where)
    layers_in(config, where)


def layers_in(config: Config, where: str) -> list[Config]:
    """The layers of a model's configuration.

    Raises:
        FormatError: no layers, absurdly many, or several of one name.
    """
    layers = field(config, "layers", (list, tuple), where)
    if len(layers) > MOST_LAYERS:
        raise FormatError("the model has too many layers", where, f"at most {MOST_LAYERS}", str(len(layers)))
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise FormatError("a layer of the model is not a JSON object", where, "an object", shown(layer))
    twice = [name for name, count in Counter(name_of(layer) for layer in layers).items() if count > 1]
    if twice:
        raise FormatError("several layers have one name", where, "unique names", ", ".join(twice), "rename the layers")
    return list(layers)


def chain_of(serialized: Config, problems: list[Problem]) -> Chain:
    """The chain that a serialized model without models inside describes; what is no chain goes to `problems`.

    Raises:
        UnsupportedError: not a Sequential or Functional model.
        FormatError: not the configuration of a Keras model.
    """
    check_model(serialized)
    config: Config = serialized["config"]
    layers = layers_in(config, "the model")
    tokens = any(class_name_of(layer) == "Embedding" for layer in layers)
    for layer in layers:
        if class_name_of(layer) == "InputLayer":
            options = {**INPUT, "dtype": TOKENS} if tokens else INPUT
            check_options(field(layer, "config", Mapping, where_of(layer)), options, where_of(layer), problems)
    return MODEL_READERS[class_name_of(serialized)](config, layers, problems)


def _sequential(config: Config, layers: Sequence[Config], problems: list[Problem]) -> Chain:
    has_input = bool(layers) and class_name_of(layers[0]) == "InputLayer"
    shape = input_shape(layers[0]) if has_input else config.get("build_input_shape")
    inner = list(layers[1:] if has_input else layers)
    names = [name_of(layer) for layer in inner]
    for layer in inner[:-1]:
        split = class_name_of(layer) == "Bidirectional" and layer["config"].get("merge_mode", "concat") is None
        if split or _inner_option(layer, "return_state"):
            option = "merge_mode=None" if split else "return_state=True"
            expected, remedy = f"no {option}", "build the model with keras.Model(inputs, outputs)"
            problems.append(
                Problem(
                    "a Sequential hands only one value on, as Keras says", where_of(layer), expected, option, remedy
                )
            )
    sources = {after: (before, 0) for before, after in pairwise(names)}
    name = name_of(layers[0]) if has_input else ""
    return Chain(inner, shape if isinstance(shape, (list, tuple)) else None, sources, None, name)


def _functional(config: Config, layers: Sequence[Config], problems: list[Problem]) -> Chain:
    before = len(problems)
    made = mask_operations(layers)
    layers = [layer for layer in layers if name_of(layer) not in made]
    by_name = {name_of(layer): layer for layer in layers}
    inputs = [name_of(layer) for layer in layers if class_name_of(layer) == "InputLayer"]
    if len(inputs) != 1:
        problems.append(
            Problem("the model has several inputs", "the model", "one", ", ".join(inputs) or "none", NO_CHAIN)
        )
    sources: dict[str, tuple[str, int]] = {}
    for layer in layers:
        if class_name_of(layer) != "InputLayer":
            source = _source(layer, by_name, made, problems)
            if source:
                sources[name_of(layer)] = source
    consumers: dict[str, list[str]] = {}
    for name, (source_name, _) in sources.items():
        consumers.setdefault(source_name, []).append(name)
    for name, takers in consumers.items():
        if len(takers) > 1:
            problems.append(
                Problem("several layers take its values", where_of(by_name[name]), "one", ", ".join(takers), NO_CHAIN)
            )
    order = [inputs[0]] if inputs else []
    while order and consumers.get(order[-1]):
        order.append(consumers[order[-1]][0])
    reached = {*order, *inputs}
    outside = [layer for name, layer in by_name.items() if name not in reached]
    if len(problems) == before and outside:
        got = ", ".join(where_of(layer) for layer in outside)
        problems.append(
            Problem("layers that the input does not reach", "the model", "one chain of layers", got, NO_CHAIN)
        )
    chained = [by_name[name] for name in order[1:]]
    given = {name_of(layer): mask for layer in chained if (mask := _mask(layer, made))}
    problems += mask_problems(chained, sources, given)
    outputs = _references(config.get("output_layers"), by_name, problems)
    shape = input_shape(by_name[inputs[0]]) if inputs else None
    return Chain([*chained, *outside], shape, sources, outputs, inputs[0] if inputs else "")


MODEL_READERS: dict[str, Callable[[Config, Sequence[Config], list[Problem]], Chain]] = {
    "Sequential": _sequential,
    "Functional": _functional,
}


def _mask(layer: Config, made: Mapping[str, MaskOf]) -> MaskOf | None:
    """The mask that a layer is called with, where it is one of the model's."""
    found = history(layer["inbound_nodes"][0].get("kwargs", {}).get("mask"))
    return made.get(found[0]) if found else None


def _source(
    layer: Config, by_name: Mapping[str, Config], made: Mapping[str, MaskOf], problems: list[Problem]
) -> tuple[str, int] | None:
    """The layer and the index of the value that a layer takes; anything but exactly one value is a problem."""
    where, nodes = where_of(layer), layer.get("inbound_nodes")
    if not isinstance(nodes, (list, tuple)) or not nodes or not all(isinstance(node, Mapping) for node in nodes):
        raise FormatError(
            "the calls of a layer are not in Keras 3 form", where, "inbound_nodes with args and kwargs", shown(nodes)
        )
    if len(nodes) > 1:
        problems.append(
            Problem("a layer shared by several calls is not converted", where, "one call", str(len(nodes)), NO_CHAIN)
        )
        return None
    args = field(nodes[0], "args", (list, tuple), where)
    kwargs = dict(field(nodes[0], "kwargs", Mapping, where))
    given = [*args, *(kwargs.pop(key) for key in _INPUT_NAMES if key in kwargs)]
    found = [taken for taken in map(history, given[:1]) if taken]
    if _mask(layer, made):
        del kwargs["mask"]
    extra = {**{f"argument {position}": value for position, value in enumerate(given[1:], 2)}, **kwargs}
    for key, value in extra.items():
        if value is not None and key != "training" and not (key.startswith("argument") and isinstance(value, bool)):
            what, remedy = _WIRED.get(key, ("the layer takes more than one input", NO_CHAIN))
            problems.append(Problem(what, where, "one input", f"{key}={shown(value)}", remedy))
    if not found:
        problems.append(Problem("the layer does not take exactly one tensor", where, "one", shown(given[:1]), NO_CHAIN))
        return None
    name, index = found[0]
    if name not in by_name:
        raise FormatError("a layer takes a value of a layer that is not there", where, ", ".join(by_name), name)
    return name, index


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
    single = reference(value)
    items = [single] if single else [reference(item) for item in value] if isinstance(value, (list, tuple)) else []
    found = [item for item in items if item and item[0] in by_name]
    if not found or len(found) != len(items):
        raise FormatError(
            "the outputs are not [layer, call, index]", "the model's outputs", "layers of the model", shown(value)
        )
    return found


def input_shape(layer: Config) -> Sequence[Any] | None:
    """The shape that a layer's configuration states for its input, if it states one."""
    config = field(layer, "config", Mapping, where_of(layer))
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    return shape if isinstance(shape, (list, tuple)) else None


def _inner_option(layer: Config, key: str) -> bool:
    config = layer.get("config")
    inner = config.get("layer", layer) if isinstance(config, Mapping) else None
    inner_config = inner.get("config") if isinstance(inner, Mapping) else None
    return isinstance(inner_config, Mapping) and bool(inner_config.get(key))


def field(mapping: Config, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A member that must be there and of a kind; a FormatError otherwise."""
    value = mapping.get(key)
    if not isinstance(value, kind):
        raise FormatError(
            f"no '{key}' in the configuration", where, "as keras.saving.serialize_keras_object writes it", shown(value)
        )
    return value


def class_name_of(serialized: Config) -> str:
    """The class that a serialized object names."""
    return str(field(serialized, "class_name", str, "the configuration"))


def name_of(layer: Config) -> str:
    """The name of a serialized layer."""
    return str(
        field(field(layer, "config", Mapping, "a layer"), "name", str, f"a layer of class {class_name_of(layer)}")
    )


def where_of(layer: Config) -> str:
    """A serialized layer in the words of a message."""
    return f"layer '{name_of(layer)}' ({class_name_of(layer)})"


def size_of(config: Config, key: str, where: str) -> int:
    """An option that must be a whole number above zero; a FormatError otherwise."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(f"{key} is not a size", where, "a whole number above zero", shown(value))
    return value
