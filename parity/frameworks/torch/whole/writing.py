"""Operators that change a tensor in place (`add_`, `y[:, t] = h`), as new values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from parity.frameworks.torch.whole.operator_call import Call, Refused
from parity.frameworks.torch.whole.tracing import expressions
from parity.frameworks.torch.whole.values import Value
from parity.graph import Wire

_PARTS = ("aten::select", "aten::slice")
_FAR = 2**62


class Writes:
    """Which values of a trace are views of which, and what a write makes of them.

    Args:
        values: what every node of the trace gave; written values replace older ones here.
    """

    def __init__(self, values: dict[Any, Value]) -> None:
        self._values = values
        self._base: dict[Any, Any] = {}
        self._done: set[Any] = set()

    def note(self, node: Any, schema: Any) -> None:
        """Keep that a node is a view of what it takes, where its operator says that it may be."""
        self._done.add(node)
        returns = schema.returns
        first = schema.arguments[0] if schema.arguments else None
        alias = (
            bool(returns) and returns[0].alias_info is not None and first is not None and first.alias_info is not None
        )
        if alias and node.args and isinstance(node.args[0], torch.fx.Node):
            self._base[node] = node.args[0]

    def check(self, node: Any) -> None:
        """Raises `Refused` where others look at the written numbers in a way that is not followed."""
        target = node.args[0]
        chain = self._chain(target)
        related = {one for one in self._base if self._chain(one)[-1] is chain[-1]} - set(chain)
        late = [one for one in related if any(user not in self._done and user is not node for user in one.users)]
        if late:
            raise Refused("a tensor is changed in place while parts of it are in use", remedy="change a clone() of it")

    def write(self, call: Call, value: Value) -> None:
        """Replace the written value, and what it is a part of."""
        self._done.add(call.node)
        target = call.node.args[0]
        chain = self._chain(target)
        self._values[target] = value
        new, raw = value, call.node
        used = [place for place, one in enumerate(chain) if any(user not in self._done for user in one.users)]
        chain = chain[: max(used, default=0) + 1]
        for part, base in pairwise(chain):
            new = self._put(call, part, base, call.as_wire(new, raw))
            self._values[base] = new
            raw = base
        self._base[call.node] = target

    def _chain(self, node: Any) -> list[Any]:
        """A node, what it is a view of, and so on."""
        found = [node]
        while found[-1] in self._base:
            found.append(self._base[found[-1]])
        return found

    def _put(self, call: Call, part: Any, base: Any, new: Wire) -> Wire:
        """The base with a part of it replaced."""
        schema = getattr(part.target, "_schema", None)
        name = "" if schema is None else schema.name
        shape, whole = expressions(part.meta["val"].shape), expressions(base.meta["val"].shape)
        if schema is not None and schema.is_mutable:
            return new
        if name not in _PARTS:
            if shape == whole:
                return new
            raise Refused("a view of a tensor is changed in place", "select and slice", name, "change a clone() of it")
        axis, *where = part.args[1:] or (0,)
        axis %= len(whole)
        start, stop = _bounds(name, part, whole[axis], where)
        old = call.as_wire(self._values[base], base)
        build = call.build
        pieces = [build.slice(old, axis, None, start)] if start else []
        pieces.append(build.expand_dims(new, axis) if name == "aten::select" else new)
        if stop is not None:
            pieces.append(build.slice(old, axis, stop))
        return build.concatenate(pieces, axis) if len(pieces) > 1 else pieces[0]


def _bounds(name: str, part: Any, length: Any, where: list[Any]) -> tuple[int, int | None]:
    """First and last place of a part; None where it reaches to the end."""
    if name == "aten::select":
        start = where[0]
        if not isinstance(start, int):
            raise Refused("a place that depends on a length is written", "a place that is known")
        stop = start + 1
        return start, None if stop in (length, 0) else stop
    full = [*part.args[2:], *(None,) * 3][:3]
    start, stop, step = full[0] or 0, full[1], full[2] or 1
    if step != 1 or not isinstance(start, int):
        raise Refused("a slice that depends on a length is written", "start and stop that are known, step 1")
    if stop is None or (isinstance(stop, int) and (stop >= _FAR or stop == length)):
        return start, None
    if not isinstance(stop, int):
        raise Refused("a slice that depends on a length is written", "start and stop that are known, step 1")
    return start, stop


__all__ = ["Writes"]
