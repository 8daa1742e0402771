"""Keras: the weight-bearing layers of a live layer or model as units, and their variables, read and written in place."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.cell import Cell, plain_cell
from parity.errors import ParityError, Problem
from parity.frameworks import quiet_import
from parity.frameworks.keras.layers import RecurrentCell
from parity.frameworks.keras.surroundings import flattens, surroundings
from parity.functions import function_from_keras
from parity.layouts import SLOTS, Kind, keras_layout
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
    """A variable; see `parity.transferring.units.Writable`.

    Args:
        variable: of Keras.
        owner: the layer, where it computes with numbers that it makes of its variables (Normalization).
    """

    variable: Any
    owner: Any = None

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
        if self.owner is not None:
            self.owner.finalize_state()

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
    found = list(_walk(model, title, seen))
    if in_order(model) or not flattens(model):
        return found
    told: dict[str, object] = {"flattened": "?"}
    return [replace(unit, context={**told, **unit.context}) if unit.kind == "dense" else unit for unit in found]


def in_order(model: keras.Layer) -> bool:
    """Whether the layers are listed in the order of the data."""
    connected = isinstance(model, (keras.Sequential, keras.src.models.functional.Functional))
    inside = [inner for inner in model._layers if not isinstance(inner, keras.layers.InputLayer)]
    known = len(inside) < 2 or type(model).__module__.startswith("keras.src.layers")
    return (connected or known) and all(in_order(inner) for inner in inside)


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
        for way, one in zip(DIRECTIONS, (layer.forward_layer, layer.backward_layer), strict=True):
            for unit in _walk(one, f"{path}.{way}", seen):
                yield replace(unit, context={**surroundings(layer), **unit.context, "aligned": True})
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
    inside = [inner for inner in layer._layers if not isinstance(inner, keras.layers.InputLayer)]
    often = Counter(inner.name for inner in inside)
    held = {id(value): name for name, value in vars(layer).items() if not name.startswith("_")}
    for inner in inside:
        name = held.get(id(inner), inner.name) if often[inner.name] > 1 else inner.name
        yield from _walk(inner, f"{path}/{name}" if path else name, seen)


def _kind(cell: Any) -> Kind | None:
    if isinstance(cell, RecurrentCell):
        return cell.kind
    return next((kind for known, kind in _CELLS.items() if isinstance(cell, known)), None)


def _alike(layer: Any) -> bool:
    """Whether both directions are of one kind, size and layout, one cell each, the backward one going backwards."""
    cells: list[Any] = [getattr(one, "cell", None) for one in (layer.forward_layer, layer.backward_layer)]
    ways = (layer.forward_layer.go_backwards, layer.backward_layer.go_backwards)
    if any(_kind(cell) is None for cell in cells) or ways != (False, True):
        return False
    return len({(_kind(cell), cell.units, type(cell), str(cell.output_size), _resets(cell)) for cell in cells}) == 1


def _resets(cell: Any) -> bool:
    """Of a GRU of Keras, whether the reset gate acts after the product, on which the shape of its bias depends."""
    return bool(getattr(cell, "reset_after", True))


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
        notes=tuple(note for part in parts for note in part.notes), context=surroundings(layer),
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
            yield replace(_cell_unit(cell, name, kind, way), context=surroundings(layer) if cell is cells[0] else {})
        else:
            seen.discard(id(cell))
            yield from _walk(cell, name, seen)


def _cell_unit(cell: Any, name: str, kind: Kind | None, way: Direction) -> Unit:
    assert kind is not None
    own = isinstance(cell, RecurrentCell)
    computed, notes = _computed(cell, kind, name)
    layout = canonical_layout(kind) if own else keras_layout(kind, computed.reset_after)
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


def _names_of(layer: Any, own: Sequence[Any]) -> list[str]:
    """The names of a layer's variables; of the attribute that holds one, where its own is no name or another has it."""
    often = Counter(one.name for one in own)
    held = {id(value): name for name, value in vars(layer).items() if not name.startswith("_")}
    return [
        held.get(id(one), one.name) if often[one.name] > 1 or re.fullmatch(r"variable(_\d+)?", one.name) else one.name
        for one in own
    ]


def _option(layer: Any, config: Mapping[str, Any], name: str) -> object:
    """An option of a layer: an axis counted from the last, an activation by its name or as the function it is."""
    value = config.get(name)
    if name == "axis" and value is not None:
        shape = (layer.get_build_config() or {}).get("input_shape") or ()
        axes = [value] if isinstance(value, int) else list(value)
        return sorted(axis - len(shape) if axis >= 0 and len(shape) > axis else axis for axis in axes)
    function = getattr(layer, "activation", None) if name == "activation" else None
    if function is None or isinstance(function, keras.Layer):
        return value
    known = getattr(function, "__name__", "")
    return value if getattr(keras.activations, known, None) is function else function


def _leaf_units(layer: Any, path: str, own: Sequence[Any]) -> list[Unit]:
    base = next((known for known in _LEAVES if isinstance(layer, known)), None)
    row = None if base is None else _LEAVES[base]
    names = [one.name for one in own] if row is not None else _names_of(layer, own)
    owner = layer if hasattr(layer, "finalize_state") else None
    leaves = [
        Leaf(f"{path}/{name}" if path else name, name, KerasVariable(one, owner))
        for name, one in zip(names, own, strict=True)
    ]
    if row is None or not {leaf.role for leaf in leaves} <= {tensor.name for tensor in row.tensors}:
        title = type(layer).__name__
        return [Unit(leaf.name, SINGLE, "keras", title, (replace(leaf, role="value"),)) for leaf in leaves]
    config = layer.get_config()
    options = options_from(row.kind, "keras", lambda name: _option(layer, config, name))
    notes: tuple[str, ...] = ()
    if type(layer).call is not base.call:  # type: ignore[union-attr]
        notes = (f"'{path}' ({type(layer).__name__}) has a call of its own: it was not looked at",)
    return [
        Unit(
            path,
            row.kind,
            "keras",
            type(layer).__name__,
            tuple(leaves),
            options,
            notes,
            leaf_layout=row,
            context=surroundings(layer),
        )
    ]
