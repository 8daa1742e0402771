"""What a suspect gave once: its inputs and outputs, without the suspect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.errors import ShapeError
from parity.files.npz_file import read_inputs
from parity.result import Inputs, as_numbers

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True, eq=False)
class Recording:
    """Inputs and outputs of one call.

    Args:
        inputs: as for `parity.compare`.
        outputs: an array, several in order, or a dict by name.
        label: what it is called.
    """

    inputs: Inputs
    outputs: Any
    label: str

    def by_name(self, case: Case) -> dict[str, Array]:
        """The outputs by the names of a case's; fewer than it has are its first ones.

        Raises:
            ShapeError: more than it has.
        """
        if isinstance(self.outputs, Mapping):
            return {str(name): as_numbers(array, f"output '{name}'") for name, array in self.outputs.items()}
        given = list(self.outputs) if isinstance(self.outputs, (list, tuple)) else [self.outputs]
        names = list(case.graph.outputs)
        if len(given) > len(names):
            raise ShapeError("more outputs than the reference has", self.label, ", ".join(names), str(len(given)))
        return {name: as_numbers(array, f"output '{name}'") for name, array in zip(names, given, strict=False)}


def is_recording(suspect: object) -> bool:
    """Whether a suspect is inputs and outputs, or the path of an `.npz` file that holds such.

    Example:
        >>> is_recording({"inputs": [[1.0]], "outputs": [[2.0]]}), is_recording("model.keras")
        (True, False)
    """
    if isinstance(suspect, Mapping):
        return INPUTS in suspect and OUTPUTS in suspect
    if not isinstance(suspect, (str, Path)) or Path(suspect).suffix.lower() != ".npz" or not Path(suspect).is_file():
        return False
    with np.load(Path(suspect), allow_pickle=False) as file:
        return any(_side(name) == OUTPUTS for name in file.files)


def recorded(suspect: Any) -> Recording:
    """A recording, read: in a file, arrays called "inputs" and "outputs", or "inputs/NAME" and "outputs/NAME" for several.

    Raises:
        ShapeError: nothing of one of both sides.
    """
    if isinstance(suspect, Mapping):
        return Recording(suspect[INPUTS], suspect[OUTPUTS], "the recording")
    arrays = read_inputs(Path(suspect))
    sides: dict[str, dict[str, Array]] = {INPUTS: {}, OUTPUTS: {}}
    for name, array in arrays.items():
        if _side(name):
            sides[_side(name)][name.partition("/")[2]] = array
    missing = [side for side, found in sides.items() if not found]
    if missing:
        raise ShapeError(
            "the recording is not whole", str(suspect), "arrays named inputs and outputs", f"no {missing[0]}"
        )
    inputs, outputs = (found[""] if list(found) == [""] else found for found in sides.values())
    return Recording(inputs, outputs, Path(suspect).name)


def _side(name: str) -> str:
    side = name.partition("/")[0]
    return side if side in (INPUTS, OUTPUTS) else ""


__all__ = ["Recording", "is_recording", "recorded"]
