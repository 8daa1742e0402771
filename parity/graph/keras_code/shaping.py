"""The same numbers in another place: as layers where the user has such layers, else with indices and `keras.ops`.

The lengths of a symbolic value are not numbers: a shape with one unknown length says -1 for it, and a shape with several of them is
computed in a layer of the module's own, when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from parity.graph.graph import Node, Wire
from parity.graph.keras_code.giving import give_call, give_function, give_layer, tensors_of
from parity.graph.keras_code.spatial import pads_text
from parity.graph.keras_code.text import call, number, text, texts
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import (
    Concatenate,
    Expand,
    ExpandDims,
    Flip,
    Length,
    Pad,
    Range,
    Repeat,
    Reshape,
    Select,
    Size,
    Slice,
    Squeeze,
    Stack,
    Take,
    Transpose,
)


def write_transpose(writing: Writing, node: Node) -> None:
    """`layers.Permute` where the user has such a layer and the batch stays, else `ops.transpose`."""
    operation = node.operation
    assert isinstance(operation, Transpose)
    if node.source and operation.axes[0] == 0:
        _layer(writing, node, Made("Permute", (str(operation.axes[1:]), *writing.more(writing.title(node)))))
    else:
        give_call(writing, node, "ops.transpose", f"axes={tuple(operation.axes)}")


def write_reshape(writing: Writing, node: Node) -> None:
    """`layers.Reshape`, `Flatten` or `ops.reshape`."""
    operation = node.operation
    assert isinstance(operation, Reshape)
    known, given = writing.known(Wire(node.name)), writing.known(_first(node))
    if known is None:
        known = tuple(size if isinstance(size, int) and size >= 0 else None for size in operation.sizes)
    unknown = [axis for axis, length in enumerate(known) if length is None]
    sizes = [-1 if length is None else length for length in known]
    keeps = operation.sizes[:1] == (Length(0, 0),) and unknown[:1] == [0]
    if keeps and len(unknown) <= 2 and (node.source or len(unknown) == 2):
        name = writing.more(writing.title(node))
        flat = len(known) == 2 and known[1] is not None and given is not None and None not in given[1:]
        made = Made("Flatten", tuple(name)) if flat and node.source else Made("Reshape", (_tuple(sizes[1:]), *name))
        _layer(writing, node, made)
    elif len(unknown) < 2:
        give_call(writing, node, "ops.reshape", _tuple(sizes), only_first=True)
    else:
        _dynamic(writing, node, "Reshape", _by_length(operation.sizes, known))


def write_expand(writing: Writing, node: Node) -> None:
    """`ops.broadcast_to` where all lengths are known, `ops.repeat` where only known ones change, else a layer of the module."""
    operation = node.operation
    assert isinstance(operation, Expand)
    known, given = writing.known(Wire(node.name)), writing.known(_first(node))
    if known is not None and None not in known:
        give_call(writing, node, "ops.broadcast_to", _tuple(known), only_first=True)
        return
    if known is not None and given is not None and len(known) == len(given):
        changed = [
            axis for axis, (old, new) in enumerate(zip(given, known, strict=True)) if old == 1 and new not in (1, None)
        ]
        stays = [old is None or old == new for old, new in zip(given, known, strict=True)]
        if len(changed) == 1 and all(stay or axis in changed for axis, stay in enumerate(stays)):
            (axis,) = changed
            give_call(writing, node, "ops.repeat", str(known[axis]), f"axis={axis}", only_first=True)
            return
    known = known or tuple(size if isinstance(size, int) else None for size in operation.sizes)
    _dynamic(writing, node, "BroadcastTo", _by_length(operation.sizes, known))


def write_range(writing: Writing, node: Node) -> None:
    """`ops.arange` of a length that is known when the model runs."""
    operation = node.operation
    assert isinstance(operation, Range)
    known = writing.known(Wire(node.name))
    if known is not None and known[0] is not None:
        _constant_range(writing, node, known[0])
        return
    values = tensors_of(writing, node)
    writing.snippets["positions"] = None
    size = operation.size
    taken = values[size.input]
    options = [
        *([] if size.axis == 1 else [f"axis={size.axis}"]),
        *([] if size.times == 1 else [f"times={size.times}"]),
    ]
    made = Made("Positions", (*options, *writing.more("")), own=True)
    give_layer(writing, node, made, taken)


def _constant_range(writing: Writing, node: Node, length: int) -> None:
    target = writing.identifier(node)
    writing.lines.append(f"    {target} = ops.arange({length})")
    writing.give(node, Value(target))


def _by_length(sizes: Sequence[Size], known: Sequence[int | None]) -> str:
    """Sizes for a layer of the module: a number, or (input, axis) or (input, axis, times)."""
    shown = []
    for size, length in zip(sizes, known, strict=True):
        if length is not None:
            shown.append(str(length))
        elif isinstance(size, Length):
            times = f", {size.times}" if size.times != 1 else ""
            shown.append(f"({size.input}, {size.axis}{times})")
        else:
            shown.append(str(size))
    return f"({shown[0]},)" if len(shown) == 1 else f"({', '.join(shown)})"


def _dynamic(writing: Writing, node: Node, function: str, sizes: str) -> None:
    """A layer of the module's own that finds lengths when the model runs."""
    writing.snippets["lengths"] = None
    class_name = {"Reshape": "ReshapeLike", "BroadcastTo": "BroadcastLike"}[function]
    made = Made(class_name, (sizes, *writing.more(writing.title(node))), own=True)
    _layer(writing, node, made)


