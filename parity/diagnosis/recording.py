"""What a suspect gave once: its inputs and outputs, without the suspect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.fitting import Fit, Given, expected_of, fitted
from parity.diagnosis.sides import INPUTS, OUTPUTS, both_sides, side_of
from parity.diagnosis.suspects import RecordedSuspect
from parity.errors import ParityError, ShapeError
from parity.files.npz_file import read_inputs
from parity.graph.graph import GraphInput
from parity.graph.inputs import input_of_chain
from parity.result import Inputs, as_numbers
from parity.sources import Opened

_UNNAMED = "arr_"
"""How `numpy.savez` names arrays that were given without a name."""

_REMEDY = (
    "np.savez(path, inputs=x, outputs=y); several of them by name, as in np.savez(path, **{'inputs': x, 'outputs/NAME': y}), "
    "where NAME is what the reference calls its output"
)


@dataclass(frozen=True, eq=False)
class Recording:
    """Inputs and outputs of one call.

    Args:
        inputs: as for `parity.compare`.
        outputs: an array, several in order or nested as a framework returns them, or a dict by name.
        label: what it is called.
        notes: what was assumed of the names.
    """

    inputs: Inputs
    outputs: Any
    label: str
    notes: tuple[str, ...] = ()

    def by_name(self, case: Case) -> dict[str, Array]:
        """The outputs by the names of a case's, in its axes; fewer than it has are those that have their shapes.

        Raises:
            ShapeError: none or several of the case's outputs, or no numbers.
        """
        names, arrays = self._arrays()
        return self.fit(case).arrays(arrays) if names else {}

    def fit(self, case: Case) -> Fit:
        """Which outputs of a case they are.

        Raises:
            ShapeError: none or several of the case's outputs, or no numbers.
        """
        names, arrays = self._arrays()
        given = [Given(name, array.shape) for name, array in zip(names, arrays, strict=True)]
        return fitted(expected_of(case), given, self.label, live=False)

    def _arrays(self) -> tuple[list[str], list[Array]]:
        flat = list(_flat("", self.outputs))
        return [name for name, _ in flat], [as_numbers(one, f"output '{name}'") for name, one in flat]

    def for_inputs_of(self, first: Opened) -> Recording:
        """The same with inputs as the right model takes them: by its names where shapes leave no choice, with a batch of one where none is.

        Args:
            first: the right model.
        """
        wanted = first.graph.inputs if first.network.graph is not None else (input_of_chain(first.network),)
        given = _by_shape(wanted, self.inputs)
        if len(wanted) != 1 or isinstance(given, Mapping):
            return replace(self, inputs=given)
        one = (
            given[0]
            if isinstance(given, (list, tuple)) and len(given) == 1 and hasattr(given[0], "__array__")
            else given
        )
        array = as_numbers(one, "inputs")
        if not _fits_shape(wanted[0].shape[1:], array.shape) or wanted[0].shape[:1] != ("batch",):
            return replace(self, inputs=given)
        note = f"the inputs of {self.label} are {array.shape}: they were taken for one sample, without a batch axis"
        return replace(self, inputs=array[None], notes=(*self.notes, note))


def interpretations(recording: Recording, cases: Iterable[Case]) -> Iterator[tuple[Case, RecordedSuspect]]:
    """The right model and what was recorded, in every form in which their shapes are one.

    Args:
        recording: what was given.
        cases: the right model on its inputs, in the forms that it has.

    Raises:
        ShapeError: in no form; says what the first one expects.
    """
    refused: list[ShapeError] = []
    found = 0
    for case in cases:
        try:
            fit = recording.fit(case)
        except ShapeError as error:
            refused.append(error)
            continue
        found += 1
        notes = (*recording.notes, *fit.notes)
        yield fit.case(case), RecordedSuspect(fit.arrays(recording._arrays()[1]), recording.label, notes)
    if not found:
        raise refused[0]


def is_recording(suspect: object) -> bool:
    """Whether a suspect is inputs and outputs, or the path of an `.npz` file that holds such.

    Arrays with the names of one side alone count as a recording that is not whole. Of arrays without names exactly two of as many samples
    are one; else they are weights, as `numpy.savez(path, *model.get_weights())` keeps them.

    Example:
        >>> is_recording({"inputs": [[1.0]], "outputs": [[2.0]]}), is_recording("model.keras")
        (True, False)
    """
    if isinstance(suspect, Mapping):
        names = [str(name) for name in suspect]
        return both_sides(names) or not any(map(_is_weight, names))
    if not isinstance(suspect, (str, Path)) or Path(suspect).suffix.lower() != ".npz" or not Path(suspect).is_file():
        return False
    try:
        arrays = read_inputs(Path(suspect))
    except ParityError:
        return False
    if both_sides(arrays):
        return True
    if any(map(_is_weight, arrays)):
        return all(map(side_of, arrays)) and not any("/" in name for name in arrays)
    return not all(map(_side_without_name, arrays)) or _are_in_and_out(list(arrays.values()))


def _are_in_and_out(arrays: Sequence[Array]) -> bool:
    """Whether arrays without names can be the inputs and the outputs of one call: two of as many samples."""
    return len(arrays) == 2 and all(one.ndim > 1 for one in arrays) and len(arrays[0]) == len(arrays[1])


def _is_weight(name: str) -> bool:
    return any(word in name.lower() for word in ("weight", "kernel", "bias", "/", ".", "_l0", "_ih", "_hh"))


def with_what_repairs(found: Diagnosis) -> Diagnosis:
    """The diagnosis of a recording, with what is to be done for a repair where there is a cause.

    Args:
        found: of a recording.
    """
    said = found.agrees or not found.faults or NO_REPAIR in found.notes
    return found if said else replace(found, notes=(*found.notes, NO_REPAIR))


NO_REPAIR = (
    "of a recording nothing can be mended: give the port itself or its file, and the lines that mend it are written"
)


def recorded(suspect: Any) -> Recording:
    """A recording, read: arrays called "inputs" and "outputs", or "inputs/NAME" and "outputs/NAME" for several.

    Other names that leave no doubt ("x" and "y") are taken, too, and noted; of arrays without names the first one is the input.

    Raises:
        ShapeError: nothing of one of both sides; says which names there have to be.
    """
    if isinstance(suspect, Mapping):
        label, arrays = "the recording", {str(name): value for name, value in suspect.items()}
    else:
        label, arrays = Path(suspect).name, read_inputs(Path(suspect))
    sides: dict[str, dict[str, Any]] = {INPUTS: {}, OUTPUTS: {}, "": {}}
    for name, array in arrays.items():
        first, _, rest = name.partition("/")
        own = rest if first in (INPUTS, OUTPUTS) else name
        sides[side_of(name) or _side_without_name(name)][own] = array
    if not sides[INPUTS] or not sides[OUTPUTS] or sides[""]:
        what = "arrays that are neither inputs nor outputs" if sides[""] else "the recording is not whole"
        where = label if isinstance(suspect, Mapping) else str(suspect)
        raise ShapeError(what, where, "arrays named inputs and outputs", ", ".join(arrays) or "nothing", _REMEDY)
    inputs, outputs = sides[INPUTS], sides[OUTPUTS]
    notes = tuple(_unfilled(label, outputs))
    if not all(name.partition("/")[0] in (INPUTS, OUTPUTS) for name in arrays):
        taken = (" and ".join(map(repr, filter(None, side))) or "the rest" for side in (inputs, outputs))
        notes += (f"{label}: of the arrays {' was taken for the inputs, '.join(taken)} for the outputs",)
    return Recording(_alone(inputs), outputs[""] if list(outputs) == [""] else outputs, label, notes)


def _unfilled(label: str, outputs: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of outputs that are all zero: nobody can tell them from buffers that were never filled."""
    arrays = [np.asarray(array) for _, array in _flat("", outputs)]
    if arrays and all(array.dtype.kind in "fiub" and array.size and not array.any() for array in arrays):
        yield f"{label}: every recorded output is zero, as an array is that was never filled: look whether the model ran at all"


