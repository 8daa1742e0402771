"""A change of weights in a framework's own lines, generated from the layout of its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.diagnosis.repair import (
    BlockTranspose,
    CudnnOrder,
    FeaturesReversed,
    Formula,
    GateOrder,
    PeepholeOrder,
    Reread,
    Scale,
    Shift,
)
from parity.diagnosis.repairs.slots import Slot
from parity.layouts import CANONICAL_AXES, GATES, PEEPHOLES


@dataclass(frozen=True)
class Dialect:
    """How arrays are taken apart and put together.

    Args:
        split: takes {array}, {count} and {axis}.
        join: takes {parts} and {axis}.
        flip: takes {array} and {axis}.
        read: lines that make {array} of {holder}.
        write: lines that put {array} back into {holder}.
        put: a line that replaces {target} by {value}.
    """

    split: str
    join: str
    flip: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    put: str


TORCH = Dialect(
    split="{array}.chunk({count}, dim={axis})",
    join="torch.cat([{parts}], dim={axis})",
    flip="{array}.flip({axis})",
    read=("{array} = {holder}",),
    write=(),
    put="{target}.copy_({value})",
)
KERAS = Dialect(
    split="np.split({array}, {count}, axis={axis})",
    join="np.concatenate([{parts}], axis={axis})",
    flip="np.flip({array}, axis={axis})",
    read=("{array} = np.array(keras.ops.convert_to_numpy({holder}))",),
    write=("{holder}.assign({array})",),
    put="{target} = {value}",
)
ONNX = Dialect(
    split=KERAS.split,
    join=KERAS.join,
    flip=KERAS.flip,
    read=("{array} = onnx.numpy_helper.to_array({holder}).copy()",),
    write=("{holder}.CopyFrom(onnx.numpy_helper.from_array({array}, {holder}.name))",),
    put=KERAS.put,
)


def lines_of(dialect: Dialect, slot: Slot, formula: Formula) -> list[str]:
    """A formula as lines.

    Args:
        dialect: of the framework.
        slot: where the array is.
        formula: what is done to it; not `Put`.

    Raises:
        ValueError: the framework's array does not say it in a few lines.

    Example:
        >>> from parity.diagnosis.repairs.slots import Tensors
        >>> from parity.layouts import LAYOUTS
        >>> from parity.recurrent import RecurrentSpec
        >>> tensors = Tensors(LAYOUTS["torch", "gru"], RecurrentSpec("gru", 3, 5), {(0, "bias_ih"): "suspect.bias_ih_l0"})
        >>> print("\\n".join(lines_of(TORCH, tensors.slot(0, "bias_input"), GateOrder((1, 0, 2)))))
        array = suspect.bias_ih_l0
        z, r, n = array.chunk(3, dim=0)
        array.copy_(torch.cat([r, z, n], dim=0))
    """
    whole = f"array{slot.part}"
    target = whole if slot.part or dialect.write == () else "array[...]"
    before, value = _value(dialect, slot, formula, whole)
    return [
        *(line.format(holder=slot.holder, array="array") for line in dialect.read),
        *before,
        dialect.put.format(target=_at(slot, formula, target), value=value),
        *(line.format(holder=slot.holder, array="array") for line in dialect.write),
    ]


def order_lines(dialect: Dialect, slots: Sequence[Slot], order: GateOrder) -> list[str]:
    """One order of the gates of several arrays, as a loop that reads and writes every tensor once.

    Args:
        dialect: of the framework.
        slots: where the arrays are.
        order: what is done to each.

    Raises:
        ValueError: not all of them can be treated alike.

    Example:
        >>> from parity.diagnosis.repairs.slots import Tensors
        >>> from parity.layouts import LAYOUTS
        >>> from parity.recurrent import RecurrentSpec
        >>> names = {(0, name): f"state['{name}_l0']" for name in ("weight_ih", "weight_hh")}
        >>> tensors = Tensors(LAYOUTS["torch", "gru"], RecurrentSpec("gru", 3, 5), names)
        >>> print("\\n".join(order_lines(TORCH, [tensors.slot(0, "kernel"), tensors.slot(0, "recurrent")], GateOrder((1, 0, 2)))))
        for array in (state['weight_ih_l0'], state['weight_hh_l0']):
            z, r, n = array.chunk(3, dim=0)
            array.copy_(torch.cat([r, z, n], dim=0))
    """
    places = [(slot.holder, slot.part) for slot in slots]
    said = {tuple(map(tuple, _ordered(slot, order.order))) for slot in slots}
    if len(set(places)) < len(places) or len(said) > 1:
        raise ValueError("these arrays are not in one order")
    ((there, wanted),) = said
    holders = list(dict.fromkeys(holder for holder, _ in places))
    listed = ", ".join(holders) + ("," if len(holders) == 1 else "")
    if dialect is KERAS:
        rows = {holder: [slot for slot in slots if slot.holder == holder] for holder in holders}
        if any(one[0].part and len(one) < len(one[0].tensor.members) for one in rows.values()):
            raise ValueError("a part of an array alone")
        axis, array = -1, "array"
        head = [
            f"for variable in ({listed}):",
            *(line.format(holder="variable", array="array") for line in dialect.read),
        ]
        last = "variable.assign({value})"
    elif any(slot.axis("gate") for slot in slots):
        raise ValueError("the gates are on several axes")
    elif dialect is TORCH and not any(part for _, part in places):
        axis, array, last = 0, "array", "array.copy_({value})"
        head = [f"for array in ({listed}):"]
    elif dialect is ONNX:
        axis, array, last = 0, "part", "part[...] = {value}"
        names = {holder: f"arrays[{number}]" for number, holder in enumerate(holders)}
        head = [
            f"kept = ({listed})",
            f"arrays = [{dialect.read[0].partition(' = ')[2].format(holder='tensor')} for tensor in kept]",
            f"for part in ({', '.join(names[holder] + part for holder, part in places)}):",
        ]
    else:
        raise ValueError("parts of arrays")
    split = dialect.split.format(array=array, count=len(there), axis=axis)
    value = dialect.join.format(parts=", ".join(wanted), axis=axis)
    first = next(number for number, line in enumerate(head) if line.startswith("for "))
    loop = [*head[first + 1 :], f"{', '.join(there)} = {split}", last.format(value=value)]
    lines = [*head[: first + 1], *(f"    {line}" for line in loop)]
    if dialect is ONNX:
        lines += [
            "for tensor, array in zip(kept, arrays):",
            f"    {dialect.write[0].format(holder='tensor', array='array')}",
        ]
    return lines


def swap_lines(dialect: Dialect, first: Slot, second: Slot) -> list[str]:
    """Two arrays of the same axes that change places.

    Args:
        dialect: of the framework.
        first, second: where they are.

    Raises:
        ValueError: their axes differ.
    """
    if [len(group) for group in first.groups] != [len(group) for group in second.groups]:
        raise ValueError(f"{first.axes} in place of {second.axes}")
    names = ("array", "array" if first.holder == second.holder else "other")
    ends = [f"{name}{slot.part or '[...]'}" for name, slot in zip(names, (first, second), strict=True)]
    copy = "clone" if dialect is TORCH else "copy"
    slots = (first,) if first.holder == second.holder else (first, second)
    read, write = [], []
    for name, slot in zip(names, slots, strict=False):
        read += [line.format(holder=slot.holder, array=name) for line in dialect.read]
        write += [line.format(holder=slot.holder, array=name) for line in dialect.write]
    return [*read, f"kept = {ends[0]}.{copy}()", f"{ends[0]} = {ends[1]}", f"{ends[1]} = kept", *write]


def right_lines(dialect: Dialect, slot: Slot, weights: str, members: Sequence[str]) -> list[str]:
    """The right numbers put into an array, read from the reference.

    Args:
        dialect: of the framework.
        slot: where the array is.
        weights: Python for the reference's weights of this direction.
        members: whose sum it is, none for zeros.
    """
    whole = f"array{slot.part}"
    target = whole if slot.part or dialect.write == () else "array[...]"
    lines = [line.format(holder=slot.holder, array="array") for line in dialect.read]
    if not members:
        lines.append(f"{whole}.zero_()" if dialect is TORCH else f"{target} = 0")
    else:
        lines.append(f"weights = {weights}")
        canonical = " + ".join(f"weights.{member}" for member in members)
        axes, letters = CANONICAL_AXES[slot.member], slot.letters
        table = PEEPHOLES if "peephole" in slot.tensor.axes else GATES
        order = [table[slot.spec.kind].index(letter) for letter in letters]
        if order != sorted(order):
            canonical = f"({canonical})[{order}]" if len(members) > 1 else f"{canonical}[{order}]"
        if axes != slot.axes:
            canonical = f'rearrange({canonical}, "{axes} -> {slot.axes}")'
        value = f"torch.tensor({canonical}, dtype=array.dtype)" if dialect is TORCH else canonical
        lines.append(dialect.put.format(target=target, value=value))
    return [*lines, *(line.format(holder=slot.holder, array="array") for line in dialect.write)]


def _at(slot: Slot, formula: Formula, target: str) -> str:
    """The part of the array that a formula changes."""
    if not isinstance(formula, Scale | Shift) or formula.gate is None:
        return target
    return _gate(slot, formula.gate)


def _gate(slot: Slot, gate: int) -> str:
    """The block of one gate, by its place in the canonical order."""
    axis = slot.axis("gate")
    place = slot.letters.index(GATES[slot.spec.kind][gate])
    size = slot.spec.hidden_size if "hidden" in slot.groups[axis] else 1
    wanted = f"{place * size}:{(place + 1) * size}"
    if not slot.part:
        return f"array[{', '.join([*[':'] * axis, wanted])}]"
    return f"array{slot.part}[{', '.join([*[':'] * axis, wanted])}]"


def _value(dialect: Dialect, slot: Slot, formula: Formula, whole: str) -> tuple[list[str], str]:
    """Lines before, and what belongs there."""
    if isinstance(formula, Scale | Shift):
        part = whole if formula.gate is None else _gate(slot, formula.gate)
        return [], f"{part} {'*' if isinstance(formula, Scale) else '+'} {formula.by!r}"
    if isinstance(formula, FeaturesReversed):
        return [], dialect.flip.format(array=whole, axis=slot.axis("input"))
    if isinstance(formula, Reread):
        return [], f"{whole}.reshape({_reread_shape(slot, formula)}).T{'.clone()' if dialect is TORCH else ''}"
    axis = slot.axis("gate", "peephole")
    count = len(slot.letters)
    split = dialect.split.format(array=whole, count=count, axis=axis)
    if isinstance(formula, GateOrder | PeepholeOrder):
        there, wanted = _ordered(slot, formula.order)
        return [f"{', '.join(there)} = {split}"], dialect.join.format(parts=", ".join(wanted), axis=axis)
    if not isinstance(formula, BlockTranspose | CudnnOrder) or len(slot.groups) != 2:
        raise ValueError(f"no lines for {formula} of {slot.axes}")
    if isinstance(formula, BlockTranspose):
        block = "gate.T"
    else:
        block = "gate.T.reshape(gate.shape)" if axis == 0 else "gate.reshape(gate.shape[::-1]).T"
    return [], dialect.join.format(parts=f"{block} for gate in {split}", axis=axis)


def _ordered(slot: Slot, order: Sequence[int]) -> tuple[list[str], list[str]]:
    """The framework's letters of what stands there now, and of what belongs there."""
    table = PEEPHOLES if "peephole" in slot.tensor.axes else GATES
    canonical = table[slot.spec.kind]
    own = dict(zip(slot.layout.gates, slot.layout.own_gates, strict=True))
    wanted = [own[letter] for letter in slot.letters]
    there = [own[canonical[list(order).index(canonical.index(letter))]] for letter in slot.letters]
    return there, wanted


def _reread_shape(slot: Slot, formula: Reread) -> str:
    """The transposed shape, if the array was reshaped into this framework's own."""
    axis = slot.axis("gate")
    canonical = GATES[slot.spec.kind]
    order = [canonical.index(letter) for letter in slot.letters]
    said = list(formula.order) or list(range(len(canonical)))
    if len(slot.groups) != 2 or said != order or (formula.lines == "gates") != (axis == 0):
        raise ValueError(f"another array than {slot.axes} was reshaped into")
    sizes = {**slot.spec.sizes}
    lengths = [1, 1]
    for number, group in enumerate(slot.groups):
        for name in group:
            lengths[number] *= sizes[name]
    return f"{lengths[1]}, {lengths[0]}"


__all__ = ["KERAS", "ONNX", "TORCH", "Dialect", "lines_of", "order_lines", "right_lines", "swap_lines"]