def write_expand_dims(writing: Writing, node: Node) -> None:
    """`ops.expand_dims`."""
    operation = node.operation
    assert isinstance(operation, ExpandDims)
    give_call(writing, node, "ops.expand_dims", f"axis={_axes(operation.axes)}")


def write_squeeze(writing: Writing, node: Node) -> None:
    """`ops.squeeze`."""
    operation = node.operation
    assert isinstance(operation, Squeeze)
    give_call(writing, node, "ops.squeeze", f"axis={_axes(operation.axes)}")


def write_flip(writing: Writing, node: Node) -> None:
    """`ops.flip`."""
    operation = node.operation
    assert isinstance(operation, Flip)
    give_call(writing, node, "ops.flip", f"axis={_axes(operation.axes)}")


def write_repeat(writing: Writing, node: Node) -> None:
    """`layers.UpSampling1D` where the user has such a layer, else `ops.repeat`."""
    operation = node.operation
    assert isinstance(operation, Repeat)
    if node.source and operation.axis == 1 and writing.rank(_first(node)) == 3:
        _layer(writing, node, Made("UpSampling1D", (str(operation.times), *writing.more(writing.title(node)))))
    else:
        give_call(writing, node, "ops.repeat", str(operation.times), f"axis={operation.axis}")


def write_concatenate(writing: Writing, node: Node) -> None:
    """`layers.Concatenate` where the user has such a layer, else `ops.concatenate`."""
    operation = node.operation
    assert isinstance(operation, Concatenate)
    values = tensors_of(writing, node)
    if node.source and operation.axis != 0 and len(values) > 1:
        axis = [] if operation.axis == -1 else [f"axis={operation.axis}"]
        _layer(writing, node, Made("Concatenate", (*axis, *writing.more(writing.title(node)))))
    else:
        _listed(writing, node, "ops.concatenate", operation.axis)


def write_stack(writing: Writing, node: Node) -> None:
    """`ops.stack`."""
    operation = node.operation
    assert isinstance(operation, Stack)
    _listed(writing, node, "ops.stack", operation.axis)


def write_take(writing: Writing, node: Node) -> None:
    """`ops.take`."""
    operation = node.operation
    assert isinstance(operation, Take)
    give_call(writing, node, "ops.take", f"axis={operation.axis}")


def write_slice(writing: Writing, node: Node) -> None:
    """An index; `ops.flip` for what runs backwards."""
    operation = node.operation
    assert isinstance(operation, Slice)
    rank = writing.rank(_first(node))
    value, target = writing.value(_first(node), tensor=True), writing.target(node)
    forward: dict[int, str] = {}
    backward: dict[int, str] = {}
    for axis, start, stop, step in operation.parts:
        at = axis + rank if axis < 0 and rank is not None else axis
        if step > 0:
            forward[at] = _part(start, stop, step)
        else:
            lowest, highest, every = _turned(start, stop, step)
            backward[at] = _part(None, None, every)
            forward[at] = _part(lowest, highest, 1)
    forward = {at: part for at, part in forward.items() if part != ":"}
    comment = writing.shape_comment(Wire(node.name))
    if forward or not backward:
        value = _indexed(writing, target, value, forward, "" if backward else comment)
    if backward:
        axes = _axes(tuple(backward))
        value = writing.function(target, call("ops.flip", str(value), f"axis={axes}"), [value], comment)
        stepped = {at: part for at, part in backward.items() if part != ":"}
        if stepped:
            value = _indexed(writing, target, value, stepped, comment)
    writing.give(node, value)


def _turned(start: int | None, stop: int | None, step: int) -> tuple[int | None, int | None, int]:
    """The part that a negative step runs through, from its lowest place to its highest, and the step as a positive one."""
    lowest = None if stop is None else stop + 1 if stop != -1 else 0
    highest = None if start is None or start == -1 else start + 1
    empty = stop == -1
    return (0, 0, -step) if empty else (lowest, highest, -step)


