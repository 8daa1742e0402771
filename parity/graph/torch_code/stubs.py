"""Layers that parity does not know, as classes that raise until somebody writes them."""

from __future__ import annotations

from parity.deferred import blocks_of
from parity.graph.code import identifiers, prose
from parity.graph.graph import Node, Wire
from parity.graph.operations import Stub
from parity.graph.torch_code.expressions import call
from parity.graph.torch_code.names import MODULE_NAMES, PYTHON_NAMES, class_name
from parity.graph.torch_code.weights import as_type
from parity.graph.torch_code.writer import Writer

_MOST_OPTIONS = 40


def write_stub(w: Writer, node: Node) -> None:
    """The call of a stub, and its class."""
    layer = node.operation
    assert isinstance(layer, Stub)
    wires = [wire for wire in node.inputs if wire is not None]
    name = _class(w, layer, len(wires))
    own = identifiers(layer.arrays.held, MODULE_NAMES)
    weights = {own[key]: blocks_of(held) for key, held in layer.arrays.held.items()}
    module = w.module(layer, f"{name}()", weights)
    called = call(module, *w.take(*wires, own=2), weight=2)
    if layer.outputs == 1:
        w.define(Wire(node.name), called)
        return
    wanted = [w.wanted(node, index) for index in range(layer.outputs)]
    found = w.body.unpack(", ".join(["{}"] * layer.outputs), called, wanted)
    for index, value in enumerate(found):
        w.values[Wire(node.name, index)] = value


def _class(w: Writer, layer: Stub, inputs: int) -> str:
    if id(layer) in w.class_keys:
        return w.class_keys[id(layer)]
    base = name = class_name(layer.class_name, PYTHON_NAMES | {class_name(w.graph.name)})
    number = 2
    while name in w.classes:
        name, number = f"{base}{number}", number + 1
    w.class_keys[id(layer)] = name
    w.classes[name] = "\n".join(_lines(w, layer, name, inputs)) + "\n"
    return name


def _lines(w: Writer, layer: Stub, name: str, inputs: int) -> list[str]:
    words = prose(f"{layer.class_name} '{layer.name}'", 60)
    options = [prose(f"{key}={value!r}", 76) for key, value in list(layer.options.items())[:_MOST_OPTIONS]]
    values = inputs - layer.masked
    arguments = ["x"] if values == 1 else [f"x{number}" for number in range(1, values + 1)]
    result = "Tensor" if layer.outputs == 1 else f"tuple[{', '.join(['Tensor'] * layer.outputs)}]"
    own = identifiers(layer.arrays.held, MODULE_NAMES)
    lines = [
        f"class {name}(nn.Module):",
        f'    """STUB: {words}, which was not converted: write its forward."""',
        "",
        *(["    # Its options in the source:", *(f"    #     {option}" for option in options), ""] if options else []),
        "    def __init__(self) -> None:",
        "        super().__init__()",
    ]
    for key, held in layer.arrays.held.items():
        dtype = as_type(blocks_of(held), w.float_type).dtype
        shape = ", ".join(map(str, held.shape)) or "()"
        kind = {"b": ", dtype=torch.bool", "i": ", dtype=torch.int64"}.get(dtype.kind, "")
        option = ", requires_grad=False" if kind else ""
        lines.append(f"        self.{own[key]} = nn.Parameter(torch.empty({shape}{kind}){option})")
    mask = ["mask: Tensor | None = None"] if layer.masked else []
    signature = ", ".join(["self", *(f"{argument}: Tensor" for argument in arguments), *mask])
    return [
        *lines,
        "",
        f"    def forward({signature}) -> {result}:",
        *(["        # The mask, (batch, time), is True where a step is valid."] if layer.masked else []),
        f'        raise NotImplementedError("fill in: {words}")',
    ]


__all__ = ["write_stub"]
