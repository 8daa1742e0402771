"""Why a suspect does not compute what a reference computes: faults replayed until one of them gives what the suspect gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from parity.diagnosis.agreeing import ASKED, laid_beside
from parity.diagnosis.beside import tensors_beside
from parity.diagnosis.case import Case
from parity.diagnosis.cases import (
    BATCH,
    TIME,
    asked_cases,
    gives_last_step,
    is_chain,
    notes_of_form,
    of_one_form,
    shorter,
    with_other_padding,
)
from parity.diagnosis.diagnosis import Diagnosis, said
from parity.diagnosis.investigating import Progress, investigate
from parity.diagnosis.mending import framework_of, mending
from parity.diagnosis.probes import notes_of_mode
from parity.diagnosis.recording import interpretations, is_recording, recorded, with_what_repairs
from parity.diagnosis.replay import confirmed, stage_of
from parity.diagnosis.suspects import RecordedSuspect, Suspect
from parity.errors import ParityError
from parity.frameworks import Settings
from parity.ports import layers_of_weights, open_port
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
        UnsupportedError: a model that cannot be read; weights that do not say how their layers are connected.

    Example:
        >>> import torch
        >>> right = torch.nn.LSTM(3, 5, batch_first=True)
        >>> wrong = torch.nn.LSTM(3, 5, batch_first=True)
        >>> _ = wrong.load_state_dict({name: w.roll(5, 0) if name == "weight_hh_l0" else w for name, w in right.state_dict().items()})
        >>> found = diagnose(right, wrong)
        >>> found.found, found.where[0].tensor
        (True, 'recurrent')
    """
    asked = _Asked(inputs, initial_state, lengths, mask, (batch or BATCH, time or TIME, seed))
    if is_recording(suspect):
        return _of_recording(reference, suspect, asked, pairs, progress)
    if isinstance(suspect, Mapping):
        raise _weights_alone(len(suspect))
    first = open_source(reference, partial=True, inputs=_example(inputs))
    other = open_port(suspect, first, _example(inputs), as_they_are=("torch", "keras"))
    settings = Settings(device, "float32", tf32)
    layers, note = layers_of_weights(first, other)
    if not layers:
        return _of_port(first, other, asked, settings, pairs, progress)
    asked.check_for(len(layers))
    each = [_of_port(*sides, asked, settings, pairs, progress) for sides in layers]
    return _of_state_dict(first, other, note, each)


def _of_state_dict(first: Opened, other: Opened, note: str, each: Sequence[Diagnosis]) -> Diagnosis:
    """The diagnoses of the recurrent layers of a state dict as one: of the first that differs, with what is to be said of the rest.

    Args:
        first, other: the right model, and the state dict.
        note: which layer was laid beside which.
        each: their diagnoses, in the order of the layers.
    """
    differing = [one for one in each if not one.agrees]
    rest = tensors_beside(first.network, other.network)
    found = differing[0] if differing else replace(each[0], reference=first.label, suspect=other.label)
    notes = [
        note,
        *found.notes,
        *(f"as well: {one.cause} Mend the first, then diagnose again" for one in differing[1:]),
    ]
    if not differing and rest.wrong:
        found = replace(found, agrees=False, faults=rest.wrong, evidence=())
    elif rest.wrong:
        notes.append(f"as well: {other.label} {said(rest.wrong)}")
    if rest.right:
        notes.append(f"the numbers of {', '.join(rest.right)} are the right model's")
    notes.append(
        "how its modules are connected, a state dict does not say: give the live module to have that judged, too"
    )
    return replace(found, left_out=", ".join(rest.untold), notes=tuple(notes))


class _Asked(NamedTuple):
    """On what a suspect is laid beside the right model, as `diagnose` takes it."""

    inputs: Inputs | str | Path | None
    initial_state: object
    lengths: ArrayLike | None
    mask: ArrayLike | None
    sizes: tuple[int, int, int | None]

    @property
    def given(self) -> dict[str, Any]:
        """What was given, by its name."""
        return {name: value for name in ASKED if (value := getattr(self, name)) is not None}

    def check_for(self, layers: int) -> None:
        """Refuse what is meant for one layer where several, each with sizes of its own, are compared.

        Raises:
            ParityError: inputs, states, lengths or a mask for several layers.
        """
        given = self.given
        if layers > 1 and given:
            what = "these are for one layer, and of a state dict several are compared"
            expected = (
                "none of them, or one layer of each: parity.read(path).recurrent[0]; on the command line --layer twice"
            )
            raise ParityError(what, ", ".join(given), expected, f"{layers} layers")


