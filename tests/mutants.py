"""Converters and engines with one fault each: what the comparison has to catch.

A `Mutant` patches our own code, in one engine only, so that everything else (the reference, the other engines) stays right.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np
import pytest

from parity.conventions import Value, to_canonical
from parity.deferred import Blocks, blocks_of
from parity.layouts import GATES, LAYOUTS, Kind, Layout
from parity.network import Dense, Network, Output, Recurrent
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack
from parity.result import Result, State

FEATURES, UNITS, LABELS = 3, 5, 2

HOMES = {
    "torch": "parity.frameworks.torch.building",
    "onnxruntime": "parity.frameworks.onnx.cells",
    "keras": "parity.network.keras.layer_writing",
}
"""The module in which each engine's weights are packed, and the table row is looked up."""

FRAMEWORKS = {"torch": "torch", "onnxruntime": "onnx", "keras": "keras"}

Patch: TypeAlias = Callable[[pytest.MonkeyPatch], None]
Pack: TypeAlias = Callable[[Layout, RecurrentSpec, Sequence[Weights]], dict[str, Array]]
ChangeWeights: TypeAlias = Callable[[Sequence[Weights]], Sequence[Weights]]


@dataclass(frozen=True)
class Mutant:
    """One fault in one engine.

    Args:
        name: of the fault.
        engine: which gets it.
        kind: of the layer it shows in.
        patch: puts it there.
        directions: of the layer.
        model: whether it takes a model (a recurrent layer that hands over its last step, then a dense one) to show it.
        batch, time: of the inputs; equal only where unequal ones could not even run.
    """

    name: str
    engine: str
    kind: Kind
    patch: Patch
    directions: tuple[Direction, ...] = ("forward",)
    model: bool = False
    batch: int = 4
    time: int = 9

    def __str__(self) -> str:
        return f"{self.engine} {self.kind} {self.name}"

    @property
    def setting(self) -> tuple[Any, ...]:
        """All but the fault: what has to agree without it."""
        return self.engine, self.kind, self.directions, self.model, self.batch, self.time


def network(kind: Kind, directions: tuple[Direction, ...], model: bool, seed: int = 7) -> Network:
    """Random weights and biases, none of them zero, and sizes all different from each other."""
    random = np.random.default_rng(seed)
    spec = RecurrentSpec(kind, FEATURES, UNITS, directions)
    layer = Recurrent("recurrent", spec, tuple(_weights(random, spec) for _ in directions), return_sequences=not model)
    if not model:
        return Network("mutant", (layer,), (), "torch")
    dense = Dense("dense", _uniform(random, (spec.output_size, LABELS)), _uniform(random, (LABELS,)))
    return Network("mutant", (layer, dense), (Output("y", "dense"),), "keras")


def _weights(random: np.random.Generator, spec: RecurrentSpec) -> Weights:
    names = ("kernel", "recurrent", "bias_input", "bias_recurrent")
    return Weights(*(_uniform(random, spec.shape(name)) for name in names))


