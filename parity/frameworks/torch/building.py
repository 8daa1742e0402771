"""PyTorch: Network -> modules, torch's own wherever they say a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.forms import form_in, obstacles
from parity.frameworks.torch.cells import CELLS, GENERAL_CELLS, GeneralCell, layout_of
from parity.frameworks.torch.chain import Chain
from parity.frameworks.torch.layers import (
    NATIVE,
    Bidirectional,
    Loop,
    MaskedEmbedding,
    Masking,
    RecurrentLayer,
)
from parity.layouts import LAYOUTS, Layout
from parity.network import Bidirectional as BidirectionalNode
from parity.network import Dense, Dropout, Embedding, Layer, Network, Recurrent
from parity.network import Masking as MaskingNode
from parity.network.activations import ACTIVATIONS
from parity.recurrent import DIRECTIONS, Direction, RecurrentSpec, Weights, pack

SUFFIXES: dict[Direction, str] = {"forward": "", "backward": "_reverse"}
"""How torch marks a direction at the end of a parameter's name."""

FUNCTION_OF_RNN = {"tanh": "tanh", "relu": "relu"}
"""`parity.functions` -> the nonlinearities that `nn.RNN` has."""


def build(network: Network) -> nn.Module:
    """The network as a torch module; see `parity.frameworks.torch.build`."""
    arrays = [array for layer in network.layers for array in layer.arrays.values()]
    dtype = torch.float64 if any(array.dtype == np.float64 for array in arrays) else torch.float32
    module = _one_native(network, dtype) or _composed(network, dtype)
    form: Any = form_in(network, "torch")
    module.parity_form = form
    return module.eval()


def _one_native(network: Network, dtype: torch.dtype) -> nn.Module | None:
    """The one layer or cell of torch that says a bare network; None where there is none."""
    stack = network.recurrent
    if not network.bare or any(obstacles(layer, "torch", network.masks_itself) for layer in network.layers):
        return None
    dropout = _dropout_between(network.layers)
    first = stack[0]
    if dropout is None or any(_facts(layer) != _facts(first) for layer in stack):
        return None
    if not all(layer.return_sequences for layer in stack[:-1]):
        return None
    if not first.single_step:
        return _build_native(stack, dtype, dropout)
    if len(stack) > 1 or first.bidirectional or first.spec.projection_size:
        return None
    options: dict[str, Any] = {"bias": first.has_bias, "dtype": dtype, **_nonlinearity(first)}
    cell = CELLS[first.spec.kind](first.spec.input_size, first.spec.hidden_size, **options)
    _put(cell, LAYOUTS["torch", first.spec.kind], first.spec, first.weights[0])
    return cell


def _dropout_between(layers: Sequence[Layer]) -> float | None:
    """The rate of dropout between the layers of a stack; None where this is no such stack."""
    if not isinstance(layers[0], Recurrent) or not isinstance(layers[-1], Recurrent):
        return None
    if all(isinstance(layer, Recurrent) for layer in layers):
        return 0.0
    rates = {layer.rate for layer in layers if isinstance(layer, Dropout)}
    alternate = all({type(one), type(next_)} == {Recurrent, Dropout} for one, next_ in pairwise(layers))
    return rates.pop() if alternate and len(rates) == 1 else None


def _facts(layer: Recurrent) -> tuple[object, ...]:
    """What all layers of one torch module have in common."""
    spec = replace(layer.spec, input_size=0)
    return spec, layer.cells, layer.has_bias, layer.single_step


def _composed(network: Network, dtype: torch.dtype) -> nn.Module:
    last = network.layers[-1]
    if network.bare and isinstance(last, Recurrent) and not network.shown:
        # As nn.LSTM does: the sequence is the output, whatever Keras's return_sequences.
        last = replace(last, return_sequences=True)
        network = replace(network, layers=(*network.layers[:-1], last))
    if network.bare and len(network.layers) == 1:
        if isinstance(last, Recurrent) and last.single_step and last.spec.directions == DIRECTIONS[:1]:
            return _general_cell(last, dtype)
        if isinstance(last, Recurrent):
            return _recurrent_layer(last, dtype)
        if isinstance(last, BidirectionalNode):
            return _bidirectional(last, dtype)
    modules = {layer.name: _build_layer(layer, network, dtype) for layer in network.layers}
    return Chain(network, modules)


