"""`parity diagnose`: why a suspect does not compute what a reference computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.cli.options import (
    Custom,
    Device,
    Overwrite,
    check_drawn,
    chosen,
    given_on_the_line,
    integers,
    run_custom,
)
from parity.errors import ParityError

if TYPE_CHECKING:
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


def _sides(
    reference: Path, suspect: Path, layers: Sequence[str], of_recording: bool
) -> tuple[tuple[tuple[Opened, Any], ...], str]:
    """What is laid beside what, one after the other, and what is to be said of what was left out."""
    from parity.ports import check_no_recording, layers_of_weights

    if not of_recording:
        check_no_recording(suspect, "give it alone")
    first, *others = chosen([reference] if of_recording else [reference, suspect], layers, None)
    by_layer, note = layers_of_weights(first, others[0]) if others and not layers else ((), "")
    return by_layer or ((first, others[0] if others else suspect),), note


def _check_one(layers: int, options: Mapping[str, object]) -> None:
    """Several layers are each run on inputs of their own sizes."""
    given = [name for name, value in options.items() if value is not None]
    if layers > 1 and given:
        what, expected = (
            "these options are for one layer, and several are compared",
            "--layer twice, the reference's layer first",
        )
        raise ParityError(what, ", ".join(given), expected, f"{layers} layers")


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
    reference: Annotated[Path, typer.Argument(help="The model file that is right.")],
    suspect: Annotated[
        Path,
        typer.Argument(
            help="The model file to be explained; or an .npz file of what it gave once: np.savez(path, inputs=x, outputs=y), batch first."
        ),
    ],
    inputs: Annotated[
        Path | None, typer.Option(help="An .npz file with one array, batch first. [default: random]")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples of random inputs. [default: 4]")] = None,
    time: Annotated[int | None, typer.Option(min=1, help="Steps of random inputs. [default: 17]")] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Valid steps of each sample, the rest being padding: 7,3,1. [default: all]")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="This recurrent layer alone, by name or number; twice, one in each file: the reference's, then the suspect's."
        ),
    ] = None,
    custom: Custom = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs.")] = 0,
    device: Annotated[Device, typer.Option(help="Where the suspect runs.")] = Device.cpu,
    tf32: Annotated[bool, typer.Option("--tf32", help="On CUDA, allow products to be truncated to TF32.")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs/--no-pairs", help="Try pairs of mistakes where no single one explains it.")
    ] = True,
    json: Annotated[Path | None, typer.Option(help="Write the diagnosis as JSON here.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say why a suspect differs from a reference: the likely cause, where, the evidence, and the lines that repair it.

    Every mistake that parity knows is made in the reference; the one that gives what the suspect gives is the cause. Exits with 0 if there
    is nothing to explain, with 1 if they differ, with 2 if they cannot be laid beside each other.

    Examples: parity diagnose model.keras port.safetensors
    / parity diagnose model.keras recorded.npz --no-pairs
    / parity diagnose model.keras port.onnx --layer encoder --layer lstm_1 --lengths 17,9,4,1
    """
    from parity import diagnosis
    from parity.diagnosis import showing, written
    from parity.diagnosis.recording import is_recording, recorded
    from parity.diagnosis.sides import has_both_sides
    from parity.files.target import check_target

    check_drawn([f"--{name}" for name in ("batch", "time") if inputs is not None and given_on_the_line(context, name)])
    if json is not None:
        check_target(json, overwrite)
    run_custom(context, custom)
    _check_reference(reference)
    of_recording = is_recording(suspect)
    if of_recording:
        names = ("batch", "time", "seed", "device", "tf32")
        _check_recorded([f"--{name}" for name in names if given_on_the_line(context, name)])
    sides, note = _sides(reference, suspect, layer or [], of_recording)
    _check_one(len(sides), {"--inputs": inputs, "--lengths": lengths})
    array = recorded(inputs).inputs if inputs is not None and has_both_sides(inputs) else inputs
    with showing.progress() as progress:
        for one, other in sides:
            found = diagnosis.diagnose(
                one,
                other,
                inputs=array,
                lengths=None if lengths is None else integers(lengths),
                batch=batch,
                time=time,
                seed=seed,
                device=device.value,
                tf32=tf32,
                pairs=pairs,
                progress=progress,
            )
            if not found.agrees:
                break
    found = replace(found, notes=(*filter(None, [note]), *found.notes))
    showing.show(found, _ran(one, suspect if of_recording else inputs, (batch, time, seed), lengths))
    if json is not None:
        written.save_json(found, json, overwrite)
    raise typer.Exit(0 if found.agrees else 1)
