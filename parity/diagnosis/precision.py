"""A suspect that computes in a shorter format than float32: no replay meets it to the float32 floor, but its errors are that format's.

A shorter format rounds the same numbers at the same places wherever it is used, so that a run of the reference that rounds there makes
errors that go together with the suspect's, number by number. A mistake of the same size does not: its errors have nothing to do with
what rounding does. The measure is the correlation of both errors over all outputs. Kernels that round at other places than this run are
known by their outputs: every number is one of the shorter format, which float32 gives by chance once in thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.precision import rounded
from parity.diagnosis.repair import CallRepair
from parity.diagnosis.replay import Stage
from parity.judge import LIMIT
from parity.reference import Float64

TOGETHER = 0.95
"""Errors that go together at least so much are of one origin. Measured: 1.00 for TF32; up to 0.66 for a systematic error of another one."""

_SIZES = (0.5, 2.0)
"""The suspect's errors are within these factors of the emulated ones."""

_MOST = 3.0
"""A suspect whose outputs are numbers of a shorter format is off by no more than so many times what computing in it makes."""

_ENOUGH = 30
"""Fewer numbers than these may be those of a shorter format, or go together, by chance."""

_ALIKE = 0.05
"""Formats whose correlations are no further apart than this are not told apart."""


Extent: TypeAlias = Literal["factors", "stored", "everything"]
"""What is rounded: what products of matrices take; what is stored between operations, biases and outputs among it; every value."""


class Coarse:
    """A run in a shorter format.

    Args:
        kind: of `rounded`.
        extent: what is rounded.
    """

    def __init__(self, kind: str, extent: Extent) -> None:
        self._kind, self._extent = kind, extent

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """The product of rounded factors."""
        if inputs.shape[-1] != matrix.shape[0]:
            return self.product(value, site)
        product = rounded(inputs, self._kind) @ rounded(matrix, self._kind)
        found: Float64 = value + (product - inputs @ matrix)
        if self._extent != "factors":
            found = found + (rounded(bias, self._kind) - bias)
        return self.product(found, site)

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """A sum."""
        return self.product(value, site)

    def product(self, value: Float64, site: str) -> Float64:
        """Any value in between."""
        return rounded(value, self._kind) if self._extent == "everything" else value

    def kept(self, value: Array) -> Array:
        """An output of the model."""
        return value if self._extent == "factors" or value.dtype.kind != "f" else rounded(value, self._kind)

    sigmoid = product
    tanh = product

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """The output of any other function."""
        return self.product(value, site)