def _build_layer(layer: Layer, network: Network, dtype: torch.dtype) -> list[nn.Module]:
    """The modules of one layer of a chain, to be called in order."""
    if isinstance(layer, Recurrent):
        if obstacles(layer, "torch", network.masks_itself, network.bare):
            return [_recurrent_layer(layer, dtype)]
        return [_build_native((layer,), dtype)]
    if isinstance(layer, BidirectionalNode):
        return [_bidirectional(layer, dtype)]
    if isinstance(layer, Dropout):
        return [nn.Dropout(layer.rate)]
    if isinstance(layer, MaskingNode):
        return [Masking(layer.mask_value)]
    return [_embedding(layer, dtype)] if isinstance(layer, Embedding) else _dense(layer, dtype)


def _embedding(layer: Embedding, dtype: torch.dtype) -> nn.Embedding:
    kind = MaskedEmbedding if layer.mask_zero else nn.Embedding
    embedding = kind(layer.input_size, layer.output_size, dtype=dtype)
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(layer.table.copy()))
    return embedding


def _dense(layer: Dense, dtype: torch.dtype) -> list[nn.Module]:
    linear = nn.Linear(layer.input_size, layer.output_size, bias=layer.bias is not None, dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.kernel.T.copy()))
        if layer.bias is not None:
            linear.bias.copy_(torch.from_numpy(layer.bias.copy()))
    if layer.activation == "linear":
        return [linear]
    kind = getattr(nn, ACTIVATIONS[layer.activation].torch)
    return [linear, kind(dim=-1) if kind is nn.Softmax else kind()]


def _bidirectional(node: BidirectionalNode, dtype: torch.dtype) -> Bidirectional:
    forward, backward = ({layer.name: _recurrent_layer(layer, dtype) for layer in stack} for stack in node.stacks)
    return Bidirectional(forward, backward, node.merge_mode)


def _recurrent_layer(layer: Recurrent, dtype: torch.dtype) -> RecurrentLayer:
    """One module for each direction: torch's own where the cell is plain, else a loop over its steps."""
    modules: list[nn.Module] = []
    for weights, cell in zip(layer.weights, layer.cells, strict=True):
        one = replace(
            layer,
            spec=replace(layer.spec, directions=DIRECTIONS[:1]),
            weights=(weights,),
            cells=(cell,),
            merge_mode="concat",
            reverse=False,
        )
        composed = obstacles(one, "torch")
        modules.append(Loop(_general_cell(one, dtype)) if composed else _build_native((one,), dtype))
    return RecurrentLayer(
        layer.spec.kind,
        modules,
        layer.spec.directions,
        layer.merge_mode,
        layer.return_sequences,
        layer.reverse,
        layer.fill,
    )


def _general_cell(layer: Recurrent, dtype: torch.dtype) -> GeneralCell:
    """The cell of a layer of one direction."""
    (weights,), (options,) = layer.weights, layer.cells
    cell = GENERAL_CELLS[layer.spec.kind](
        layer.spec.input_size,
        layer.spec.hidden_size,
        options,
        bias=layer.has_bias,
        proj_size=layer.spec.projection_size or 0,
        peepholes=weights.peepholes is not None,
        dtype=dtype,
    )
    _put(cell, layout_of(layer.spec.kind), layer.spec, weights)
    return cell


def _build_native(layers: Sequence[Recurrent], dtype: torch.dtype, dropout: float = 0.0) -> nn.LSTM | nn.GRU | nn.RNN:
    first = layers[0]
    options: dict[str, Any] = _nonlinearity(first)
    if first.spec.projection_size:
        options["proj_size"] = first.spec.projection_size
    module = NATIVE[first.spec.kind](
        first.spec.input_size,
        first.spec.hidden_size,
        num_layers=len(layers),
        bias=first.has_bias,
        batch_first=True,
        dropout=dropout,
        bidirectional=first.bidirectional,
        dtype=dtype,
        **options,
    )
    for depth, layer in enumerate(layers):
        for weights, suffix in zip(layer.weights, SUFFIXES.values(), strict=False):
            _put(module, LAYOUTS["torch", layer.spec.kind], layer.spec, weights, f"_l{depth}{suffix}")
    return module


def _nonlinearity(layer: Recurrent) -> dict[str, str]:
    """What `nn.RNN` alone takes."""
    return {"nonlinearity": FUNCTION_OF_RNN[layer.cells[0].functions[0].name]} if layer.spec.kind == "rnn" else {}


def _put(module: nn.Module, layout: Layout, spec: RecurrentSpec, weights: Weights, suffix: str = "") -> None:
    """Fill the parameters of one direction of one layer; those that the weights lack are zero, where torch has a place for them."""
    parameters = dict(module.named_parameters())
    packed = pack(layout, spec, [weights])
    with torch.no_grad():
        for name in (tensor.name + suffix for tensor in layout.tensors):
            if name in parameters:
                parameters[name].zero_()
        for name, array in packed.items():
            parameters[name + suffix].copy_(torch.from_numpy(array))
