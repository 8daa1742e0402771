"""Keras: copies of live layers and models, and the expressions by which code reaches their recurrent weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.errors import ParityError
from parity.frameworks import quiet_import
from parity.frameworks.attributes import attribute_lines
from parity.frameworks.keras.tensors import units
from parity.functions import Function
from parity.graph.calls import Layered
from parity.graph.operations import Activation, Softmax
from parity.network import Dense
from parity.transferring.units import Unit

_OPTIONS = {
    "epsilon": ("epsilon", "epsilon"),
    "groups": ("groups", "groups"),
    "strides": ("strides", "strides"),
    "dilations": ("dilation_rate", "dilations"),
}
"""What layers call an option, and what the graph's operations call it."""

_PARAMETERS: dict[str, tuple[str, str]] = {"leaky_relu": ("LeakyReLU", "negative_slope"), "elu": ("ELU", "alpha")}
"""Layers that are a function with a parameter."""

with quiet_import():
    import keras


def copied(live: keras.Layer) -> keras.Layer:
    """A layer or model of its own with the same numbers.

    Raises:
        ParityError: one that Keras cannot copy.
    """
    try:
        made = copy.deepcopy(live) if isinstance(live, keras.Model) else _layer(live)
        same = [np.array_equal(one, two) for one, two in zip(made.get_weights(), live.get_weights(), strict=True)]
        if all(same):
            return made
        got = "other weights"
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        got = str(error).strip().split("\n")[0]
    remedy = "run the lines of diagnosis.repair on the model itself"
    raise ParityError("the model cannot be copied", type(live).__name__, "a model that Keras saves", got, remedy)


def _layer(live: keras.Layer) -> keras.Layer:
    made = type(live).from_config(live.get_config())
    made.build_from_config(live.get_build_config() or {})
    made.set_weights(live.get_weights())
    return made


def addressed(live: keras.Layer, root: str = "suspect") -> list[tuple[Unit, dict[str, str]]]:
    """Every recurrent layer with the expressions of its variables, by their names.

    Example:
        >>> layer = keras.layers.Bidirectional(keras.layers.GRU(5), name="both"); layer.build((None, None, 3))
        >>> (unit, variables), = addressed(layer)
        >>> variables["both/backward/bias"]
        'suspect.backward_layer.cell.bias'
    """
    known = {
        id(variable): words for words, layer in _reached(live, root) for words, variable in _variables(words, layer)
    }
    found = [unit for unit in units(live) if unit.spec is not None]
    return [
        (unit, {leaf.name: known[leaf.handle.key] for leaf in unit.leaves if leaf.handle.key in known})
        for unit in found
    ]


def option_lines(live: keras.Layer, source: str, option: str, right: Layered, root: str = "suspect") -> list[str]:
    """Lines that set an option of a layer to what the right model has; none where no layer has it.

    Args:
        live: the suspect.
        source: the layer's name.
        option: in canonical terms.
        right: the operation of the right model.
        root: Python for the suspect.
    """
    words, layer = layer_named(live, source, root)
    return attribute_lines(words, layer, _OPTIONS, option, right)


def holder_of(live: keras.Layer, source: str, member: str, root: str = "suspect") -> str:
    """Python for the variable of a layer that is no recurrent one; "" where it has none.

    Args:
        live: the suspect.
        source: the layer's name.
        member: "kernel" or "table".
        root: Python for the suspect.
    """
    words, layer = layer_named(live, source, root)
    plain = {
        "kernel": (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense),
        "table": (keras.layers.Embedding,),
    }
    name = {"kernel": "kernel", "table": "embeddings"}[member]
    return f"{words}.{name}" if isinstance(layer, plain[member]) else ""


def activation_lines(
    live: keras.Layer, source: str, behind: Sequence[str], right: Layered | None, root: str = "suspect"
) -> list[str]:
    """Lines that give a layer the right activation; none where no layer of the suspect can have it.

    Args:
        live: the suspect.
        source: the name of the layer that it stands behind.
        behind: names of what stands there now.
        right: the activation, or a dense layer that has it; None for none.
        root: Python for the suspect.
    """
    if isinstance(right, Dense):
        right = Softmax("softmax") if right.activation == "softmax" else Activation("it", Function(right.activation))
    named = dict.fromkeys([*behind, source])
    found = [(words, layer) for words, layer in (layer_named(live, one, root) for one in named) if layer is not None]
    if isinstance(right, Activation) and right.function.name in _PARAMETERS:
        title, option = _PARAMETERS[right.function.name]
        (value,) = right.function.parameters.values()
        own = [words for words, layer in found if isinstance(layer, getattr(keras.layers, title))]
        return [f"{own[0]}.{option} = {float(f'{value:.7g}')!r}"] if len(own) == 1 else []
    if isinstance(right, Softmax):
        own = [words for words, layer in found if isinstance(layer, keras.layers.Softmax)]
        if len(own) == 1 and not right.log:
            return [f"{own[0]}.axis = {right.axis}"]
        name: str | None = "log_softmax" if right.log else "softmax"
        name = name if right.axis == -1 else None
    else:
        name = "linear" if right is None else right.function.keras_name if isinstance(right, Activation) else None
    taking = [words for words, layer in found if hasattr(layer, "activation")]
    return [f'{taking[0]}.activation = keras.activations.get("{name}")'] if taking and name else []


