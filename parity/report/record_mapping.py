"""Which tensor became which: of a source and its conversions, and of two sources whose weights are both known.

Nothing rests on names: of a conversion every tensor that it holds is looked for, by its SHA-256, among what the tables of layouts make of
the source's own tensors; of two sources the layers are paired and each tensor is compared with what it should be.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from einops import rearrange

from parity.deferred import Array, Blocks, Deferred
from parity.errors import ParityError
from parity.findings import Findings
from parity.forms import obstacles
from parity.frameworks import ENGINES, family, framework
from parity.graph.matching import weighted_nodes
from parity.graph.torch_code import torch_code
from parity.judge import REFERENCE
from parity.layouts import LAYOUTS, PEEPHOLES, Layout, Tensor, keras_layout
from parity.leaf_layouts import LEAF_LAYOUTS
from parity.network import Bidirectional, Dense, Embedding, Recurrent
from parity.recurrent import Weights, merge_biases, pack
from parity.sources import Opened
from parity.transferring import given_units
from parity.transferring.described import computed
from parity.transferring.matching import Match, matched
from parity.transferring.naming import distinct
from parity.transferring.planning import ZEROS, laid_out, sources_of, words_of
from parity.transferring.units import SINGLE, Leaf, StoredHandle, Unit, canonical_layout
from parity.weights_apart import same_numbers

Record = dict[str, Any]

EQUAL, ROUNDED, SUMMED, ORDER, OTHER = "equal", "equal to a rounding", "equal in sum", "other order", "other numbers"
"""How a tensor of another source lies beside what the first one says it should be."""

SAME = (EQUAL, ROUNDED, SUMMED)
"""Those of them that compute the same."""

_MOST_ROWS, _MOST_NAMES = 60, 20
"""So many tensors, of all tables together, and so many names of a list are kept: a page stays small."""

_CLOSE = 1e-6
_MOST_AXES, _MOST_TURNED = 4, 1 << 20
"""An array whose axes no table names is tried in every order, if it is not larger."""


@dataclass(frozen=True)
class _Row:
    source: str
    transform: str
    target: str
    shape: tuple[int, ...]
    sha256: str
    same: str | None = None


@dataclass(frozen=True)
class _Table:
    """One table before it is cut.

    Args:
        source, target: what the two sides are called.
        kind: "conversion", or "source" for a second source.
        rows: of the target's tensors.
        unused, unwritten: names of tensors of the source that went nowhere, and of the target that nothing of the source became.
    """

    source: str
    target: str
    kind: str
    rows: tuple[_Row, ...]
    unused: tuple[str, ...]
    unwritten: tuple[str, ...]


def mapping_record(findings: Findings) -> list[Record]:
    """The tables of a comparison; none for what cannot be told.

    Args:
        findings: whose sources are looked at.
    """
    tables = []
    for make in (*_conversions(findings), *_other_sources(findings)):
        try:
            table = make()
        except ParityError:
            continue  # a source whose weights cannot be read one by one was run nevertheless
        if table is not None and table.rows:
            tables.append(table)
    room = _MOST_ROWS // max(1, len(tables))
    spare = sum(max(0, room - len(table.rows)) for table in tables)
    large = sum(len(table.rows) > room for table in tables)
    return [_recorded(table, room + spare // max(1, large)) for table in tables]


def _recorded(table: _Table, room: int) -> Record:
    """A table with as many rows as there is room for: first those that differ."""
    differing = [at for at, row in enumerate(table.rows) if row.same not in (None, *SAME)]
    others = [at for at in range(len(table.rows)) if at not in set(differing)]
    kept = sorted([*differing, *others][:room])
    return {
        "source": table.source,
        "target": table.target,
        "kind": table.kind,
        "tensors": len(table.rows) + len(table.unwritten),
        "differing": len(differing),
        "rows": [vars(table.rows[at]) for at in kept],
        "left_out": len(table.rows) - len(kept),
        "unused": list(table.unused[:_MOST_NAMES]),
        "unused_left_out": max(0, len(table.unused) - _MOST_NAMES),
        "unwritten": list(table.unwritten[:_MOST_NAMES]),
        "unwritten_left_out": max(0, len(table.unwritten) - _MOST_NAMES),
    }


# ---- a source and its conversions


def _conversions(findings: Findings) -> Iterator[Callable[[], _Table | None]]:
    """What makes the table of each conversion that ran."""
    seen: set[tuple[int, str]] = set()
    for source, engine in findings.participants.values():
        if engine == REFERENCE or family(engine) == source.engine:
            continue
        target = ENGINES[family(engine)]
        if (id(source), target) not in seen:
            seen.add((id(source), target))
            yield partial(converted, source, target)


def converted(source: Opened, target: str) -> _Table | None:
    """The table of a conversion; None where its tensors have no names of their own.

    Args:
        source: what is converted.
        target: "keras", "torch" or "onnx".
    """
    held = _tensors_of(source, target)
    if held is None:
        return None
    units = list(_units(source))
    rows, unwritten = _found(units, [(name, blocks.whole) for name, blocks in held], target)
    used = {name for row in rows for name in row.source.split(" + ")}
    unused = [leaf.name for unit in units for leaf in unit.leaves if leaf.name not in used]
    call = {"keras": "parity.to_keras", "torch": "parity.to_torch", "onnx": "parity.to_onnx"}[target]
    return _Table(source.label, call, "conversion", tuple(rows), tuple(unused), tuple(unwritten))


def _found(
    units: Sequence[Unit], held: Iterable[tuple[str, Callable[[], Array]]], target: str, same: str | None = None
) -> tuple[list[_Row], list[str]]:
    """The tensors of a target, by their SHA-256, among what the layers of a source are there; and those that are not.

    Args:
        units: of the source.
        held: the target's tensors by name.
        target: whose framework that is.
        same: what the rows say of the numbers.
    """
    known: dict[tuple[tuple[int, ...], str], deque[tuple[str, str]]] = defaultdict(deque)
    for array, names, words in itertools.chain.from_iterable(_possible(unit, target) for unit in units):
        for dtype in (np.float32, np.float64) if array.dtype == np.float64 else (array.dtype,):
            key = _key(array.astype(dtype, copy=False))
            if (names, words) not in known[key]:
                known[key].append((names, words))
    rows, unwritten = [], []
    for name, read in held:
        array = read()
        key = _key(array)
        if key not in known:
            unwritten.append(name)
            continue
        names, words = known[key].popleft() if len(known[key]) > 1 else known[key][0]
        rows.append(_Row(names, words, name, *key, same))
    return rows, unwritten


def _key(array: Array) -> tuple[tuple[int, ...], str]:
    return tuple(map(int, array.shape)), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _tensors_of(source: Opened, target: str) -> list[tuple[str, Blocks]] | None:
    """The tensors of a conversion by their names there."""
    if target == "torch" and source.network.graph is None and source.network.bare:
        units = given_units(framework("torch").build(source.network)).units
        return [(leaf.name, _whole(leaf.handle.read())) for unit in units for leaf in unit.leaves]
    if target == "torch":
        return list(torch_code(source.graph).weights.items())
    if target == "onnx":
        return list(_initializers(source))
    return None if source.network.graph is not None else list(_in_keras(source))


def _initializers(source: Opened) -> Iterator[tuple[str, Blocks]]:
    """The tensors of the ONNX model that a source becomes, but for shapes, indices and single numbers."""
    onnx = framework("onnxruntime")
    whole = source.network.graph is not None
    model = onnx.build_whole(source.graph) if whole else onnx.build(source.network)
    tensors = importlib.import_module(f"{onnx.__name__}.tensors").Tensors()
    for initializer in model.graph.initializer:
        array = tensors.array(initializer)
        if array.dtype.kind == "f" and array.ndim:
            yield initializer.name, _whole(array)


def _in_keras(source: Opened) -> Iterator[tuple[str, Blocks]]:
    """The tensors that a chain of layers has in Keras, which need not be loaded for it."""
    for layer in source.network.layers:
        if isinstance(layer, (Dense, Embedding)):
            for leaf in next(computed(layer, "keras")).leaves:
                yield leaf.name, _whole(leaf.handle.read())
        elif isinstance(layer, (Recurrent, Bidirectional)):
            for part in layer.recurrent if isinstance(layer, Bidirectional) else (layer,):
                yield from _cells(part)


def _cells(layer: Recurrent) -> Iterator[tuple[str, Blocks]]:
    layout = _layout(layer)
    single = replace(layer.spec, directions=layer.spec.directions[:1])
    for way, weights in zip(layer.spec.directions, layer.weights, strict=True):
        for role, array in pack(layout, single, [weights]).items():
            yield "/".join([layer.name, *([way] if layer.bidirectional else []), role]), _whole(array)


def _whole(array: Array) -> Blocks:
    return Blocks(tuple(array.shape), array.dtype, lambda: iter([array]))


def _layout(layer: Recurrent) -> Layout:
    """Where Keras keeps a layer's tensors: in its own layer, or in the cell that parity adds to it."""
    kind = layer.spec.kind
    composed = obstacles(replace(layer, return_sequences=False), "keras")
    return canonical_layout(kind) if composed else keras_layout(kind, layer.cells[0].reset_after)


