"""Values inside an ONNX model that somebody else wrote, by the wires of the graph that was read from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import inliner

from parity.conventions import onnx_returns, to_canonical
from parity.frameworks import Settings
from parity.frameworks.onnx.finding import nodes_in
from parity.frameworks.onnx.names import Names
from parity.frameworks.onnx.running import engine_for, session_of
from parity.frameworks.onnx.trace import RECURRENT_OPS, layout_of
from parity.frameworks.onnx.whole.session import run_session
from parity.graph.graph import Graph, Node, Wire
from parity.network import Recurrent
from parity.recurrent import Array
from parity.result import LayerRun, State


@dataclass(frozen=True)
class _Shown:
    """A node of the graph, and the node of ONNX that computes its values."""

    node: Node
    onnx: onnx.NodeProto

    @property
    def tensors(self) -> Sequence[str]:
        """Names of what is to be seen."""
        return list(self.onnx.output if self.onnx.op_type in RECURRENT_OPS else self.onnx.output[:1])

    def values(self, found: Mapping[str, Array]) -> list[Array]:
        """The node's values in the graph's axes; none where that is not known."""
        operation, arrays = self.node.operation, [found[name] for name in self.tensors]
        if self.onnx.op_type not in RECURRENT_OPS:
            return arrays
        if not isinstance(operation, Recurrent):
            return []
        returns = onnx_returns(RECURRENT_OPS[self.onnx.op_type], layout_of(self.onnx))
        canonical = to_canonical(returns, arrays, len(operation.spec.directions))
        states = {name: array[0] for name, array in canonical.items() if name != "sequence"}
        run = LayerRun(State(states["h"], states.get("c")), canonical["sequence"])
        return [value.of([run]) for value in operation.values]


def values_by_source(
    model: onnx.ModelProto, graph: Graph, inputs: Mapping[str, Array], settings: Settings
) -> dict[Wire, Array]:
    """What the nodes of a model give, as ONNX Runtime computes it.

    Args:
        model: any.
        graph: read from it, `Node.source` naming its nodes (or what they give, where they have no name).
        inputs: by name.
        settings: the device.

    Returns:
        By the wires of the graph, in its axes: of recurrent nodes every value. Nodes in the bodies of others, and those whose name is
        another's, too, are left out.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    shown = _shown(opened, graph)
    known = {item.name for item in opened.graph.output}
    for name in dict.fromkeys(name for one in shown for name in one.tensors):
        if name not in known:
            opened.graph.output.append(onnx.ValueInfoProto(name=name))
    session = session_of(opened, settings, engine_for(settings))
    values = run_session(session, graph, inputs, {})
    found = dict(zip((item.name for item in session.get_outputs()), values, strict=True))
    return {Wire(one.node.name, index): array for one in shown for index, array in enumerate(one.values(found))}


def _shown(model: onnx.ModelProto, graph: Graph) -> list[_Shown]:
    """The nodes that are to be seen; every output of a recurrent one gets a name in the model."""
    count = Counter(map(_name, nodes_in(model)))
    nodes = {name: node for node in model.graph.node if count[name := _name(node)] == 1 and any(node.output[:1])}
    last = {node.source: node for node in graph.nodes if node.source in nodes}
    names = Names(name for node in nodes_in(model) for name in (*node.input, *node.output))
    for source in last:
        node = nodes[source]
        if node.op_type not in RECURRENT_OPS:
            continue
        returned = [value.name for value in onnx_returns(RECURRENT_OPS[node.op_type])]
        node.output.extend([""] * (len(returned) - len(node.output)))
        for place, name in enumerate(returned):
            node.output[place] = node.output[place] or names.unique(f"{source}.{name}")
    return [_Shown(node, nodes[source]) for source, node in last.items()]


def _name(node: onnx.NodeProto) -> str:
    """What `Node.source` says of a node."""
    return node.name or next(filter(None, node.output), "")


__all__ = ["values_by_source"]
