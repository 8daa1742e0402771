"""The float64 reference and its replicas, run beside each other: a large run in slices of the batch and windows of time.

Of the replicas nothing is kept but how far they are from the reference. Where every layer takes the steps in their order, a window is
run with the states that the window before it ended with, so that many samples run at once however many steps there are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import Bidirectional, Network, Recurrent
from parity.quantity import quantities
from parity.recurrent import Array
from parity.reference import Float64, Mask, Trajectory
from parity.result import Result, State
from parity.rounding import Float32Rounding

_SLICE_BYTES = 1 << 28
"""States of the reference and its replicas that stand in memory at once, of each slice that runs."""

_ROWS, _WINDOW_BYTES = 144, 1 << 24
"""Rows (samples, times the reference and its replicas) and states of a window: enough for a matrix product, few enough for the caches,
and for memory that is used again without being asked for."""

_THREADS = 2
"""Slices that run at once: NumPy's functions take one core each."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The reference, and how far its replicas are from it.

    Args:
        result: the reference in canonical axes.
        trajectories: every step of every recurrent layer.
        spreads: by quantity name, the largest distance of any replica in any unit; of the quantity's axes with the last of length 1.
    """

    result: Result
    trajectories: dict[str, Trajectory]
    spreads: dict[str, Float64]


def run_replicas(
    network: Network,
    inputs: Array,
    states: Mapping[str, State],
    replicas: int,
    seed: int,
    mask: Mask | None,
) -> Runs:
    """Run the reference and so many replicas; the arguments are those of `parity.floor.measure`."""
    batch, time = inputs.shape[:2]
    rows, window = _cut(network, batch, time, replicas + 1, mask is not None)
    whole = _Whole(batch, time)
    slices = [slice(start, min(start + rows, batch)) for start in range(0, batch, rows)]

    def run(own: slice) -> None:
        _run_slice(network, inputs, states, replicas + 1, seed, mask, own, window, whole)

    with ThreadPoolExecutor(_THREADS) as pool:
        list((pool.map if len(slices) > 1 else map)(run, slices))
    trajectories = {
        layer.name: Trajectory(
            layer.spec.directions,
            whole.arrays["h", layer.name],
            whole.arrays.get(("c", layer.name)),
            states[layer.name],
            whole.arrays.get(("mask", layer.name)),
            layer.fill,
        )
        for layer in network.recurrent
    }
    result = Result(
        "reference",
        {output.name: whole.arrays["output", output.name] for output in network.shown},
        {name: path.run for name, path in trajectories.items()},
        settings={"numpy": np.__version__, "dtype": "float64", "device": "cpu"},
    )
    return Runs(result, trajectories, {name: array for (kind, name), array in whole.arrays.items() if kind == "spread"})


def _cut(network: Network, batch: int, time: int, groups: int, masked: bool) -> tuple[int, int]:
    """Samples of a slice, and steps of a window."""
    widths = sum(layer.output_size * len(layer.spec.states) for layer in network.recurrent)
    most = _SLICE_BYTES // (8 * groups * widths)  # single steps of one sample
    if batch * time <= most:
        return batch, time
    if not _in_order(network, masked):
        return max(1, min(batch, most // time)), time
    rows = max(1, min(batch, _ROWS // groups))
    return rows, max(1, _WINDOW_BYTES // (8 * groups * widths * rows))


def _in_order(network: Network, masked: bool) -> bool:
    """Whether what a network computes of a step follows from the states and inputs until then."""
    for layer in network.layers:
        if isinstance(layer, Bidirectional):
            return False
        if isinstance(layer, Recurrent):
            # What repeats the last valid step has to know whether there was one.
            repeats = layer.fill == "repeat" and (masked or network.masks_itself)
            if layer.spec.directions != ("forward",) or layer.reverse or repeats:
                return False
    return True


class _Whole:
    """Arrays of a run, filled part by part."""

    def __init__(self, batch: int, time: int) -> None:
        self._lengths = {"batch": batch, "time": time}
        self._making = threading.Lock()
        self.arrays: dict[tuple[str, str], NDArray[Any]] = {}

    def put(self, kind: str, name: str, part: NDArray[Any], axes: Sequence[str], rows: slice, steps: slice) -> None:
        """One more part; what has no axis of time is that of the last window.

        Args:
            kind, name: of the array.
            part: of these samples and steps.
            axes: by name.
            rows, steps: where in the batch and in time.
        """
        with self._making:
            if (kind, name) not in self.arrays:
                shape = [self._lengths.get(axis, length) for axis, length in zip(axes, part.shape, strict=True)]
                self.arrays[kind, name] = np.empty(shape, part.dtype)
        where = {"batch": rows, "time": steps}
        self.arrays[kind, name][tuple(where.get(axis, slice(None)) for axis in axes)] = part


def _run_slice(
    network: Network,
    inputs: Array,
    states: Mapping[str, State],
    groups: int,
    seed: int,
    mask: Mask | None,
    rows: slice,
    window: int,
    whole: _Whole,
) -> None:
    """Run some samples, window by window."""
    rounding = Float32Rounding(groups, rows.stop - rows.start, seed + rows.start)
    now = {
        name: State(*(np.tile(array[:, rows], (1, groups, 1)) for array in state.arrays()))
        for name, state in states.items()
    }
    time = inputs.shape[1]
    for start in range(0, time, window):
        steps = slice(start, min(start + window, time))
        given = np.tile(inputs[rows, steps], (groups, *(1,) * (inputs.ndim - 1)))
        valid = None if mask is None else np.tile(mask[rows, steps], (groups, 1))
        # What overflows is judged as such; NumPy need not say so at every step.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs, paths = network.compute(given, now, rounding, valid)
            runs = {name: path.run for name, path in paths.items()}
            _keep(network, Result("replicas", outputs, runs), paths, groups, rows, steps, whole)
        now = {name: run.final for name, run in runs.items()}


def _keep(
    network: Network,
    runs: Result,
    paths: Mapping[str, Trajectory],
    groups: int,
    rows: slice,
    steps: slice,
    whole: _Whole,
) -> None:
    """What is wanted of a window: every step of the reference, and how far the replicas are from it."""
    batch = rows.stop - rows.start
    for quantity, array in quantities(network, runs):
        axis = quantity.axes.index("batch")
        grouped = array.reshape(*array.shape[:axis], groups, batch, *array.shape[axis + 1 :])
        reference, *others = np.moveaxis(grouped, axis, 0)
        spread = np.zeros((*reference.shape[:-1], 1))
        for other in others:
            np.maximum(spread, np.abs(other - reference).max(axis=-1, keepdims=True), out=spread)
        whole.put("spread", quantity.name, spread, quantity.axes, rows, steps)
        if quantity.name.startswith("output "):
            whole.put("output", quantity.name.removeprefix("output "), reference, quantity.axes, rows, steps)
    for name, path in paths.items():
        axes = ("batch", "time", "direction", "hidden")
        for kind, states in (("h", path.h), ("c", path.c), ("mask", path.mask)):
            if states is not None:
                whole.put(kind, name, states[:batch], axes[: states.ndim], rows, steps)


__all__ = ["Runs", "run_replicas"]