def _with_projection(layout: Layout) -> Layout:
    """ONNX's layout with the tensor that a composition of several nodes has."""
    return replace(layout, tensors=(*layout.tensors, Tensor("projection", "direction state hidden", ("projection",))))


# ---- what a source's tensors can become


def _units(source: Opened) -> Iterator[Unit]:
    """The layers of a source with weights: under their own names where it is live, else as its description says them."""
    network = source.network
    if network.graph is not None and not (source.live is not None and source.engine in ("keras", "torch")):
        yield from distinct(list(_of_graph(source)))
        return
    for unit in given_units(source).units:
        yield unit.with_tensors() if unit.spec is not None else unit


def _of_graph(source: Opened) -> Iterator[Unit]:
    """The layers of a whole model that is not live."""
    origin = source.network.origin
    for node in weighted_nodes(source.network.graph):
        operation = node.operation
        if isinstance(operation, (Recurrent, Bidirectional, Dense, Embedding)):
            for unit in computed(operation, origin):
                yield unit.with_tensors() if unit.spec is not None else unit
            continue
        for member, held in operation.arrays.held.items():
            name = f"{operation.name}.{member}"
            array = held.read() if isinstance(held, Deferred) else held
            yield Unit(name, SINGLE, origin, "", (Leaf(name, "value", StoredHandle(array)),))


