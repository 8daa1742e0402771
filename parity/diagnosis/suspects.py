"""The suspect: something that can be run on inputs of our choosing, or what it gave once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, chain_outputs
from parity.errors import ShapeError
from parity.frameworks import Runner, Settings, call
from parity.graph.chains import MASK, state_name
from parity.graph.judging import GraphRunner
from parity.graph.running import graph_runner
from parity.judge import REFERENCE
from parity.network import Network
from parity.result import State
from parity.running import runner
from parity.sources import Opened


class Suspect(Protocol):
    """What is to be explained."""

    @property
    def label(self) -> str:
        """What it is called."""

    @property
    def live(self) -> bool:
        """Whether it can be run on other inputs."""

    def observe(self, case: Case) -> dict[str, Array]:
        """What it gives on the inputs of a case, by the names of the case's outputs."""


class ChainSuspect:
    """A chain of layers, run with the initial states and the mask of the case.

    Args:
        opened: the suspect.
        first: the right model, whose layers and outputs are the suspect's by position.
        settings: where it runs.
    """

    live = True

    def __init__(self, opened: Opened, first: Network, settings: Settings) -> None:
        self.label, self._first, self._own = opened.label, first, opened.network
        self._run: Runner = runner(opened, opened.engine or REFERENCE, settings)

    def observe(self, case: Case) -> dict[str, Array]:
        """Run it."""
        x = case.inputs[case.graph.inputs[0].name]
        states = {}
        for mine, own in zip(self._first.recurrent, self._own.recurrent, strict=True):
            names = [[state_name(mine.name, state, way) for way in mine.spec.directions] for state in mine.spec.states]
            shapes = [mine.spec.state_shape(state, len(x)) for state in mine.spec.states]
            states[own.name] = State(
                *(
                    np.stack([case.inputs[name] for name in row])
                    if row[0] in case.inputs
                    else np.zeros(shape, "float32")
                    for row, shape in zip(names, shapes, strict=True)
                )
            )
        result = call(self._run, x, states, case.inputs.get(MASK))
        if not self._first.bare:
            return dict(zip(self._first_outputs(), result.outputs.values(), strict=True))
        layers = dict(zip(self._first.specs, (result.layers[name] for name in self._own.specs), strict=True))
        return chain_outputs(self._first, type(result)(result.engine, {}, layers))

    def _first_outputs(self) -> list[str]:
        return [output.name for output in self._first.outputs]


class GraphSuspect:
    """A whole model, inputs and outputs matched by position.

    Args:
        opened: the suspect.
        settings: where it runs.
    """

    live = True

    def __init__(self, opened: Opened, settings: Settings) -> None:
        self.label, self._graph = opened.label, opened.graph
        self._run: GraphRunner = graph_runner(opened, opened.engine or REFERENCE, settings)

    def observe(self, case: Case) -> dict[str, Array]:
        """Run it."""
        names = [one.name for one in self._graph.inputs]
        given = [case.inputs[one.name] for one in case.graph.inputs]
        outputs = self._run(dict(zip(names, given, strict=True))).outputs
        return dict(zip(case.graph.outputs, (outputs[name] for name in self._graph.outputs), strict=True))


class RecordedSuspect:
    """What a suspect gave once.

    Args:
        outputs: by the names of the right model's outputs.
        label: what it is called.
    """

    live = False

    def __init__(self, outputs: Mapping[str, Array], label: str = "the recorded outputs") -> None:
        self.label, self._outputs = label, dict(outputs)

    def observe(self, case: Case) -> dict[str, Array]:
        """The recording.

        Raises:
            ShapeError: names that the right model has not.
        """
        unknown = [name for name in self._outputs if name not in case.graph.outputs]
        if unknown or not self._outputs:
            raise ShapeError(
                "outputs of other names than the reference's",
                self.label,
                ", ".join(case.graph.outputs),
                ", ".join(unknown) or "none",
            )
        return self._outputs


__all__ = ["ChainSuspect", "GraphSuspect", "RecordedSuspect", "Suspect"]
