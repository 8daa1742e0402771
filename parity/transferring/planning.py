"""What is written where: every number computed and checked before anything is touched."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from einops import rearrange

from parity.deferred import Array, not_finite
from parity.errors import ParityError, Problem
from parity.layouts import GATES, Layout, Tensor
from parity.leaf_layouts import ANY, COUNTER, FILLED, LeafTensor
from parity.recurrent import Weights, pack
from parity.transferring.matching import Match
from parity.transferring.options import differences
from parity.transferring.units import SINGLE, Leaf, Unit, Writable

Left = set[tuple[str, str]]
"""("source", name) or ("target", name) of the tensors that the user leaves out, or leaves as they are."""
ZEROS = "zeros: the source has no such bias"


@dataclass(frozen=True)
class Write:
    """One tensor of the target and what it gets.

    Args:
        source: names of the tensors it is made of.
        transform: how, in words.
        leaf: of the target.
        native: the numbers, in the target's own type.
        how: its unit was matched.
    """

    source: str
    transform: str
    leaf: Leaf
    native: Any
    how: str


@dataclass
class Plan:
    """Everything that will be written, and what stands against it."""

    writes: list[Write] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unsupported: bool = False
    unused: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Value:
    """A target tensor's numbers, where they come from and how.

    Args:
        leaf: of the target.
        array: the numbers, laid out as the target keeps them.
        source: names of the tensors they are made of, joined by " + "; "" for a constant.
        transform: how, in words.
    """

    leaf: Leaf
    array: Array
    source: str
    transform: str


def planned(matches: list[Match], left: Left) -> Plan:
    """Compute and check what every matched unit of the target gets.

    Args:
        matches: of units.
        left: tensors that the user leaves out or as they are.
    """
    plan = Plan()
    for match in matches:
        for notes in (match.source.notes, match.target.notes):
            plan.warnings += notes
        for forbidden, problem in differences(match.source, match.target):
            if forbidden:
                plan.problems.append(problem)
                plan.unsupported = True
            else:
                plan.warnings.append(_said(problem))
        try:
            values = list(_values(match, left, plan))
        except ParityError as error:
            plan.problems += error.problems
            continue
        for value in values:
            _add(plan, value, match)
        plan.unused += [name for name in _rest(match, values, plan) if ("source", name) not in left]
    _check_tied(plan)
    return plan


def laid_out(match: Match) -> tuple[tuple[Value, ...], tuple[str, ...]]:
    """What every tensor of a target gets, and the tensors of the source that go nowhere; nothing is written or checked.

    Raises:
        ParityError: tensors of the source that cannot be read as its layer.

    Example:
        >>> import torch
        >>> from parity.frameworks.torch.tensors import units
        >>> (one,), (other,) = units(torch.nn.GRU(3, 2)), units(torch.nn.GRU(3, 2))
        >>> values, unused = laid_out(Match(one, other, "equal name"))
        >>> [(value.source, value.transform) for value in values][0], unused
        (('weight_ih_l0', 'as it is'), ())
    """
    plan = Plan()
    values = tuple(_values(match, set(), plan))
    return values, (*plan.unused, *_rest(match, values, plan))


def _rest(match: Match, values: Sequence[Value], plan: Plan) -> list[str]:
    """Tensors of a source that nothing was made of, and that are not called unused yet."""
    used = {name for value in values for name in value.source.split(" + ")}
    return [leaf.name for leaf in match.source.leaves if leaf.name not in used and leaf.name not in plan.unused]


def _said(problem: Problem) -> str:
    facts = [f"{label} {text}" for label, text in (("expected", problem.expected), ("got", problem.got)) if text]
    return f"{problem.where}: {problem.what} ({'; '.join(facts)}){': ' + problem.remedy if problem.remedy else ''}"


def _values(match: Match, left: Left, plan: Plan) -> Iterator[Value]:
    source, target = match.source, match.target
    if target.spec is not None:
        for index, weights in enumerate(source.canonical()):
            yield from _recurrent(source, target, index, weights, left, plan)
    elif source.kind == SINGLE:
        (own,), (leaf,) = source.leaves, target.leaves
        words = "as it is"
        if source.framework != target.framework:
            words = f"as it is{f', axes {source.own_axes}' if source.own_axes else ', its axes were not looked at'}"
            if len(own.handle.shape) > 1:
                told = f"{own.name} -> {leaf.name}: written as it stands in the source, not transposed"
                plan.warnings.append(f"{told}{_axes_told(source)}")
        yield Value(leaf, own.handle.read(), own.name, words)
    else:
        yield from _leaf_values(source, target, left, plan)


def _axes_told(unit: Unit) -> str:
    if not unit.own_axes:
        return "; name layers of known classes on both sides and their axes are kept"
    return f" (axes {unit.own_axes}, gates in the source's order): your own forward has to take it so"


# ---- recurrent layers


def _recurrent(source: Unit, target: Unit, index: int, weights: Weights, left: Left, plan: Plan) -> Iterator[Value]:
    assert target.spec is not None
    assert target.layout is not None
    leaves = {leaf.role: leaf for leaf in target.leaves if leaf.direction == index}
    rows = {tensor.name: tensor for tensor in target.layout.tensors}
    single = replace(target.spec, directions=target.spec.directions[:1])
    members = {member for role in leaves for member in rows[role].members}
    filled = {}
    for member in ("bias_input", "peepholes"):
        if member in members and weights.held(member) is None and weights.held("bias_recurrent") is None:
            filled[member] = np.zeros(single.shape(member), weights.dtype)
    if "peepholes" in members and weights.held("peepholes") is None:
        filled["peepholes"] = np.zeros(single.shape("peepholes"), weights.dtype)
    ready = weights.with_held(**filled) if filled else weights
    if any(leaf.handle.dtype == "float64" for leaf in leaves.values()) and weights.dtype != np.float64:
        wide = {name: ready.member(name) for name in (*members, "bias_recurrent") if ready.held(name) is not None}
        ready = ready.with_held(**{name: value.astype(np.float64) for name, value in wide.items() if value is not None})
    packed = pack(target.layout, single, [ready])
    for role, array in packed.items():
        names = sources_of(source, rows[role], index)
        if role in leaves and ("target", leaves[role].name) not in left:
            if gone := [name for name in names.split(" + ") if ("source", name) in left]:
                plan.problems.append(_halved(gone[0], leaves[role]))
                continue
            words = words_of(source, target.layout, rows[role], weights)
            yield Value(leaves[role], array, "" if words == ZEROS else names, words)
        elif role not in leaves and array.any():
            _unused(plan, names.split(" + "), left, f"'{target.name}' has no {role}")


def sources_of(source: Unit, row: Tensor, index: int) -> str:
    """The source's tensors that a tensor of the target is made of."""
    assert source.layout is not None
    rows = {tensor.name: tensor for tensor in source.layout.tensors}
    found = [
        leaf.name
        for leaf in source.leaves
        if leaf.direction == index and set(rows[leaf.role].members) & set(row.members)
    ]
    return " + ".join(found)


