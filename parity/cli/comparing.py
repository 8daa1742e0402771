"""`parity compare` and `parity report`: the verdict, and its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.cli.options import (
    EXIT_CODES,
    INPUTS,
    JUDGING,
    READING,
    RUNNING,
    WRITING,
    Baseline,
    Config,
    Custom,
    Device,
    FailOnWorse,
    InputFile,
    Lengths,
    Overwrite,
    Tf32,
    check_drawn,
    chosen,
    file_to_write,
    flag,
    integers,
    number,
    run_custom,
)
from parity.cli.refusing import refusals_written
from parity.cli.writing import written
from parity.errors import REFUSED, ParityError

if TYPE_CHECKING:
    from parity.baseline import Since
    from parity.comparison import Comparison
    from parity.report import Record

Engines = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="Of keras, torch, onnxruntime, keras:tensorflow, keras:torch, keras:jax; the installed ones of the first three without it.",
        rich_help_panel=RUNNING,
    ),
]


def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE", help="One file to compare with its conversions, or several with each other."),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="This recurrent layer alone, by name or number; repeat it to name one in each file.",
            rich_help_panel=READING,
        ),
    ] = None,
    config: Config = None,
    custom: Custom = None,
    inputs: InputFile = None,
    batch: Annotated[int | None, number("Samples of random inputs; 3, or as many as lengths.", INPUTS)] = None,
    time: Annotated[int | None, number("Steps of random inputs; 17, or the largest length.", INPUTS)] = None,
    lengths: Lengths = None,
    seed: Annotated[int, number("Of random inputs, and of the rounding that is tried.", INPUTS, least=0)] = 0,
    engines: Engines = None,
    device: Annotated[Device, typer.Option(help="Where to run.", rich_help_panel=RUNNING)] = Device.cpu,
    tf32: Tf32 = False,
    layers: Annotated[
        bool, flag("--layers", "Judge every layer of a whole model, even where its outputs agree.", JUDGING)
    ] = False,
    baseline: Baseline = None,
    fail_on_worse: FailOnWorse = False,
    report: Annotated[Path | None, file_to_write(".html", "The report, a page to open.")] = None,
    json: Annotated[Path | None, file_to_write(".json", "The record: every number, by a published schema.")] = None,
    junit: Annotated[Path | None, file_to_write(".xml", "JUnit XML for a CI server.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run models in every engine on the same inputs and judge whether they compute the same."""
    targets = {"report": report, "record": json, "tests": junit}
    _check_targets(targets, overwrite)
    with refusals_written(context, sources, targets):
        check_drawn(context, inputs)
        earlier = _earlier(baseline, fail_on_worse)
        run_custom(context, custom)
        options = {"inputs": inputs, "batch": batch, "time": time, "seed": seed, "tf32": tf32, "device": device.value}
        asked = {"engines": _names(engines), "lengths": integers(lengths), "layers": layers or None}
        compared, record = _compared(sources, layer or [], config, {**options, **asked})
    since = None if earlier is None else compared.against(earlier, record)
    if since is not None:
        record["baseline"] = since.as_json(fail_on_worse)
    _show(compared, record)
    _write(record, targets, overwrite)
    raise typer.Exit(_exit_code(compared.verdict, since if fail_on_worse else None, baseline))


def _earlier(baseline: Path | None, fail_on_worse: bool) -> Record | None:
    """The record of --baseline; None without the option.

    Raises:
        ParityError: it is none, or there is nothing that could be worse than it.
    """
    from parity.baseline import read_baseline

    if baseline is not None:
        return read_baseline(baseline)
    if fail_on_worse:
        remedy = "add --baseline earlier.json, a record that --json wrote"
        raise ParityError("nothing to be worse than", "--fail-on-worse", "--baseline beside it", "no baseline", remedy)
    return None


def _exit_code(verdict: str, since: Since | None, baseline: Path | None) -> int:
    """Of the verdict; 1 where anything got worse since a baseline that is to be held.

    Raises:
        ParityError: the verdict is no reason to fail, and the baseline cannot tell whether anything got worse.
    """
    code = EXIT_CODES[verdict]
    if since is not None and since.worse:
        return EXIT_CODES["disagree"]
    if since is not None and since.open and not code:
        raise ParityError(
            "the baseline cannot tell whether anything got worse",
            str(baseline),
            "a record of the same models, inputs and engines",
            "; ".join(since.open),
            "compare the same again, or make a new baseline with --json",
        )
    return code


def _compared(
    sources: Sequence[Path], layers: Sequence[str], config: Path | None, options: Mapping[str, Any]
) -> tuple[Comparison, Record]:
    """The comparison and its record, while a line on the terminal says what is running.

    Args:
        sources: files.
        layers: what `--layer` said.
        config: of the first file.
        options: of `parity.compare`.
    """
    from parity import comparison, terminal
    from parity.ports import check_connected, check_no_recording

    for source in sources:
        check_no_recording(source, f"parity diagnose MODEL {shlex.quote(str(source))}")
    with terminal.progress() as progress:
        opened = chosen(sources, layers, config)
        check_connected(*opened)
        compared = comparison.compare(*opened, **options, progress=progress)
        if progress is not None and not compared.ok:
            progress("the likely cause")
        return compared, compared.record


def _show(compared: Comparison, record: Record) -> None:
    """The verdict and the table; in GitHub Actions annotations and the summary, too."""
    from parity import comparison_table, github, terminal

    with github.commands_stopped(terminal.command):
        comparison_table.show_comparison(compared, record)
    for line in github.show_in_actions(record):
        terminal.command(line)


def _names(text: str | None) -> list[str] | None:
    """The engines of --engines; None without the option."""
    if text is None:
        return None
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
    """The files that were asked for, each of the same record.

    Raises:
        ParityError: what could not be written, after all others are.
    """
    from parity.junit import junit
    from parity.report import render_record, to_json

    texts = {"report": render_record, "record": to_json, "tests": junit}
    given = {what: target for what, target in targets.items() if target is not None}
    if problems := written(record, given, texts, overwrite):
        raise ParityError(problems)


def report(
    record: Annotated[Path, typer.Argument(metavar="RECORD.json", help="What parity compare --json wrote.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.", rich_help_panel=WRITING),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Draw the page of a comparison that was saved as JSON."""
    from parity import terminal
    from parity.report import render_record, write_text
    from parity.report.reading import read_any
    from parity.report.refusal import render_refusal

    found = read_any(record)
    render = render_refusal if found["verdict"] == REFUSED else render_record
    terminal.say(f"report: {write_text(output, render(found), overwrite)}")
