"""What a configuration states of the values that its unknown layers give: it says it where another layer takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from parity.graph.graph import Node, Wire
from parity.graph.operations import Stated, Stub


def with_stated(nodes: Sequence[Node], stated: Mapping[Wire, Iterable[Stated]]) -> list[Node]:
    """The nodes, the stubs among them with what is stated of their values.

    Of a layer that is called several times only what is alike in all calls is kept.

    Example:
        >>> node = Node("mine", Stub("mine", "Mine"), (Wire("x"),))
        >>> (found,) = with_stated([node], {Wire("mine"): [Stated((None, 4))]})
        >>> found.operation.stated
        (Stated(shape=(None, 4), dtype='float32'),)
    """
    calls: dict[int, list[Node]] = {}
    for node in nodes:
        if isinstance(node.operation, Stub):
            calls.setdefault(id(node.operation), []).append(node)
    changed: dict[int, Stub] = {}
    for key, same in calls.items():
        stub = same[0].operation
        assert isinstance(stub, Stub)
        values = [
            _alike([one for node in same for one in stated.get(Wire(node.name, index), ())])
            for index in range(stub.outputs)
        ]
        changed[key] = replace(stub, stated=tuple(values) if any(values) else ())
    return [replace(node, operation=changed.get(id(node.operation), node.operation)) for node in nodes]


def _alike(found: Sequence[Stated]) -> Stated | None:
    """What several statements of one value agree in; None if they contradict each other."""
    if not found or len({(len(one.shape), one.dtype) for one in found}) > 1:
        return None
    lengths = zip(*(one.shape for one in found), strict=True)
    return Stated(tuple(each[0] if len(set(each)) == 1 else None for each in lengths), found[0].dtype)


__all__ = ["with_stated"]
