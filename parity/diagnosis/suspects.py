"""The suspect: something that can be run on inputs of our choosing, or what it gave once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, chain_case, chain_outputs
from parity.diagnosis.fitting import Fit, Given, Taken, expected_of, fitted, under_names
from parity.diagnosis.repairs.opening import verbs
from parity.errors import ParityError, ShapeError
from parity.failed import said_by_engine
from parity.frameworks import Runner, Settings, call
from parity.graph.chains import MASK, state_name
from parity.graph.graph import Wire
from parity.graph.judging import GraphRunner
from parity.graph.matching import values_as
from parity.graph.running import graph_runner
from parity.judge import REFERENCE
from parity.network import Network, Recurrent
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

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the form of what it gives."""

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
        self._first, self._own = first, _turned_alike(opened.network, first)
        self._alike = first.bare and _handed_alike(self._own, first)
        self._run: Runner = runner(opened, self.engine, settings)
        self._fit: Fit | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the form of what it gives."""
        return () if self._fit is None else self._fit.notes

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """Run it."""
        run = self._run if engine is None else runner(self._opened, engine, self._settings)
        x, states = case.inputs[case.graph.inputs[0].name], self._states(case)
        with said_by_engine(engine or self.engine):
            result = call(run, x, states, case.inputs.get(MASK))
        if self._alike:
            layers = dict(zip(self._first.specs, (result.layers[name] for name in self._own.specs), strict=True))
            return chain_outputs(self._first, type(result)(result.engine, {}, layers))
        outputs = list(chain_outputs(self._own, result).values())
        if self._fit is None:
            given = [Given("", one.shape) for one in outputs]
            self._fit = fitted(expected_of(case), given, self.label, live=True)
        return self._fit.arrays(outputs)

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
        fit = Fit({name: Taken(place) for place, name in enumerate(case.graph.outputs)}) if self._alike else self._fit
        return None if fit is None else under_names(case, own, fit)

    def _states(self, case: Case) -> dict[str, State]:
        """The initial states of a case, by the suspect's own layers."""
        x, states = case.inputs[case.graph.inputs[0].name], {}
        for mine, own in zip(self._first.recurrent, self._own.recurrent, strict=True):
            states[own.name] = State(
                *(np.stack(list(_rows(case, mine, own, state, len(x)))) for state in own.spec.states)
            )
        return states


def _rows(case: Case, mine: Recurrent, own: Recurrent, state: str, batch: int) -> Iterator[Array]:
    """The initial states of a layer, direction by direction; of one that runs the other way those of the right one's direction."""
    for way in own.spec.directions:
        ways = mine.spec.directions
        name = state_name(mine.name, state, way if way in ways else ways[0])
        zeros = np.zeros(own.spec.state_shape(state, batch)[1:], np.float32)
        yield case.inputs.get(name, zeros)


def _turned_alike(network: Network, first: Network) -> Network:
    """A layer by itself that runs in the right one's direction, its output in the right one's order of steps: how a framework hands it over
    is no mistake. One that runs in another direction stays as it is."""
    own, right = network.layers[-1], first.layers[-1]
    if not (network.bare and isinstance(own, Recurrent) and isinstance(right, Recurrent)):
        return network
    if own.spec.directions != right.spec.directions or own.reverse == right.reverse:
        return network
    return replace(network, layers=(*network.layers[:-1], replace(own, reverse=right.reverse)))


