"""A network that was read from a file -> units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.layouts import CANONICAL_AXES, Layout, keras_layout
from parity.leaf_layouts import LEAF_LAYOUTS, LeafLayout, leaf_layout
from parity.network import Bidirectional, Dense, Embedding, Masking, Network, Opaque, Recurrent
from parity.network.graph import Layer
from parity.transferring.options import options_from
from parity.transferring.units import SINGLE, UNTYPED, Leaf, StoredHandle, Unit, layout_for

_DEPTH = re.compile(r"(.*)_l(\d+)")
_WRAPPERS = ("", "TimeDistributed")
"""Classes that do not say what the tensors in them are."""
_RESHAPING, _SPATIAL = ("Flatten", "Reshape", "Permute"), ("Conv", "Pool")
"""Keras's classes that make features of places, in its own order of the axes, and those that have places."""


def units_of(network: Network) -> list[Unit]:
    """Every weight-bearing layer of a network, in its order; the described ones where they stand."""
    found: list[Unit] = []
    context: dict[str, object] = {"origin": network.origin}
    spatial = False
    for layer in _all_layers(network):
        if isinstance(layer, Opaque):
            units = list(_described(layer, network.origin))
            spatial = spatial or any(word in layer.class_name for word in _SPATIAL)
            if spatial and layer.class_name in _RESHAPING:
                context["flattened"] = "?"
        elif isinstance(layer, Masking):
            units = []
            context["masked"] = layer.name
        else:
            units = list(computed(layer, network.origin))
        found += [replace(unit, context={**unit.context, **context}) for unit in units]
        if isinstance(layer, (Recurrent, Bidirectional, Dense, Embedding)):
            spatial = False
            context.pop("flattened", None)
    return _without_repeats(found) if network.origin == "keras" and network.outputs else found


def _all_layers(network: Network) -> Iterator[Layer | Opaque]:
    rest = sorted(network.opaque, key=lambda layer: layer.place)
    for place, layer in enumerate(network.layers):
        while rest and rest[0].place <= place:
            yield rest.pop(0)
        yield layer
    yield from rest


def computed(layer: Layer, origin: str) -> Iterator[Unit]:
    """The units of one layer of a network: of a `Bidirectional` those inside it, of a layer without weights none.

    Args:
        layer: of the network.
        origin: the framework of its source.
    """
    for part in layer.recurrent if isinstance(layer, Bidirectional) else (layer,):
        if isinstance(part, Recurrent):
            yield _recurrent(part, origin)
        elif isinstance(part, (Dense, Embedding)):
            yield _weighted(part)


def _without_repeats(units: Sequence[Unit]) -> list[Unit]:
    """A network has a layer of Keras that is called several times once for each call, the later ones with a number behind its name."""
    kept: list[Unit] = []
    for unit in units:
        first = re.sub(r"_\d+$", "", unit.name)
        if not any(one.name == first and one.name != unit.name and _equal(one, unit) for one in kept):
            kept.append(unit)
    return kept


def _equal(one: Unit, other: Unit) -> bool:
    """Whether two units have the same numbers everywhere."""
    if one.signature != other.signature or len(one.leaves) != len(other.leaves):
        return False
    if one.spec is None:
        pairs = [(a.handle.read(), b.handle.read()) for a, b in zip(one.leaves, other.leaves, strict=True)]
    else:
        weights = list(zip(one.canonical(), other.canonical(), strict=True))
        pairs = [(a.member(name), b.member(name)) for a, b in weights for name in CANONICAL_AXES]
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _recurrent(layer: Recurrent, origin: str) -> Unit:
    spec, layout = layer.spec, layout_for("onnx" if origin == "onnxruntime" else origin, layer.spec.kind)
    plain = any(one.held("peepholes") is not None for one in layer.weights) or spec.projection_size
    if origin == "keras" and plain:
        layout = layout_for("", spec.kind)
    elif origin == "keras":
        two_biases = any(one.held("bias_recurrent") is not None for one in layer.weights)
        layout = keras_layout(spec.kind, layer.cells[0].reset_after, two_biases)
    leaves = [
        Leaf(_tensor_name(layer, layout, tensor.name, index), tensor.name, None, index)
        for index, weights in enumerate(layer.weights)
        for tensor in layout.tensors
        if any(weights.held(member) is not None for member in tensor.members)
    ]
    return Unit(
        layer.name, spec.kind, origin, spec.kind, tuple(leaves), spec=spec, cells=layer.cells, layout=layout,
        weights=layer.weights, merge_mode=layer.merge_mode if layer.bidirectional else "concat",
        context={"aligned": not layer.reverse},
    )  # fmt: skip


