"""Axes, slices, padding and repetition in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parity.graph.graph import Node, Wire
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
    normalized,
)
from parity.graph.torch_code.expressions import Expr, call, index, method
from parity.graph.torch_code.writer import Rows, Writer


def _wires(node: Node) -> list[Wire]:
    return [wire for wire in node.inputs if wire is not None]


def permuted(x: Expr, axes: Sequence[int]) -> Expr:
    """Axes in another order; two that change places are transposed.

    Example:
        >>> permuted(Expr("x"), (0, 2, 1)).text, permuted(Expr("x"), (0, 3, 1, 2)).text
        ('x.transpose(1, 2)', 'x.permute(0, 3, 1, 2)')
    """
    moved = [place for place, axis in enumerate(axes) if place != axis]
    if not moved:
        return x
    if len(moved) == 2:
        return method(x, "transpose", *map(str, moved))
    return method(x, "permute", *map(str, axes))


def transpose(w: Writer, node: Node) -> Expr:
    """A `Transpose` node."""
    assert isinstance(node.operation, Transpose)
    (x,) = w.take(*_wires(node))
    return permuted(x, node.operation.axes)


def _size_texts(w: Writer, sizes: Sequence[Size], wires: Sequence[Wire]) -> list[str]:
    found = []
    for size in sizes:
        if isinstance(size, Length):
            shape = w.shape(wires[size.input])
            length = None if shape is None else shape[size.axis]
            if isinstance(length, int):
                found.append(str(length * size.times))
                continue
            text = f"{w.name(wires[size.input]).text}.shape[{size.axis}]"
            found.append(text if size.times == 1 else f"{size.times} * {text}")
        else:
            found.append(str(size))
    return found


def reshape(w: Writer, node: Node) -> Expr:
    """A `Reshape` node: flatten or unflatten where that is all."""
    assert isinstance(node.operation, Reshape)
    wires = _wires(node)
    found = _flattened(w, wires[0], Wire(node.name))
    if found is not None:
        return found
    texts = _size_texts(w, node.operation.sizes, wires)
    dynamic = [place for place, text in enumerate(texts) if ".shape[" in text]
    if len(dynamic) == 1 and "-1" not in texts:
        texts[dynamic[0]] = "-1"
    (x,) = w.take(wires[0])
    return method(x, "reshape", *texts)


def _flattened(w: Writer, wire: Wire, result: Wire) -> Expr | None:
    """Axes made one or one made several between those that stay; None where it is neither."""
    if wire not in w.lengths or result not in w.lengths:
        return None
    # Each axis by its lengths at every trial: those that are alike at all of them stay.
    before, after = w.lengths[wire], w.lengths[result]
    shorter = min(len(before), len(after))
    start = next((place for place in range(shorter) if before[place] != after[place]), shorter)
    rest = range(shorter - start)
    end = next((place for place in rest if before[-1 - place] != after[-1 - place]), shorter - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if not old and not new:
        return w.take(wire)[0]
    if len(old) == 1 and len(new) > 1 and sum(len(set(lengths)) > 1 for lengths in new) <= 1:
        sizes = ", ".join("-1" if len(set(lengths)) > 1 else str(lengths[0]) for lengths in new)
        return method(w.take(wire)[0], "unflatten", "-1" if not end else str(start), f"({sizes})")
    if len(new) == 1 and len(old) > 1:
        last = [] if not end else [str(start + len(old) - 1)]
        return method(w.take(wire)[0], "flatten", *([str(start)] if start or last else []), *last)
    return None


def expand(w: Writer, node: Node) -> Expr:
    """An `Expand` node."""
    assert isinstance(node.operation, Expand)
    wires = _wires(node)
    texts = _size_texts(w, node.operation.sizes, wires)
    own = w.shape(wires[0])
    if own is not None:
        added = len(texts) - len(own)  # axes whose length torch cannot keep, for the input has none
        shape = w.shape(Wire(node.name)) or ()
        kept = ["-1" if a == b else text for a, b, text in zip(own, shape[added:], texts[added:], strict=True)]
        texts = [*("1" if text == "-1" else text for text in texts[:added]), *kept]
    (x,) = w.take(wires[0])
    return method(x, "expand", *texts)


def range_(w: Writer, node: Node) -> Expr:
    """A `Range` node."""
    assert isinstance(node.operation, Range)
    wires = _wires(node)
    (text,) = _size_texts(w, [node.operation.size], wires)
    device = f"device={w.name(wires[node.operation.size.input]).text}.device"
    return call("torch.arange", text, device)


def expand_dims(w: Writer, node: Node) -> Expr:
    """An `ExpandDims` node."""
    assert isinstance(node.operation, ExpandDims)
    (wire,) = _wires(node)
    axes = node.operation.axes
    rows = w.rows.get(wire)
    if axes == (0,) and rows is not None and rows.count == 1:
        return rows.array
    (x,) = w.take(wire)
    rank = w.rank(wire)
    places = sorted(normalized(axis, rank + len(axes)) for axis in axes) if rank is not None and len(axes) > 1 else axes
    for axis in places:
        x = method(x, "unsqueeze", str(axis))
    return x


def squeeze(w: Writer, node: Node) -> Expr:
    """A `Squeeze` node."""
    assert isinstance(node.operation, Squeeze)
    (x,) = w.take(*_wires(node))
    axes = node.operation.axes
    return method(x, "squeeze", str(axes[0]) if len(axes) == 1 else str(axes))


def concatenate(w: Writer, node: Node) -> Expr:
    """A `Concatenate` node."""
    assert isinstance(node.operation, Concatenate)
    return _listed("torch.cat", w.take(*_wires(node)), node.operation.axis)


def stack(w: Writer, node: Node) -> Expr:
    """A `Stack` node: the array itself where its rows are stacked again."""
    assert isinstance(node.operation, Stack)
    wires = _wires(node)
    array = whole_rows(w, wires) if node.operation.axis == 0 else None
    return array or _listed("torch.stack", w.take(*wires), node.operation.axis)


def whole_rows(w: Writer, wires: Sequence[Wire]) -> Expr | None:
    """The array whose rows these values are, all of them and in its order.

    Example:
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> graph = build.graph({"y": build.input("x", ("batch",))})
        >>> whole_rows(Writer(graph, {"x": "x"}), [Wire("x")]) is None
        True
    """
    found = [w.rows.get(wire) for wire in wires]
    first = found[0]
    if first is None or first.count != len(found):
        return None
    same = all(one is not None and one.array == first.array and one.index == place for place, one in enumerate(found))
    return first.array if same else None


def _listed(function: str, values: Sequence[Expr], axis: int) -> Expr:
    made = call(function, f"[{', '.join(one.text for one in values)}]", *([] if axis == 0 else [f"dim={axis}"]))
    return Expr(made.text, made.level, made.weight + sum(one.weight for one in values))


def _place(w: Writer, wire: Wire, axis: int, what: str) -> list[str]:
    """The subscripts that take a part of one axis."""
    rank = w.rank(wire)
    if axis < 0 and rank is not None:
        axis += rank
    if axis < 0:
        return ["...", what, *([":"] * (-axis - 1))]
    if rank is not None and rank > 2 and axis == rank - 1:
        return ["...", what]
    return [*([":"] * axis), what]


def select(w: Writer, node: Node) -> Expr:
    """A `Select` node."""
    assert isinstance(node.operation, Select)
    (wire,) = _wires(node)
    shape, axis = w.shape(wire), node.operation.axis
    count = None if shape is None else shape[0]
    if isinstance(count, int) and shape is not None and normalized(axis, len(shape)) == 0:
        array = w.name(wire)
        w.rows[Wire(node.name)] = Rows(array, normalized(node.operation.index, count), count)
    (x,) = w.take(wire)
    return index(x, *_place(w, wire, axis, str(node.operation.index)))


def slice_(w: Writer, node: Node) -> Expr:
    """A `Slice` node; torch has no negative steps."""
    assert isinstance(node.operation, Slice)
    (wire,) = _wires(node)
    (x,) = w.take(wire)
    turned = [axis for axis, _, _, step in node.operation.parts if step < 0]
    rank = w.rank(wire)
    parts = {
        normalized(axis, rank) if rank is not None else axis: _range(start, stop, step)
        for axis, start, stop, step in node.operation.parts
    }
    if len(parts) == 1:
        ((axis, what),) = parts.items()
        x = x if what == ":" else index(x, *_place(w, wire, axis, what))
    elif all(axis >= 0 for axis in parts):
        x = index(x, *(parts.get(axis, ":") for axis in range(max(parts) + 1)))
    else:
        for axis, what in parts.items():
            x = index(x, *_place(w, wire, axis, what))
    if not turned:
        return x
    x = method(x, "flip", *_axes(turned))
    for axis, _, _, step in node.operation.parts:
        if step < -1:
            x = index(x, *_place(w, wire, axis, f"::{-step}"))
    return x


def _range(start: int | None, stop: int | None, step: int) -> str:
    """What stands in a subscript; of a negative step the places that it may take, in their own order.

    Example:
        >>> _range(1, None, 1), _range(None, -2, 3), _range(-1, 0, -1), _range(None, None, -2)
        ('1:', ':-2:3', '1:', ':')
    """
    if step < 0:
        first = None if stop is None else stop + 1 if stop != -1 else None
        last = None if start is None or start == -1 else start + 1
        start, stop, step = (1 << 62 if stop == -1 else first), last, 1
    texts = ["" if place is None else str(place) for place in (start, stop)]
    return ":".join(texts if step == 1 else [*texts, str(step)])


def _axes(axes: Sequence[int]) -> list[str]:
    return [str(axes[0])] if len(axes) == 1 else [f"({', '.join(map(str, axes))})"]


def take(w: Writer, node: Node) -> Expr:
    """A `Take` node."""
    assert isinstance(node.operation, Take)
    wire, places = _wires(node)
    x, numbers = w.take(wire, places)
    found = index(x, *_place(w, wire, node.operation.axis, numbers.text))
    return Expr(found.text, found.level, found.weight + numbers.weight)


def flip(w: Writer, node: Node) -> Expr:
    """A `Flip` node."""
    assert isinstance(node.operation, Flip)
    (x,) = w.take(*_wires(node))
    return method(x, "flip", *_axes(node.operation.axes))


def repeat(w: Writer, node: Node) -> Expr:
    """A `Repeat` node."""
    assert isinstance(node.operation, Repeat)
    (x,) = w.take(*_wires(node))
    return method(x, "repeat_interleave", str(node.operation.times), f"dim={node.operation.axis}")


def padded(x: Expr, pads: Sequence[tuple[int, int]], value: str = "") -> Expr:
    """More places before and after each of the last axes, with zeros unless told otherwise.

    Example:
        >>> padded(Expr("x"), [(0, 0), (2, 0)]).text, padded(Expr("x"), [(1, 1), (0, 2)], "-math.inf").text
        ('F.pad(x, (2, 0))', 'F.pad(x, (0, 2, 1, 1), value=-math.inf)')
    """
    first = next((place for place, pad in enumerate(pads) if pad != (0, 0)), None)
    if first is None:
        return x
    numbers = ", ".join(str(number) for pad in reversed(pads[first:]) for number in pad)
    return call("F.pad", x, f"({numbers})", *([f"value={value}"] if value else []))


def pad(w: Writer, node: Node) -> Expr:
    """A `Pad` node."""
    assert isinstance(node.operation, Pad)
    (wire,) = _wires(node)
    (x,) = w.take(wire)
    pads, mode, value = node.operation.pads, node.operation.mode, node.operation.value
    if mode == "constant":
        return padded(x, pads, "" if value == 0 else repr(float(value)))
    # torch pads so only the last axes, and wants one or two before them.
    axes = [axis for axis, one in enumerate(pads) if one != (0, 0)]
    if not axes:
        return x
    order = [axis for axis in range(len(pads)) if axis not in axes] + axes
    count = min(len(pads) - 1, max(len(axes), len(pads) - 2))
    if count > 3 or len(axes) > count:
        w.refuse(f"torch has no padding by {mode} of these axes", node, got=str(pads))
    numbers = ", ".join(str(number) for axis in reversed(order[-count:]) for number in pads[axis])
    name = {"reflect": "reflect", "edge": "replicate"}[mode]
    made = call("F.pad", permuted(x, order), f"({numbers})", f'mode="{name}"')
    return permuted(made, [order.index(axis) for axis in range(len(pads))])


SHAPING_RENDERERS: dict[type, Callable[[Writer, Node], Expr]] = {
    Concatenate: concatenate,
    Expand: expand,
    ExpandDims: expand_dims,
    Flip: flip,
    Pad: pad,
    Range: range_,
    Repeat: repeat,
    Reshape: reshape,
    Select: select,
    Slice: slice_,
    Squeeze: squeeze,
    Stack: stack,
    Take: take,
    Transpose: transpose,
}

__all__ = ["SHAPING_RENDERERS", "padded", "permuted", "whole_rows"]