def _possible(unit: Unit, target: str) -> Iterator[tuple[Array, str, str]]:
    """Everything that the tensors of a layer are in a framework: the numbers, the source's tensors, and how, in words."""
    if unit.spec is not None:
        yield from _of_recurrent(unit, target)
        return
    row = LEAF_LAYOUTS.get((target, unit.kind)) if unit.leaf_layout is not None else None
    for leaf in unit.leaves:
        array = leaf.handle.read()
        own = unit.leaf_layout.named(leaf.role) if unit.leaf_layout is not None else None
        there = row.tensor(own.member) if row is not None and own is not None else None
        if own and there and own.axes != there.axes:
            words = "transposed" if array.ndim == 2 else f"axes {own.axes} -> {there.axes}"
            yield rearrange(array, f"{own.axes} -> {there.axes}"), leaf.name, words
            continue
        yield array, leaf.name, "as it is"
        if own and there:
            continue
        if array.ndim == 2:
            yield array.T, leaf.name, "transposed"
        elif 2 < array.ndim <= _MOST_AXES and array.size <= _MOST_TURNED:
            for order in list(itertools.permutations(range(array.ndim)))[1:]:
                yield array.transpose(order), leaf.name, f"axes in the order {' '.join(map(str, order))}"


def _of_recurrent(unit: Unit, target: str) -> Iterator[tuple[Array, str, str]]:
    assert unit.spec is not None
    single = replace(unit.spec, directions=unit.spec.directions[:1])
    canonical = [_with_biases(unit, weights) for weights in unit.canonical()]
    for layout in _layouts_in(unit, target):
        if target == "onnx":
            yield from _of_both(unit, layout, canonical)
            if len(canonical) == 1:
                continue
        for index, (weights, filled) in enumerate(canonical):
            for role, array in pack(layout, single, [filled]).items():
                row = next(tensor for tensor in layout.tensors if tensor.name == role)
                words = words_of(unit, layout, row, weights)
                yield array, "" if words == ZEROS else sources_of(unit, row, index), words


