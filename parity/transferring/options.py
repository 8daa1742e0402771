"""Options of layers that change their numbers and are no weights: said alike for every framework, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parity.cell import Cell
from parity.errors import Problem
from parity.layouts import SLOTS
from parity.leaf_layouts import IDLE, LEAF_OPTIONS, SPACE, LeafOption
from parity.transferring.units import Unit

_FIELDS = {"keras": "keras", "torch": "torch", "onnxruntime": "onnx"}


def options_from(kind: str, framework: str, said: Callable[[str], object]) -> dict[str, object]:
    """The options of a layer that are compared.

    Args:
        kind: of layer.
        framework: whose names `said` takes.
        said: gives the value of an option, None where nothing says it.

    Example:
        >>> options_from("conv1d", "torch", {"stride": (2,), "padding": (0,), "dilation": (1,), "groups": 1}.get)["stride"]
        2
    """
    found: dict[str, object] = {}
    for option in LEAF_OPTIONS.get(kind, ()):
        own = getattr(option, _FIELDS[framework])
        value = plain(said(own)) if own else None
        found[option.name] = IDLE.get(option.name) if value is None else value
    return found


def plain(value: Any) -> object:
    """An option's value; one number for several equal ones, a name for a serialized function.

    Example:
        >>> plain((1, 1)), plain({"class_name": "LeakyReLU", "config": {"name": "a", "negative_slope": 0.3}})
        (1, 'LeakyReLU(negative_slope=0.3)')
    """
    if isinstance(value, Mapping):
        config = value.get("config")
        if not isinstance(config, Mapping):
            return str(config if isinstance(config, str) else value.get("class_name"))
        said = [f"{name}={one}" for name, one in config.items() if name not in ("name", "trainable", "dtype")]
        return f"{value.get('class_name')}({', '.join(said)})"
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items[0] if items and all(item == items[0] for item in items) else tuple(items)
    return value


def differences(source: Unit, target: Unit) -> Iterator[tuple[bool, Problem]]:
    """Where two layers of one kind compute something else with the same weights, and whether that forbids to write them."""
    where = f"'{source.name}' -> '{target.name}'"
    yield from _flattened(source, target, where)
    if source.spec is not None and target.spec is not None:
        yield from _recurrent(source, target, where)
        return
    for option in LEAF_OPTIONS.get(target.kind, ()) if source.options else ():
        theirs, ours = source.options.get(option.name), target.options.get(option.name)
        if option.name == "axis":
            yield from _axes(source, target, where)
        elif theirs is None and option.name not in IDLE:
            if option.name == "eps" and source.framework != target.framework:
                got = f"not said by the source, {ours:g} in the target" if isinstance(ours, float) else str(ours)
                yield False, Problem(f"{option.name} may differ", where, "the value it was trained with", got)
        elif not _alike(option, theirs, ours, source, target):
            if option.name == "padding":
                theirs, ours = (_with_output(value, unit) for value, unit in ((theirs, source), (ours, target)))
            yield option.meaning, _differs(option, theirs, ours, where, target)


def _differs(option: LeafOption, theirs: object, ours: object, where: str, target: Unit, remedy: str = "") -> Problem:
    remedy = remedy or f"set {option.name} of '{target.name}' to what the source has"
    if option.name == "activation":
        remedy = (
            f"apply {theirs} behind it in your own forward" if ours == "linear" else "check where the source applies it"
        )
    elif option.name == "mask_zero":
        remedy = "leave padded steps out yourself (lengths or a mask)" if theirs else "set mask_zero=False"
    return Problem(f"{option.name} differs", where, f"{theirs} as in the source", str(ours), remedy)


def _alike(option: LeafOption, theirs: object, ours: object, source: Unit, target: Unit) -> bool:
    if option.name == "padding":
        return _padding(source) == _padding(target)
    if option.name == "output_padding":
        return True  # part of the padding
    if isinstance(theirs, float) and isinstance(ours, float):
        return abs(theirs - ours) <= 1e-6 * abs(theirs)  # Keras and files keep some of them in float32
    return theirs == ours


def _axes(source: Unit, target: Unit, where: str) -> Iterator[tuple[bool, Problem]]:
    """Axes counted from the last; those of a framework that has no such option are the last ones, or the channels."""
    said = [unit.options.get("axis") for unit in (source, target)]
    ways = [_axis(value) for value in said]
    if said[0] == said[1] or ways[0] == ways[1]:
        return
    if None in ways:
        got = f"{said[0]} -> {said[1]}, and the rank is not said"
        yield False, Problem("axis may differ", where, "one axis on both sides", got, "compare the outputs")
        return
    channels = target.kind in ("batch_norm", "group_norm") and source.framework != target.framework
    remedy = f"let '{target.name}' work along the same axis; axes are counted from the last"
    if channels:
        remedy = "torch has its channels in axis 1: give it the data so"
    yield not channels, _differs(LeafOption("axis"), ways[0], ways[1], where, target, remedy)


def _axis(value: object) -> object:
    """ "last" for one or several last axes; None where they are counted from the first and the rank is not known."""
    axes = [axis for axis in (value if isinstance(value, tuple) else (value,)) if isinstance(axis, int)]
    if not axes or any(axis >= 0 for axis in axes):
        return None
    return "last" if sorted(axes) == list(range(-len(axes), 0)) else value


def _flattened(source: Unit, target: Unit, where: str) -> Iterator[tuple[bool, Problem]]:
    """Keras flattens an image with its channels last, torch and ONNX with its channels first."""
    origins = [str(unit.context.get("origin") or unit.framework) for unit in (source, target)]
    unit = next((one for one in (source, target) if "flattened" in one.context), None)
    if unit is None or (origins[0] == "keras") == (origins[1] == "keras"):
        return
    shape = unit.context["flattened"]
    known = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
    axes = ", ".join(map(str, shape)) if isinstance(shape, tuple) and known else "height, width, channels"
    sizes = shape if isinstance(shape, tuple) and known else ("height", "width", "channels")
    last, names = len(sizes), [str(size) for size in sizes]
    first = ", ".join([names[-1], *names[:-1]])
    if origins[0] == "keras":
        order = ", ".join(map(str, (0, last, *range(1, last))))
        remedy = f"permute the columns: weight.view(-1, {axes}).permute({order}).reshape(weight.shape)"
        way = f"({axes}) -> ({first})"
    else:
        order = ", ".join(map(str, (*range(1, last), 0, last)))
        remedy = f"permute the rows: kernel.reshape({first}, -1).transpose({order}).reshape(kernel.shape)"
        way = f"({first}) -> ({axes})"
    what = "the inputs are a flattened image, and the two frameworks flatten its channels in another order"
    remedy += "; or permute the image back to channels last before it is flattened in torch"
    yield False, Problem(what, where, "one order of the axes", f"{way}; written in the source's order", remedy)


def _padding(unit: Unit) -> object:
    """What is put before and behind (a transposed convolution: cut off there), for each axis; the option itself where that is not known.

    Keras: `deconv_output_length` in `keras/src/backend/common/backend_utils.py`; SAME of TensorFlow puts the odd one behind.
    """
    value, axes = unit.options.get("padding"), [axis for space in SPACE.values() for axis in space.split()]
    kernels = [size for axis, size in unit.axes.items() if axis in axes]
    told = [_each(unit.options.get(name), len(kernels)) for name in ("stride", "dilation")]
    if not kernels or None in told:
        return value, unit.options.get("output_padding")
    cut = _each(unit.options.get("output_padding") or 0, len(kernels)) if unit.kind.endswith("transpose") else None
    given = _each(0 if value == "valid" else value, len(kernels))
    strides, dilations = told[0] or [], told[1] or []
    found = []
    for at, (kernel, stride, dilation) in enumerate(zip(kernels, strides, dilations, strict=True)):
        length = dilation * (kernel - 1) + 1
        ends: object = value
        if cut is not None and value in ("same", "valid") and unit.options.get("output_padding") is None:
            total = length - stride if value == "same" else min(length - stride, 0)
            ends = (max(total, 0) // 2, total - max(total, 0) // 2) if value == "same" else (0, total)
        elif given is not None and (cut is None or value != "same"):
            ends = (given[at], given[at] - (cut[at] if cut else 0))
        elif value == "same" and stride == 1 and cut is None:
            ends = ((length - 1) // 2, length - 1 - (length - 1) // 2)
        found.append(ends)
    return tuple(found)


def _with_output(padding: object, unit: Unit) -> object:
    """A padding in words, with what a transposed convolution adds."""
    more = unit.options.get("output_padding")
    return f"{padding} with output_padding {more}" if more else padding


def _each(value: object, count: int) -> list[int] | None:
    """An option's value for each axis; None where it is none."""
    if isinstance(value, int):
        return [value] * count
    whole = isinstance(value, tuple) and len(value) == count and all(isinstance(one, int) for one in value)
    return list(value) if isinstance(value, tuple) and whole else None


