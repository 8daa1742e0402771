"""Keras: the weight-bearing layers of a live layer or model as units, and their variables, read and written in place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.cell import Cell, plain_cell
from parity.errors import ParityError, Problem
from parity.frameworks import quiet_import
from parity.frameworks.keras.layers import RecurrentCell
from parity.functions import function_from_keras
from parity.layouts import KERAS_GRU_RESET_BEFORE, LAYOUTS, SLOTS, Kind
from parity.leaf_layouts import LEAF_LAYOUTS, LeafLayout
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec
from parity.transferring.options import options_from
from parity.transferring.units import SINGLE, Leaf, Unit, canonical_layout

with quiet_import():
    import keras

_CELLS: dict[Any, Kind] = {
    keras.layers.LSTMCell: "lstm",
    keras.layers.GRUCell: "gru",
    keras.layers.SimpleRNNCell: "rnn",
}
_LEAVES: dict[Any, LeafLayout] = {
    getattr(keras.layers, name): row
    for row in LEAF_LAYOUTS.values()
    if row.framework == "keras"
    for name in row.classes
    if hasattr(keras.layers, name)
}


@dataclass(frozen=True)
class KerasVariable:
    """A variable; see `parity.transferring.units.Writable`."""

    variable: Any

    @property
    def shape(self) -> tuple[int, ...]:  # noqa: D102  as Writable says
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> str:  # noqa: D102
        return str(keras.backend.standardize_dtype(self.variable.dtype))

    @property
    def key(self) -> Hashable:  # noqa: D102
        return id(self.variable)

    def read(self) -> Array:  # noqa: D102
        return self.plain(self.held())

    def native(self, array: Array) -> Array:  # noqa: D102
        name = self.dtype
        kind = importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
        return np.ascontiguousarray(array).reshape(np.shape(array)).astype(kind)

    def plain(self, native: Array) -> Array:  # noqa: D102
        return native.astype(np.float32) if self.dtype in ("float16", "bfloat16") else native

    def held(self) -> Array:  # noqa: D102
        own = self.variable.value
        if self.dtype == "bfloat16":
            wide = keras.ops.convert_to_numpy(keras.ops.cast(own, "float32"))
            return self.native(wide)
        return np.array(keras.ops.convert_to_numpy(own))

    def write(self, native: Array) -> None:  # noqa: D102
        self.variable.assign(keras.ops.convert_to_tensor(native, dtype=self.dtype))

    def raw(self, native: Array) -> bytes:  # noqa: D102
        return native.tobytes()


def units(model: keras.Layer, reading: bool = False) -> list[Unit]:
    """Every layer with variables of its own, in Keras's order.

    Args:
        model: any layer.
        reading: whether they are only read.

    Raises:
        ParityError: a layer that has no weights yet.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(5, name="gru"), keras.layers.Dense(2, name="out")])
        >>> [(unit.name, unit.described) for unit in units(model)]
        [('gru', 'gru 3->5'), ('out', 'dense (input 5, output 2)')]
    """
    problems = list(_unbuilt(model))
    if problems:
        raise ParityError(problems)
    seen: set[int] = set()
    title = "" if isinstance(model, keras.Model) else model.name
    return list(_walk(model, title, seen))


def in_order(model: keras.Layer) -> bool:
    """Whether the layers are listed in the order of the data."""
    return isinstance(model, (keras.Sequential, keras.src.models.functional.Functional))


def _unbuilt(model: keras.Layer) -> Iterator[Problem]:
    known = (*_LEAVES, *_CELLS, keras.layers.RNN)
    for layer in model._flatten_layers():
        if not layer.built and (layer is model or isinstance(layer, known)):
            where = f"{type(layer).__name__} '{layer.name}'"
            remedy = "call it once on data, or layer.build((None, None, features))"
            yield Problem("the layer has no weights yet", where, "a layer that was built", remedy=remedy)


def _walk(layer: Any, path: str, seen: set[int]) -> Iterator[Unit]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, keras.layers.Bidirectional) and _alike(layer):
        yield _both(layer, path, seen)
        return
    if isinstance(layer, keras.layers.Bidirectional):
        yield from _walk(layer.forward_layer, f"{path}.forward", seen)
        yield from _walk(layer.backward_layer, f"{path}.backward", seen)
        return
    if isinstance(layer, keras.layers.RNN):
        yield from _loop(layer, path, seen)
        return
    if kind := _kind(layer):
        yield _cell_unit(layer, path, kind, DIRECTIONS[0])
        return
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if own:
        yield from _leaf_units(layer, path, own)
    for inner in layer._layers:
        if not isinstance(inner, keras.layers.InputLayer):
            yield from _walk(inner, f"{path}/{inner.name}" if path else inner.name, seen)


def _kind(cell: Any) -> Kind | None:
    if isinstance(cell, RecurrentCell):
        return cell.kind
    return next((kind for known, kind in _CELLS.items() if isinstance(cell, known)), None)


def _alike(layer: Any) -> bool:
    """Whether both directions are of one kind and size, one cell each, the backward one going backwards."""
    cells: list[Any] = [getattr(one, "cell", None) for one in (layer.forward_layer, layer.backward_layer)]
    ways = (layer.forward_layer.go_backwards, layer.backward_layer.go_backwards)
    if any(_kind(cell) is None for cell in cells) or ways != (False, True):
        return False
    return len({(_kind(cell), cell.units, type(cell), str(cell.output_size)) for cell in cells}) == 1


def _both(layer: Any, path: str, seen: set[int]) -> Unit:
    ways = (layer.forward_layer, layer.backward_layer)
    seen.update(id(one) for way in ways for one in (way, way.cell))
    parts = [
        _cell_unit(one.cell, f"{path}/{way}", _kind(one.cell), way) for one, way in zip(ways, DIRECTIONS, strict=True)
    ]
    first = parts[0]
    assert first.spec is not None
    leaves = [replace(leaf, direction=index) for index, part in enumerate(parts) for leaf in part.leaves]
    return replace(
        first, name=path, class_name="Bidirectional", leaves=tuple(leaves), spec=replace(first.spec, directions=DIRECTIONS),
        cells=tuple(cell for part in parts for cell in part.cells), merge_mode=layer.merge_mode,
        notes=tuple(note for part in parts for note in part.notes),
    )  # fmt: skip


def _loop(layer: Any, path: str, seen: set[int]) -> Iterator[Unit]:
    """The cells of a layer of one direction."""
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    seen.update(map(id, (layer.cell, *cells)))
    way = DIRECTIONS[int(layer.go_backwards)]
    for cell in cells:
        name = f"{path}.{cell.name}" if stacked else path
        if kind := _kind(cell):
            yield _cell_unit(cell, name, kind, way)
        else:
            seen.discard(id(cell))
            yield from _walk(cell, name, seen)


def _cell_unit(cell: Any, name: str, kind: Kind | None, way: Direction) -> Unit:
    assert kind is not None
    own = isinstance(cell, RecurrentCell)
    computed, notes = _computed(cell, kind, name)
    layout = LAYOUTS["keras", kind]
    if own:
        layout = canonical_layout(kind)
    elif kind == "gru" and not computed.reset_after:
        layout = KERAS_GRU_RESET_BEFORE
    known = [tensor.name for tensor in layout.tensors]
    leaves = []
    for tensor in known:
        variable = getattr(cell, tensor, None)
        if variable is not None:
            leaves.append(Leaf(f"{name}/{tensor}", tensor, KerasVariable(variable)))
    size = int(cell.kernel.shape[-1 if own else 0])
    spec = RecurrentSpec(kind, size, cell.units, (way,), cell.projection_size if own else None)
    return Unit(
        name,
        kind,
        "keras",
        type(cell).__name__,
        tuple(leaves),
        notes=notes,
        spec=spec,
        cells=(computed,),
        layout=layout,
    )


def _computed(cell: Any, kind: Kind, name: str) -> tuple[Cell, tuple[str, ...]]:
    """The options of a cell, and what was not looked at."""
    if isinstance(cell, RecurrentCell):
        return cell.options, ()
    functions = {"candidate": _function(cell.activation, name)}
    functions["output"] = functions["candidate"]
    if kind != "rnn":
        functions["gate"] = _function(cell.recurrent_activation, name)
    made = replace(plain_cell(kind), functions=tuple(functions[slot] for slot in SLOTS[kind]))
    notes = (
        ()
        if type(cell) in _CELLS
        else (f"'{name}' ({type(cell).__name__}) has a call of its own: it was not looked at",)
    )
    return replace(made, reset_after=bool(cell.reset_after)) if kind == "gru" else made, notes


def _function(function: Callable[..., Any], name: str) -> Any:
    known = getattr(function, "__name__", type(function).__name__)
    if getattr(keras.activations, known, None) is not function:
        remedy = f"use keras.activations.{known}, if that is what it computes"
        raise ParityError("a custom activation", f"layer '{name}'", "a function of Keras", known, remedy)
    return function_from_keras(known)


def _leaf_units(layer: Any, path: str, own: Sequence[Any]) -> list[Unit]:
    base = next((known for known in _LEAVES if isinstance(layer, known)), None)
    row = None if base is None else _LEAVES[base]
    leaves = [Leaf(f"{path}/{one.name}" if path else one.name, one.name, KerasVariable(one)) for one in own]
    if row is None or not {leaf.role for leaf in leaves} <= {tensor.name for tensor in row.tensors}:
        title = type(layer).__name__
        return [Unit(leaf.name, SINGLE, "keras", title, (replace(leaf, role="value"),)) for leaf in leaves]
    config = layer.get_config()
    options = options_from(row.kind, "keras", config.get)
    notes: tuple[str, ...] = ()
    if type(layer).call is not base.call:  # type: ignore[union-attr]
        notes = (f"'{path}' ({type(layer).__name__}) has a call of its own: it was not looked at",)
    return [Unit(path, row.kind, "keras", type(layer).__name__, tuple(leaves), options, notes, leaf_layout=row)]
