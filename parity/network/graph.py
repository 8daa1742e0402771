"""A network: layers in a chain, and which of their values are the model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from parity.conventions import Value
from parity.deferred import Array, not_finite
from parity.errors import ParityError, Problem, UnsupportedError
from parity.network.bidirectional import Bidirectional
from parity.network.dense import Dense
from parity.network.dropout import Dropout
from parity.network.embedding import Embedding
from parity.network.masking import Masking
from parity.network.opaque import Opaque
from parity.network.recurrent import Recurrent
from parity.recurrent import RecurrentSpec
from parity.reference import Exact, Mask, Rounding, Trajectory
from parity.result import LayerRun, State
from parity.shown import html_of

ONLY_HERE = {"described": False}
"""Marks a field that no description of a network holds: only whole networks are described."""

_MOST_KINDS = 3
"""So many reasons why a model is no chain are told."""

Layer: TypeAlias = Recurrent | Bidirectional | Dense | Embedding | Masking | Dropout


@dataclass(frozen=True)
class Output:
    """One output of a model.

    Args:
        name: as the framework names it.
        layer: the layer it comes from; for a state, the recurrent layer inside a `Bidirectional`.
        value: which of a recurrent layer's values; None for what the layer gives to the next one.
    """

    name: str
    layer: str
    value: Value | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A model, free of any framework.

    Args:
        name: of the model, or of the layer.
        layers: in order; each takes what the one before gives.
        outputs: the model's outputs in order. Empty for bare recurrent layers (a live layer, a state dict, an ONNX node), whose
            return is the framework's own: the sequence and the final states.
        origin: the framework it was read from.
        details: what else the source says of itself (producer, version, format), for people to read.
        time: the number of steps that the source insists on, None for any.
        opaque: layers that are described, not computed.
        problems: why the network is partial: it holds the layers that could be read, and cannot be run or converted as a chain.
        graph: the whole model as values between operations, where it is no chain of these layers.
        input_name: what the source calls its input; "" where it has no name.

    Example:
        >>> from parity.recurrent import Weights
        >>> weights = Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5)))
        >>> Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),)).recurrent[0].name
        'gru'
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[Output, ...] = ()
    origin: str = ""
    details: dict[str, str] = field(default_factory=dict)
    time: int | None = None
    opaque: tuple[Opaque, ...] = field(default=(), metadata=ONLY_HERE)
    problems: tuple[Problem, ...] = field(default=(), metadata=ONLY_HERE)
    graph: Any = field(default=None, metadata=ONLY_HERE)
    input_name: str = field(default="", metadata=ONLY_HERE)

    def __post_init__(self) -> None:
        self._check_finite()
        if not self.recurrent and not self.problems:
            raise UnsupportedError(
                "no recurrent layer in the model",
                where=self.name,
                expected="at least one LSTM, GRU or RNN",
                got=", ".join(f"{type(layer).__name__} '{layer.name}'" for layer in self.layers) or "no layers",
                remedy="parity converts models around recurrent layers; give it one that has such a layer",
            )

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{layer.name}: {type(layer).__name__} {layer.input_size}->{layer.output_size}" for layer in self.layers
        )
        partial = f", partial{f': {len(self.opaque)} more layers' if self.opaque else ''}" if self.problems else ""
        return f"Network('{self.name}', {layers}{partial})"

    def _repr_html_(self) -> str:
        return html_of(self)

    def whole(self) -> Network:
        """The network itself, if it can be run and converted as a whole.

        Raises:
            UnsupportedError: it is partial; says why, all problems at once. Its recurrent layers can be used one by one.
        """
        if not self.problems:
            return self
        if self.graph is not None and not self.graph.problems:
            kinds = list(dict.fromkeys(problem.what for problem in self.problems))
            raise UnsupportedError(
                "more than a chain of layers, which is all that is taken here",
                self.name,
                "a chain around recurrent layers",
                "; ".join(kinds[:_MOST_KINDS]) + (", ..." if len(kinds) > _MOST_KINDS else ""),
                "as a whole it goes to .onnx, or to code: parity convert SOURCE FOLDER --to torch (or keras), to_torch, to_keras",
            )
        names = ", ".join(f"'{layer.name}'" for layer in self.recurrent[:8])
        alone = (
            f"its recurrent layers can be used one by one: {names}; read(source).recurrent[k], or --layer NAME; "
            "parity.transfer(source, model) puts all weights into a model that you write"
        )
        raise UnsupportedError(
            [
                replace(problem, remedy="; ".join(filter(None, (problem.remedy, names and alone))))
                for problem in self.problems
            ]
        )

    @property
    def stopping(self) -> tuple[Problem, ...]:
        """Why it is not known as a whole: what is wrong with its graph where it has one, else with its chain."""
        found: tuple[Problem, ...] = self.problems if self.graph is None else self.graph.problems
        return found

    def _check_finite(self) -> None:
        """Through a weight that is no number every comparison would be one of NaN with NaN. A deferred one is checked when it is read."""
        found = [
            not_finite(array, f"layer '{layer.name}', {name}, canonical index")
            for layer in self.layers
            for name, array in layer.arrays.present.items()
        ]
        problems = [problem for problem in found if problem]
        if problems:
            raise ParityError(problems)

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        """The recurrent layers, in order; those inside a `Bidirectional` one by one."""
        inner = (layer.recurrent if isinstance(layer, Bidirectional) else (layer,) for layer in self.layers)
        return tuple(layer for group in inner for layer in group if isinstance(layer, Recurrent))

    @property
    def specs(self) -> dict[str, RecurrentSpec]:
        """Kind and sizes of every recurrent layer, by name, in order."""
        return {layer.name: layer.spec for layer in self.recurrent}

    @property
    def bare(self) -> bool:
        """Whether this is a recurrent layer or stack by itself, without a model's own outputs."""
        return not self.outputs

    @property
    def tokens(self) -> int | None:
        """Size of the vocabulary if the inputs are integers for an Embedding, else None."""
        first = self.layers[0]
        return first.input_size if isinstance(first, Embedding) else None

    @property
    def masks_itself(self) -> bool:
        """Whether a layer of the model makes a mask of the inputs."""
        return any(
            isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero) for layer in self.layers
        )

    @property
    def shown(self) -> tuple[Output, ...]:
        """The model's outputs; for a bare layer that merges its directions, what it returns for its sequence.

        Everything else that a bare network returns can be told from the runs of its layers.
        """
        last = self.layers[-1]
        if self.outputs or isinstance(last, (Dense, Embedding, Masking, Dropout)):
            return self.outputs
        if isinstance(last, Bidirectional):
            if last.merge_mode is None:
                return tuple(Output(stack[-1].name, stack[-1].name, stack[-1].given[0]) for stack in last.stacks)
            return (Output("output", last.name),)
        return tuple(Output(value.name, last.name, value) for value in last.given) if last.merges else ()

    def compute(
        self,
        inputs: Array,
        states: Mapping[str, State],
        rounding: Rounding | None = None,
        mask: Mask | None = None,
    ) -> tuple[dict[str, Array], dict[str, Trajectory]]:
        """Run the network in float64.

        Args:
            inputs: (batch, time, features), or (batch, time) integers for an Embedding.
            states: the initial state of every recurrent layer.
            rounding: what happens to intermediate values, nothing by default.
            mask: (batch, time), True where a step is valid; None for all. Layers that make masks narrow it, as in Keras.

        Returns:
            The outputs in `shown` by name, and every recurrent layer's steps by name.
        """
        rounding = rounding or Exact()
        value: Array = inputs if self.tokens else np.asarray(inputs, np.float64)
        paths: dict[str, Trajectory] = {}
        given: dict[str, Array] = {}
        for layer in self.layers:
            if isinstance(layer, (Masking, Embedding)):
                mask = _both(mask, layer.mask(value))
            if isinstance(layer, Recurrent):
                paths[layer.name] = layer.compute(value, states[layer.name], rounding, mask)
                value = layer.given[0].of([paths[layer.name].run])
            elif isinstance(layer, Bidirectional):
                found = layer.compute(value, states, rounding, mask)
                paths |= found
                value = layer.given({name: path.run for name, path in found.items()})[0]
            elif isinstance(layer, Masking):
                value = layer.compute(value)
            elif not isinstance(layer, Dropout):
                value = layer.compute(value, rounding)
            if isinstance(layer, (Recurrent, Bidirectional)) and not layer.return_sequences:
                mask = None
            given[layer.name] = value
        return output_values(self, given, {name: path.run for name, path in paths.items()}), paths


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def layer_facts(layer: Layer) -> dict[str, object]:
    """A layer in words and sizes, for people and for records.

    Example:
        >>> layer_facts(Dense("classes", np.ones((3, 2))))["activation"]
        'linear'
    """
    sizes: dict[str, object] = {"input": layer.input_size, "output": layer.output_size}
    return {"name": layer.name, "family": type(layer).__name__, **sizes, **layer.facts}


def output_values(network: Network, given: Mapping[str, Array], runs: Mapping[str, LayerRun]) -> dict[str, Array]:
    """The network's outputs by name, from what every layer gave on and every recurrent layer computed."""
    return {
        output.name: given[output.layer] if output.value is None else output.value.of([runs[output.layer]])
        for output in network.shown
    }
