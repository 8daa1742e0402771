"""A network as an ONNX graph: native recurrent nodes where they say a layer, plain operators around them where they do not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx

from parity.conventions import Value, onnx_returns
from parity.forms import form_in, obstacles
from parity.frameworks.onnx.giving import Shown, computed, merged, value_of
from parity.frameworks.onnx.masks import OPSET as MASK_OPSET
from parity.frameworks.onnx.masks import StepMask, any_feature
from parity.frameworks.onnx.nodes import BOOL, FLOAT, INT64, Assembly
from parity.frameworks.onnx.trace import STEPS
from parity.network import Bidirectional, Dense, Dropout, Embedding, Layer, Masking, Network, Recurrent
from parity.network.activations import ACTIVATIONS

OPSETS = (7, 22)
"""The recurrent operators have had their present meaning since 7; newer sets change nothing that is used here."""

DEFAULT_OPSET = 17
FORM_KEY = "parity.form"


@dataclass(frozen=True)
class Probe:
    """What a graph is given beside its own inputs and outputs so that an engine's every step can be seen.

    Args:
        prefix: of all its names; no layer or output has one that begins so.
        masked: whether the graph takes a mask.
    """

    prefix: str
    masked: bool = False

    @classmethod
    def of(cls, network: Network, masked: bool = False) -> Probe:
        """A probe whose names nothing in the network has."""
        taken = [*(layer.name for layer in network.layers), *network.specs, *(output.name for output in network.shown)]
        prefix = "parity"
        while any(name.startswith(f"{prefix}.") for name in taken):
            prefix += "_"
        return cls(prefix, masked)

    def initial(self, layer: str, state: str) -> str:
        """Name of the input for a layer's state before the first step, (direction, batch, features)."""
        return f"{self.prefix}.{layer}.initial_{state}"

    def value(self, layer: str, value: str) -> str:
        """Name of the output for a layer's value, by its name in `onnx_returns`; or "last"."""
        return f"{self.prefix}.{layer}.{value}"

    @property
    def mask(self) -> str:
        """Name of the input for a mask, (time, batch) of bool."""
        return f"{self.prefix}.mask"