def _of_both(
    unit: Unit, layout: Layout, canonical: Sequence[tuple[Weights, Weights]]
) -> Iterator[tuple[Array, str, str]]:
    """The tensors of a layer whose directions stand in one array each."""
    assert unit.spec is not None
    for filled in ([own for own, _ in canonical], [one for _, one in canonical]):
        for role, array in pack(layout, unit.spec, filled).items():
            row = next(tensor for tensor in layout.tensors if tensor.name == role)
            names = dict.fromkeys(sources_of(unit, row, index) for index in range(len(canonical)))
            words = words_of(unit, layout, row, canonical[0][0])
            one_bias = (
                "source" in row.axes and sum(canonical[0][0].held(member) is not None for member in row.members) == 1
            )
            zeros = ", zeros for the recurrence's" if one_bias else ""
            both = ", both directions in one" if len(canonical) > 1 else ""
            yield array, " + ".join(filter(None, names)), f"{words}{zeros}{both}"


def _layouts_in(unit: Unit, target: str) -> list[Layout]:
    """The layouts that a framework may keep a layer in: its own, and that of a composition."""
    assert unit.spec is not None
    kind = unit.spec.kind
    if target == "onnx":
        return [_with_projection(LAYOUTS["onnx", kind])]
    if target == "keras":
        return [*(keras_layout(kind, after) for after in (True, False)), canonical_layout(kind)]
    row, seeing = LAYOUTS["torch", kind], " ".join(f"{gate}:{gate}" for gate in PEEPHOLES[kind])
    peepholes = [Tensor("weight_p", "peephole hidden", ("peepholes",), seeing)] if seeing else []
    return [replace(row, tensors=(*row.tensors, *peepholes))]


def _with_biases(unit: Unit, weights: Weights) -> tuple[Weights, Weights]:
    """The weights of a direction, and the same with zeros for the biases that it has not but its target may."""
    assert unit.spec is not None
    missing = [member for member in ("bias_input", "bias_recurrent") if weights.held(member) is None]
    zeros = {member: np.zeros(unit.spec.shape(member), weights.dtype) for member in missing}
    return weights, weights.with_held(**zeros) if zeros else weights


# ---- two sources


def _other_sources(findings: Findings) -> Iterator[Callable[[], _Table | None]]:
    """What makes the table of each further source."""
    first = findings.sources[0]
    for other, name in zip(findings.sources[1:], findings.names[1:], strict=True):
        yield partial(compared, first, other, (findings.names[0], name))


