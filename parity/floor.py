"""The measured float32 floor: what rounding alone does to this very computation.

Beside the float64 reference, replicas of it run whose every intermediate value suffers a float32-sized rounding of random sign.
Half of them draw the signs anew at every step; the other half keep one draw, as a systematic bias near a fixed point would.
`parity.rounding` says how large a rounding is, `parity.replicas` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from parity.network import Bidirectional, Network, Output, Recurrent
from parity.quantity import Quantity, quantities
from parity.recurrent import Array
from parity.reference import Float64, Mask, Trajectory
from parity.replicas import run_replicas
from parity.result import Result, State
from parity.rounding import SIGMOID_ERROR, TANH_ERROR, UNIT, Float32Rounding

LOST = 0.1
"""Where the floor exceeds this share of the signal nobody can tell right from wrong any more: the horizon."""

_DRAWS = 512
"""So many replicas times units show the worst that rounding does; fewer show less, so a narrow layer gets more replicas."""

_FEWEST_REPLICAS, _USUAL_REPLICAS, _MOST_REPLICAS = 8, 16, 64
_LARGE_FLOPS = 1e10
"""Replicas are halved down to the fewest where all of them together take more work than this."""

_WORST_SIGMA = 3.5
"""The floor is meant to be the worst that rounding does, taken as so many standard deviations."""

_NEIGHBOURS = 8
"""Steps on either side whose floor is looked at."""

_FEWEST_STEPS, _MOST_STEPS, _STEP_FLOPS = 32, 512, 2.5e8


@dataclass(frozen=True, eq=False)
class Band:
    """The floor of one quantity.

    Args:
        reference: the quantity in float64.
        floor: its float32 noise, of the same axes with the last of length 1.
        comparable: where the floor has not yet grown to the size of the signal, like `floor`.
        padded: where a mask leaves the step out, so that what stands there is a convention, like `floor`; None for nowhere.
        overflowed: where the computation has left the range of float32, so that infinities and NaN are right, like `floor`.
    """

    quantity: Quantity
    reference: Float64
    floor: Float64
    comparable: NDArray[np.bool_]
    padded: NDArray[np.bool_] | None = None
    overflowed: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Floor:
    """The reference and the floor of every quantity of one run.

    Args:
        result: the float64 reference in canonical axes.
        trajectories: every step of every recurrent layer.
        bands: by quantity name.
        replicas: how many perturbed runs the floor rests on.
        horizon: the first step, in processing order, from which some part of the run is not comparable; None if all is.
    """

    result: Result
    trajectories: dict[str, Trajectory]
    bands: dict[str, Band]
    replicas: int
    horizon: int | None


def in_floors(error: Float64, floor: Float64) -> Float64:
    """Absolute errors in floors, of the errors' shape; infinite for what is not finite, and for any error where rounding makes none.

    Example:
        >>> in_floors(np.array([2.0, 2.0, 0.0, np.nan]), np.array([4.0, 0.0, 0.0, 1.0])).tolist()
        [0.5, inf, 0.0, inf]
    """
    unmeasured = np.where(error > 0, np.inf, 0.0)
    ratio = np.divide(error, floor, out=unmeasured, where=np.broadcast_to(floor > 0, error.shape))
    return np.where(np.isfinite(error), ratio, np.inf)


def measure(
    network: Network,
    inputs: Array,
    states: Mapping[str, State],
    replicas: int | None = None,
    seed: int = 0,
    mask: Mask | None = None,
    one_signal: bool = False,
) -> Floor:
    """Run the reference and its replicas.

    Args:
        network: the description of what was run.
        inputs: (batch, time, features), or (batch, time) integers.
        states: the initial state of every recurrent layer.
        replicas: 16 unless told otherwise, up to 64 for layers of few units, 8 where the run is large.
        seed: of the rounding signs.
        mask: (batch, time), True where a step is valid; None for all.
        one_signal: whether all samples are steps of one run, so that the size of the signal is that of all of them.

    Returns:
        The reference and the floor.
    """
    batch, time = inputs.shape[:2]
    replicas = replicas or _affordable(network, batch, time)
    runs = run_replicas(network, inputs, states, replicas, seed, mask)
    spreads = {
        quantity.name: filled(runs.spreads[quantity.name], quantity) * widening(replicas * array.shape[-1])
        for quantity, array in quantities(network, runs.result)
    }
    return _bands(network, runs.result, runs.trajectories, spreads, replicas, one_signal)


@dataclass(frozen=True, eq=False)
class OneStep:
    """Steps of the reference's trajectory as one batch of single steps: no error can grow, and chaos plays no part.

    Args:
        inputs: (samples, 1, features), or (samples, 1) integers.
        states: the state before each of these steps, rounded to float32.
        samples: (batch index, time index) of every sample, (samples, 2).
        floor: of the single steps.
    """

    inputs: Array
    states: dict[str, State]
    samples: NDArray[np.int64]
    floor: Floor


def one_step(network: Network, inputs: Array, floor: Floor, seed: int = 0, replicas: int | None = None) -> OneStep:
    """Take the trajectory apart into single steps: all of them, or a random choice where the run is large.

    Args:
        network: the description of what was run.
        inputs: of the run, (batch, time, features) or (batch, time) integers.
        floor: of the run.
        seed: of the choice.
        replicas: as for `measure`.
    """
    batch, time = inputs.shape[:2]
    flops_per_step = _flops(network, 1, 1)
    count = int(min(batch * time, max(_FEWEST_STEPS, min(_MOST_STEPS, _STEP_FLOPS / flops_per_step))))
    # A step that a mask leaves out changes nothing; without any other, there is nothing to compare but that.
    valid = np.flatnonzero(_valid_everywhere(floor, batch, time).ravel() & _starts_within_float32(floor))
    candidates = valid if valid.size else np.arange(batch * time)
    chosen = np.sort(np.random.default_rng(seed).choice(candidates, min(count, candidates.size), replace=False))
    single = inputs.reshape(batch * time, 1, *inputs.shape[2:])[chosen]
    states = {
        name: State(*(array.astype(np.float32) for array in path.before(chosen).arrays()))
        for name, path in floor.trajectories.items()
    }
    samples = np.stack(np.unravel_index(chosen, (batch, time)), axis=1)
    return OneStep(single, states, samples, measure(network, single, states, replicas, seed, one_signal=True))


def _valid_everywhere(floor: Floor, batch: int, time: int) -> Mask:
    """Steps that no layer's mask leaves out, (batch, time)."""
    masks = [path.mask for path in floor.trajectories.values() if path.mask is not None]
    together: Mask = np.logical_and.reduce([np.ones((batch, time), bool), *masks])
    return together