def layer_named(live: keras.Layer, name: str, root: str = "suspect") -> tuple[str, keras.Layer | None]:
    """The one layer of a name, and the expression that leads to it; None where there is none, or several.

    A later call of a layer has its name and a number: "dense@1".
    """
    name = name.partition("@")[0]
    found = [(words, layer) for words, layer in _reached(live, root) if layer.name == name]
    return found[0] if len(found) == 1 and name else ("", None)


def rebuilt(
    live: keras.Layer, name: str, options: Mapping[str, object], number: int, root: str = "suspect"
) -> list[str]:
    """Lines that make one recurrent layer anew, with other options and the weights of the right one, and all others as they are.

    Args:
        live: the suspect.
        name: of the layer, whether a recurrent one or a `Bidirectional`.
        options: of the recurrent layer, by the names of its constructor.
        number: of the right layer among those of the reference.
        root: Python for the suspect.

    Returns:
        The lines; none for a layer inside another one.
    """
    words, layer = layer_named(live, name, root)
    inside = isinstance(live, keras.Model) and words == f"{root}.get_layer({name!r})"
    if layer is None or not (layer is live or inside):
        return []
    parts = [""]
    if isinstance(layer, keras.layers.Bidirectional):
        parts = [f'["{key}"]["config"]' for key in ("layer", "backward_layer") if key in layer.get_config()]
    changes = [f'config{part}["{key}"] = {value!r}' for part in parts for key, value in options.items()]
    right = f"parity.read(reference).recurrent[{number}]"
    if layer is live:
        features = layer.get_build_config()["input_shape"][-1]
        return [
            f"config = {root}.get_config()",
            *changes,
            f"{root} = type({root}).from_config(config)",
            f"{root}.build((None, None, {features}))",
            f"parity.transfer({right}, {root})",
        ]
    return [
        "def mended(layer):",
        "    config = layer.get_config()",
        f"    if layer.name == {name!r}:",
        *(f"        {line}" for line in changes),
        "    return type(layer).from_config(config)",
        "",
        "",
        f"kept = {root}",
        f"{root} = keras.models.clone_model(kept, clone_function=mended)",
        "for layer in kept.layers:",  # a copy has other names for inputs, which have no weights
        f"    if layer.weights and layer.name != {name!r}:",
        f"        {root}.get_layer(layer.name).set_weights(layer.get_weights())",
        f"parity.transfer({right}, {words})",
    ]


def called_otherwise(
    live: keras.Layer, name: str, before: Sequence[str], after: Sequence[str], root: str = "suspect"
) -> list[str]:
    """Lines that change what goes into a layer of a model, or what comes out of it; none where the suspect is no graph of layers.

    Args:
        live: the suspect.
        name: of the layer; "" for the whole model.
        before, after: lines that change `x`, and `y`.
        root: Python for the suspect.
    """
    graph = isinstance(live, (keras.Sequential, keras.src.models.functional.Functional))
    if not graph or (name and layer_named(live, name, root)[0] != f"{root}.get_layer({name!r})"):
        return []
    if not name:
        if len(live.inputs) != 1 or len(live.outputs) != 1:
            return []
        given = f"given = keras.Input(batch_shape={root}.input_shape, dtype={root}.inputs[0].dtype)"
        return [given, "x = given", *before, f"y = {root}(x)", *after, f"{root} = keras.Model(given, y)"]
    plain = "keras.Model(kept.inputs, kept.outputs)" if isinstance(live, keras.Sequential) else "kept"
    return [
        "def mended(layer, *args, **kwargs):",
        f"    if layer.name != {name!r}:",
        "        return layer(*args, **kwargs)",
        "    x, *rest = args",
        *(f"    {line}" for line in before),
        "    y = layer(x, *rest, **kwargs)",
        *(f"    {line}" for line in after),
        "    return y",
        "",
        "",
        f"kept = {root}",
        f"{root} = keras.models.clone_model({plain}, call_function=mended)",
        f"{root}.set_weights(kept.get_weights())",
    ]


def keeps_shape(lines: str, name: str) -> bool:
    """Whether lines of parity's own leave a sequence (batch, time, features) in its shape.

    Args:
        lines: that change it.
        name: what they call it.
    """
    names: dict[str, Any] = {"keras": keras, name: keras.ops.ones((2, 3, 4))}
    try:
        exec(lines, names)
    except (ValueError, RuntimeError, NameError, IndexError, TypeError, AttributeError):
        return False
    return tuple(names[name].shape) == (2, 3, 4)


def _variables(words: str, layer: keras.Layer) -> Iterator[tuple[str, Any]]:
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable) and not name.startswith("_"):
            yield f"{words}.{name}", value


def _reached(layer: keras.Layer, words: str) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer inside one, with the expression that leads to it."""
    yield words, layer
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from _reached(inner, f"{words}.get_layer({inner.name!r})")
        return
    for attribute in ("forward_layer", "backward_layer", "layer", "cell"):
        inner = vars(layer).get(attribute)
        if isinstance(inner, keras.Layer):
            yield from _reached(inner, f"{words}.{attribute}")
    cells = vars(layer).get("cells")
    if isinstance(cells, (list, tuple)):
        for number, cell in enumerate(cells):
            yield from _reached(cell, f"{words}.cells[{number}]")


__all__ = [
    "activation_lines",
    "addressed",
    "called_otherwise",
    "copied",
    "holder_of",
    "keeps_shape",
    "layer_named",
    "option_lines",
    "rebuilt",
]