def _uniform(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values: Array = random.uniform(0.1, 0.9, shape) * random.choice([-1.0, 1.0], shape)
    return values.astype(np.float32)


# ---- the order of the gates


def wrong_orders(kind: Kind, layout: Layout) -> list[Layout]:
    """The layout with its gates in every order but the right one: 23 for an LSTM, 5 for a GRU."""
    own = layout.own_gates
    orders = [gates for gates in permutations(GATES[kind]) if gates != layout.gates]
    return [replace(layout, order=" ".join(map(":".join, zip(own, gates, strict=True)))) for gates in orders]


def wrong_row(engine: str, layout: Layout) -> Patch:
    """One framework's row of the table replaced, as that framework sees it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        if engine == "keras":
            monkeypatch.setattr(f"{HOMES[engine]}.keras_layout", lambda *_: layout)
        else:
            monkeypatch.setattr(f"{HOMES[engine]}.LAYOUTS", {**LAYOUTS, (layout.framework, layout.kind): layout})

    return patch


def wrong_packing(engine: str, pack: Pack) -> Patch:
    """An engine's weights are packed by another function; Keras's in blocks, as they are written to files, too."""

    def in_blocks(*given: Any) -> dict[str, Blocks]:
        return {name: blocks_of(array) for name, array in pack(*given).items()}

    name, function = ("packed", in_blocks) if engine == "keras" else ("pack", pack)
    return lambda monkeypatch: monkeypatch.setattr(f"{HOMES[engine]}.{name}", function)


def wrong_tensor(engine: str, layout: Layout, member: str) -> Patch:
    """The replaced row holds for the arrays of one member only."""
    names = [tensor.name for tensor in layout.tensors if member in tensor.members]

    def packed(right: Layout, spec: RecurrentSpec, weights: Sequence[Weights]) -> dict[str, Array]:
        wrong = pack(layout, spec, weights)
        return {name: wrong[name] if name in names else array for name, array in pack(right, spec, weights).items()}

    return wrong_packing(engine, packed)


# ---- the weights themselves


def wrong_weights(engine: str, change: ChangeWeights) -> Patch:
    """Every layer's weights are changed before they are packed."""

    def packed(layout: Layout, spec: RecurrentSpec, weights: Sequence[Weights]) -> dict[str, Array]:
        return pack(layout, spec, change(weights))

    return wrong_packing(engine, packed)


def swapped_biases(weights: Sequence[Weights]) -> list[Weights]:
    return [replace(one, bias_input=one.bias_recurrent, bias_recurrent=one.bias_input) for one in weights]


def transposed_recurrence(weights: Sequence[Weights]) -> list[Weights]:
    return [replace(one, recurrent=one.recurrent.swapaxes(1, 2)) for one in weights]


def dropped_bias(weights: Sequence[Weights]) -> list[Weights]:
    return scaled_bias(weights, 0)


def doubled_bias(weights: Sequence[Weights]) -> list[Weights]:
    return scaled_bias(weights, 2)


def scaled_bias(weights: Sequence[Weights], by: float) -> list[Weights]:
    def scaled(bias: Array | None) -> Array | None:
        return None if bias is None else np.asarray(bias * np.float32(by))

    return [
        replace(one, bias_input=scaled(one.bias_input), bias_recurrent=scaled(one.bias_recurrent)) for one in weights
    ]


def one_bias_dropped(weights: Sequence[Weights]) -> list[Weights]:
    return [replace(one, bias_recurrent=None) for one in weights]


# ---- directions, states, axes: what an engine's module does around the weights


def torch_directions_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.frameworks.torch.building.SUFFIXES", {"forward": "_reverse", "backward": ""})


def onnx_directions_swapped(weights: Sequence[Weights]) -> list[Weights]:
    return list(weights)[::-1]


def keras_directions_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.network.keras import layer_writing

    honest = layer_writing.keras_arrays

    def arrays(layer: Any) -> list[Array]:
        found = honest(layer)
        half = len(found) // 2
        return [*found[half:], *found[:half]]

    monkeypatch.setattr("parity.frameworks.keras.keras_arrays", arrays)


def backward_not_flipped(engine: str) -> Patch:
    """The backward half of the sequence stays in the order in which it was computed."""

    def read(values: Sequence[Value], arrays: Sequence[Array], directions: int) -> dict[Any, Array]:
        found = to_canonical(values, arrays, directions)
        if "sequence" not in found:
            return found
        sequence = found["sequence"].copy()
        sequence[:, :, -1] = sequence[:, ::-1, -1]
        return {**found, "sequence": sequence}

    module = f"parity.frameworks.{FRAMEWORKS[engine]}.running"
    return lambda monkeypatch: monkeypatch.setattr(f"{module}.to_canonical", read)


def torch_reversed_without_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.frameworks.torch.layers._turned", lambda tensor, _: tensor)


def onnx_reversed_without_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {("forward",): "forward", ("backward",): "forward", DIRECTIONS: "bidirectional"}
    monkeypatch.setattr("parity.frameworks.onnx.cells.ONNX_DIRECTIONS", table)


def torch_states_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.frameworks.torch.running.as_hx", lambda states: tuple(states)[::-1])


def onnx_states_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.frameworks.onnx.instrumenting import Instrumented, instrument

    def instrumented(model: Any, network: Network, masked: bool = False) -> Instrumented:
        given = instrument(model, network, masked)
        return replace(given, states={layer: names[::-1] for layer, names in given.states.items()})

    monkeypatch.setattr("parity.frameworks.onnx.running.instrument", instrumented)


def keras_states_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.frameworks.keras.running import KerasRunner

    honest = KerasRunner._initial

    def initial(self: Any, name: str, state: State) -> list[list[Any]]:
        return [states[::-1] for states in honest(self, name, state)]

    monkeypatch.setattr(KerasRunner, "_initial", initial)


def axes_mistaken(runner: str) -> Patch:
    """Batch and time taken for each other, on the way in and on the way out, where both are as long: else it could not even run."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, name = runner.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        honest = cls.__call__

        def call(self: Any, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
            right = self._time_major
            self._time_major = right != (inputs.shape[0] == inputs.shape[1])
            result: Result = honest(self, inputs, states, mask)
            self._time_major = right
            return result

        monkeypatch.setattr(cls, "__call__", call)

    return patch


def torch_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`output[:, -1]` for the final state of both directions: the backward one is at [:, 0]."""
    from parity.frameworks.torch.layers import Run, shown

    def wrong(value: Value, run: Run) -> Any:
        return run.sequence[:, -1].flatten(1) if value.quantity == "last" else shown(value, run)

    monkeypatch.setattr("parity.frameworks.torch.layers.shown", wrong)


def onnx_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a Gather of index -1."""
    from parity.frameworks.onnx.building import Builder

    honest = Builder._value

    def shown(self: Any, layer: Recurrent, value: Value, name: str) -> str:
        if value.quantity not in ("h", "last"):
            return honest(self, layer, value, name)
        every = replace(layer, return_sequences=True).values[0]
        return str(self._a.picked(honest(self, layer, every, f"{name}.all"), 1, -1, f"{name}.last"))

    monkeypatch.setattr(Builder, "_value", shown)


# ---- all of them


def gate_mutants(engine: str, kind: Kind, sample: int = 1) -> list[Mutant]:
    """All wrong orders (or every n-th) in all tensors together; and a few in each tensor alone."""
    wrong = wrong_orders(kind, LAYOUTS[FRAMEWORKS[engine], kind])
    together = [Mutant(f"gates {layout.order}", engine, kind, wrong_row(engine, layout)) for layout in wrong[::sample]]
    alone = [
        Mutant(f"gates {layout.order} in {member} alone", engine, kind, wrong_tensor(engine, layout, member))
        for member in ("kernel", "recurrent", "bias_input", "bias_recurrent")
        for layout in wrong[:: 9 * sample]
    ]
    return together + alone


def weight_mutants(engine: str, kind: Kind) -> list[Mutant]:
    changes: list[ChangeWeights] = [transposed_recurrence, dropped_bias, doubled_bias, one_bias_dropped]
    if kind == "gru":
        changes.append(swapped_biases)
    return [
        Mutant(change.__name__.replace("_", " "), engine, kind, wrong_weights(engine, change), directions)
        for change in changes
        for directions in (("forward",), DIRECTIONS)
    ]


def engine_mutants(kind: Kind) -> list[Mutant]:
    both, back = DIRECTIONS, DIRECTIONS[1:]
    torch_runner, onnx_runner = "parity.frameworks.torch.running.TorchRunner", "parity.frameworks.onnx.OnnxRunner"
    mutants = [
        Mutant("directions swapped", "torch", kind, torch_directions_swapped, both),
        Mutant("directions swapped", "onnxruntime", kind, wrong_weights("onnxruntime", onnx_directions_swapped), both),
        Mutant("directions swapped", "keras", kind, keras_directions_swapped, both),
        *(Mutant("backward half not flipped", engine, kind, backward_not_flipped(engine), both) for engine in HOMES),
        Mutant("reversed layer not flipped", "torch", kind, torch_reversed_without_flip, back),
        Mutant("reversed layer not flipped", "onnxruntime", kind, onnx_reversed_without_flip, back),
        Mutant("last step at [:, -1]", "torch", kind, torch_last_step, both, model=True),
        Mutant("last step at [:, -1]", "onnxruntime", kind, onnx_last_step, both, model=True),
        Mutant("batch_first mistaken", "torch", kind, axes_mistaken(torch_runner), batch=8, time=8),
        Mutant("batch_first mistaken", "onnxruntime", kind, axes_mistaken(onnx_runner), batch=8, time=8),
    ]
    if kind == "lstm":
        mutants += [
            Mutant("h and c swapped", "torch", kind, torch_states_swapped),
            Mutant("h and c swapped", "onnxruntime", kind, onnx_states_swapped),
            Mutant("h and c swapped", "keras", kind, keras_states_swapped),
        ]
    return mutants


MUTANTS: list[Mutant] = [
    mutant
    for kind in GATES
    for mutant in (
        *(one for engine in ("torch", "onnxruntime") for one in gate_mutants(engine, kind)),
        *gate_mutants("keras", kind, sample=5 if kind == "lstm" else 2),
        *(one for engine in HOMES for one in weight_mutants(engine, kind)),
        *engine_mutants(kind),
    )
]