def _starts_within_float32(floor: Floor) -> NDArray[np.bool_]:
    """Steps, row b*time + t, that every layer begins in a state within float32's range."""
    most = np.finfo(np.float32).max
    within = []
    for path in floor.trajectories.values():
        initial = State(*(_largest(array) for array in path.initial.arrays()))
        largest = replace(path, h=_largest(path.h), c=None if path.c is None else _largest(path.c), initial=initial)
        within += [(array <= most).all(axis=(0, 2)) for array in largest.before().arrays()]
    together: NDArray[np.bool_] = np.logical_and.reduce(within)
    return together


def _largest(array: Array) -> Float64:
    """The largest absolute value along the last axis, which is kept; nothing of the array's size is made."""
    largest: Float64 = np.maximum(array.max(axis=-1, keepdims=True), -array.min(axis=-1, keepdims=True))
    return largest


def _affordable(network: Network, batch: int, time: int) -> int:
    flops = _flops(network, batch, time)
    narrowest = min(layer.spec.hidden_size for layer in network.recurrent)
    replicas = min(_MOST_REPLICAS, max(_USUAL_REPLICAS, _DRAWS // narrowest))
    while replicas > _FEWEST_REPLICAS and (replicas + 1) * flops > _LARGE_FLOPS:
        replicas //= 2
    return max(replicas, _FEWEST_REPLICAS)


def _flops(network: Network, batch: int, time: int) -> float:
    """Of one run."""
    weights = sum(w.kernel.size + w.recurrent.size for layer in network.recurrent for w in layer.weights)
    return 2.0 * batch * time * weights


def widening(draws: int) -> float:
    """How much larger the worst error is than what so many draws have shown: sqrt(2 ln n) sigma is the largest of n normal ones.

    Example:
        >>> [round(widening(replicas * units), 2) for replicas, units in ((16, 1), (4, 16), (16, 64))]
        [1.49, 1.21, 1.0]
    """
    return max(1.0, _WORST_SIGMA / float(np.sqrt(2 * np.log(max(draws, 2)))))


def filled(spread: Float64, quantity: Quantity) -> Float64:
    """Steps at which all replicas happen to be near the reference get the median of their neighbours: in 10000 steps there are such."""
    if "time" not in quantity.axes:
        return spread
    axis = quantity.axes.index("time")
    around = [(0, 0)] * spread.ndim
    around[axis] = (_NEIGHBOURS, _NEIGHBOURS)
    windows = sliding_window_view(np.pad(spread, around, mode="edge"), 2 * _NEIGHBOURS + 1, axis)
    filled: Float64 = np.maximum(spread, np.median(windows, axis=-1))
    return filled


def _bands(
    network: Network,
    result: Result,
    trajectories: dict[str, Trajectory],
    spreads: Mapping[str, Float64],
    replicas: int,
    one_signal: bool,
) -> Floor:
    bands: dict[str, Band] = {}
    lost_steps: dict[str, NDArray[np.bool_]] = {}
    overflows: dict[str, NDArray[np.bool_]] = {}
    for name, path in trajectories.items():
        prefix = "" if len(trajectories) == 1 else f"{name}."
        scale = _largest(path.h).max(axis=(0, 1, 3) if one_signal else (1, 3), keepdims=True)
        overflows[name] = _from_then_on(_beyond_float32(path), path)
        lost = ~(spreads[f"{prefix}sequence"] <= LOST * scale) | overflows[name]
        lost_steps[name] = _from_then_on(lost, path)
    for quantity, reference in quantities(network, result):
        spread = spreads[quantity.name]
        floor = spread + 2 * UNIT * _largest(reference)
        lost, overflowed = (_where(quantity, steps, spread) for steps in (lost_steps, overflows))
        padded = _padded(network, quantity, spread, trajectories)
        bands[quantity.name] = Band(quantity, reference, floor, ~lost, padded, overflowed if overflowed.any() else None)
    return Floor(result, trajectories, bands, replicas, _horizon(lost_steps, trajectories))


def _beyond_float32(path: Trajectory) -> NDArray[np.bool_]:
    """Steps whose state is no number of float32, (batch, time, direction, 1)."""
    states = [path.h] if path.c is None else [path.h, path.c]
    within = [_largest(state) <= np.finfo(np.float32).max for state in states]
    beyond: NDArray[np.bool_] = ~np.logical_and.reduce(within)
    return beyond


def _where(quantity: Quantity, steps: Mapping[str, NDArray[np.bool_]], spread: Float64) -> NDArray[np.bool_]:
    """What is known of every layer's steps, of one quantity: of its layer's sequence, or of any layer in the same sample."""
    layer = next((name for name in steps if quantity.name in (f"{name}.sequence", "sequence")), None)
    if layer is not None:
        return steps[layer]
    # A model's output or a final state comes after every step of every layer.
    anywhere = np.stack([found.any(axis=(1, 2, 3)) for found in steps.values()]).any(axis=0)
    axis = quantity.axes.index("batch")
    return np.broadcast_to(anywhere.reshape([-1 if index == axis else 1 for index in range(spread.ndim)]), spread.shape)


def _padded(
    network: Network, quantity: Quantity, spread: Float64, paths: Mapping[str, Trajectory]
) -> NDArray[np.bool_] | None:
    """Where a quantity shows a convention: at steps that a mask leaves out, and in what follows a sample without any valid step."""
    if not any(path.mask is not None for path in paths.values()):
        return None
    own = next((name for name in paths if quantity.name.startswith(f"{name}.") or len(paths) == 1), None)
    output = next((one for one in network.shown if f"output {one.name}" == quantity.name), None)
    valid = paths[own].mask if output is None and own else _valid_steps(network, output, paths)
    if valid is None:
        return None
    left_out = ~valid if "time" in quantity.axes else ~valid.any(axis=1)
    if not left_out.any():
        return None
    order = [quantity.axes.index(axis) for axis in ("batch", "time") if axis in quantity.axes]
    shape = [length if index in order else 1 for index, length in enumerate(spread.shape)]
    return np.broadcast_to(left_out.reshape(shape), spread.shape)


def _valid_steps(network: Network, output: Output | None, paths: Mapping[str, Trajectory]) -> Mask | None:
    """Which steps of a model's output are valid, (batch, time): a layer that gives its sequence reversed turns them round."""
    valid: Mask | None = None
    for layer in network.layers:
        stacks = (
            layer.stacks if isinstance(layer, Bidirectional) else ((layer,),) if isinstance(layer, Recurrent) else ()
        )
        found = []
        for last in (stack[-1] for stack in stacks):
            value = output.value if output is not None and output.layer == last.name and output.value else last.given[0]
            mask = paths[last.name].mask
            found.append(mask[:, ::-1] if mask is not None and value.reverse else mask)
        masks = [mask for mask in found if mask is not None]
        if stacks:
            valid = np.logical_and.reduce(masks) if masks else None
        if output is not None and output.layer in (layer.name, *(last.name for stack in stacks for last in stack)):
            break
    return valid


def _from_then_on(lost: NDArray[np.bool_], path: Trajectory) -> NDArray[np.bool_]:
    """Once a direction has lost the signal, everything it processes later is lost too."""
    later = lost.copy()
    for index, direction in enumerate(path.directions):
        turn = slice(None, None, -1 if direction == "backward" else 1)
        later[:, turn, index] = np.logical_or.accumulate(lost[:, turn, index], axis=1)
    return later


def _horizon(lost_steps: Mapping[str, NDArray[np.bool_]], paths: Mapping[str, Trajectory]) -> int | None:
    firsts = []
    for name, lost in lost_steps.items():
        for index, direction in enumerate(paths[name].directions):
            steps = lost[:, :: -1 if direction == "backward" else 1, index, 0].any(axis=0)
            if steps.any():
                firsts.append(int(steps.argmax()))
    return min(firsts, default=None)


__all__ = [
    "LOST",
    "SIGMOID_ERROR",
    "TANH_ERROR",
    "UNIT",
    "Band",
    "Float32Rounding",
    "Floor",
    "OneStep",
    "Quantity",
    "filled",
    "in_floors",
    "measure",
    "one_step",
    "quantities",
    "widening",
]
