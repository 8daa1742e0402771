"""What every engine computed beside the reference and its floor, as the parts of a record that look at all values take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.findings import Findings
from parity.floor import Band, in_floors, quantities
from parity.in_blocks import Block, part
from parity.recurrent import Array
from parity.reference import Float64


@dataclass(frozen=True, eq=False)
class Shown:
    """One quantity of one engine.

    Args:
        band: the reference and the floor.
        array: what the engine computed, of the reference's shape.
    """

    band: Band
    array: Array

    def errors(self, block: Block | None = None) -> tuple[Float64, Float64, NDArray[np.bool_]]:
        """Absolute errors, the same in floors (infinite where not finite), and which of them are judged: see `parity.judge.row_of`.

        Args:
            block: of the array, from `parity.in_blocks.blocks`; None for all of it.
        """
        band, everywhere = self.band, tuple(slice(None) for _ in self.array.shape)
        block = everywhere if block is None else block
        with np.errstate(invalid="ignore"):
            error = np.abs(self.array[block].astype(np.float64) - band.reference[block])
        finite = np.isfinite(error)
        padded = False if band.padded is None else part(band.padded, block)
        overflowed = False if band.overflowed is None else part(band.overflowed, block)
        judged = (part(band.comparable, block) | (~finite & ~np.asarray(overflowed))) & ~np.asarray(padded)
        return np.where(finite, error, np.inf), in_floors(error, part(band.floor, block)), judged


def shown_by(findings: Findings) -> dict[str, list[Shown]]:
    """What each engine that ran computed over the run, quantity by quantity; what has another shape than the reference is left out."""
    bands, found = findings.judgement.floor.bands, {}
    network = findings.sources[0].network
    for label, result in findings.judgement.results.items():
        if isinstance(findings.inputs, dict):
            arrays = {f"output {name}": array for name, array in result.outputs.items()}
        else:
            arrays = {quantity.name: array for quantity, array in quantities(network, result)}
        found[label] = [
            Shown(band, arrays[name])
            for name, band in bands.items()
            if name in arrays and arrays[name].shape == band.reference.shape and band.reference.size
        ]
    return found


def steps_second(axes: Sequence[str]) -> tuple[str, ...]:
    """Names of axes with samples first and steps second.

    Example:
        >>> steps_second(("time", "batch", "unit")), steps_second(("time", "unit"))
        (('batch', 'time', 'unit'), ('batch', 'time', 'unit'))
    """
    return ("batch", "time", *(name for name in axes if name not in ("batch", "time")))


def with_steps_second(array: NDArray[Any], axes: Sequence[str]) -> NDArray[Any]:
    """An array with samples and steps as its first two axes; without a batch there is one sample. Nothing is copied.

    Args:
        array: with a time axis.
        axes: their names.

    Example:
        >>> with_steps_second(np.ones((7, 3, 5)), ("time", "batch", "unit")).shape
        (3, 7, 5)
    """
    known = list(axes) if "batch" in axes else ["batch", *axes]
    whole = array if "batch" in axes else array[None]
    return whole.transpose([known.index(name) for name in steps_second(axes)])


def behind_steps(array: NDArray[Any]) -> tuple[int, ...]:
    """The axes behind samples and steps."""
    return tuple(range(2, array.ndim))


def padded_steps(padded: NDArray[np.bool_], steps: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which steps are padding, (batch, time).

    Args:
        padded: flags with samples and steps as their first two axes.
        steps: how many samples and steps there are.
    """
    return np.broadcast_to(np.asarray(padded.all(axis=behind_steps(padded)), bool), steps)


__all__ = ["Shown", "behind_steps", "padded_steps", "shown_by", "steps_second", "with_steps_second"]