def _handed_alike(network: Network, first: Network) -> bool:
    """Whether the layers of both run in the same directions and hand them over alike, so that what they computed is laid side by side."""
    pairs = zip(network.recurrent, first.recurrent, strict=True)
    return all(
        own.spec.directions == right.spec.directions and (own.merge_mode == right.merge_mode or not own.bidirectional)
        for own, right in pairs
        if isinstance(own, Recurrent) and isinstance(right, Recurrent)
    )


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
        self._opened, self._settings = _with_any_outputs(opened), settings
        self._graph = opened.graph
        self._run: GraphRunner = graph_runner(self._opened, self.engine, settings)
        self._fit: Fit | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the form of what it gives."""
        return () if self._fit is None else self._fit.notes

    def observe(self, case: Case, engine: str | None = None) -> dict[str, Array]:
        """Run it."""
        run = self._run if engine is None else graph_runner(self._opened, engine, self._settings)
        with said_by_engine(engine or self.engine):
            found = run(self._inputs(case)).outputs
        outputs = list(found.values())
        if self._fit is None:
            self._fit = self._laid(case, outputs)
        return self._fit.arrays(outputs)

    def lay_on(self, case: Case) -> None:
        """Find out which of its outputs are the right model's.

        Raises:
            ShapeError: none are.
        """
        with said_by_engine(self.engine):
            found = self._run(self._inputs(case)).outputs
        self._fit = self._laid(case, list(found.values()))

    def _laid(self, case: Case, outputs: Sequence[Array]) -> Fit:
        return fitted(expected_of(case), [Given("", one.shape) for one in outputs], self.label, live=True)

    def copied(self) -> GraphSuspect | None:
        """A copy of the live object; of a file, the file opened again."""
        opened = _copied(self._opened)
        return None if opened is None else GraphSuspect(opened, self._settings, self.engine)

    def described(self, case: Case) -> Case | None:
        """The graph that was read; None where it holds for other lengths than the case has, as one traced through a loop over steps."""
        if self._fit is None or not self._holds_for(case):
            return None
        return under_names(case, Case(self._graph, self._inputs(case)), self._fit)

    def seen(self, case: Case) -> dict[Wire, Array]:
        """The values of its layers."""
        if not self._holds_for(case):
            return {}
        return values_as(case.graph, self._graph, self._run.seen(self._inputs(case)), case.graph.values(case.inputs))

    def _holds_for(self, case: Case) -> bool:
        """Whether it was read, and for inputs of such lengths."""
        given = self._inputs(case)
        fixed = (
            (length, size)
            for one in self._graph.inputs
            for length, size in zip(one.shape, given[one.name].shape, strict=False)
            if isinstance(length, int)
        )
        return "unread" not in self._graph.details and all(length == size for length, size in fixed)

    def _inputs(self, case: Case) -> dict[str, Array]:
        """The inputs of a case by its own names."""
        given = [case.inputs[one.name] for one in case.graph.inputs]
        return dict(zip((one.name for one in self._graph.inputs), given, strict=True))


class RecordedSuspect:
    """What a suspect gave once.

    Args:
        outputs: by the names of the right model's outputs.
        label: what it is called.
        notes: what was assumed of them.
    """

    live = False
    engine = ""

    def __init__(self, outputs: Mapping[str, Array], label: str = "the recording", notes: tuple[str, ...] = ()) -> None:
        self.label, self.notes, self._outputs = label, notes, dict(outputs)

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
        strange = [name for name, array in self._outputs.items() if not np.isfinite(array).all()]
        if strange:
            where = f"{', '.join(strange)} of {self.label}"
            remedy = "record a run that stays finite; a mistake that can be replayed gives numbers"
            raise ShapeError("the recorded output is not finite", where, "finite numbers", "NaN or infinity", remedy)
        return self._outputs

    def copied(self) -> None:
        """There is nothing to run."""

    def seen(self, case: Case) -> dict[Wire, Array]:
        """Nothing."""
        return {}

    def described(self, case: Case) -> None:
        """Nobody knows."""


def _with_any_outputs(opened: Opened) -> Opened:
    """A module that could not be read: what it gives may be another number of outputs than the right model's."""
    graph = opened.graph
    if "unread" not in graph.details:
        return opened
    graph = replace(graph, details={**graph.details, "outputs": "as many as there are"})
    return replace(opened, network=replace(opened.network, graph=graph))


def _copied(opened: Opened) -> Opened | None:
    if opened.live is None or opened.engine is None:
        return opened
    try:
        return replace(opened, live=verbs(opened.engine).copied(opened.live))
    except ParityError:
        return None


__all__ = ["ChainSuspect", "GraphSuspect", "RecordedSuspect", "Suspect"]
