"""Repairs said in a suspect's own framework, as source code."""

from __future__ import annotations

from collections.abc import Sequence

from parity.diagnosis.fault import Fault
from parity.diagnosis.repairs.around import said_around
from parity.diagnosis.repairs.opening import form_of, tensors_in, with_engine
from parity.diagnosis.repairs.resolving import Resolved, resolve
from parity.diagnosis.repairs.writing import Written, written
from parity.sources import Opened


def code_for(faults: Sequence[Fault], suspect: Opened, reference: Opened) -> str:
    """The lines that mend a suspect, as they are pasted behind `suspect = ...` and `reference = ...`.

    Args:
        faults: what it does, in the order in which it does it; they are undone the other way round.
        suspect: what is mended: a live object is changed in place, a file is written beside itself, and `suspect` is its path then.
        reference: what is right.

    Returns:
        Source code. What cannot be said as code of this suspect's framework is said in comments.
    """
    return code_of(resolve(faults, reference.network.recurrent, suspect.network.recurrent), suspect, reference).text


def code_of(resolved: Resolved, suspect: Opened, reference: Opened) -> Written:
    """The same for repairs that are resolved already, and whether it mends everything."""
    suspect = with_engine(suspect)
    tensors = tensors_in(suspect)
    around = said_around(resolved, suspect, reference, tensors)
    return written(form_of(suspect), resolved, tensors, suspect.network.recurrent, around)


__all__ = ["code_for", "code_of"]