def write_select(writing: Writing, node: Node) -> None:
    """An index."""
    operation = node.operation
    assert isinstance(operation, Select)
    rank = writing.rank(_first(node))
    axis = operation.axis + rank if operation.axis < 0 and rank is not None else operation.axis
    value = writing.value(_first(node), tensor=True)
    comment = writing.shape_comment(Wire(node.name))
    writing.give(node, _indexed(writing, writing.target(node), value, {axis: str(operation.index)}, comment))


def _indexed(writing: Writing, target: str, value: Value, parts: dict[int, str], comment: str) -> Value:
    positive = {axis: part for axis, part in parts.items() if axis >= 0}
    words = [positive.get(axis, ":") for axis in range(max(positive, default=-1) + 1)]
    negative = {axis: part for axis, part in parts.items() if axis < 0}
    if negative:
        words += ["...", *(negative.get(axis, ":") for axis in range(min(negative), 0))]
    elif len(words) == 1:
        words.append("...")  # Keras takes no slice by itself
    line = f"    {target} = {value}[{', '.join(words or ['...'])}]"
    remark = f"  # {comment}" if comment else ""
    writing.lines += [line + remark] if len(line + remark) <= 88 else [f"    # {comment}", line]
    return Value(target, (writing.noted("get_item", [value]),))


def _part(start: int | None, stop: int | None, step: int) -> str:
    found = f"{'' if start is None else start}:{'' if stop is None else stop}"
    return found if step == 1 else f"{found}:{step}"


def write_pad(writing: Writing, node: Node) -> None:
    """`layers.ZeroPadding1D` and its kin where the user has such a layer, else `ops.pad`; edges are repeated by themselves."""
    operation = node.operation
    assert isinstance(operation, Pad)
    inner, ends = operation.pads[1:-1], (operation.pads[0], operation.pads[-1])
    zero = operation.mode == "constant" and operation.value == 0
    if zero and node.source and ends == ((0, 0), (0, 0)) and len(inner) in (1, 2, 3):
        made = Made(f"ZeroPadding{len(inner)}D", (pads_text(inner), *writing.more(writing.title(node))))
        _layer(writing, node, made)
        return
    if operation.mode == "edge":
        _write_edges(writing, node, operation)
        return
    pads = ", ".join(str((int(before), int(after))) for before, after in operation.pads)
    options = [f"mode={text(operation.mode)}"] if operation.mode != "constant" else []
    if operation.mode == "constant" and not zero:
        options.append(f"constant_values={number(float(operation.value))}")
    give_call(writing, node, "ops.pad", f"({pads}{',' if len(operation.pads) == 1 else ''})", *options)


def _write_edges(writing: Writing, node: Node, operation: Pad) -> None:
    value = writing.value(_first(node), tensor=True)
    target = writing.target(node)
    for axis, (before, after) in enumerate(operation.pads):
        parts: list[Value] = []
        for times, part in ((before, ":1"), (after, "-1:")):
            if times:
                index = ", ".join([":"] * axis + [part])
                edge = Value(f"{value}[{index}]", (writing.noted("get_item", [value]),))
                group = call("ops.repeat", str(edge), str(times), f"axis={axis}")
                parts.append(Value(str(group), (writing.noted("repeat", [edge]),)))
        if parts:
            both = [*parts[: 1 if before else 0], value, *parts[1 if before else 0 :]]
            group = call("ops.concatenate", texts([str(one) for one in both]), f"axis={axis}")
            value = writing.function(target, group, both)
    writing.give(node, value)


def _axes(axes: Sequence[int]) -> str:
    return str(axes[0]) if len(axes) == 1 else str(tuple(axes))


def _tuple(sizes: Sequence[int | None]) -> str:
    return str(tuple(int(size) for size in sizes if size is not None))


def _first(node: Node) -> Wire:
    assert node.inputs[0] is not None
    return node.inputs[0]


def _layer(writing: Writing, node: Node, made: Made) -> None:
    values = tensors_of(writing, node)
    give_layer(writing, node, made, *(values if made.own or made.class_name == "Concatenate" else values[:1]))


def _listed(writing: Writing, node: Node, function: str, axis: int) -> None:
    values = tensors_of(writing, node)
    give_function(writing, node, call(function, texts([str(value) for value in values]), f"axis={axis}"), *values)


__all__ = [
    "write_concatenate",
    "write_expand",
    "write_expand_dims",
    "write_flip",
    "write_pad",
    "write_range",
    "write_repeat",
    "write_reshape",
    "write_select",
    "write_slice",
    "write_squeeze",
    "write_stack",
    "write_take",
    "write_transpose",
]