def _alone(arrays: dict[str, Any]) -> Any:
    """The one array of a side."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _side_without_name(name: str) -> str:
    """Of arrays that `numpy.savez` numbered, the first is the input."""
    number = name.removeprefix(_UNNAMED)
    if number == name or not number.isdecimal():
        return ""
    return OUTPUTS if int(number) else INPUTS


def _flat(name: str, outputs: Any) -> Iterator[tuple[str, Any]]:
    """Arrays with their names: nested as a framework returns them, (y, (h, c)), they are taken in order."""
    if isinstance(outputs, Mapping):
        for key, one in outputs.items():
            yield from _flat(str(key), one)
    elif isinstance(outputs, (list, tuple)) and any(_is_array(one) for one in outputs):
        for one in outputs:
            yield from _flat(name, one)
    else:
        yield name, outputs


def _is_array(one: Any) -> bool:
    return (
        hasattr(one, "__array__")
        or hasattr(one, "detach")
        or (isinstance(one, (list, tuple)) and any(map(_is_array, one)))
    )


def _by_shape(wanted: tuple[GraphInput, ...], given: Any) -> Any:
    """Inputs under other names than the model's, by their shapes, where each fits one alone."""
    names = [one.name for one in wanted]
    if (
        not isinstance(given, Mapping)
        or set(map(str, given)) == set(names)
        or len(given) != len(names)
        or len(names) == 1
    ):
        return given
    arrays = {str(name): np.asarray(value) for name, value in given.items()}
    fitting = {one.name: [name for name, array in arrays.items() if _fits(one, array)] for one in wanted}
    if any(len(found) != 1 for found in fitting.values()):
        return given
    return {name: arrays[found[0]] for name, found in fitting.items()}


def _fits(one: GraphInput, array: Array) -> bool:
    return _fits_shape(one.shape, array.shape) and (one.dtype == "float32") == (array.dtype.kind == "f")


def _fits_shape(wanted: Sequence[int | str], shape: Sequence[int]) -> bool:
    alike = (isinstance(word, str) or word == length for word, length in zip(wanted, shape, strict=False))
    return len(wanted) == len(shape) and all(alike)


__all__ = ["Recording", "interpretations", "is_recording", "recorded"]