def _tensor_name(layer: Recurrent, layout: Layout, tensor: str, direction: int) -> str:
    """A tensor's name as its framework has it."""
    way = layer.spec.directions[direction]
    if layout.framework == "torch":
        stack = _DEPTH.fullmatch(layer.name)
        base, depth = (stack[1], stack[2]) if stack else (layer.name, "0")
        end = "" if layer.single_step else f"_l{depth}{'_reverse' if way == 'backward' else ''}"
        return f"{base}.{tensor}{end}"
    separator = "/" if layout.framework == "keras" else "."
    ways = [way] if layer.bidirectional else []
    return separator.join([layer.name, *ways, tensor])


def _weighted(layer: Dense | Embedding) -> Unit:
    """A layer whose weights a network keeps as Keras does."""
    kind = "dense" if isinstance(layer, Dense) else "embedding"
    row = LEAF_LAYOUTS["keras", kind]
    leaves = []
    for tensor, field in zip(row.tensors, ("kernel", "bias") if kind == "dense" else ("table",), strict=True):
        if (held := layer.held(field)) is not None:
            leaves.append(Leaf(f"{layer.name}/{tensor.name}", tensor.name, StoredHandle(held)))
    said = {"activation": layer.activation} if isinstance(layer, Dense) else {"mask_zero": layer.mask_zero}
    options = options_from(kind, "keras", said.get)
    return Unit(layer.name, kind, "keras", row.classes[0], tuple(leaves), options, leaf_layout=row)


def _described(layer: Opaque, origin: str) -> Iterator[Unit]:
    if not layer.tensors:
        return
    separator = "/" if origin == "keras" else "."
    names = {name: name if origin == "onnxruntime" else _joined(layer.name, name, separator) for name in layer.tensors}
    leaves = tuple(Leaf(names[name], _role(name), StoredHandle(stored)) for name, stored in layer.tensors.items())
    unit = Unit(layer.name, UNTYPED, origin, layer.class_name, leaves, facts=layer.facts)
    rank = len(leaves[0].handle.shape)
    row = leaf_layout(origin, layer.class_name, rank)
    typed = as_kind(unit, row) if row else None
    if typed is not None:
        yield typed
    elif layer.class_name in _WRAPPERS:
        yield unit
    else:
        yield from singles(unit)


def _joined(layer: str, tensor: str, separator: str) -> str:
    own = re.sub(r":\d+$", "", tensor)
    return own if not layer or own.startswith(f"{layer}{separator}") else f"{layer}{separator}{own}"


def _role(name: str) -> str:
    """Its own name, without the places it stands in."""
    return re.sub(r":\d+$", "", name).replace(".", "/").rpartition("/")[2]


def as_kind(unit: Unit, row: LeafLayout) -> Unit | None:
    """Tensors read as those of a layer in the table; None where they cannot be."""
    roles = [leaf.role for leaf in unit.leaves]
    known = [tensor.name for tensor in row.tensors]
    if not set(roles) <= set(known):
        numbered = all(role.isdecimal() for role in roles) and len(roles) in (1, len(known))
        if (not numbered and unit.framework != "onnxruntime") or len(roles) > len(known):
            return None
        roles = known[: len(roles)]
    leaves = tuple(replace(leaf, role=role) for leaf, role in zip(unit.leaves, roles, strict=True))
    options = options_from(row.kind, row.framework, unit.facts.get) if unit.facts else {}
    typed = replace(unit, kind=row.kind, leaves=leaves, leaf_layout=row, options=options)
    return typed if _consistent(typed, row) else None


def _consistent(unit: Unit, row: LeafLayout) -> bool:
    """Whether all tensors have the axes that the layout says, of one size each."""
    sizes: dict[str, int] = {}
    for leaf in unit.leaves:
        tensor = row.named(leaf.role)
        axes = tensor.axes.split() if tensor else []
        if axes == ["..."]:
            continue
        if len(axes) != len(leaf.handle.shape):
            return False
        for axis, size in zip(axes, leaf.handle.shape, strict=True):
            if sizes.setdefault(axis, size) != size and not (unit.kind.endswith("transpose") and axis == "output"):
                return False
    first = row.tensors[0].name
    return any(leaf.role == first for leaf in unit.leaves) or row.kind.endswith("norm")


def interpretations(unit: Unit) -> list[Unit]:
    """Everything that untyped tensors may be, by the table of the framework they come from."""
    rows = [row for (framework, _), row in LEAF_LAYOUTS.items() if framework == unit.framework]
    return [typed for row in rows if (typed := as_kind(unit, row)) is not None]


def singles(unit: Unit) -> list[Unit]:
    """Tensors of a layer one by one."""
    whole = unit.with_tensors()
    return [
        Unit(
            leaf.name,
            SINGLE,
            unit.framework,
            unit.class_name,
            (replace(leaf, role="value"),),
            own_axes=whole.axes_of(leaf),
        )
        for leaf in whole.leaves
    ]
