"""Pooling and upsampling."""

from __future__ import annotations

from typing import Any

from parity.frameworks.torch.whole.operator_call import Call, Refused, operator
from parity.frameworks.torch.whole.values import Value
from parity.graph.operations import Pooling


def _several(value: Any, axes: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    if not numbers:
        return default
    return tuple(int(number) for number in (numbers * axes if len(numbers) == 1 else numbers))


@operator("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
def pool(call: Call) -> Value:
    """The largest or the mean value of every window."""
    axes = int(call.operator[-2])
    largest = call.operator.startswith("max")
    sizes = _several(call["kernel_size"], axes)
    strides = _several(call.get("stride", []), axes, sizes)
    pads = _several(call["padding"], axes)
    dilations = _several(call.get("dilation", 1), axes)
    if call.get("ceil_mode"):
        _check_ceiling(call, axes, sizes, strides, pads, dilations)
    if call.get("divisor_override") is not None:
        raise Refused("an average pooling with a divisor of its own", "divisor_override=None")
    counts = bool(call.get("count_include_pad", False)) and any(pads)
    layer = Pooling(
        call.build.unique(call.name),
        "max" if largest else "average",
        sizes,
        strides,
        dilations,
        tuple((pad, pad) for pad in pads),
        channels_last=False,
        counts_padding=counts,
    )
    return call.build.call(layer, call.wire("self" if "self" in call.given else "input"))


def _check_ceiling(call: Call, axes: int, *options: tuple[int, ...]) -> None:
    """A last window beyond the end is not kept; where the windows fit, rounding up changes nothing."""
    lengths = call.shape_of("self")[-axes:]
    for length, size, stride, pad, dilation in zip(lengths, *options, strict=True):
        fits = isinstance(length, int) and (length + 2 * pad - (size - 1) * dilation - 1) % stride == 0
        if stride != 1 and not fits:
            raise Refused("a pooling whose last window reaches beyond the end", "ceil_mode=False", f"length {length}")


@operator("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive(call: Call) -> Value:
    """To one value, to every value, or in windows of one size."""
    build, x, shape = call.build, call.wire("self"), call.shape_of("self")
    count = int(call.operator[-2])
    wanted, first = call.shape[-count:], len(shape) - count
    whole = [first + place for place, size in enumerate(wanted) if size == 1 and shape[first + place] != 1]
    sizes = []
    for place, size in enumerate(wanted):
        length = shape[first + place]
        if first + place in whole or size == length:
            sizes.append(1)
        elif isinstance(length, int) and isinstance(size, int) and length % size == 0:
            sizes.append(length // size)
        else:
            what = "an adaptive pooling whose windows differ in size"
            raise Refused(what, "one value, or a length that is a multiple of it", f"{length} to {size}")
    function = "mean" if "avg" in call.operator else "max"
    if any(size > 1 for size in sizes):
        own = "average" if function == "mean" else "max"
        pads = ((0, 0),) * count
        pooling = Pooling(build.unique(call.name), own, tuple(sizes), tuple(sizes), (1,) * count, pads, False)  # type: ignore[arg-type]
        x = build.call(pooling, x)
    if whole:
        x = build.reduce("mean" if function == "mean" else "max", x, whole, keepdims=True, name=call.name)
    return (x, None) if "max" in call.operator else x


def _times(new: Any, old: Any) -> int:
    """How many times one length is the other; 0 for no whole number."""
    if isinstance(new, int) and isinstance(old, int):
        return 0 if new % old else new // old
    share = new / old
    return int(share) if getattr(share, "is_Integer", False) else 0


@operator("upsample_nearest1d", "upsample_nearest2d")
def upsample(call: Call) -> Value:
    """Every place several times."""
    name = "input" if "input" in call.given else "self"
    build, x, shape, old = call.build, call.wire(name), call.shape, call.shape_of(name)
    for axis in range(2, len(shape)):
        times = _times(shape[axis], old[axis])
        if times < 1:
            got = f"{old[axis]} to {shape[axis]}"
            raise Refused("an upsampling by no whole number", "a whole number of times", got)
        if times > 1:
            x = build.repeat(x, axis, times, name=call.name)
    return x


__all__ = ["pool"]
