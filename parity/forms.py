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
        notes: what else to know: options that the result does not have because they do nothing at inference or are the caller's to
            do, weights that were widened, what the source did not say.

    Example:
        >>> str(Form(("layer 'gru': torch.nn.GRU has no reset_after=False",)))
        "composed: layer 'gru': torch.nn.GRU has no reset_after=False"
    """

    composed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        """Whether the framework's own layers say all of it."""
        return not self.composed

    def __str__(self) -> str:
        head = "native" if self.native else f"composed: {'; '.join(self.composed)}"
        return "\n".join([head, *(f"note: {text}" for text in self.notes)])


def form_in(network: Network, target: Target) -> Form:
    """How a network is said in a framework, told from the description alone.

    Example:
        >>> import torch
        >>> from parity.sources import read
        >>> form_in(read(torch.nn.LSTM(3, 5, proj_size=2)), "keras").composed
        ("layer 'lstm': Keras has no projection of h",)
    """
    composed = [
        f"layer '{layer.name}': {reason}" for layer in network.layers for reason in _reasons(layer, network, target)
    ]
    notes = [f"layer '{layer.name}': {text}" for layer in network.layers for text in _left_out(layer, target)]
    return Form(tuple(dict.fromkeys(composed)), (*dict.fromkeys(notes), *of_the_source(network)))


def of_the_source(network: Network) -> Iterator[str]:
    """What every user of a network should know of how it was read."""
    small = [
        name for name in network.details.get("stored as", "").split(", ") if name not in ("", "float32", "float64")
    ]
    if small:
        yield f"weights stored as {' and '.join(small)} are kept exactly, but computed with in float32"
    if "nonlinearity" in network.details:
        yield f"nonlinearity {network.details['nonlinearity']}; for relu give the live module"
    for words in network.details.get("assumed", "").split("; "):
        if words:
            yield f"assumed, for the file does not say it: {words}"
    said = {
        "architecture": "the architecture is",
        "in the file": "in its file this layer is",
        "taken from": "taken from",
        "left out": "left out:",
    }
    yield from (f"{words} {network.details[key]}" for key, words in said.items() if key in network.details)


def stacked_cells(network: Network) -> bool:
    """Whether a network is `keras.layers.RNN` around several cells, which Keras says as one layer.

    Example:
        >>> import keras
        >>> from parity.sources import read
        >>> layer = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.GRUCell(3)])
        >>> layer.build((None, None, 2))
        >>> stacked_cells(read(layer))
        True
    """
    one_way = all(isinstance(layer, Recurrent) and not layer.bidirectional for layer in network.layers)
    return network.bare and network.origin == "keras" and len(network.layers) > 1 and one_way


def _reasons(layer: Layer, network: Network, target: Target) -> tuple[str, ...]:
    if target == "keras" and stacked_cells(network) and isinstance(layer, Recurrent):
        # One layer of Keras around all the cells: only the last gives an output that stands in some order.
        return tuple(_keras(layer, alone=layer is network.layers[-1]))
    return obstacles(layer, target, network.masks_itself, network.bare)


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
        whose = "torch.nn has no layer" if target == "torch" else "ONNX has no operator"
        forward, backward = (" + ".join(map(_sized, stack)) for stack in layer.stacks)
        return (f"{whose} of two unlike directions ({forward} forward, {backward} backward)",)
    if not isinstance(layer, Recurrent):
        return ()
    rules = {"keras": lambda: _keras(layer), "torch": lambda: _torch(layer), "onnx": lambda: _onnx(layer, bare)}
    name = layer.spec.kind.upper()
    takes = {
        "torch": (f"torch.nn.{name} takes no mask, only packed sequences",),
        "onnx": (f"ONNX {name} takes no mask, only sequence_lens",),
    }
    return (*rules[target](), *(takes.get(target, ()) if masked else ()))


def _sized(layer: Recurrent) -> str:
    return f"{layer.spec.kind.upper()}({layer.spec.hidden_size})"


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
    backward = layer.spec.directions == DIRECTIONS[1:]
    if backward:
        yield f"{name} has no {'go_backwards' if layer.reverse else 'backward direction alone'}"
    if layer.merges:
        yield f"{name} has no merge_mode={layer.merge_mode!r}"
    if layer.reverse and not backward:
        yield f"{name} has no output in the opposite order of the input"


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
        name = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}[kind]
        order = "the opposite order" if backward else "the order"
        yield f"keras.layers.{name}(go_backwards={backward}) by itself gives its output only in {order} of the input"


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
        yield f"{op} has no output in the opposite order of the input (go_backwards)"


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
