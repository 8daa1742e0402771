"""`parity compare` and `parity report`: the verdict, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parity.cli.options import (
    EXIT_CODES,
    Config,
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


def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path], typer.Argument(help="One file to compare with its conversions, or several with each other.")
    ],
    engines: Annotated[
        str | None,
        typer.Option(
            help="Of keras, torch, onnxruntime, keras:tensorflow, keras:torch, keras:jax; comma-separated. "
            "[default: the installed ones of the first three]"
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.cpu,
    inputs: Annotated[
        Path | None, typer.Option(help="An .npz file with one array, batch first. [default: random]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples of random inputs. [default: 3, or as many as lengths]")
    ] = None,
    time: Annotated[
        int | None, typer.Option(min=1, help="Steps of random inputs. [default: 17, or the largest length]")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Valid steps of each sample, the rest being padding: 7,3,1. [default: all]")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Compare this recurrent layer alone, by name or number; repeat it to name one in each file."),
    ] = None,
    config: Config = None,
    custom: Custom = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs and of the rounding that is tried.")] = 0,
    tf32: Annotated[bool, typer.Option("--tf32", help="On CUDA, allow products to be truncated to TF32.")] = False,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Judge every layer of a whole model, too: names the first one that differs."),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the JSON record here.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run models in every engine on the same inputs and judge whether they compute the same.

    Examples: parity compare model.keras --report report.html
    / parity compare model.keras port.safetensors
    """
    from parity import comparison, comparison_table, terminal

    drawn = [f"--{name}" for name in ("batch", "time") if inputs is not None and given_on_the_line(context, name)]
    check_drawn(drawn)
    _check_targets(report, json, overwrite)
    run_custom(context, custom)
    with terminal.progress() as progress:
        compared = comparison.compare(
            *chosen(sources, layer or [], config),
            inputs=inputs,
            engines=None if engines is None else _names(engines),
            lengths=None if lengths is None else integers(lengths),
            batch=batch,
            time=time,
            seed=seed,
            device=device.value,
            tf32=tf32,
            layers=layers,
            progress=progress,
        )
    comparison_table.show_comparison(compared)
    if report is not None:
        terminal.say(f"report: {compared.save_html(report, overwrite)}")
    if json is not None:
        terminal.say(f"record: {compared.save_json(json, overwrite)}")
    raise typer.Exit(EXIT_CODES[compared.verdict])


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        remedy = "commas stand between names, as in --engines keras,torch; without the option, the installed ones run"
        raise ParityError("an engine without a name", "--engines", "names with commas between", repr(text), remedy)
    return names


def _check_targets(report: Path | None, json: Path | None, overwrite: bool) -> None:
    """The report and the record can be written, before anything is run for them."""
    from parity.files import check_target

    for target, suffix in ((report, ".html"), (json, ".json")):
        if target is not None and target.suffix.lower() != suffix:
            raise ParityError(
                "the name does not say the format", str(target), f"a name ending in {suffix}", target.name
            )
    if report is not None and report == json:
        raise ParityError("the report and the record have one name", str(report), "two names", remedy="give them two")
    for target in (report, json):
        if target is not None:
            check_target(target, overwrite)


def report(
    record: Annotated[Path, typer.Argument(help="A record written by parity compare --json.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Draw the report of a record that was saved.

    Example: parity report record.json -o report.html
    """
    from parity import terminal
    from parity.report import render_record, write_text
    from parity.report.record import read_record

    terminal.say(f"report: {write_text(output, render_record(read_record(record)), overwrite)}")
