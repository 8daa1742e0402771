"""What an engine computed, in canonical axes whatever the framework's own convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from parity.errors import Problem, ShapeError
from parity.recurrent import Array, RecurrentSpec

Inputs: TypeAlias = "ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]"


@dataclass(frozen=True, eq=False)
class State:
    """States of one recurrent layer between two steps.

    Args:
        h: (direction, batch, features); features are the units, or fewer after a projection.
        c: (direction, batch, hidden) for an LSTM, else None.
    """

    h: Array
    c: Array | None = None

    def arrays(self) -> tuple[Array, ...]:
        """The states in the order every framework takes and returns them."""
        return (self.h,) if self.c is None else (self.h, self.c)


@dataclass(frozen=True, eq=False)
class LayerRun:
    """What one recurrent layer computed.

    Args:
        final: the state after the last step each direction processes (the backward one ends at the first input step).
        sequence: (batch, time, direction, hidden), step t of every direction belongs to input step t; None where the engine
            does not show it (the inner layers of a stacked `torch.nn.LSTM`). At masked steps it holds what the engine puts there.
        last: (direction, batch, hidden), the sequence at the step each direction processes last, where that is not final.h: a mask can
            make them differ (`zero_output_for_mask`, a sample without a valid step).
    """

    final: State
    sequence: Array | None = None
    last: Array | None = None


@dataclass(frozen=True)
class Returned:
    """One value as the framework itself handed it over, before parity rearranged anything."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Result:
    """What one engine computed for one source, in canonical axes.

    Args:
        engine: "keras", "torch", "onnxruntime" or "reference".
        outputs: the model's outputs by name, in the model's order, batch first; none for a bare recurrent layer, whose
            sequence and final states stand below.
        layers: every recurrent layer's run, by name, in order.
        returned: what the framework's own call returned.
        settings: what the run depends on: versions, device, dtype, TF32, kernel path.

    Example:
        >>> run = LayerRun(State(np.ones((1, 2, 4))), np.zeros((2, 3, 1, 4)))
        >>> result = Result("reference", {}, {"gru": run})
        >>> result.sequence.shape, result.h_n.shape, result.c_n
        ((2, 3, 4), (1, 1, 2, 4), None)
        >>> result
        <Result: reference, sequence (2, 3, 4), layers gru>
    """

    engine: str
    outputs: dict[str, Array]
    layers: dict[str, LayerRun]
    returned: tuple[Returned, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = {name: array.shape for name, array in self.outputs.items()}
        if not shown and self.layers and list(self.layers.values())[-1].sequence is not None:
            shown = {"sequence": self.sequence.shape}
        outputs = [f"{name} {shape}" for name, shape in shown.items()]
        return f"<Result: {', '.join([self.engine, *outputs])}, layers {' '.join(self.layers)}>"

    @property
    def sequence(self) -> Array:
        """Output of the last recurrent layer, (batch, time, direction*hidden)."""
        last = list(self.layers.values())[-1].sequence
        if last is None:
            raise ShapeError(f"{self.engine} does not show the sequence of the last recurrent layer")
        joined: Array = last.reshape(*last.shape[:2], -1)
        return joined

    @property
    def h_n(self) -> Array:
        """Final h of all recurrent layers, (layer, direction, batch, hidden).

        Raises:
            ShapeError: the layers differ in size, so their states do not stack; they stand in `layers`.
        """
        return self._stacked([run.final.h for run in self.layers.values()])

    @property
    def c_n(self) -> Array | None:
        """Final c of all recurrent layers, (layer, direction, batch, hidden); None if a layer has no c (GRU)."""
        states = [run.final.c for run in self.layers.values()]
        present = [state for state in states if state is not None]
        return self._stacked(present) if len(present) == len(states) else None

    def _stacked(self, states: list[Array]) -> Array:
        shapes = {state.shape for state in states}
        if len(shapes) > 1:
            raise ShapeError(
                "the recurrent layers differ in size, so their states do not stack into one array",
                where=", ".join(self.layers),
                got=", ".join(map(str, sorted(shapes))),
                remedy="take them layer by layer: result.layers[name].final",
            )
        return np.stack(states)


def zero_state(spec: RecurrentSpec, batch: int, dtype: str = "float32") -> State:
    """The state every framework starts from unless told otherwise.

    Example:
        >>> zero_state(RecurrentSpec("lstm", 3, 5), batch=2).c.shape
        (1, 2, 5)
    """
    return State(*(np.zeros(spec.state_shape(state, batch), dtype) for state in spec.states))


def check_states(
    specs: Mapping[str, RecurrentSpec], initial_state: object, batch: int, dtype: str = "float32"
) -> dict[str, State]:
    """Initial states as users give them, as one `State` per recurrent layer.

    Args:
        specs: the recurrent layers by name, in order.
        initial_state: None (zeros); `h_0` or `(h_0, c_0)`, each (layer, direction, batch, hidden) as `Result.h_n` is, or without
            the layer axis for a single layer; or a dict by layer name of `State` or such tuples.
        batch: rows of the inputs.
        dtype: of the states handed to the engines.

    Raises:
        ShapeError: wrong number, wrong shapes, unknown layers, not finite; all at once.

    Example:
        >>> spec = RecurrentSpec("gru", 3, 5)
        >>> check_states({"gru": spec}, np.ones((1, 2, 5)), batch=2)["gru"].h.sum()
        np.float32(10.0)
    """
    if initial_state is None:
        return {name: zero_state(spec, batch, dtype) for name, spec in specs.items()}
    with np.errstate(over="ignore"):
        by_layer = {
            name: tuple(array.astype(dtype) for array in arrays)
            for name, arrays in _states_by_layer(specs, initial_state).items()
        }
    problems = [
        Problem(f"initial state for unknown layer '{name}'", expected=", ".join(specs))
        for name in by_layer
        if name not in specs
    ]
    states: dict[str, State] = {}
    for name, spec in specs.items():
        if name not in by_layer:
            states[name] = zero_state(spec, batch, dtype)
            continue
        arrays = by_layer[name]
        where = f"layer '{name}', {spec.kind} with states {' and '.join(spec.states)}"
        if len(arrays) != len(spec.states):
            problems.append(Problem("wrong number of initial states", where, str(len(spec.states)), str(len(arrays))))
            continue
        for label, array in zip(spec.states, arrays, strict=True):
            shape = spec.state_shape(label, batch)
            if array.shape != shape:
                expected = f"{shape}, that is (direction, batch, hidden)"
                problems.append(Problem(f"initial {label} has the wrong shape", where, expected, str(array.shape)))
            elif not np.isfinite(array).all():
                problems.append(Problem(f"initial {label} is not finite", where, "finite numbers", "NaN or infinity"))
        states[name] = State(*arrays)
    if problems:
        raise ShapeError(problems)
    return states


def _states_by_layer(specs: Mapping[str, RecurrentSpec], given: object) -> dict[str, tuple[Array, ...]]:
    if isinstance(given, Mapping):
        return {str(name): _as_arrays(value) for name, value in given.items()}
    arrays = _as_arrays(given)
    if len(specs) == 1 and all(array.ndim == 3 for array in arrays):
        return {next(iter(specs)): arrays}
    if any(array.ndim != 4 or array.shape[0] != len(specs) for array in arrays):
        raise ShapeError(
            "the initial state does not fit the recurrent layers",
            where=", ".join(specs),
            expected=f"arrays of shape (layer, direction, batch, hidden) with {len(specs)} layers, or a dict by layer name",
            got=", ".join(str(array.shape) for array in arrays),
        )
    return {name: tuple(array[index] for array in arrays) for index, name in enumerate(specs)}


def as_numbers(value: object, where: str) -> Array:
    """Anything array-like as a NumPy array of numbers; a torch tensor is detached first.

    Raises:
        ShapeError: not numbers, or rows of different lengths.

    Example:
        >>> as_numbers([[1, 2], [3, 4]], "inputs").shape
        (2, 2)
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ShapeError("this is no array of numbers", where, "rows of equal length", str(error)) from error
    if array.dtype.kind not in "fiub":
        raise ShapeError("this is no array of numbers", where, "numbers", f"dtype {array.dtype}")
    return array


def _as_arrays(value: object) -> tuple[Array, ...]:
    if isinstance(value, State):
        return value.arrays()
    if isinstance(value, (tuple, list)):
        return tuple(as_numbers(item, "initial state") for item in value)
    return (as_numbers(value, "initial state"),)
