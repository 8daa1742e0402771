"""The suspect: something that can be run on inputs of our choosing, or what it gave once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, chain_case, chain_outputs
from parity.diagnosis.repairs.opening import verbs
from parity.errors import ParityError, Problem, ShapeError
from parity.failed import said_by_engine
from parity.frameworks import Runner, Settings, call
from parity.graph.chains import MASK, state_name
from parity.graph.graph import Wire
from parity.graph.judging import GraphRunner
from parity.graph.matching import values_as
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
    def engine(self) -> str:
        """The engine that runs it; "" for a recording."""

    @property
    def live(self) -> bool:
        """Whether it can be run on other inputs."""

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """What it gives on the inputs of a case, by the names of the case's outputs.

        Args:
            case: the right model on inputs.
            engine: another one than its own, to which it is converted.
        """

    def copied(self) -> Suspect | None:
        """The same as it is now, with whatever it keeps from its calls; None where it cannot be copied."""

    def seen(self, case: Case) -> dict[Wire, Array]:
        """Values inside the suspect by the wires of the right model, as far as it shows them and they can be matched."""

    def described(self, case: Case) -> Case | None:
        """The suspect as it was read, on the inputs of a case, its outputs by the names of the case's; None where it was not read."""


class ChainSuspect:
    """A chain of layers, run with the initial states and the mask of the case.

    Args:
        opened: the suspect.
        first: the right model, whose layers and outputs are the suspect's by position.
        settings: where it runs.
        engine: its own by default.
    """

    live = True

    def __init__(self, opened: Opened, first: Network, settings: Settings, engine: str | None = None) -> None:
        self.label, self.engine = opened.label, engine or opened.engine or REFERENCE
        self._opened, self._settings = opened, settings
        self._first, self._own = first, opened.network
        self._run: Runner = runner(opened, self.engine, settings)

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """Run it."""
        run = self._run if engine is None else runner(self._opened, engine, self._settings)
        x, states = case.inputs[case.graph.inputs[0].name], self._states(case)
        with said_by_engine(engine or self.engine):
            result = call(run, x, states, case.inputs.get(MASK))
        if not self._first.bare:
            return dict(zip(self._first_outputs(), result.outputs.values(), strict=True))
        layers = dict(zip(self._first.specs, (result.layers[name] for name in self._own.specs), strict=True))
        return chain_outputs(self._first, type(result)(result.engine, {}, layers))

    def copied(self) -> ChainSuspect | None:
        """A copy of the live object; of a file, the file opened again."""
        opened = _copied(self._opened)
        return None if opened is None else ChainSuspect(opened, self._first, self._settings, self.engine)

    def seen(self, case: Case) -> dict[Wire, Array]:
        """Nothing: the weights of a chain are known, and tell more."""
        return {}

    def described(self, case: Case) -> Case | None:
        """Its own layers, weights and options."""
        x = case.inputs[case.graph.inputs[0].name]
        own = chain_case(self._own, x, self._states(case), case.inputs.get(MASK))
        return _under_names_of(case, own)

    def _states(self, case: Case) -> dict[str, State]:
        """The initial states of a case, by the suspect's own layers."""
        x, states = case.inputs[case.graph.inputs[0].name], {}
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
        return states

    def _first_outputs(self) -> list[str]:
        return [output.name for output in self._first.outputs]


class GraphSuspect:
    """A whole model, inputs and outputs matched by position.

    Args:
        opened: the suspect.
        settings: where it runs.
        engine: its own by default.
    """

    live = True

    def __init__(self, opened: Opened, settings: Settings, engine: str | None = None) -> None:
        self.label, self.engine = opened.label, engine or opened.engine or REFERENCE
        self._opened, self._settings = opened, settings
        self._graph = opened.graph
        self._run: GraphRunner = graph_runner(opened, self.engine, settings)

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """Run it."""
        run = self._run if engine is None else graph_runner(self._opened, engine, self._settings)
        with said_by_engine(engine or self.engine):
            outputs = run(self._inputs(case)).outputs
        return dict(zip(case.graph.outputs, (outputs[name] for name in self._graph.outputs), strict=True))

    def copied(self) -> GraphSuspect | None:
        """A copy of the live object; of a file, the file opened again."""
        opened = _copied(self._opened)
        return None if opened is None else GraphSuspect(opened, self._settings, self.engine)

    def described(self, case: Case) -> Case | None:
        """The graph that was read."""
        if "unread" in self._graph.details:
            return None
        return _under_names_of(case, Case(self._graph, self._inputs(case)))

    def seen(self, case: Case) -> dict[Wire, Array]:
        """The values of its layers."""
        if "unread" in self._graph.details:
            return {}
        return values_as(case.graph, self._graph, self._run.seen(self._inputs(case)), case.graph.values(case.inputs))

    def _inputs(self, case: Case) -> dict[str, Array]:
        """The inputs of a case by its own names."""
        given = [case.inputs[one.name] for one in case.graph.inputs]
        return dict(zip((one.name for one in self._graph.inputs), given, strict=True))


class RecordedSuspect:
    """What a suspect gave once.

    Args:
        outputs: by the names of the right model's outputs.
        label: what it is called.
    """

    live = False
    engine = ""

    def __init__(self, outputs: Mapping[str, Array], label: str = "the recording") -> None:
        self.label, self._outputs = label, dict(outputs)

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """The recording, whatever the case and the engine.

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
        self._check(case)
        return self._outputs

    def _check(self, case: Case) -> None:
        """What no mistake could have computed.

        Raises:
            ShapeError: outputs that are not finite, or hold more or fewer numbers than the right model's.
        """
        right = case.outputs()
        problems = []
        for name, array in self._outputs.items():
            if not np.isfinite(array).all():
                problems.append(Problem("the recorded output is not finite", name, "finite numbers", "NaN or infinity"))
            elif array.size != right[name].size:
                remedy = f"record what is '{name}' there; several outputs go by name: {', '.join(case.graph.outputs)}"
                expected, got = str(right[name].shape), str(array.shape)
                problems.append(Problem("the recorded output has another shape", name, expected, got, remedy))
        if problems:
            raise ShapeError(problems)

    def copied(self) -> None:
        """There is nothing to run."""

    def seen(self, case: Case) -> dict[Wire, Array]:
        """Nothing."""
        return {}

    def described(self, case: Case) -> None:
        """Nobody knows."""


def _copied(opened: Opened) -> Opened | None:
    if opened.live is None or opened.engine is None:
        return opened
    try:
        return replace(opened, live=verbs(opened.engine).copied(opened.live))
    except ParityError:
        return None


def _under_names_of(case: Case, own: Case) -> Case:
    """A case with the outputs of another by position."""
    outputs = dict(zip(case.graph.outputs, own.graph.outputs.values(), strict=True))
    return replace(own, graph=replace(own.graph, outputs=outputs), ignored=case.ignored)


__all__ = ["ChainSuspect", "GraphSuspect", "RecordedSuspect", "Suspect"]