def _recurrent(source: Unit, target: Unit, where: str) -> Iterator[tuple[bool, Problem]]:
    assert source.spec is not None
    assert target.spec is not None
    kind = source.spec.kind
    for direction, theirs, ours in zip(source.spec.directions, source.cells, target.cells, strict=True):
        for what, got, expected in _cells(kind, theirs, ours):
            way = f"{where} ({direction})" if len(source.cells) > 1 else where
            remedy = "parity.to_torch(source), parity.to_keras(source) build a layer that computes it"
            yield True, Problem(f"the target computes another {what}", way, f"{expected} as in the source", got, remedy)
    if source.spec.directions != target.spec.directions:
        got = f"{' and '.join(source.spec.directions)} -> {' and '.join(target.spec.directions)}"
        backward = source if source.spec.directions[0] == "backward" else target
        remedy = "turn the input's steps" + (", and the output's" if backward.context.get("aligned") else "")
        yield False, Problem("the target goes through the steps the other way", where, "one direction", got, remedy)
    elif source.spec.directions == ("backward",) and bool(source.context.get("aligned")) != bool(
        target.context.get("aligned")
    ):
        turned = "last step first" if source.context.get("aligned") else "in the order of the steps"
        got = f"the target gives its sequence {turned}, the source does not"
        yield (
            False,
            Problem("the backward sequence comes out turned", where, "one order", got, "flip the output in time"),
        )
    if "masked" in source.context and target.framework != "keras":
        got = f"Masking '{source.context['masked']}' in the source, none in the target"
        yield (
            False,
            Problem("masked steps are not skipped", where, "one mask", got, "pack the sequences by their lengths"),
        )
    ways = [unit.context.get("batch_first") for unit in (source, target)]
    if None not in ways and ways[0] != ways[1]:
        got = f"{ways[0]} -> {ways[1]}"
        yield False, Problem("batch_first differs", where, "one order of the input's axes", got, "transpose the input")
    if source.merge_mode != target.merge_mode:
        got = f"{source.merge_mode} -> {target.merge_mode}"
        remedy = "merge the two outputs in your own forward as the source does"
        yield False, Problem("the two directions' outputs are merged differently", where, "one merge_mode", got, remedy)


def _cells(kind: Any, theirs: Cell, ours: Cell) -> Iterator[tuple[str, str, str]]:
    """What differs between two cells: what, the target's, the source's."""
    for slot, source, target in zip(SLOTS[kind], theirs.functions, ours.functions, strict=True):
        if source != target:
            yield f"{slot} function", str(target), str(source)
    for name in ("reset_after", "clip", "input_forget"):
        if getattr(theirs, name) != getattr(ours, name) and (name != "reset_after" or kind == "gru"):
            yield name, f"{name}={getattr(ours, name)}", f"{name}={getattr(theirs, name)}"
