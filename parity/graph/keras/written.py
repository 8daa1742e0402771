"""Layers of the modules that parity writes for Keras, read back from models that were saved with them.

What they compute is in `parity.graph.keras_code.snippets`; the cells among them are read as those of Keras (`recurrent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parity.errors import FormatError
from parity.graph.keras.call import Call, Outputs, Reader
from parity.graph.operations import Constant, Length, Range, Size
from parity.graph.reading_notes import LimitedAxis
from parity.network.keras.options import Option, shown

_INERT = Option()
_MOST_AXES = 32


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _parameter(call: Call) -> Outputs:
    """A weight by itself; what the layer takes does not matter."""
    shape = call.config.get("shape")
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_AXES or not all(_whole(one, 0) for one in shape):
        raise FormatError("shape is no shape", call.where, "a list of lengths", shown(shape))
    (value,) = call.weights(("value", tuple(shape)))
    trained = call.config.get("trainable", True) is not False
    return call.once("wire", lambda: call.build.call(Constant(call.build.unique(call.name), value, trained)))


def _positions(call: Call) -> Outputs:
    """The places of an axis."""
    axis, times, rank = call.whole("axis", 1), call.whole("times", 1), call.rank()
    if not -rank <= axis < rank:
        raise FormatError("no such axis", call.where, f"an axis of {rank}", str(axis))
    if times < 1:
        raise FormatError("times is no number of times", call.where, "a whole number above zero", str(times))
    return call.build.call(Range(call.build.unique(call.name), Length(0, axis % rank, times)), call.wire())


def _sizes(call: Call) -> tuple[Size, ...]:
    """The sizes that a layer reshapes or broadcasts to.

    Raises:
        FormatError: something else.
    """
    given, ranks = call.config.get("sizes"), [call.rank(wire) for wire in call.wires()]
    if not isinstance(given, (list, tuple)) or len(given) > _MOST_AXES:
        raise FormatError("sizes is no list of sizes", call.where, "a size for every axis", shown(given))
    return tuple(size if _whole(size, -1) else _length(call, size, ranks) for size in given)


def _length(call: Call, size: Any, ranks: Sequence[int]) -> Length:
    """The length of an axis of an input, or a multiple of it."""
    parts = list(size) if isinstance(size, (list, tuple)) and len(size) in (2, 3) else []
    source, axis, times = (*parts, 1)[:3] if parts else (None, None, None)  # type: tuple[Any, Any, Any]
    known = _whole(source, 0) and source < len(ranks) and _whole(times, 1)
    if known and _whole(axis, -ranks[source]) and axis < ranks[source]:
        return Length(source, axis % ranks[source], times)
    expected = "a length, or (input, axis) or (input, axis, times) of its inputs"
    raise FormatError("a size that is none", call.where, expected, shown(size))


def _reshape(call: Call) -> Outputs:
    x, *others = call.wires()
    return call.build.reshape(x, _sizes(call), *others, name=call.name)


def _broadcast(call: Call) -> Outputs:
    x, *others = call.wires()
    return call.build.expand(x, _sizes(call), *others, name=call.name)


def _limited(call: Call) -> Outputs:
    """Hands on an input of the model; the limits of its length are those of the graph."""
    wire, axis = call.wire(), call.whole("axis", 1)
    least, most = (call.config.get(key) for key in ("least", "most"))
    shape: Sequence[int | str] = next((one.shape for one in call.build.inputs if one.name == wire.node), ())
    if not 0 <= axis < len(shape):
        raise FormatError("no such axis of an input", call.where, f"an axis of {len(shape)}", str(axis))
    if not all(one is None or _whole(one, 1) for one in (least, most)):
        raise FormatError("limits that are none", call.where, "lengths", f"{shown(least)}, {shown(most)}")
    word = shape[axis]
    if isinstance(word, str):
        said = LimitedAxis(wire.node, axis, word, least, most).sayings
        known = call.build.details.get("limits", "").split(", ")
        call.build.details["limits"] = ", ".join(filter(None, dict.fromkeys((*known, *said))))
    elif not (least or 0) <= word <= (most or word):
        raise FormatError("an input that is outside the limits", call.where, f"{least} to {most}", str(word))
    return wire


READERS: dict[str, Reader] = {
    "LimitedLength": Reader(_limited, {"axis": _INERT, "least": _INERT, "most": _INERT}),
    "Parameter": Reader(_parameter, {"shape": _INERT}),
    "Positions": Reader(_positions, {"axis": _INERT, "times": _INERT}),
    "ReshapeLike": Reader(_reshape, {"sizes": _INERT}),
    "BroadcastLike": Reader(_broadcast, {"sizes": _INERT}),
}
"""The layers, by class."""

__all__ = ["READERS"]
