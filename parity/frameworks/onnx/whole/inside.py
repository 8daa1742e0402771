"""Values inside an ONNX model that somebody else wrote, by the wires of the graph that was read from it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from parity.frameworks import Settings
from parity.frameworks.onnx.running import engine_for, session_of
from parity.frameworks.onnx.whole.running import run_session
from parity.graph.graph import Graph, Wire
from parity.network import Bidirectional, Recurrent
from parity.recurrent import Array


def own_values(
    model: onnx.ModelProto, graph: Graph, inputs: Mapping[str, Array], settings: Settings
) -> dict[Wire, Array]:
    """What the nodes of a model give, as ONNX Runtime computes it.

    Args:
        model: any.
        graph: read from it, `Node.source` naming its nodes (or what they give, where they have no name).
        inputs: by name.
        settings: the device.

    Returns:
        By the wires of the graph. Recurrent nodes are left out, for their values stand in other axes there; so are nodes in the bodies of
        others.
    """
    names = {key: node.output[0] for node in model.graph.node if node.output for key in (node.output[0], node.name) if key}
    wires = {
        Wire(node.name): names[node.source]
        for node in graph.nodes
        if node.source in names and not isinstance(node.operation, (Recurrent, Bidirectional))
    }
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {item.name for item in opened.graph.output}
    for name in dict.fromkeys(wires.values()):
        if name not in known:
            opened.graph.output.append(onnx.ValueInfoProto(name=name))
    session = session_of(opened, settings, engine_for(settings))
    values = run_session(session, graph, inputs, {})
    found = dict(zip((item.name for item in session.get_outputs()), values, strict=True))
    return {wire: found[name] for wire, name in wires.items()}


__all__ = ["own_values"]
