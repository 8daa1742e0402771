"""Convolutions and pooling: paddings by name where Keras's means the same for every length, else a layer that pads before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from parity.deferred import Blocks, blocks_of
from parity.errors import Problem
from parity.graph.graph import Node, Wire
from parity.graph.keras_code.text import call, sizes, text
from parity.graph.keras_code.weighted import arrays_of
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import Convolution, Padding, Pooling, paddings
from parity.graph.operations.convolution import spatial_axes

Named = Literal["valid", "same", "causal"]


@dataclass(frozen=True)
class Padded:
    """How Keras says a padding.

    Args:
        name: the option of the layer.
        before: what another layer adds before it, (before, after) for each spatial axis; none if nothing.
    """

    name: Named
    before: tuple[tuple[int, int], ...] = ()


def padded(
    padding: Padding,
    windows: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    causal: bool = False,
) -> Padded:
    """A padding as Keras says it.

    Example:
        >>> padded(((1, 1),), (3,), (1,), (1,)), padded(((2, 0),), (3,), (1,), (1,), causal=True)
        (Padded(name='same', before=()), Padded(name='causal', before=()))
        >>> padded(((1, 1),), (3,), (2,), (1,))
        Padded(name='valid', before=((1, 1),))
    """
    if padding == "same":
        return Padded("same")
    totals = [(window - 1) * dilation for window, dilation in zip(windows, dilations, strict=True)]
    if not any(map(any, padding)):
        return Padded("valid")
    if all(stride == 1 for stride in strides) and padding == tuple((n // 2, n - n // 2) for n in totals):
        return Padded("same")
    if causal and padding == ((totals[0], 0),):
        return Padded("causal")
    return Padded("valid", tuple(padding))


def fuses(operation: Convolution) -> bool:
    """Whether a convolution becomes one layer, so that it may take an activation."""
    return operation.channels_last and not _splits(operation)


def _splits(operation: Convolution) -> bool:
    """Whether Keras has not both strides and dilations in one layer, or not these strides."""
    dilated = any(one > 1 for one in operation.dilations)
    strided = any(one > 1 for one in operation.strides)
    unlike = _depthwise(operation) and len(set(operation.strides)) > 1
    return (dilated and strided) or unlike


def _depthwise(operation: Convolution) -> bool:
    return operation.groups > 1 and operation.groups == operation.input_size and len(operation.sizes) < 3


def write_convolution(writing: Writing, node: Node, activation: str = "") -> None:
    """`layers.Conv1D`, `Conv2D` or one of their depthwise kin, with an activation that follows it."""
    layer = node.operation
    assert isinstance(layer, Convolution)
    how = _padding_of(writing, node, layer, _splits(layer), causal=not _depthwise(layer))
    strides = (1,) * len(layer.strides) if _splits(layer) else layer.strides
    arguments: list[str] = [] if _depthwise(layer) else [str(layer.output_size)]
    arguments.append(sizes(layer.sizes))
    if _depthwise(layer) and layer.output_size != layer.groups:
        arguments.append(f"depth_multiplier={layer.output_size // layer.groups}")
    arguments += [f"strides={sizes(strides)}"] if any(one > 1 for one in strides) else []
    arguments += [f"padding={text(how.name)}"] if how.name != "valid" else []
    arguments += [f"dilation_rate={sizes(layer.dilations)}"] if any(one > 1 for one in layer.dilations) else []
    arguments += [f"groups={layer.groups}"] if layer.groups > 1 and not _depthwise(layer) else []
    arguments += [f"activation={activation}"] if activation else []
    arguments += [] if layer.held("bias") is not None else ["use_bias=False"]
    class_name = f"{'Depthwise' if _depthwise(layer) else ''}Conv{len(layer.sizes)}D"
    made = Made(class_name, (*arguments, *writing.more(writing.title(node))), {"vars": _blocks(layer)})
    value = _before(writing, node, layer.channels_last)
    if how.before:
        value = _zeros(writing, node, value, how.before)
    last = not _splits(layer) and layer.channels_last
    comment = writing.shape_comment(Wire(node.name)) if last else ""
    value = writing.layer(node, made, value, comment=comment)
    if _splits(layer) and any(one > 1 for one in layer.strides):
        steps = ", ".join(f"::{stride}" if stride > 1 else ":" for stride in layer.strides)
        value = _through(writing, value, f"[:, {steps}]")
    writing.give(node, _after(writing, node, value, layer.channels_last))


def _blocks(layer: Convolution) -> list[Blocks]:
    if not _depthwise(layer):
        return arrays_of(layer, "kernel", "bias")
    shape = (*layer.sizes, layer.groups, layer.output_size // layer.groups)
    held = layer.kernel.reshape(shape)
    return [blocks_of(held), *arrays_of(layer, "bias")]


def write_pooling(writing: Writing, node: Node) -> None:
    """`layers.MaxPooling1D`, `AveragePooling2D` and their kin."""
    layer = node.operation
    assert isinstance(layer, Pooling)
    if any(one > 1 for one in layer.dilations):
        problem = Problem("Keras pools no dilated windows", f"layer '{layer.name}'", "dilation 1", str(layer.dilations))
        writing.problems.append(problem)
        return
    counted = layer.function == "average" and layer.counts_padding
    how = _padding_of(writing, node, layer, counted and layer.padding == "same")
    if counted and how.name == "same":
        pads = paddings(
            _explicit(layer.padding, layer.sizes), (1,) * len(layer.sizes), layer.sizes, layer.strides, layer.dilations
        )
        how = Padded("valid", pads)
    name = f"{'Max' if layer.function == 'max' else 'Average'}Pooling{len(layer.sizes)}D"
    arguments = [sizes(layer.sizes)]
    arguments += [f"strides={sizes(layer.strides)}"] if layer.strides != layer.sizes else []
    arguments += [f"padding={text(how.name)}"] if how.name != "valid" else []
    made = Made(name, (*arguments, *writing.more(writing.title(node))))
    value, comment = _before(writing, node, layer.channels_last), writing.shape_comment(Wire(node.name))
    if how.before and layer.function == "max":
        value = _pad(writing, node, value, how.before, 'constant_values=float("-inf")')
    elif how.before and not counted:
        value = _share(writing, node, made, value, how)
    elif how.before:
        value = _zeros(writing, node, value, how.before)
    value = writing.layer(node, made, value, comment=comment if layer.channels_last else "")
    if how.before and layer.function == "average" and not counted:
        share = Value(f"{writing.identifier(node)}_share", writing.values[_share_wire(node)].calls)
        value = writing.function(value.text, call("ops.divide", value.text, share.text), [value, share])
    writing.give(node, _after(writing, node, value, layer.channels_last))


def _explicit(padding: Padding, windows: Sequence[int]) -> Padding:
    if padding != "same":
        return padding
    return tuple(((window - 1) // 2, window - 1 - (window - 1) // 2) for window in windows)


def _share_wire(node: Node) -> Wire:
    return Wire(f"{node.name} share", -1)


def _share(writing: Writing, node: Node, made: Made, value: Value, how: Padded) -> Value:
    """Averages leave the padding out: how large a share of each window is none of it, and x with zeros around it."""
    name = writing.variable(f"{writing.identifier(node)}_share")
    ones = writing.function(name, call("ops.ones_like", str(value)), [value])
    axes = _zeros(writing, node, ones, how.before, name)
    plain = Made(made.class_name, tuple(one for one in made.arguments if not str(one).startswith("name=")))
    writing.values[_share_wire(node)] = writing.layer(node, plain, axes, target=name, key="share")
    return _zeros(writing, node, value, how.before)


def _padding_of(
    writing: Writing, node: Node, layer: Convolution | Pooling, explicit: bool, causal: bool = False
) -> Padded:
    """The padding of a layer; `explicit` if it has to be known before the layer runs."""
    single = causal and len(layer.sizes) == 1
    found = padded(layer.padding, layer.sizes, layer.strides, layer.dilations, single)
    if not explicit or layer.padding != "same":
        return (
            found
            if not explicit
            else Padded("valid", layer.padding if layer.padding != "same" and any(map(any, layer.padding)) else ())
        )
    known = writing.known(node.inputs[0]) if node.inputs[0] else None
    axes = spatial_axes(len(layer.sizes) + 2, layer.channels_last)
    lengths: list[int | None] = [known[axis] if known else None for axis in axes]
    if all(one == 1 for one in layer.strides):
        lengths = [one or 1 for one in lengths]
    if any(one is None for one in lengths):
        where, got = f"layer '{layer.name}'", "lengths that differ from call to call"
        remedy = "give the model inputs of one length, or pad explicitly"
        writing.problems.append(
            Problem("this 'same' padding depends on lengths that are not known", where, "known lengths", got, remedy)
        )
        return Padded("same")
    pads = paddings("same", tuple(n or 1 for n in lengths), layer.sizes, layer.strides, layer.dilations)
    return Padded("valid", pads if any(map(any, pads)) else ())


def _zeros(writing: Writing, node: Node, value: Value, pads: Sequence[tuple[int, int]], target: str = "") -> Value:
    made = Made(f"ZeroPadding{len(pads)}D", (pads_text(pads),))
    return writing.layer(node, made, value, target=target or writing.target(node), key="padding")


def _pad(writing: Writing, node: Node, value: Value, pads: Sequence[tuple[int, int]], *options: str) -> Value:
    around = ", ".join(str(pad) for pad in ((0, 0), *pads, (0, 0)))
    group = call("ops.pad", str(value), f"({around})", *options)
    return writing.function(writing.target(node), group, [value])


def pads_text(pads: Sequence[tuple[int, int]]) -> str:
    """The argument of `layers.ZeroPadding1D` or `ZeroPadding2D`.

    Example:
        >>> pads_text([(1, 1)]), pads_text([(2, 0)]), pads_text([(1, 1), (1, 1)]), pads_text([(1, 1), (0, 2)])
        ('1', '(2, 0)', '1', '((1, 1), (0, 2))')
    """
    if len(set(pads)) == 1 and pads[0][0] == pads[0][1]:
        return str(pads[0][0])
    return str(tuple(pads[0])) if len(pads) == 1 else str(tuple(map(tuple, pads)))


def _through(writing: Writing, value: Value, index: str) -> Value:
    writing.lines.append(f"    {value} = {value}{index}")
    return Value(value.text, (writing.noted("get_item", [value]),))


def _before(writing: Writing, node: Node, channels_last: bool) -> Value:
    assert node.inputs[0] is not None
    value = writing.value(node.inputs[0], tensor=True)
    if channels_last:
        return value
    rank = len(node.operation.sizes) + 2  # type: ignore[union-attr]
    axes = (0, *range(2, rank), 1)
    return writing.function(writing.target(node), call("ops.transpose", str(value), f"axes={axes}"), [value])


def _after(writing: Writing, node: Node, value: Value, channels_last: bool) -> Value:
    if channels_last:
        return value
    rank = len(node.operation.sizes) + 2  # type: ignore[union-attr]
    axes = (0, rank - 1, *range(1, rank - 1))
    comment = writing.shape_comment(Wire(node.name))
    return writing.function(value.text, call("ops.transpose", value.text, f"axes={axes}"), [value], comment)


__all__ = ["Padded", "fuses", "padded", "pads_text", "write_convolution", "write_pooling"]
