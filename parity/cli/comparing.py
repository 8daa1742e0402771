"""`parity compare` and `parity report`: the verdict, and its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from parity.report import Record


def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path], typer.Argument(help="One file to compare with its conversions, or several with each other.")
    ],
    engines: Annotated[
        str | None,
        typer.Option(
            help="Of keras, torch, onnxruntime, keras:tensorflow, keras:torch, keras:jax; comma-separated.",
            show_default="the installed ones of the first three",
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.cpu,
    inputs: Annotated[
        Path | None, typer.Option(help="An .npz file with one array, batch first.", show_default="random")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples of random inputs.", show_default="3, or as many as lengths")
    ] = None,
    time: Annotated[
        int | None, typer.Option(min=1, help="Steps of random inputs.", show_default="17, or the largest length")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Valid steps of each sample, the rest being padding: 7,3,1.", show_default="all")
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
        typer.Option("--layers", help="Judge every layer of a whole model, even where its outputs agree."),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier JSON record: say what changed since, as after an upgrade of a framework."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the JSON record here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML for a CI server here.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run models in every engine on the same inputs and judge whether they compute the same.

    In GitHub Actions the verdict is an annotation, too, and stands in the summary of the job.

    Examples: parity compare model.keras --report report.html
    / parity compare model.keras port.safetensors
    / parity compare model.keras --baseline earlier.json --junit results.xml
    """
    from parity import comparison, comparison_table, github, terminal
    from parity.baseline import read_baseline
    from parity.ports import check_connected, check_no_recording
    from parity.report import make_record

    drawn = [f"--{name}" for name in ("batch", "time") if inputs is not None and given_on_the_line(context, name)]
    check_drawn(drawn)
    targets = {"report": report, "record": json, "tests": junit}
    _check_targets(targets, overwrite)
    earlier = None if baseline is None else read_baseline(baseline)
    run_custom(context, custom)
    for source in sources:
        check_no_recording(source, f"parity diagnose MODEL {shlex.quote(str(source))}")
    with terminal.progress() as progress:
        opened = chosen(sources, layer or [], config)
        check_connected(*opened)
        compared = comparison.compare(
            *opened,
            inputs=inputs,
            engines=None if engines is None else _names(engines),
            lengths=None if lengths is None else integers(lengths),
            batch=batch,
            time=time,
            seed=seed,
            device=device.value,
            tf32=tf32,
            layers=layers or None,
            progress=progress,
        )
        if progress is not None and not compared.ok:
            progress("the likely cause")
        record = make_record(compared)
    if earlier is not None:
        record["baseline"] = compared.against(earlier, record).as_json()
    with github.commands_stopped(terminal.say):
        comparison_table.show_comparison(compared, record)
    for line in github.show_in_actions(record):
        terminal.say(line)
    _write(record, targets, overwrite)
    raise typer.Exit(EXIT_CODES[compared.verdict])


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        remedy = "commas stand between names, as in --engines keras,torch; without the option, the installed ones run"
        raise ParityError("an engine without a name", "--engines", "names with commas between", repr(text), remedy)
    return names


_SUFFIXES = {"report": ".html", "record": ".json", "tests": ".xml"}


def _check_targets(targets: Mapping[str, Path | None], overwrite: bool) -> None:
    """What is to be written can be, before anything is run for it."""
    from parity.files import check_target

    given = {what: target for what, target in targets.items() if target is not None}
    for what, target in given.items():
        suffix = _SUFFIXES[what]
        if target.suffix.lower() != suffix:
            raise ParityError(
                "the name does not say the format", str(target), f"a name ending in {suffix}", target.name
            )
    for target in given.values():
        check_target(target, overwrite)


def _write(record: Record, targets: Mapping[str, Path | None], overwrite: bool) -> None:
    """The files that were asked for, each of the same record."""
    from parity import terminal
    from parity.junit import junit
    from parity.report import render_record, to_json, write_text

    texts = {"report": render_record, "record": to_json, "tests": junit}
    for what, target in targets.items():
        if target is not None:
            terminal.say(f"{what}: {write_text(target, texts[what](record), overwrite)}")


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
