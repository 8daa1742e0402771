"""`parity diagnose`: why a suspect does not compute what a reference computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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


def _check_recorded(given: Sequence[str]) -> None:
    """Options of random inputs, and of where a suspect runs, have no meaning for a recording."""
    if given:
        expected, remedy = "a recording without them", "leave them out: its inputs are in the file, and nothing is run"
        raise ParityError("these options are for a suspect that is run", ", ".join(given), expected, remedy=remedy)


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
        typer.Option(help="This recurrent layer alone, by name or number; repeat it to name one in each file."),
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
    from parity.diagnosis.recording import has_both_sides, is_recording
    from parity.files.target import check_target

    check_drawn([f"--{name}" for name in ("batch", "time") if inputs is not None and given_on_the_line(context, name)])
    if json is not None:
        check_target(json, overwrite)
    run_custom(context, custom)
    if has_both_sides(reference):
        remedy = "what is right comes first: parity diagnose MODEL recorded.npz"
        raise ParityError(
            "a recording cannot be the reference", str(reference), "a model file", "inputs and outputs", remedy
        )
    recorded = is_recording(suspect)
    if recorded:
        given = [
            f"--{name}" for name in ("batch", "time", "seed", "device", "tf32") if given_on_the_line(context, name)
        ]
        _check_recorded(given)
    opened = chosen([reference] if recorded else [reference, suspect], layer or [], None)
    with showing.progress() as progress:
        found = diagnosis.diagnose(
            opened[0],
            suspect if recorded else opened[1],
            inputs=inputs,
            lengths=None if lengths is None else integers(lengths),
            batch=batch,
            time=time,
            seed=seed,
            device=device.value,
            tf32=tf32,
            pairs=pairs,
            progress=progress,
        )
    showing.show(found)
    if json is not None:
        written.save_json(found, json, overwrite)
    raise typer.Exit(0 if found.agrees else 1)
