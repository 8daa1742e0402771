"""A layer of a network -> the configuration and the weights of a Keras layer. Imports no framework.

What `parity.forms` calls native becomes a layer of `keras.layers`; the rest becomes `keras.layers.RNN` around parity's own cell, and a
layer around it where the output has to be turned (`parity.frameworks.keras.layers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.deferred import Array, Blocks, blocks_of
from parity.errors import Problem, UnsupportedError
from parity.forms import obstacles
from parity.layouts import Kind, keras_layout
from parity.network.bidirectional import Bidirectional
from parity.network.dense import Dense
from parity.network.embedding import Embedding
from parity.network.graph import Layer
from parity.network.keras.cells import own_members
from parity.network.keras.options import KIND_OF, OWN_ALIGNED, OWN_CELL, OWN_MODULE, OWN_PACKAGE, STACKED
from parity.network.masking import Masking
from parity.network.recurrent import Recurrent
from parity.recurrent import DIRECTIONS, packed

_CLASS_OF: dict[Kind, str] = {kind: name for name, kind in KIND_OF.items()}


@dataclass(frozen=True)
class Writing:
    """What the layers of one model share.

    Args:
        dtype: of the weights and of the computation.
        unroll: whether the number of steps is known, so that a layer may be unrolled as it was.
        masked: whether a layer of the model makes a mask.
    """

    dtype: str = "float32"
    unroll: bool = True
    masked: bool = False


def one_way(layer: Recurrent, index: int) -> Recurrent:
    """One direction of a layer as a layer, its output in the order in which Keras leaves it.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
        >>> both = Recurrent("gru", RecurrentSpec("gru", 2, 5, DIRECTIONS), (weights, weights))
        >>> one_way(both, 1).spec.directions, one_way(both, 1).reverse
        (('backward',), True)
    """
    direction = layer.spec.directions[index]
    return replace(
        layer,
        spec=replace(layer.spec, directions=(direction,)),
        weights=(layer.weights[index],),
        cells=(layer.cells[index],),
        merge_mode="concat",
        reverse=direction == DIRECTIONS[1],
    )


def own_cell(layer: Recurrent) -> bool:
    """Whether a layer of one direction needs parity's own cell."""
    return bool(obstacles(one_way(layer, 0), "keras"))


def keras_arrays(layer: Layer) -> list[Array]:
    """A layer's weights in the order of `layer.get_weights()`; the forward layer's first in a Bidirectional.

    Example:
        >>> [array.shape for array in keras_arrays(Dense("dense", np.ones((3, 2)), np.ones(2)))]
        [(3, 2), (2,)]
    """
    return [blocks.whole() for cell in cell_blocks(layer) for blocks in cell]


def cell_blocks(layer: Layer) -> list[list[Blocks]]:
    """A layer's weights in the order of `layer.get_weights()`, one list for each cell, as `weight_paths` gives their places.

    Example:
        >>> [[blocks.shape for blocks in cell] for cell in cell_blocks(Dense("out", np.ones((3, 2)), np.ones(2)))]
        [[(3, 2), (2,)]]
    """
    if isinstance(layer, Embedding):
        return [[blocks_of(layer.held("table"))]]
    if isinstance(layer, Dense):
        return [[blocks_of(layer.held(name)) for name in ("kernel", "bias") if layer.held(name) is not None]]
    if isinstance(layer, Bidirectional):
        return [cell for inner in layer.recurrent for cell in cell_blocks(inner)]
    if isinstance(layer, Recurrent):
        return [_blocks_of_cell(one_way(layer, index)) for index in range(len(layer.spec.directions))]
    return []


def _blocks_of_cell(layer: Recurrent) -> list[Blocks]:
    (weights,), spec = layer.weights, layer.spec
    if not own_cell(layer):
        return list(packed(keras_layout(spec.kind, layer.cells[0].reset_after), spec, [weights]).values())
    members = own_members(layer.has_bias, weights.held("peepholes") is not None, spec.projection_size)
    found: list[Array] = [weights.held(member) for member in members]
    zeros = [np.zeros(spec.shape(member), weights.dtype) for member in members]
    return [blocks_of(zero if held is None else held) for held, zero in zip(found, zeros, strict=True)]


