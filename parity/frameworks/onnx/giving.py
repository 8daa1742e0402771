"""What a recurrent layer of an ONNX graph gives on: its nodes, masked steps put back, directions picked or merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parity.conventions import Select, Value, onnx_returns
from parity.frameworks.onnx.cells import Given, add_layer
from parity.frameworks.onnx.masks import StepMask
from parity.frameworks.onnx.nodes import Assembly
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS

_MERGES: dict[Select, str] = {"sum": "Add", "ave": "Add", "mul": "Mul"}


@dataclass(frozen=True)
class Shown:
    """What a recurrent layer computes in the graph: tensors and their axes by canonical quantity."""

    tensors: dict[str, tuple[str, str]]

    def of(self, quantity: str) -> tuple[str, str]:
        """Without a mask, what is given last is h."""
        return self.tensors["h" if quantity == "last" and "last" not in self.tensors else quantity]


def computed(
    assembly: Assembly,
    layer: Recurrent,
    x: str,
    mask: StepMask | None,
    initial: Sequence[str] | None,
    node: str | None = None,
) -> Shown:
    """Adds the nodes of a layer.

    Args:
        assembly: of the graph.
        layer: with weights in float32.
        x: (time, batch, input).
        mask: of valid steps.
        initial: the state before the first step, (direction, batch, features) each; None for zeros.
        node: name of the call, where it is not the layer's: that of a further call of a shared layer.
    """
    spec, start = layer.spec, None if initial is None else tuple(initial)
    if mask is None:
        values = add_layer(assembly, layer, Given(x, None, start), node)
    else:
        x = mask.compact(x, f"{layer.name}.X")
        y, *final = add_layer(assembly, layer, Given(x, mask.lengths, start), node)
        y = mask.spread(y, spec.directions, layer.fill, f"{layer.name}.Y")
        if start is not None:
            final = [
                mask.kept(end, begin, f"{layer.name}.{state}")
                for state, begin, end in zip(spec.states, start, final, strict=True)
            ]
        values = (y, *final)
    rows = zip(onnx_returns(spec.kind), values, strict=True)
    shown = Shown({str(row.quantity): (tensor, row.axes) for row, tensor in rows})
    if mask is not None:
        shown.tensors["last"] = _last(assembly, layer, *shown.of("sequence")), shown.of("h")[1]
    return shown


def value_of(assembly: Assembly, layer: Recurrent, shown: Shown, value: Value, name: str) -> str:
    """Adds the nodes of one of a layer's values, out of what its nodes give."""
    tensor, axes = shown.of(value.quantity)
    sizes = {**layer.spec.sizes, "hidden": layer.spec.sizes["hidden" if value.quantity == "c" else "state"]}
    if value.reverse:
        tensor = assembly.flipped(tensor, axes.split().index("time"), f"{name}.reversed", f"layer '{layer.name}'")
    if value.select != "all":
        tensor = _selected(assembly, tensor, axes.split().index("direction"), value.select, name)
        axes = " ".join(axis for axis in axes.split() if axis != "direction")
    return assembly.rearranged(tensor, axes, value.axes, name, sizes)


def merged(assembly: Assembly, forward: str, backward: str, mode: Select, name: str) -> str:
    """Adds the nodes that merge two directions: "sum", "mul" or "ave"."""
    both = assembly.node(_MERGES[mode], [forward, backward], f"{name}.{mode}")
    if mode != "ave":
        return both
    return assembly.node("Mul", [both, assembly.number(f"{name}.half", 0.5)], f"{name}.average")


def _selected(assembly: Assembly, tensor: str, axis: int, select: Select, name: str) -> str:
    if select in DIRECTIONS:
        return assembly.picked(tensor, axis, DIRECTIONS.index(select), f"{name}.{select}")
    forward, backward = (assembly.picked(tensor, axis, at, f"{name}.{way}") for at, way in enumerate(DIRECTIONS))
    return merged(assembly, forward, backward, select, name)


def _last(assembly: Assembly, layer: Recurrent, sequence: str, axes: str) -> str:
    """The sequence at the step that each direction processes last, with the axes of a final state."""
    name, time, direction = f"{layer.name}.last", axes.split().index("time"), axes.split().index("direction")
    ends = []
    for index, way in enumerate(layer.spec.directions):
        own = assembly.picked(sequence, direction, index, f"{name}.{way}.sequence", keep=True)
        ends.append(assembly.picked(own, time, -1 if way == "forward" else 0, f"{name}.{way}"))
    return ends[0] if len(ends) == 1 else assembly.node("Concat", ends, name, axis=0)


__all__ = ["Shown", "computed", "merged", "value_of"]