def words_of(source: Unit, layout: Layout, row: Tensor, weights: Weights) -> str:
    """How a tensor of a recurrent layer is made, in words."""
    assert source.layout is not None
    assert source.spec is not None
    kind = source.spec.kind
    own = next((tensor for tensor in source.layout.tensors if set(tensor.members) & set(row.members)), None)
    given = [member for member in row.members if weights.held(member) is not None]
    if own is None or not given:
        return ZEROS
    words = []
    if len(row.members) > 1 and "source" not in row.axes and len(given) > 1:
        words.append("both biases summed in float64 and rounded once")
    elif set(own.members) != set(row.members):
        words.append(_rows(len(given)) if "source" in row.axes else _half(own, row))
    if _turned(own.axes, row.axes):
        words.append("transposed")
    before, after = source.layout.letters(own), layout.letters(row)
    if before != after and len(before) == len(after):
        gates = GATES[kind]
        named = dict(zip(source.layout.gates, source.layout.own_gates, strict=True))
        theirs = dict(zip(layout.gates, layout.own_gates, strict=True))
        shown = [" ".join(table[letter] for letter in letters) for letters, table in ((before, named), (after, theirs))]
        words.append(f"gates {shown[0]} -> {shown[1]}" if set(before) == set(gates) else "gates in the target's order")
    return ", ".join(words) or "as it is"


