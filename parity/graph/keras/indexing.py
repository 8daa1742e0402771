"""Slices and places of a tensor: `x[:, 1:, -1]` and `ops.take`.

Source: Keras 3 `GetItem.call`; `serialize_keras_object` writes a slice as `__slice__`, `...` as `__ellipsis__`, None as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Outputs, Tensor
from parity.graph.operations import Slice, Take
from parity.network.keras.options import shown


def get_item(call: Call) -> Outputs:
    """What an index takes out of a tensor.

    Raises:
        UnsupportedError: an index by tensors or lists.
    """
    values = list(call.arguments.values())
    if len(values) != 2 or not isinstance(values[0], Tensor):
        raise call.refused("an index that is not read", "a tensor and an index", str(len(values)))
    x, key = values[0].wire, values[1]
    items = list(key) if isinstance(key, (list, tuple)) else [key]
    return _cut(call, x, _written_out(call, items, call.rank(x)))


def _written_out(call: Call, items: list[Any], rank: int) -> list[Any]:
    """One item for each axis of the tensor, and None for each new one."""
    taken = sum(item is not None and not _is(item, "__ellipsis__") for item in items)
    whole: Any = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
    found: list[Any] = []
    for item in items:
        found += [whole] * (rank - taken) if _is(item, "__ellipsis__") else [item]
    rest = rank - sum(item is not None for item in found)
    if rest < 0:
        raise call.refused("an index with too many axes", str(rank), shown(items))
    return found + [whole] * rest


def _cut(call: Call, x: Wire, items: list[Any]) -> Wire:
    build = call.build
    parts: list[tuple[int, int | None, int | None, int]] = []
    selected: list[tuple[int, int]] = []
    new: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            new.append(axis - len(selected) + len(new))
            continue
        if _is(item, "__slice__"):
            start, stop, step = (_bound(call, item["config"].get(key)) for key in ("start", "stop", "step"))
            if (start, stop, step) != (None, None, None):
                parts.append((axis, start, stop, 1 if step is None else step))
        elif isinstance(item, int) and not isinstance(item, bool):
            selected.append((axis, item))
        else:
            raise call.refused("an index that is not kept exactly", "numbers and slices", shown(item))
        axis += 1
    last = "new" if new else "selected" if selected else "parts"
    if parts:
        name = call.name if last == "parts" else call.part("part")
        x = build.call(call.once("slice", lambda: Slice(build.unique(name), tuple(parts))), x)
    for place, index in reversed(selected):
        x = build.select(x, place, index, name=call.name if last == "selected" and place == selected[0][0] else None)
    return build.expand_dims(x, new, name=call.name) if new else x


def _bound(call: Call, value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise call.refused("a slice that is not kept exactly", "whole numbers", shown(value))


def _is(item: Any, class_name: str) -> bool:
    return isinstance(item, Mapping) and item.get("class_name") == class_name


def take(call: Call) -> Outputs:
    """Places of an axis, by numbers that are known or computed.

    Raises:
        UnsupportedError: of the whole tensor as one axis.
    """
    build, values = call.build, list(call.arguments.values())
    axis = call.config.get("axis")
    if len(values) != 2 or not isinstance(values[0], Tensor) or not isinstance(axis, int):
        raise call.refused("places that are not read", "a tensor, places and an axis", f"axis={axis}")
    x, places = values[0].wire, values[1]
    if isinstance(places, int):
        return build.select(x, axis, places, name=call.name)
    wire = build.cast(places.wire, "int64") if isinstance(places, Tensor) else build.constant(places)
    return build.call(call.once("take", lambda: Take(build.unique(call.name), axis)), x, wire)


__all__ = ["get_item", "take"]
