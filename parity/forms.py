"""Native or composed: whether a framework's own layer says a recurrent layer, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from parity.cell import Cell, plain_cell
from parity.functions import FUNCTIONS, Function
from parity.layouts import SLOTS
from parity.network import Bidirectional, Dropout, Layer, Network, Recurrent
from parity.recurrent import DIRECTIONS

Target = Literal["keras", "torch", "onnx"]
TARGETS: tuple[Target, ...] = ("keras", "torch", "onnx")

_TORCH_RNN = (Function("tanh"), Function("relu"))


@dataclass(frozen=True)
class Form:
    """How a network is said in a framework.

    Args:
        composed: why it is a composition of several parts, layer by layer; nothing where the framework's own layers say it.
        kept: options that the result does not have because they do nothing at inference, or are the caller's to do.

    Example:
        >>> str(Form(("layer 'gru': torch.nn.GRU has no reset_after=False",)))
        "composed: layer 'gru': torch.nn.GRU has no reset_after=False"
    """

    composed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        """Whether the framework's own layers say all of it."""
        return not self.composed

    def __str__(self) -> str:
        head = "native" if self.native else f"composed: {'; '.join(self.composed)}"
        return "\n".join([head, *(f"left out: {text}" for text in self.kept)])


def form_in(network: Network, target: Target) -> Form:
    """How a network is said in a framework, told from the description alone.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> form_in(read(torch.nn.LSTM(3, 5, proj_size=2)), "keras").composed
        ("layer 'lstm': Keras has no projection of h",)
    """
    composed = [
        f"layer '{layer.name}': {reason}"
        for layer in network.layers
        for reason in obstacles(layer, target, network.masks_itself, network.bare)
    ]
    kept = [f"layer '{layer.name}': {text}" for layer in network.layers for text in _left_out(layer, target)]
    return Form(tuple(dict.fromkeys(composed)), tuple(dict.fromkeys(kept)))


def obstacles(layer: Layer, target: Target, masked: bool = False, bare: bool = True) -> tuple[str, ...]:
    """Why a framework's own layer cannot say a layer; nothing where it can.

    Args:
        layer: of a network.
        target: the framework.
        masked: whether a mask made inside the model may reach it.
        bare: whether it stands by itself, so that it may return what the framework's own layer returns, and not in a model.
    """
    if isinstance(layer, Bidirectional):
        if target == "keras":
            # Keras's Bidirectional turns the backward output itself; which turns it leaves to say, the writer checks.
            return tuple(reason for inner in layer.recurrent for reason in _keras(inner, alone=False))
        return ("its two directions are unlike",)
    if not isinstance(layer, Recurrent):
        return ()
    rules = {"keras": lambda: _keras(layer), "torch": lambda: _torch(layer), "onnx": lambda: _onnx(layer, bare)}
    return (*rules[target](), *(("a mask",) if masked and target != "keras" else ()))


def _torch(layer: Recurrent) -> Iterator[str]:
    name = f"torch.nn.{layer.spec.kind.upper()}"
    plain = plain_cell(layer.spec.kind)
    relu = replace(plain, functions=_TORCH_RNN[1:])
    same = len(set(layer.cells)) == 1
    if not (same and (layer.cells[0] == plain or (layer.spec.kind == "rnn" and layer.cells[0] == relu))):
        words = ", ".join(word for word in layer.peculiarities if not word.startswith("a projection"))
        yield f"{name} has no {words}" if same else f"{name} has the same cell in both directions"
    elif any(weights.peepholes is not None for weights in layer.weights):
        yield f"{name} has no peepholes"
    if layer.spec.projection_size and layer.spec.projection_size >= layer.spec.hidden_size:
        yield f"{name} has no proj_size that is not below its hidden_size"
    if layer.spec.directions == DIRECTIONS[1:]:
        yield f"{name} has no backward direction alone"
    if layer.merges:
        yield f"{name} has no merge_mode={layer.merge_mode!r}"
    if layer.reverse:
        yield f"{name} gives its output in the order of the input"


def _keras(layer: Recurrent, alone: bool = True) -> Iterator[str]:
    kind = layer.spec.kind
    for cell in dict.fromkeys(layer.cells):
        unnamed = [str(function) for function in dict.fromkeys(cell.functions) if function.keras_name is None]
        if unnamed:
            yield f"Keras has no activation {', '.join(unnamed)}"
        elif kind == "lstm" and cell.function(kind, "candidate") != cell.function(kind, "output"):
            yield "Keras has one activation for the candidate and for c"
        if cell.clip is not None:
            yield "Keras has no clip"
        if cell.input_forget:
            yield "Keras has no input_forget"
    if any(weights.peepholes is not None for weights in layer.weights):
        yield "Keras has no peepholes"
    if layer.spec.projection_size:
        yield "Keras has no projection of h"
    backward = layer.spec.directions == DIRECTIONS[1:]
    if alone and layer.return_sequences and not layer.single_step and layer.reverse != backward:
        yield "Keras gives the output in the order of processing"


def _onnx(layer: Recurrent, bare: bool) -> Iterator[str]:
    op = f"ONNX {layer.spec.kind.upper()}"
    missing = [
        f"{function} as its {slot} function"
        for cell in layer.cells
        for slot, function in zip(SLOTS[layer.spec.kind], cell.functions, strict=True)
        if FUNCTIONS[function.name].onnx is None
    ]
    if missing:
        yield f"{op} has no {', '.join(dict.fromkeys(missing))}"
    if len({_for_the_node(cell) for cell in layer.cells}) > 1:
        yield f"{op} has one {'linear_before_reset, ' if layer.spec.kind == 'gru' else ''}clip and input_forget for both directions"
    if layer.spec.projection_size:
        yield f"{op} has no projection"
    if layer.merges:
        yield f"{op} has no merge_mode={layer.merge_mode!r}"
    if layer.reverse and not bare:
        yield f"{op} gives its output in the order of the input"


def _for_the_node(cell: Cell) -> Cell:
    """What an ONNX node says once for both directions; functions it says for each."""
    return replace(cell, functions=())


def _left_out(layer: Layer, target: Target) -> Iterator[str]:
    if isinstance(layer, Bidirectional):
        for inner in layer.recurrent:
            yield from _left_out(inner, target)
    elif isinstance(layer, Dropout) and target == "onnx":
        yield f"dropout={layer.rate:g} is inert at inference"
    elif isinstance(layer, Recurrent):
        for name in ("dropout", "recurrent_dropout"):
            if getattr(layer, name) and target != "keras":
                yield f"{name}={getattr(layer, name):g} is inert at inference"
        if layer.stateful:
            yield "stateful=True: hand the final state of a call to the next one"
