"""`parity diagnose`: why a suspect does not compute what a reference computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.cli.options import (
    INPUTS,
    JUDGING,
    READING,
    RUNNING,
    Custom,
    Device,
    InputFile,
    Lengths,
    Overwrite,
    Tf32,
    check_drawn,
    chosen,
    file_to_write,
    given_on_the_line,
    integers,
    number,
    run_custom,
)
from parity.cli.refusing import refusals_written
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.diagnosis import Diagnosis
    from parity.sources import Opened


def _check_recorded(given: Sequence[str]) -> None:
    """Options of random inputs, and of where a suspect runs, have no meaning for a recording."""
    if given:
        expected, remedy = "a recording without them", "leave them out: its inputs are in the file, and nothing is run"
        raise ParityError("these options are for a suspect that is run", ", ".join(given), expected, remedy=remedy)


def _check_reference(reference: Path) -> None:
    """A recording in the place of the model that is right."""
    from parity.diagnosis.sides import has_both_sides

    if has_both_sides(reference):
        remedy = "what is right comes first: parity diagnose MODEL recorded.npz"
        got = "inputs and outputs"
        raise ParityError("a recording cannot be the reference", str(reference), "a model file", got, remedy)


def _sides(reference: Path, suspect: Path, layers: Sequence[str], of_recording: bool) -> tuple[Opened, Any]:
    """What is laid beside what."""
    from parity.ports import check_no_recording

    if not of_recording:
        check_no_recording(suspect, "give it alone")
    first, *others = chosen([reference] if of_recording else [reference, suspect], layers, None)
    return first, others[0] if others else suspect


def _ran(reference: Opened, file: Path | None, sizes: tuple[int | None, int | None, int], lengths: str | None) -> str:
    """On which inputs, in words: as many samples and steps as random ones have."""
    from parity.diagnosis.cases import BATCH, TIME
    from parity.graph.lengths import lengths_for

    batch, time, seed = sizes
    padded = f", lengths {lengths}" if lengths else ""
    if file is not None:
        return f"inputs: {file}{padded}"
    graph = reference.network.graph
    words = {"batch": batch or BATCH, "time": time or TIME}
    if graph is not None:
        try:
            words = lengths_for(graph, words["batch"], (words["time"],))
        except ParityError:  # a layer of it was run by itself
            return f"random inputs: seed {seed}"
    counts = [f"{words['batch']} samples"] if "batch" in words else []
    counts += [f"{steps} steps" for steps in dict.fromkeys(length for word, length in words.items() if word != "batch")]
    return ", ".join(["random inputs: " + " x ".join(counts), f"seed {seed}"]) + padded


def diagnose(
    context: typer.Context,
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="The model file that is right.")],
    suspect: Annotated[
        Path,
        typer.Argument(metavar="SUSPECT", help="The model file to be explained, or an .npz file of what it gave once."),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="This recurrent layer alone, by name or number; twice, one in each file: the reference's, then the suspect's.",
            rich_help_panel=READING,
        ),
    ] = None,
    custom: Custom = None,
    inputs: InputFile = None,
    batch: Annotated[int | None, number("Samples of random inputs; 4 without it.", INPUTS)] = None,
    time: Annotated[int | None, number("Steps of random inputs; 17 without it.", INPUTS)] = None,
    lengths: Lengths = None,
    seed: Annotated[int, number("Of random inputs.", INPUTS, least=0)] = 0,
    device: Annotated[Device, typer.Option(help="Where the suspect runs.", rich_help_panel=RUNNING)] = Device.cpu,
    tf32: Tf32 = False,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs/--no-pairs",
            help="Try pairs of mistakes where no single one explains it.",
            rich_help_panel=JUDGING,
        ),
    ] = True,
    json: Annotated[Path | None, file_to_write(".json", "The diagnosis with its evidence.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say why a suspect differs from a reference: the likely cause, where, the evidence, and the lines that repair it."""
    from parity.diagnosis import written
    from parity.diagnosis.recording import is_recording
    from parity.files.target import check_target

    if json is not None:
        check_target(json, overwrite)
    with refusals_written(context, [reference, suspect], {"record": json}):
        check_drawn(context, inputs)
        run_custom(context, custom)
        _check_reference(reference)
        of_recording = is_recording(suspect)
        if of_recording:
            names = ("batch", "time", "seed", "device", "tf32")
            _check_recorded([f"--{name}" for name in names if given_on_the_line(context, name)])
        sides = _sides(reference, suspect, layer or [], of_recording)
        sizes = {"batch": batch, "time": time, "seed": seed, "lengths": integers(lengths)}
        found = _diagnosed(sides, inputs, {**sizes, "device": device.value, "tf32": tf32, "pairs": pairs})
    ran = _ran(sides[0], suspect if of_recording else inputs, (batch, time, seed), lengths)
    _show(found, ran)
    if json is not None:
        written.save_json(found, json, overwrite)
    raise typer.Exit(_UNDECIDED if found.agrees and found.left_out else 0 if found.agrees else 1)


_UNDECIDED = 3


def _show(found: Diagnosis, ran: str) -> None:
    """The cause, the evidence and the repair; in GitHub Actions an annotation and the summary, too."""
    from parity import github, terminal
    from parity.diagnosis import showing

    with github.commands_stopped(terminal.command):
        showing.show(found, ran)
    for line in github.diagnosis_in_actions(found):
        terminal.command(line)


def _diagnosed(sides: tuple[Opened, Any], inputs: Path | None, options: Mapping[str, Any]) -> Diagnosis:
    """The diagnosis, with bars of what is running.

    Args:
        sides: the right model, and the suspect or the path of its recording.
        inputs: what `--inputs` said.
        options: of `parity.diagnose`.
    """
    from parity import diagnosis
    from parity.diagnosis import showing
    from parity.diagnosis.recording import recorded
    from parity.diagnosis.sides import has_both_sides

    array = recorded(inputs).inputs if inputs is not None and has_both_sides(inputs) else inputs
    with showing.progress() as progress:
        return diagnosis.diagnose(*sides, inputs=array, **options, progress=progress)