def _rows(given: int) -> str:
    return "stacked: the input's bias, the recurrence's" if given > 1 else "the input's bias; the recurrence's is zero"


def _half(own: Tensor, row: Tensor) -> str:
    several = len(own.members) > 1
    if several and "source" in own.axes:
        return f"its row {own.members.index(row.members[0])}"
    return "as the input's bias" if several else "as it is"


def _turned(before: str, after: str) -> bool:
    axes = [
        [word.strip("()") for word in axes.split() if word.strip("()") in ("input", "state", "hidden")]
        for axes in (before, after)
    ]
    return axes[0] != axes[1]


# ---- layers of the other table


def _leaf_values(source: Unit, target: Unit, left: Left, plan: Plan) -> Iterator[Value]:
    assert source.leaf_layout is not None
    assert target.leaf_layout is not None
    ours = {leaf.role: leaf for leaf in source.leaves}
    theirs = {leaf.role: leaf for leaf in target.leaves}
    shape = next(leaf.handle.shape for leaf in target.leaves)
    for row in target.leaf_layout.tensors:
        leaf = theirs.get(row.name)
        own = source.leaf_layout.tensor(row.member)
        given = ours.get(own.name) if own else None
        if given is not None and own is not None and leaf is None:
            _dropped(given, row, target, left, plan)
        if leaf is None or ("target", leaf.name) in left:
            continue
        if given is not None and ("source", given.name) in left:
            plan.problems.append(_halved(given.name, leaf))
        elif given is not None and own is not None:
            yield _moved(given, own, leaf, row)
        elif row.member in FILLED:
            value = FILLED[row.member]
            words = f"{value:g} everywhere: the source has no {row.member}"
            yield Value(leaf, np.full(leaf.handle.shape or shape, value, np.float32), "", words)
        elif row.member == COUNTER:
            plan.untouched.append(leaf.name)
            plan.warnings.append(f"{leaf.name} stays as it is: it counts training steps, the source has no such number")
        else:
            what = f"untouched: '{leaf.name}' of the target"
            plan.problems.append(Problem(what, f"'{source.name}'", row.member, "the source has none", _none(leaf)))
    rest = {row.name for row in source.leaf_layout.tensors if target.leaf_layout.tensor(row.member) is None}
    counters = [leaf.name for role, leaf in ours.items() if role in rest]
    plan.unused += counters
    plan.warnings += [
        f"{name} goes nowhere: it counts training steps, the target has no such number" for name in counters
    ]


def _halved(name: str, leaf: Leaf) -> Problem:
    """A tensor of the source is left out, and its place in the target is not."""
    what = f"'{name}' is left out, and nothing else goes to '{leaf.name}' of the target"
    return Problem(
        what, expected="both left out, or neither", got=f"'{leaf.name}' is to be written", remedy=_none(leaf)
    )


def _none(leaf: Leaf) -> str:
    return f'names={{"{leaf.name}": None}} leaves it as it is'


def _dropped(given: Leaf, row: LeafTensor, target: Unit, left: Left, plan: Plan) -> None:
    """A tensor of the source that the target's layer does not have."""
    idle = row.member == COUNTER or (row.member in FILLED and (given.handle.read() == FILLED[row.member]).all())
    if idle:
        plan.unused.append(given.name)
        plan.warnings.append(f"{given.name} goes nowhere: it changes no result")
        return
    _unused(plan, [given.name], left, f"'{target.name}' has no {row.name}")


def _unused(plan: Plan, names: list[str], left: Left, got: str) -> None:
    gone = [name for name in names if ("source", name) not in left]
    for name in gone:
        remedy = f'give the target\'s layer one, or names={{"{name}": None}} to leave it out'
        plan.problems.append(Problem(f"unused: '{name}' of the source", expected="a place", got=got, remedy=remedy))


def _moved(given: Leaf, own: LeafTensor, leaf: Leaf, row: LeafTensor) -> Value:
    array = given.handle.read()
    words = "as it is"
    if own.axes not in (row.axes, ANY) and own.axes.split() != row.axes.split() and row.axes:
        array = rearrange(array, f"{own.axes} -> {row.axes}")
        words = "transposed" if array.ndim == 2 else f"axes {own.axes} -> {row.axes}"
    return Value(leaf, array, given.name, words)


