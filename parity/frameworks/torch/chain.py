"""PyTorch: a converted model as a module, its layers called one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from parity.conventions import Fill, Value
from parity.frameworks.torch import layers
from parity.frameworks.torch.calling import called, check_batch
from parity.network import Bidirectional as BidirectionalNode
from parity.network import Network, Output, Recurrent


@dataclass(frozen=True)
class Use:
    """How a chain uses one of its recurrent layers.

    Args:
        values: what the layer hands over, the first of them to the next layer; none for a `Bidirectional`, which says it itself.
        return_sequences: whether that has every step, so that a mask still means something behind it.
        fill: what its sequence holds where the mask is False.
    """

    values: tuple[Value, ...]
    return_sequences: bool
    fill: Fill


class Chain(nn.Module):
    """A converted model: its layers under the user's names, called one after the other.

    `forward(x, hx=None, mask=None)` takes (batch, time, features), or (batch, time) integers, and a mask (batch, time), True where a
    step is valid; layers that make masks narrow it. It returns what the source model returns: one tensor, or a list of them in order.
    A bare recurrent stack returns `(output, (h_n, c_n))` as `nn.LSTM` does, or, where its layers differ in size, a list of their states.
    `hx` takes the states of all recurrent layers in that same form. A bare stack also takes one sample without the batch axis, or a
    `PackedSequence`.

    Args:
        network: the description of the model.
        modules: of each of its layers, to be called in order.
    """

    def __init__(self, network: Network, modules: Mapping[str, Sequence[nn.Module]]) -> None:
        super().__init__()
        self._title = network.name
        self._outputs: tuple[Output, ...] = network.outputs
        self._shown: tuple[Output, ...] = network.shown
        self._tokens = network.tokens is not None
        self._reverse = any(layer.reverse and layer.return_sequences for layer in network.recurrent)
        recurrent = (layer for layer in network.layers if isinstance(layer, (Recurrent, BidirectionalNode)))
        self._uses = {layer.name: _use(layer) for layer in recurrent}
        self._directions = {name: len(spec.directions) for name, spec in network.specs.items()}
        sizes = {(spec.kind, spec.hidden_size, spec.state_size) for spec in network.specs.values()}
        self._stacks = len(sizes) == 1 and not any(isinstance(layer, BidirectionalNode) for layer in network.layers)
        self._names: dict[str, tuple[str, ...]] = {}
        for layer in network.layers:
            names = []
            for suffix, module in zip(("", "_activation"), modules[layer.name], strict=False):
                names.append(self._free_name(layer.name + suffix))
                self.add_module(names[-1], module)
            self._names[layer.name] = tuple(names)

    def _free_name(self, wanted: str) -> str:
        """The user's name, changed only where torch allows it no module: dots, and names an attribute already has."""
        name = wanted.replace(".", "_") or "layer"
        while hasattr(self, name):
            name += "_"
        return name

    def forward(self, x: Tensor | PackedSequence, hx: Any = None, mask: Tensor | None = None) -> Any:
        """The model's outputs.

        Raises:
            ShapeError: another number of axes, or a packed sequence that is not taken.
        """
        if self._outputs:
            check_batch(self, x, self._tokens)
            return self._batch(x, hx, layers.as_truth(mask))
        return called(self, self._batch, x, hx, layers.as_truth(mask), self._tokens, self._reverse)

    def _batch(self, x: Any, hx: Any, mask: Tensor | None) -> Any:
        return self.returned(*self.run(x, self._by_layer(hx), mask))

    def run(
        self, x: Tensor, states: Mapping[str, layers.Hx], mask: Tensor | None = None
    ) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, layers.Run]]:
        """What every layer gives on, and everything the recurrent ones compute, from initial states by layer."""
        value = x
        given: dict[str, tuple[Tensor, ...]] = {}
        runs: dict[str, layers.Run] = {}
        for layer, names in self._names.items():
            for name in names:
                module = self.get_submodule(name)
                if isinstance(module, (layers.Masking, layers.MaskedEmbedding)):
                    mask = module.mask(value) if mask is None else mask & module.mask(value)
                if layer in self._uses:
                    found, given[layer] = self._recur(layer, module, value, states, mask)
                    runs |= found
                else:
                    given[layer] = (module(value),)
                value = given[layer][0]
            if layer in self._uses and not self._uses[layer].return_sequences:
                mask = None
        return given, runs

    def _recur(
        self, name: str, module: nn.Module, x: Tensor, states: Mapping[str, layers.Hx], mask: Tensor | None
    ) -> tuple[dict[str, layers.Run], tuple[Tensor, ...]]:
        """The runs of a recurrent layer, or of those inside a `Bidirectional`, and what it gives on."""
        if isinstance(module, layers.Bidirectional):
            runs = module.run(x, states, mask)
            return runs, module.given(runs)
        if isinstance(module, layers.RecurrentLayer):
            run = module.run(x, states.get(name), mask)
            return {name: run}, module.given(run)
        use = self._uses[name]
        run = layers.run_native(module, x, states.get(name), mask, use.fill)
        return {name: run}, (layers.shown(use.values[0], run),)

    def outputs(self, given: Mapping[str, tuple[Tensor, ...]], runs: Mapping[str, layers.Run]) -> list[Tensor]:
        """The values that have names of their own, in order."""
        return [
            given[out.layer][0] if out.value is None else layers.shown(out.value, runs[out.layer])
            for out in self._shown
        ]

    def returned(self, given: Mapping[str, tuple[Tensor, ...]], runs: Mapping[str, layers.Run]) -> Any:
        """What `forward` makes of it."""
        if self._outputs:
            return layers.alone(self.outputs(given, runs))
        states = [run.states for run in runs.values()]
        output = layers.alone(list(given.values())[-1])
        if self._stacks:
            return output, layers.as_hx(torch.cat(parts) for parts in zip(*states, strict=True))
        return output, [layers.as_hx(own) for own in states]

    def _by_layer(self, hx: Any) -> dict[str, layers.Hx]:
        """Initial states as `returned` shows final ones, by layer."""
        if hx is None:
            return {}
        if not self._stacks:
            return dict(zip(self._directions, hx, strict=True))
        parts = [torch.split(state, list(self._directions.values())) for state in layers.states_of(hx)]
        return {name: layers.as_hx(own) for name, own in zip(self._directions, zip(*parts, strict=True), strict=True)}


def _use(layer: Recurrent | BidirectionalNode) -> Use:
    if isinstance(layer, Recurrent):
        return Use(layer.values, layer.return_sequences, layer.fill)
    return Use((), layer.return_sequences, "zero")