def keras_from_layer(
    layer: Layer, name: str | None = None, needs_state: bool = False, writing: Writing | None = None
) -> dict[str, Any]:
    """The configuration of one layer, as `keras.layers.deserialize` takes it; its weights are `keras_arrays`.

    Args:
        layer: of a network. One that takes a single step becomes a cell.
        name: of the Keras layer; the layer's own by default.
        needs_state: whether it has to return its states, even if it did not.
        writing: what it shares with the other layers of a model.

    Raises:
        UnsupportedError: what not even a composition says exactly; all problems at once.

    Example:
        >>> keras_from_layer(Dense("out", np.ones((3, 2), np.float32)))["config"]["units"]
        2
    """
    writing = writing or Writing(dtype_of([layer]))
    problems = list(unwritable(layer, writing))
    if problems:
        raise UnsupportedError(problems)
    title = name or keras_name(layer.name)
    if isinstance(layer, Recurrent):
        return _recurrent(layer, title, needs_state, writing)
    if isinstance(layer, Bidirectional):
        stacks = zip(("forward", "backward"), layer.stacks, strict=True)
        inner = [
            _stack([one_way(part, 0) for part in stack], _inner_names(layer.name, label, stack), needs_state, writing)
            for label, stack in stacks
        ]
        return _bidirectional(title, layer.merge_mode, inner, writing)
    own: dict[str, object] = {}
    if isinstance(layer, Embedding):
        own = {"input_dim": layer.input_size, "output_dim": layer.output_size, "mask_zero": layer.mask_zero}
    elif isinstance(layer, Dense):
        own = {"units": layer.output_size, "activation": layer.activation, "use_bias": layer.bias is not None}
    elif isinstance(layer, Masking):
        own = {"mask_value": layer.mask_value}
    else:
        own = {"rate": layer.rate}
    return serialized(type(layer).__name__, _named(title, own, writing))


def keras_from_stack(stack: Sequence[Recurrent]) -> dict[str, Any]:
    """The configuration of `keras.layers.RNN` around a list of cells; its weights are those of the layers, one after the other.

    Args:
        stack: the layers that were read from such an `RNN`, named after it and its cells.

    Raises:
        UnsupportedError: what not even a composition says exactly; all problems at once.

    Example:
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.ones((3, 5, 5)), np.ones((3, 5, 5)))
        >>> stack = [Recurrent(f"rnn.{name}", RecurrentSpec("gru", 5, 5), (weights,)) for name in ("first", "second")]
        >>> [cell["config"]["name"] for cell in keras_from_stack(stack)["config"]["cell"]["config"]["cells"]]
        ['first', 'second']
    """
    writing = Writing(dtype_of(stack))
    problems = [problem for layer in stack for problem in unwritable(layer, writing)]
    if problems:
        raise UnsupportedError(problems)
    title, *names = _inner_names("", "stack", stack)
    ways = [one_way(layer, 0) for layer in stack]
    turned = stack[-1].return_sequences and stack[-1].reverse != ways[-1].reverse
    made = _stack(ways, [f"{title}_as_processed" if turned else title, *names], False, writing)
    return _own(OWN_ALIGNED, _named(title, {"layer": made}, writing)) if turned else made


def dtype_of(layers: Sequence[Layer]) -> str:
    """The type of the numbers of a Keras model of these layers: float64 as soon as any of their weights is.

    Example:
        >>> dtype_of([Dense("out", np.ones((3, 2)))])
        'float64'
    """
    wide = any(held.dtype == np.float64 for layer in layers for held in layer.arrays.held.values())
    return "float64" if wide else "float32"


def unwritable(layer: Layer, writing: Writing) -> Iterator[Problem]:
    """What neither Keras's layers nor a composition of them says exactly."""
    where = f"layer '{layer.name}'"
    if isinstance(layer, Bidirectional):
        yield from _no_bidirectional(layer, where)
    ends = [stack[-1] for stack in layer.stacks] if isinstance(layer, Bidirectional) else []
    for part in layer.recurrent if isinstance(layer, Bidirectional) else (layer,):
        if not isinstance(part, Recurrent):
            continue
        fill = "zero" if part.return_sequences else "repeat"
        if writing.masked and (part.bidirectional or part in ends) and part.fill != fill:
            expected, remedy = f"fill '{fill}'", "leave the mask out, or convert each direction by itself"
            yield Problem("Keras's Bidirectional fills masked steps otherwise", where, expected, part.fill, remedy)
        rates = {name: getattr(part, name) for name in ("dropout", "recurrent_dropout") if getattr(part, name)}
        if rates and any(own_cell(one_way(part, index)) for index in range(len(part.cells))):
            got = ", ".join(f"{name}={value:g}" for name, value in rates.items())
            yield Problem("parity's own cell has no dropout", where, "no dropout", got, "set it to 0: it is inert")


def _no_bidirectional(layer: Bidirectional, where: str) -> Iterator[Problem]:
    """Why two stacks are no `keras.layers.Bidirectional`."""
    ways = [{part.spec.directions for part in stack} for stack in layer.stacks]
    single = all(len(way) == 1 and len(next(iter(way))) == 1 for way in ways)
    if not single or ways[0] == ways[1]:
        got = " and ".join(", ".join("+".join(names) for names in way) for way in ways)
        yield Problem("these are no two directions of Keras", where, "one forward, one backward", got)
        return
    backward = [next(iter(way)) == DIRECTIONS[1:] for way in ways]
    for stack, expected in zip(layer.stacks, (backward[0], not backward[1]), strict=True):
        if any(part.reverse for part in stack[:-1]) or (stack[-1].return_sequences and stack[-1].reverse != expected):
            got = f"reverse={stack[-1].reverse} of '{stack[-1].name}'"
            yield Problem("Keras's Bidirectional gives another order of steps", where, f"reverse={expected}", got)