@dataclass(frozen=True, eq=False)
class CoarseCase(Case):
    """A model that computes in a shorter format.

    Args:
        rounding: what happens to its intermediate values.
    """

    rounding: Coarse | None = None

    def outputs(self) -> dict[str, Array]:
        """What the model gives, computed so."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = self.graph.run(self.inputs, self.rounding)
        return found if self.rounding is None else {name: self.rounding.kept(one) for name, one in found.items()}


@dataclass(frozen=True, eq=False)
class Precision:
    """What explains errors of the size of a format.

    Args:
        fault: says it; its replay computes in that format.
        formats: those that explain it alike.
        together: correlation of the suspect's errors with those of the replay.
        before: the largest error beside the reference in float64.
        after: the same beside the replay: roundings that fall to the other side.
    """

    fault: Fault
    formats: tuple[str, ...]
    together: float
    before: float
    after: float


_WAYS: tuple[tuple[str, Extent, str], ...] = (
    ("TF32", "factors", "multiplies matrices in TF32"),
    ("TF32 cut", "factors", "multiplies matrices in TF32"),
    ("float16", "stored", "computes in float16"),
    ("float16", "everything", "computes in float16"),
    ("bfloat16", "factors", "multiplies matrices in bfloat16"),
    ("bfloat16", "stored", "computes in bfloat16"),
    ("bfloat16", "everything", "computes in bfloat16"),
)
"""Format, what is rounded to it, and the clause; factors alone in float16 are those in TF32."""


def precision_of(stage: Stage) -> Precision | None:
    """The shorter format that a suspect computes in, if its errors are those of one; None if they are not.

    To be asked where no exact replay explains the suspect.

    Args:
        stage: the run that is asked about.
    """
    exact = stage.case.outputs()
    if stage.floors(exact) <= LIMIT:
        return None
    errors = _errors(stage, stage.observed, exact)
    if errors.size < _ENOUGH:
        return None
    found: list[tuple[float, str, Extent, str, float]] = []
    for kind, extent, clause in _WAYS:
        emulated = _coarse(stage.case, kind, extent).outputs()
        own = _errors(stage, emulated, exact)
        together = _correlation(errors, own)
        size = float(np.sqrt(np.mean(errors**2)) / max(np.sqrt(np.mean(own**2)), 1e-300)) if own.size else 0.0
        if together >= TOGETHER and _SIZES[0] <= size <= _SIZES[1]:
            found.append((together, kind, extent, clause, stage.error(emulated)))
    if not found:
        return _by_outputs(stage, exact)
    found.sort(reverse=True)
    alike = [one for one in found if found[0][0] - one[0] <= _ALIKE]
    together, kind, extent, _, after = found[0]
    clauses = " or ".join(dict.fromkeys(one[3] for one in alike))
    fault = Fault(
        "precision",
        f"{clauses}: its errors are {together:.0%} those that such rounding makes",
        Place(),
        lambda case: _coarse(case, kind, extent),
        (CallRepair("", "mode", _TORCH[kind.removesuffix(" cut")], _KERAS[kind.removesuffix(" cut")]),),
        rank=13,
    )
    return Precision(
        fault, tuple(dict.fromkeys(one[1].removesuffix(" cut") for one in alike)), together, stage.error(exact), after
    )


def _by_outputs(stage: Stage, exact: Mapping[str, Array]) -> Precision | None:
    """A suspect all of whose outputs are numbers of a shorter format."""
    shown = {name: one for name, one in stage.observed.items() if one.dtype.kind == "f"}
    kinds = [
        kind
        for kind in ("bfloat16", "float16")
        if shown and all(np.array_equal(rounded(one, kind), one) and np.unique(one).size > 1 for one in shown.values())
    ]
    if not kinds:
        return None
    kind, before = kinds[0], stage.error(exact)
    emulated = {extent: _coarse(stage.case, kind, extent) for extent in _ROUNDED}
    sizes = {extent: _difference(one.outputs(), exact, shown) for extent, one in emulated.items()}
    if not before <= _MOST * max(sizes.values()):
        return None
    extent = min(_ROUNDED, key=lambda one: abs(sizes[one] - before))
    only = stage.error({name: rounded(one, kind) for name, one in exact.items() if name in shown})
    said = f"computes in {kind}: all of its outputs are numbers of that format, and they are off by what computing in it makes"
    if only <= before / 100:
        said = f"rounds its outputs to {kind}: all of them are numbers of that format, and nothing else is off"
    fault = Fault(
        "precision",
        said,
        Place(),
        lambda case: _coarse(case, kind, extent),
        (CallRepair("", "mode", _TORCH[kind], _KERAS[kind]),),
        rank=13,
    )
    together = _correlation(_errors(stage, stage.observed, exact), _errors(stage, emulated[extent].outputs(), exact))
    return Precision(fault, (kind,), together, before, stage.error(emulated[extent].outputs()))


_ROUNDED: tuple[Extent, ...] = ("stored", "everything")


def _difference(outputs: Mapping[str, Array], exact: Mapping[str, Array], shown: Mapping[str, Array]) -> float:
    """The largest difference of two runs over the outputs that are shown."""
    return max(float(np.abs(outputs[name] - exact[name]).max(initial=0.0)) for name in shown)


_TORCH = {
    "TF32": "torch.backends.cuda.matmul.allow_tf32 = False\ntorch.backends.cudnn.allow_tf32 = False",
    "float16": "module = module.float()  # and no torch.autocast",
    "bfloat16": "module = module.float()  # and no torch.autocast",
}
_KERAS = {
    "TF32": "tf.config.experimental.enable_tensor_float_32_execution(False)",
    "float16": 'keras.config.set_dtype_policy("float32")  # before the model is made',
    "bfloat16": 'keras.config.set_dtype_policy("float32")  # before the model is made',
}


def _coarse(case: Case, kind: str, extent: Extent) -> Case:
    return CoarseCase(case.graph, case.inputs, case.ignored, Coarse(kind, extent))


def _errors(stage: Stage, outputs: Mapping[str, Array], exact: Mapping[str, Array]) -> Float64:
    """All errors of the outputs that the suspect shows, where they are comparable."""
    parts = [np.zeros(0)]
    for name in stage.observed:
        ours, right = np.asarray(outputs[name], np.float64), np.asarray(exact.get(name, np.zeros(0)), np.float64)
        if ours.shape != right.shape or np.asarray(exact[name]).dtype.kind != "f":
            return np.zeros(0)
        shown = np.isfinite(ours) & np.isfinite(right)
        if name in stage.case.ignored:
            shown &= ~np.broadcast_to(stage.case.ignored[name], shown.shape)
        parts.append(np.where(shown, ours - right, 0.0).ravel())
    return np.concatenate(parts)


def _correlation(one: Float64, two: Float64) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(two)) if one.shape == two.shape else 0.0
    return float(one @ two) / size if size else 0.0


__all__ = ["TOGETHER", "Coarse", "CoarseCase", "Precision", "precision_of"]