# ---- checks


def _add(plan: Plan, value: Value, match: Match) -> None:
    handle: Writable = value.leaf.handle
    array = value.array
    where = f"{value.source or 'constant'} -> {value.leaf.name}"
    if tuple(array.shape) != tuple(handle.shape):
        plan.problems.append(Problem("the shapes differ", where, str(tuple(handle.shape)), str(tuple(array.shape))))
        return
    if array.dtype.kind not in "fiub":
        plan.problems.append(Problem("a tensor of no plain numbers", where, "floats or integers", str(array.dtype)))
        return
    problem = None if match.target.kind == SINGLE else not_finite(array, f"{where}, index")
    if problem is not None:
        plan.problems.append(problem)
        return
    with np.errstate(over="ignore"):
        native = handle.native(array)
    kept = handle.plain(native)
    if array.size and not _same(array, kept):
        got = f"{array.dtype} numbers that {handle.dtype} does not hold, the first at index {_first(array, kept)}"
        remedy = (
            "make the target wider (torch: .double() or .float(), Keras: dtype=), transfer, then round it knowingly"
        )
        plan.problems.append(Problem("the numbers would be rounded", where, f"exactly {handle.dtype}", got, remedy))
        return
    plan.writes.append(Write(value.source, value.transform, value.leaf, native, match.how))


def _same(one: Array, other: Array) -> bool:
    if one.dtype.kind != other.dtype.kind and "f" not in (one.dtype.kind, other.dtype.kind):
        return bool((one.astype(np.int64) == other.astype(np.int64)).all())
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def _first(one: Array, other: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.argwhere(one != other)[0]) if one.shape else ()


def _check_tied(plan: Plan) -> None:
    """A tensor that the target uses twice gets one value."""
    by_key: dict[Any, Write] = {}
    for write in plan.writes:
        handle: Writable = write.leaf.handle
        other = by_key.setdefault(handle.key, write)
        if other is write or not math.prod(handle.shape):
            continue
        if handle.raw(other.native) != handle.raw(write.native):
            names = f"{other.source} -> {other.leaf.name}; {write.source} -> {write.leaf.name}"
            what = "one tensor of the target would get two different values"
            remedy = "untie the two in the target, or leave one of the source's out: names={...: None}"
            plan.problems.append(Problem(what, names, "equal values", "different ones", remedy))


def written(writes: list[Write], bytes_of: Callable[[bytes], str]) -> Mapping[int, str]:
    """Write everything, read it back, compare; restore the old values if anything fails.

    Returns:
        A hash of the bytes that the target holds, by the position of the write.

    Raises:
        ParityError: a tensor could not be written; the target is as it was.
    """
    before = [write.leaf.handle.held() for write in writes]
    hashes: dict[int, str] = {}
    current = ""
    try:
        for write in writes:
            current = write.leaf.name
            write.leaf.handle.write(write.native)
        for at, write in enumerate(writes):
            current, handle = write.leaf.name, write.leaf.handle
            raw = handle.raw(handle.held())
            _check_held(raw, handle.raw(write.native))
            hashes[at] = bytes_of(raw)
    except BaseException as error:
        lost = _restored(writes, before)
        if not isinstance(error, Exception):
            raise
        got = str(error).strip().split("\n")[0]
        if lost:
            what = "the target could not be written, and not all of its old values could be put back"
            remedy = "make the model anew; these tensors cannot be written"
            raise ParityError(what, ", ".join(lost), "a tensor that can be written", got, remedy) from error
        raise ParityError(
            "the target could not be written; it is as it was", current, "a tensor that can be written", got
        ) from error
    return hashes


def _restored(writes: list[Write], before: list[Any]) -> list[str]:
    """Put the old values back; the names of the tensors that do not hold them now."""
    lost = []
    for write, old in zip(writes, before, strict=True):
        handle: Writable = write.leaf.handle
        with contextlib.suppress(Exception):  # the others still get their old values
            handle.write(old)
        if handle.raw(handle.held()) != handle.raw(old):
            lost.append(write.leaf.name)
    return lost


def _check_held(raw: bytes, expected: bytes) -> None:
    if raw != expected:
        raise ParityError("what was written is not what the target holds")