def _weights_alone(count: int) -> ParityError:
    """That a dict of weights says nothing of what is computed with them."""
    expected = "a model, or a dict of inputs and outputs"
    remedy = "load them into their module, or save them to a file and give its path: torch.save(state, 'suspect.pt')"
    return ParityError("weights alone cannot be run", "the suspect", expected, f"a dict of {count} weights", remedy)


def _of_recording(reference: Source, suspect: Any, asked: _Asked, pairs: bool, progress: Progress | None) -> Diagnosis:
    """The diagnosis of what a suspect gave once."""
    recording = recorded(suspect)
    given = recording.inputs if asked.inputs is None else asked.inputs
    first = open_source(reference, partial=True, inputs=_example(given))
    recording = recording.for_inputs_of(first)
    given = recording.inputs if asked.inputs is None else asked.inputs
    sizes = (*asked.sizes[:2], None)
    cases = asked_cases(first, given, asked.initial_state, asked.lengths, asked.mask, sizes)
    readings = list(interpretations(recording, cases))
    return diagnosed(first, readings[-1:] if gives_last_step(first) else readings, pairs, progress)


def _of_port(
    first: Opened, other: Opened, asked: _Asked, settings: Settings, pairs: bool, progress: Progress | None
) -> Diagnosis:
    """The diagnosis of a suspect that can be run."""
    sides = of_one_form(first, other)
    chains = is_chain(*sides)
    observer, case = laid_beside(*sides, asked, settings)
    found = investigate(first.label, observer, [*shorter(case), case], pairs, progress)
    notes = [*found.notes, *observer.notes, *notes_of_form((first, other), sides)]
    if chains and sides[0].network.bare and asked.initial_state is None and found.first_step is not None:
        notes.append(
            "the initial states were random, as zeros hide mistakes: in your own run the first step that is off may be a later one"
        )
    if found.agrees and asked.inputs is None and not chains:
        notes += padding_elsewhere(observer, with_other_padding(case, asked.sizes[2] or 0))
    return with_repair(replace(found, notes=tuple(notes)), *sides, asked.given)


def diagnosed(
    first: Opened, readings: Sequence[tuple[Case, RecordedSuspect]], pairs: bool, progress: Progress | None
) -> Diagnosis:
    """The diagnosis of a recording, whose arrays may be read in more than one way: of the reading that a cause explains.

    Args:
        first: the right model.
        readings: what the recording may be, the likeliest first.
        pairs, progress: as for `parity.diagnose`.
    """
    alone = len(readings) == 1
    singles = [investigate(first.label, suspect, [case], pairs and alone, progress) for case, suspect in readings]
    chosen = next((n for n, one in enumerate(singles) if one.agrees), -1)
    if chosen < 0:
        chosen = next((n for n, one in enumerate(singles) if one.found), 0)
    found, (case, suspect) = singles[chosen], readings[chosen]
    if pairs and not (alone or found.agrees or found.faults):
        found = investigate(first.label, suspect, [case], True, progress)
    notes = [*found.notes, *suspect.notes]
    if any(fault.name == "batch and time exchanged" for fault in found.faults):
        notes.append(_TIME_FIRST)
    return with_what_repairs(replace(found, notes=tuple(notes)))


_TIME_FIRST = (
    "if the inputs were recorded as (time, batch, ...), as a module with batch_first=False takes them, nothing may be wrong: "
    "record both inputs and outputs batch first, and diagnose again"
)


def padding_elsewhere(suspect: Suspect, case: Case | None) -> Iterator[str]:
    """What is to be said of a suspect that agrees where the padding stands at the end, and not where it stands elsewhere.

    Args:
        suspect: what agrees.
        case: the right model on inputs with padding anywhere; None where it makes no mask.
    """
    if case is None:
        return
    try:
        agrees = confirmed(stage_of(case, suspect.observe(case)), ()).fits
    except ParityError:
        agrees = False
    if not agrees:
        yield (
            "this holds for padding at the end; with padding at the start or in the middle of a sequence it gives something else, "
            "as lengths in place of a mask do"
        )


def with_repair(found: Diagnosis, first: Opened, other: Opened, given: Mapping[str, Any] | None = None) -> Diagnosis:
    """A diagnosis with how the suspect is mended, and what is to be said of the modes in which the sources were handed over.

    Args:
        found: the diagnosis.
        first, other: the right model and the suspect.
        given: on what they ran, where that was given, by the names of `diagnose`.
    """
    notes = (*found.notes, *notes_of_mode(first, other))
    found = found.told_for(framework_of(other))
    return replace(found, mending=mending(first, other, found.faults, given) if found.found else None, notes=notes)


def _example(inputs: Inputs | str | Path | None) -> Inputs | None:
    """Inputs by which a torch module can be traced."""
    return None if isinstance(inputs, (str, Path)) else inputs


__all__ = ["diagnose", "with_repair"]
