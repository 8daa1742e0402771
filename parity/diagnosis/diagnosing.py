"""Why a suspect does not compute what a reference computes: faults replayed until one of them gives what the suspect gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from parity.diagnosis.cases import BATCH, TIME, asked_case, is_chain, of_one_form, shorter
from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.investigating import Progress, investigate
from parity.diagnosis.mending import mending
from parity.diagnosis.probes import notes_of_mode
from parity.diagnosis.recording import is_recording, recorded
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, RecordedSuspect, Suspect
from parity.frameworks import Settings
from parity.ports import open_port
from parity.result import Inputs
from parity.sources import Opened, Source, open_source


def diagnose(
    reference: Source,
    suspect: Any,
    inputs: Inputs | str | Path | None = None,
    initial_state: object = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch: int | None = None,
    time: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    tf32: bool = False,
    pairs: bool = True,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find the likely cause of a disagreement.

    Every mistake that parity knows is made in the reference, in float64, and the one whose outputs are the suspect's, to the measured
    float32 floor, is the cause; then pairs of mistakes.

    Args:
        reference: what is right: anything that `compare` takes.
        suspect: what is to be explained: anything that `compare` takes, run in its own engine; or what it gave once, as a dict with
            "inputs" and "outputs" (an array, or arrays by name), or the path of such an `.npz` file.
        inputs: as for `compare`; random if None, of 4 samples and 17 steps.
        initial_state: as for `compare`; of layers by themselves random if None, as zeros would hide mistakes.
        lengths, mask: as for `compare`.
        batch, time, seed: of random inputs.
        device, tf32: where the suspect runs.
        pairs: whether pairs of mistakes are tried where no single one explains it.
        progress: called with what is being done and how many steps it has, then with "" for each of them.

    Returns:
        The cause, where, the evidence and the repair; see `Diagnosis`.

    Raises:
        ShapeError: inputs that do not fit, or models that cannot be compared at all.
        UnsupportedError: a model that cannot be read.

    Example:
        >>> import torch
        >>> right = torch.nn.LSTM(3, 5, batch_first=True)
        >>> wrong = torch.nn.LSTM(3, 5, batch_first=True)
        >>> _ = wrong.load_state_dict({name: w.roll(5, 0) if name == "weight_hh_l0" else w for name, w in right.state_dict().items()})
        >>> found = diagnose(right, wrong)
        >>> found.found, found.where[0].tensor
        (True, 'recurrent')
    """
    settings = Settings(device, "float32", tf32)
    sizes = (batch or BATCH, time or TIME, seed)
    if is_recording(suspect):
        recording = recorded(suspect)
        given = recording.inputs if inputs is None else inputs
        first = open_source(reference, partial=True, inputs=_example(given))
        case = asked_case(first, given, initial_state, lengths, mask, (*sizes[:2], None))
        observer: Suspect = RecordedSuspect(recording.by_name(case), recording.label)
        return investigate(first.label, observer, [case], pairs, progress)
    first = open_source(reference, partial=True, inputs=_example(inputs))
    other = open_port(suspect, first, _example(inputs))
    first, other = of_one_form(first, other)
    chains = is_chain(first, other)
    case = asked_case(first, inputs, initial_state, lengths, mask, sizes, chains)
    observer = ChainSuspect(other, first.network, settings) if chains else GraphSuspect(other, settings)
    found = investigate(first.label, observer, [*shorter(case), case], pairs, progress)
    return with_repair(found, first, other)


def with_repair(found: Diagnosis, first: Opened, other: Opened) -> Diagnosis:
    """A diagnosis with how the suspect is mended, and what is to be said of the modes in which the sources were handed over."""
    notes = (*found.notes, *notes_of_mode(first, other))
    return replace(found, mending=mending(first, other, found.faults) if found.found else None, notes=notes)


def _example(inputs: Inputs | str | Path | None) -> Inputs | None:
    """Inputs by which a torch module can be traced."""
    return None if isinstance(inputs, (str, Path)) else inputs


__all__ = ["diagnose", "with_repair"]