class Builder:
    """Adds the nodes of a network, one layer after the other.

    Args:
        network: to be said.
        opset: 7 to 22.
        probe: what the graph is given beside its own inputs and outputs, None for nothing.
    """

    def __init__(self, network: Network, opset: int, probe: Probe | None = None) -> None:
        self._network, self._probe = network, probe
        self._steps = STEPS if network.bare else "batch time"
        self._shown: dict[str, Shown] = {}
        self._given: dict[str, tuple[str, ...]] = {}
        self._mask: StepMask | None = None
        self.is_composed = False
        """Whether anything stands in the graph that the framework's own layers do not say."""
        # Outputs and layers keep their names; everything between gives way.
        nodes = dict.fromkeys([*(layer.name for layer in network.layers), *network.specs])
        self._a = Assembly(opset, self._reserved(probe or Probe.of(network)), nodes)

    @property
    def homes(self) -> Mapping[tuple[str, int], dict[str, str]]:
        """Where the weights stand: names of the initializers, by layer and part of it."""
        return self._a.homes

    def model(self, properties: dict[str, str] | None = None) -> onnx.ModelProto:
        """The whole model, checked.

        Raises:
            UnsupportedError: something that this opset cannot say.
        """
        network = self._network
        source = self._a.name("X" if network.bare else "input")
        features = [] if network.tokens else [network.layers[0].input_size]
        value = self._a.input(source, INT64 if network.tokens else FLOAT, [*self._steps.split(), *features])
        if self._probe is not None and self._probe.masked:
            self._mask = StepMask(self._a, self._a.input(self._probe.mask, BOOL, STEPS.split()), "parity")
        for layer in network.layers:
            self._given[layer.name] = self._add(layer, value)
            value = self._given[layer.name][0]
        if network.bare:
            self._give_own()
        else:
            self._give_outputs()
        if self._probe is not None:
            self._give_all(self._probe)
        form = form_in(network, "onnx")
        return self._a.model(network.name, {FORM_KEY: json.dumps(asdict(form)), **(properties or {})})

    def _reserved(self, probe: Probe) -> Iterable[str]:
        """Names of the graph's own inputs and outputs, and of a probe's, so that the nodes are the same with it and without."""
        network = self._network
        named = {output.name for output in network.shown}
        if network.bare:
            named |= {name for names in self._own_states().values() for _, name in names}
            named.add(self._own_sequence())
        for layer in network.recurrent:
            for state in layer.spec.states:
                if layer.stateful:
                    named.add(_state_input(layer, state))
                named.add(probe.initial(layer.name, state))
            values = [*(row.name for row in onnx_returns(layer.spec.kind)), "last"]
            named |= {probe.value(layer.name, name) for name in values}
        return named | {probe.mask}

    # ---- layers

    def _add(self, layer: Layer, value: str) -> tuple[str, ...]:
        if isinstance(layer, (Recurrent, Bidirectional)):
            found = self._add_recurrent(layer, value) if isinstance(layer, Recurrent) else self._add_both(layer, value)
            if not layer.return_sequences:
                self._mask = None
            return found
        if isinstance(layer, Embedding):
            return (self._add_embedding(layer, value),)
        if isinstance(layer, Masking):
            return (self._add_masking(layer, value),)
        return (value,) if isinstance(layer, Dropout) else (self._add_dense(layer, value),)

    def _add_recurrent(self, layer: Recurrent, value: str) -> tuple[str, ...]:
        self._compute(layer, value)
        if self._network.bare and layer is self._network.layers[-1] and not layer.merges:
            return (self._shown[layer.name].of("sequence")[0],)
        return tuple(self._value(layer, given, f"{layer.name}.{given.name}") for given in layer.given)

    def _compute(self, layer: Recurrent, value: str) -> None:
        """Adds the nodes of a layer and keeps what they give."""
        a, spec, mask = self._a, layer.spec, self._mask
        self.is_composed |= bool(obstacles(layer, "onnx", mask is not None, self._network.bare))
        x = a.rearranged(value, f"{self._steps} input", f"{STEPS} input", f"{layer.name}.X", {"input": spec.input_size})
        self._shown[layer.name] = computed(a, layer, x, mask, self._initial(layer))

    def _initial(self, layer: Recurrent) -> tuple[str, ...] | None:
        if self._probe is None and not layer.stateful:
            return None
        return tuple(
            self._a.input(
                self._probe.initial(layer.name, state) if self._probe else _state_input(layer, state),
                FLOAT,
                [len(layer.spec.directions), "batch", layer.spec.state_shape(state, 1)[-1]],
            )
            for state in layer.spec.states
        )

    def _add_both(self, layer: Bidirectional, value: str) -> tuple[str, ...]:
        self.is_composed = True
        halves = []
        for stack in layer.stacks:
            half = value
            for inner in stack:
                self._compute(inner, half)
                half = self._value(inner, inner.given[0], f"{inner.name}.output")
            halves.append(half)
        if layer.merge_mode is None:
            return tuple(halves)
        if layer.merge_mode == "concat":
            return (self._a.node("Concat", halves, f"{layer.name}.output", axis=2 if layer.return_sequences else 1),)
        return (merged(self._a, halves[0], halves[1], layer.merge_mode, f"{layer.name}.output"),)

    def _add_embedding(self, layer: Embedding, value: str) -> str:
        a = self._a
        if layer.mask_zero:
            tokens = a.rearranged(value, self._steps, STEPS, f"{layer.name}.tokens", {})
            a.needs(MASK_OPSET, "a mask", f"layer '{layer.name}'")
            zero = a.constant(f"{layer.name}.zero", np.asarray(0, np.int64))
            is_zero = a.node("Equal", [tokens, zero], f"{layer.name}.is_zero")
            self._narrow(a.node("Not", [is_zero], f"{layer.name}.valid"), layer)
        table = a.weights(layer.name, {"table": layer.table})["table"]
        return a.node("Gather", [table, value], f"{layer.name}.rows", layer.name)

    def _add_masking(self, layer: Masking, value: str) -> str:
        a, name = self._a, layer.name
        a.needs(MASK_OPSET, "a mask", f"layer '{name}'")
        marked = a.node("Equal", [value, a.number(f"{name}.mask_value", layer.mask_value)], f"{name}.marked")
        valid = any_feature(a, a.node("Not", [marked], f"{name}.differs"), f"{name}.valid")
        self._narrow(a.rearranged(valid, self._steps, STEPS, f"{name}.valid.steps", {}), layer)
        return a.node(
            "Where",
            [a.unsqueezed(valid, 2, f"{name}.valid.features"), value, a.number(f"{name}.zero", 0.0)],
            f"{name}.output",
            name,
        )

    def _narrow(self, valid: str, layer: Layer) -> None:
        self.is_composed = True
        self._mask = StepMask(self._a, valid, layer.name) if self._mask is None else self._mask.both(valid, layer.name)

    def _add_dense(self, layer: Dense, value: str) -> str:
        a = self._a
        names = a.weights(layer.name, layer.arrays)
        value = a.node("MatMul", [value, names["kernel"]], f"{layer.name}.product", layer.name)
        if layer.bias is not None:
            value = a.node("Add", [value, names["bias"]], f"{layer.name}.sum")
        if layer.activation == "linear":
            return value
        op = ACTIVATIONS[layer.activation].onnx
        along: dict[str, Any] = {"axis": len(self._axes_of(layer.name)) - 1} if op == "Softmax" else {}
        return a.node(op, [value], f"{layer.name}.{layer.activation}", **along)

    # ---- values

    def _value(self, layer: Recurrent, value: Value, name: str) -> str:
        """One of a layer's values, out of what its nodes give; time first where the whole graph has it first."""
        if self._network.bare and value.quantity == "sequence":
            value = replace(value, axes=value.axes.replace("batch time", STEPS))
        self.is_composed |= value.reverse
        return value_of(self._a, layer, self._shown[layer.name], value, name)

    # ---- outputs

    def _give_outputs(self) -> None:
        recurrent = {layer.name: layer for layer in self._network.recurrent}
        for output in self._network.outputs:
            if output.value is None:
                self._a.give(self._given[output.layer][0], output.name, self._axes_of(output.layer))
                continue
            layer = recurrent[output.layer]
            tensor = self._value(layer, output.value, f"{output.name}.value")
            self._a.give(tensor, output.name, output.value.shape(_sizes(layer)))

    def _axes_of(self, name: str) -> list[int | str]:
        axes: list[int | str] = self._steps.split()  # type: ignore[assignment]
        for layer in self._network.layers:
            if isinstance(layer, (Recurrent, Bidirectional)) and not layer.return_sequences:
                axes = ["batch"]
            if layer.name == name:
                return [*axes, layer.output_size]
        raise KeyError(name)

    def _give_own(self) -> None:
        """What a bare stack returns: its sequence, or what merging makes of it, and its final states."""
        network = self._network
        last = network.recurrent[-1]
        for output, tensor in zip(network.shown, self._given[network.layers[-1].name], strict=False):
            own = network.specs.get(output.layer) if output.value is not None else None
            size = network.layers[-1].output_size if own is None else own.state_size
            steps = self._steps.split() if self._gives_steps else ["batch"]
            self._a.give(tensor, output.name, [*steps, size])
        if not network.shown:
            row = onnx_returns(last.spec.kind)[0]
            self._a.give(self._shown[last.name].of("sequence")[0], row.name, row.shape(_sizes(last)))
        for state, name, layers in self._stacked():
            tensors = [self._shown[layer.name].of(state)[0] for layer in layers]
            joined = tensors[0] if len(tensors) == 1 else self._a.node("Concat", tensors, f"{name}.stacked", axis=0)
            directions = sum(len(layer.spec.directions) for layer in layers)
            self._a.give(joined, name, [directions, "batch", layers[0].spec.state_shape(state, 1)[-1]])

    @property
    def _gives_steps(self) -> bool:
        last = self._network.layers[-1]
        return not isinstance(last, (Recurrent, Bidirectional)) or last.return_sequences

    def _own_sequence(self) -> str:
        return onnx_returns(self._network.recurrent[-1].spec.kind)[0].name

    def _own_states(self) -> dict[str, list[tuple[str, str]]]:
        """Names of the final states that a bare stack returns, by layer: the operator's own where all layers' states stack."""
        layers = self._network.recurrent
        alike = len({(layer.spec.kind, layer.spec.hidden_size, layer.spec.state_size) for layer in layers}) == 1
        alike = alike and not isinstance(self._network.layers[-1], Bidirectional)
        return {
            layer.name: [
                (state, row.name if alike else f"{layer.name}.{row.name}")
                for state, row in zip(layer.spec.states, onnx_returns(layer.spec.kind)[1:], strict=True)
            ]
            for layer in layers
        }

    def _stacked(self) -> list[tuple[str, str, list[Recurrent]]]:
        """Each final state that is returned: which, its name, and the layers it is of."""
        found: dict[tuple[str, str], list[Recurrent]] = {}
        names = self._own_states()
        for layer in self._network.recurrent:
            for key in names[layer.name]:
                found.setdefault(key, []).append(layer)
        return [(state, name, layers) for (state, name), layers in found.items()]

    def _give_all(self, probe: Probe) -> None:
        for layer in self._network.recurrent:
            shown = self._shown[layer.name]
            for row in onnx_returns(layer.spec.kind):
                self._a.give(shown.of(row.quantity)[0], probe.value(layer.name, row.name), row.shape(_sizes(layer)))
            last = onnx_returns(layer.spec.kind)[1]
            self._a.give(shown.of("last")[0], probe.value(layer.name, "last"), last.shape(_sizes(layer)))


def _sizes(layer: Recurrent) -> dict[str, int | str]:
    return {**layer.spec.sizes, "batch": "batch", "time": "time"}


def _state_input(layer: Recurrent, state: str) -> str:
    return f"{layer.name}.initial_{state}"


__all__ = ["DEFAULT_OPSET", "FORM_KEY", "OPSETS", "Builder", "Probe"]
