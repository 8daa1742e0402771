"""A whole model as the source of a torch module, such as a person would write it. Writes text: imports no framework."""

from __future__ import annotations

from parity.errors import UnsupportedError
from parity.graph.code import WIDTH, Code, identifiers
from parity.graph.graph import Graph, Node, Wire
from parity.graph.operations import Attention, Constant, Stub
from parity.graph.reading_notes import reading_notes
from parity.graph.simplify import channels_first, simplified, with_attention
from parity.graph.torch_code.attention import attention
from parity.graph.torch_code.elementwise import ELEMENTWISE_RENDERERS
from parity.graph.torch_code.expressions import Expr
from parity.graph.torch_code.groups import Group, groups_of
from parity.graph.torch_code.layers import LAYER_RENDERERS, mask_node
from parity.graph.torch_code.module import module_text
from parity.graph.torch_code.names import argument_names
from parity.graph.torch_code.recurrent import write_bidirectional, write_recurrent
from parity.graph.torch_code.shaping import SHAPING_RENDERERS
from parity.graph.torch_code.stubs import write_stub
from parity.graph.torch_code.writer import Writer
from parity.network import Bidirectional, Masking, Recurrent

_MARGIN = 11
"""Columns of the indent and of " = "."""

_DOUBLE = "the module is in float64, as its source: give it float64 inputs, or call .float() on it"

_RENDERERS = {**ELEMENTWISE_RENDERERS, **SHAPING_RENDERERS, **LAYER_RENDERERS, Attention: attention}


def torch_code(graph: Graph) -> Code:
    """A module `model.py` that needs only torch, and what its `load()` reads from `model.safetensors` beside it.

    Layers are torch's own under the names of the source (`nn.LSTM`, `nn.Linear`, ...), batch first; a recurrent layer that torch does
    not have is a class with one step and a loop. Several outputs are a NamedTuple in the model's order. Lengths that the reading of
    the source froze or limited are checked at the start of `forward`.

    Args:
        graph: may have stubs, which raise until somebody writes them.

    Raises:
        UnsupportedError: something that torch cannot say; all of it at once.

    Example:
        >>> import numpy as np
        >>> from parity.graph import Builder
        >>> from parity.network import Dense
        >>> build = Builder("classifier", "keras")
        >>> x = build.input("features", ("batch", 4))
        >>> scores = build.call(Dense("scores", np.ones((4, 3), np.float32), np.ones(3, np.float32)), x)
        >>> code = torch_code(build.graph({"classes": build.softmax(scores)}))
        >>> [line.strip() for line in code.source.splitlines() if "scores" in line]
        ['self.scores = nn.Linear(4, 3)', 'return torch.softmax(self.scores(features), dim=-1)  # (batch, 3)']
        >>> {name: blocks.shape for name, blocks in code.weights.items()}
        {'scores.weight': (3, 4), 'scores.bias': (3,)}
    """
    first = channels_first(with_attention(simplified(graph)))
    w = Writer(first, argument_names([given.name for given in first.inputs]))

    def before(node: Node) -> Node | None:
        return mask_node(w, node) if isinstance(node.operation, Masking) else None

    for group in groups_of(first, before):
        _write(w, group)
    fields = _fields(list(first.outputs))
    _return(w, fields)
    if w.problems:
        raise UnsupportedError(w.problems)
    source = module_text(w, fields)
    notes = (*w.notes, *reading_notes(graph), *((_DOUBLE,) if w.float_type.itemsize == 8 else ()))
    stubs = tuple(operation.name for operation in first.operations if isinstance(operation, Stub))
    return Code(source, w.weights, tuple(dict.fromkeys(notes)), stubs, dict(w.attributes))


def _write(w: Writer, group: Group) -> None:
    node = group.nodes[0]
    if isinstance(node.operation, Recurrent):
        write_recurrent(w, group)
    elif isinstance(node.operation, Bidirectional):
        write_bidirectional(w, node)
    elif isinstance(node.operation, Stub):
        write_stub(w, node)
    elif not isinstance(node.operation, Constant):
        w.define(Wire(node.name), _rendered(w, node))


def _rendered(w: Writer, node: Node) -> Expr:
    """What a node gives, with names for what it takes if it is too long for one line otherwise."""
    renderer = _RENDERERS[type(node.operation)]
    found = renderer(w, node)
    if w.body.width(found.text) + max(map(len, w.wanted(node))) + _MARGIN <= WIDTH:
        return found
    for wire in node.inputs:
        if wire in w.values:
            w.name(wire)
    return renderer(w, node)


def _fields(names: list[str]) -> dict[str, str]:
    """Names of the fields of `Outputs`."""
    return identifiers(names, {"count", "index"})


def _return(w: Writer, fields: dict[str, str]) -> None:
    outputs = w.graph.outputs
    if len(outputs) == 1:
        ((_, wire),) = outputs.items()
        (value,) = w.take(wire, own=0)
        w.body.returns(value, "" if value.is_name else w.comment(wire))
        return
    values = [w.take(wire)[0] for wire in outputs.values()]
    texts = [f"{field}={value.text}" for field, value in zip(fields.values(), values, strict=True)]
    w.body.returns(Expr(f"Outputs({', '.join(texts)})"), "")


__all__ = ["torch_code"]