def _recurrent(layer: Recurrent, name: str, needs_state: bool, writing: Writing) -> dict[str, Any]:
    if layer.single_step:
        return _cell(one_way(layer, 0), name, writing)
    ways = [one_way(layer, index) for index in range(len(layer.spec.directions))]
    if layer.bidirectional:
        inner = [_stack([way], [f"{way.spec.directions[0]}_{name}"], needs_state, writing) for way in ways]
        made = _bidirectional(name, layer.merge_mode, inner, writing)
        turned = layer.reverse
    else:
        turned = layer.return_sequences and layer.reverse != ways[0].reverse
        made = _stack(ways, [f"{name}_as_processed" if turned else name], needs_state, writing)
    return _own(OWN_ALIGNED, _named(name, {"layer": made}, writing)) if turned else made


def _bidirectional(name: str, merge_mode: str | None, inner: Sequence[object], writing: Writing) -> dict[str, Any]:
    halves = dict(zip(("layer", "backward_layer"), inner, strict=True))
    return serialized("Bidirectional", _named(name, {"merge_mode": merge_mode, **halves}, writing))


def _inner_names(outer: str, label: str, stack: Sequence[Recurrent]) -> list[str]:
    """Names for the layer of a stack and for its cells: what stands behind the name of the Bidirectional."""
    own = [part.name.removeprefix(f"{outer}.") for part in stack]
    if len(stack) == 1:
        return [keras_name(own[0])]
    title = own[0].rpartition(".")[0] or f"{label}_rnn"
    return [keras_name(title), *(keras_name(name.rpartition(".")[2]) for name in own)]


def _stack(stack: Sequence[Recurrent], names: Sequence[str], needs_state: bool, writing: Writing) -> dict[str, Any]:
    """A layer of one direction; `names` are its own, and those of its cells where it has several."""
    last = stack[-1]
    options: dict[str, object] = {
        "return_sequences": last.return_sequences,
        "return_state": last.return_state or needs_state,
        "go_backwards": last.spec.directions == DIRECTIONS[1:],
        "stateful": False,
        "unroll": last.unroll and writing.unroll,
        "zero_output_for_mask": last.fill == "zero",
    }
    if len(stack) == 1 and not own_cell(last):
        return serialized(_CLASS_OF[last.spec.kind], _named(names[0], {**options, **_options(last)}, writing))
    cells = [_cell(part, name, writing) for part, name in zip(stack, names[1:] or [f"{names[0]}_cell"], strict=True)]
    cell = cells[0]
    if len(cells) > 1:
        cell = serialized(STACKED, _named(f"{names[0]}_cells", {"cells": cells}, writing))
    return serialized("RNN", _named(names[0], {**options, "cell": cell}, writing))


def _cell(layer: Recurrent, name: str, writing: Writing) -> dict[str, Any]:
    if not own_cell(layer):
        return serialized(f"{_CLASS_OF[layer.spec.kind]}Cell", _named(name, _options(layer), writing))
    (cell,), (weights,) = layer.cells, layer.weights
    config = {
        "units": layer.spec.hidden_size,
        "kind": layer.spec.kind,
        "functions": [[function.name, function.alpha, function.beta] for function in cell.functions],
        "reset_after": cell.reset_after,
        "clip": cell.clip,
        "input_forget": cell.input_forget,
        "use_bias": layer.has_bias,
        "peepholes": weights.peepholes is not None,
        "projection_size": layer.spec.projection_size,
    }
    return _own(OWN_CELL, _named(name, config, writing))


def _options(layer: Recurrent) -> dict[str, object]:
    """The options of a cell of Keras."""
    (cell,), kind = layer.cells, layer.spec.kind
    gates = {} if kind == "rnn" else {"recurrent_activation": cell.function(kind, "gate").keras_name}
    return {
        "units": layer.spec.hidden_size,
        "activation": cell.function(kind, "candidate").keras_name,
        **gates,
        "use_bias": layer.has_bias,
        "dropout": layer.dropout,
        "recurrent_dropout": layer.recurrent_dropout,
        **({"reset_after": cell.reset_after} if kind == "gru" else {}),
    }


def _named(name: str, config: Mapping[str, object], writing: Writing) -> dict[str, object]:
    return {"name": name, "trainable": True, "dtype": writing.dtype, **config}


def serialized(class_name: str, config: Mapping[str, object]) -> dict[str, Any]:
    """An object of `keras.layers` as Keras serializes it."""
    return {"module": "keras.layers", "class_name": class_name, "config": dict(config), "registered_name": None}


def _own(class_name: str, config: Mapping[str, object]) -> dict[str, Any]:
    registered = f"{OWN_PACKAGE}>{class_name}"
    return {"module": OWN_MODULE, "class_name": class_name, "config": dict(config), "registered_name": registered}


def keras_name(name: str) -> str:
    """A name for a Keras layer: Keras refuses a slash, and torch behind it a dot.

    Example:
        >>> keras_name("encoder/gru.0")
        'encoder_gru_0'
    """
    return name.replace("/", "_").replace(".", "_") or "layer"