def compared(first: Opened, other: Opened, names: tuple[str, str] | None = None) -> _Table:
    """The table of two sources: the tensors of the second one beside what those of the first say they should be.

    Args:
        first: the measure.
        other: the one beside it.
        names: what both are called; None for their labels.
    """
    ours, theirs = list(_units(first)), list(_units(other))
    rows: list[_Row] = []
    unused: list[str] = []
    untouched: list[str] = []
    pairs, alone, free = _paired(ours, theirs, first.network.details.get("names") != "positions")
    for match in pairs:
        values, rest = laid_out(match)
        unused += rest
        now = {value.leaf.name: value.leaf.handle.read() for value in values}
        sums = _same_sums(match)
        for value in values:
            found = now[value.leaf.name]
            same = _same(value.array, found)
            biased = same not in SAME and value.leaf.name in sums
            shape, digest = _key(found)
            rows.append(_Row(value.source, value.transform, value.leaf.name, shape, digest, SUMMED if biased else same))
        untouched += [leaf.name for leaf in match.target.leaves if leaf.name not in now]
    held = [(leaf.name, leaf.handle.read) for unit in free for leaf in unit.leaves]
    moved, unwritten = _found(alone, held, ENGINES.get(other.engine or "", "keras"), EQUAL)
    used = {name for row in moved for name in row.source.split(" + ")}
    unused += [leaf.name for unit in alone for leaf in unit.leaves if leaf.name not in used]
    return _Table(
        *(names or (first.label, other.label)), "source", (*rows, *moved), tuple(unused), (*untouched, *unwritten)
    )


def _paired(ours: list[Unit], theirs: list[Unit], named: bool) -> tuple[list[Match], list[Unit], list[Unit]]:
    """Layers that belong together; those of the first and of the second that have none.

    Where names, kinds and sizes decide nothing, those with the same numbers belong together, then those in the same place.
    """
    found = matched(ours, theirs, {}, (True, True), named)
    left, free = list(found.sources), list(found.targets)
    for by_numbers in (True, False):
        for source in list(left):
            fitting = [unit for unit in free if unit.signature == source.signature]
            other = next((unit for unit in fitting if not by_numbers or _holds_the_same(source, unit)), None)
            if other is not None:
                left = [unit for unit in left if unit is not source]
                free = [unit for unit in free if unit is not other]
                found.take(source, other, "the same numbers or place")
    places = {id(unit): at for at, unit in enumerate(theirs)}
    pairs = sorted(found.matches, key=lambda match: places.get(id(match.target), len(places)))
    return pairs, left, free


def _holds_the_same(source: Unit, target: Unit) -> bool:
    values, _ = laid_out(Match(source, target, ""))
    return all(_same(value.array, value.leaf.handle.read()) in SAME for value in values)


def _same(expected: Array, found: Array) -> str:
    """How a tensor lies beside what it should be."""
    if expected.shape != found.shape:
        return OTHER
    if np.array_equal(expected, found, equal_nan=expected.dtype.kind == found.dtype.kind == "f"):
        return EQUAL
    scale = float(np.abs(expected).max(initial=0.0)) if expected.dtype.kind in "fiu" else 0.0
    if np.allclose(expected, found, rtol=0, atol=_CLOSE * scale):
        return ROUNDED
    return ORDER if same_numbers(expected, found) else OTHER


def _same_sums(match: Match) -> set[str]:
    """Tensors of the target that are biases of which only the sum counts, where the sums are the same."""
    source, target = match.source, match.target
    if target.spec is None or (target.spec.kind == "gru" and any(cell.reset_after for cell in target.cells)):
        return set()
    names: set[str] = set()
    for index, (mine, yours) in enumerate(zip(source.canonical(), target.canonical(), strict=True)):
        ours, theirs = merge_biases(mine), merge_biases(yours)
        if ours is not None and theirs is not None and _same(ours, theirs) in SAME:
            names |= {leaf.name for leaf in _biases(target, index)}
    return names


def _biases(unit: Unit, direction: int) -> Iterable[Leaf]:
    for leaf in unit.leaves:
        if leaf.direction == direction and all(member.startswith("bias") for member in unit.members_of(leaf)):
            yield leaf


__all__ = ["EQUAL", "ORDER", "OTHER", "ROUNDED", "SAME", "SUMMED", "compared", "converted", "mapping_record"]
