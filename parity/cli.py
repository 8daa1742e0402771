"""The command `parity`: words and exit codes, no maths.

Exit codes: 0 agree or done, 1 disagree, 2 bad input, unsupported or missing framework, 3 undecided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.graph.code_files import CodeTarget
    from parity.layouts import Kind
    from parity.sources import Opened

EXIT_CODES = {"agree": 0, "disagree": 1, "undecided": 3}
BAD_INPUT = 2

app = typer.Typer(
    name="parity",
    help="Move LSTM/GRU models between Keras, PyTorch and ONNX, and prove that they still compute the same.",
    epilog="Exit codes: 0 agree or done, 1 disagree, 2 bad input, unsupported or missing framework, 3 undecided.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


Config = Annotated[
    Path | None,
    typer.Option(
        help="The model's JSON (model.to_json()), where the file, the first one, holds weights of Keras alone."
    ),
]


class Target(str, Enum):
    """The framework of code that is written."""

    torch = "torch"
    keras = "keras"
    onnx = "onnx"


class Device(str, Enum):
    """Where an engine runs."""

    cpu = "cpu"
    cuda = "cuda"


def _version(wanted: bool) -> None:
    if wanted:
        from parity import __version__, terminal

        terminal.say(f"parity {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A model file: .keras, .h5, .pt, .safetensors, .onnx, ...")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    config: Config = None,
) -> None:
    """Show what a model file holds: layers in order, the recurrent ones in full.

    Examples: parity inspect model.keras
    / parity inspect weights.h5 --config model.json
    """
    from parity import inspection, terminal
    from parity.inspection import tables
    from parity.sources import open_source

    opened = open_source(file, partial=True, config=config)
    terminal.show_json(inspection.description(opened)) if json else tables.show(opened)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model file: .keras, .h5, .pt, .safetensors, .onnx, ...")],
    target: Annotated[
        Path, typer.Argument(help="The file to write; its suffix says the format. With --to, the folder to write.")
    ],
    to: Annotated[
        Target | None,
        typer.Option(help="Write the whole model as source code and weights, run it, and write the report beside it."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Convert this recurrent layer alone: its name or number.")] = None,
    config: Config = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="With --to: a layer that is not known becomes a stub to be filled in.")
    ] = False,
    overwrite: Overwrite = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Prove that what was written is the same.")
    ] = True,
) -> None:
    """Convert a model file to another format, or to code, whole or not at all.

    .safetensors, .pt and .npz hold tensors under torch's names and, beside them, parity's description of the network.

    Examples: parity convert old.h5 new.keras
    / parity convert model.keras model.onnx
    / parity convert model.keras out/ --to torch
    / parity convert checkpoint.pt encoder.onnx --layer encoder.lstm
    / parity convert weights.h5 model.keras --config model.json
    """
    from parity import conversion, terminal
    from parity.sources import layer_named, open_source

    opened = open_source(source, partial=True, config=config)
    opened = opened if layer is None else layer_named(opened, layer)
    _check_kind_of_target(target, to is not None)
    if to is not None:
        _write_code(opened, to.value, target, partial, overwrite, verify)
        return
    if partial:
        remedy = "add --to torch, or leave --partial out"
        raise ParityError("stubs can only be written as code", "--partial", "--to", "a file", remedy)
    network = opened.network
    written = conversion.write_converted(network, source, target, overwrite, verify)
    terminal.say(f"wrote {written.path}, " + (f"read back: {written.proof}" if verify else "not verified"))
    for line in terminal.form_of_target(network, target):
        terminal.say(line)


def _check_kind_of_target(target: Path, folder: bool) -> None:
    """A file has a suffix, and code goes to a folder."""
    from parity.files import SUFFIXES

    is_file = any(target.name.lower().endswith(suffix) for suffix in SUFFIXES)
    if folder and is_file:
        remedy = "leave --to out to write this file, or name a folder"
        raise ParityError("code goes to a folder", str(target), "the name of a folder", "the name of a file", remedy)
    if not folder and not target.suffix:
        remedy = "add a suffix that says the format; or --to torch, keras or onnx to write a folder of code"
        raise ParityError("the name does not say the format", str(target), ", ".join(SUFFIXES), "no suffix", remedy)


def _write_code(opened: Opened, to: CodeTarget, folder: Path, partial: bool, overwrite: bool, verify: bool) -> None:
    """A model as code, and what is to be said of it."""
    from parity import terminal
    from parity.graph.folder import write_code

    with terminal.progress() as progress:
        written = write_code(opened, to, folder, partial, overwrite, verify, progress)
    terminal.say(f"wrote {folder}: {', '.join(written.files)}")
    compared = written.comparison
    terminal.say(f"not verified: {written.unproved}" if compared is None else compared.sentence)
    for stub in written.stubs:
        terminal.say(f"to be filled in: {stub}")
    for note in (*written.notes, *(compared.notes if compared is not None else ())):
        terminal.say(f"note: {note}")
    if compared is not None and compared.verdict != "agree":
        raise typer.Exit(EXIT_CODES[compared.verdict])


@app.command()
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

    drawn = [f"--{name}" for name in ("batch", "time") if inputs is not None and _given(context, name)]
    _check_drawn(drawn)
    _check_targets(report, json, overwrite)
    with terminal.progress() as progress:
        compared = comparison.compare(
            *_chosen(sources, layer or [], config),
            inputs=inputs,
            engines=None if engines is None else _names(engines),
            lengths=None if lengths is None else _integers(lengths),
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


def _check_drawn(drawn: Sequence[str]) -> None:
    """Options of random inputs have no meaning beside given ones."""
    if drawn:
        raise ParityError(
            "these options are for random inputs",
            "--inputs",
            "--inputs without them",
            ", ".join(drawn),
            "leave them out",
        )


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


def _chosen(sources: Sequence[Path], layers: Sequence[str], config: Path | None) -> list[Any]:
    """The sources, or the one layer of each that was asked for; the configuration belongs to the first."""
    from parity.sources import layer_named, open_source

    configs = [config, *[None] * (len(sources) - 1)]
    if not layers:
        return [open_source(source, partial=True, config=own) for source, own in zip(sources, configs, strict=True)]
    if len(layers) not in (1, len(sources)):
        expected = f"once for all files, or {len(sources)} times"
        raise ParityError("a layer for each file, or one name for all", "--layer", expected, ", ".join(layers))
    names = layers if len(layers) == len(sources) else list(layers) * len(sources)
    opened = [open_source(source, partial=True, config=own) for source, own in zip(sources, configs, strict=True)]
    return [layer_named(one, name) for one, name in zip(opened, names, strict=True)]


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        remedy = "commas stand between names, as in --engines keras,torch; without the option, the installed ones run"
        raise ParityError("an engine without a name", "--engines", "names with commas between", repr(text), remedy)
    return names


def _integers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        remedy = "a number of steps for each sample, as in --lengths 7,3,1"
        raise ParityError("these are no lengths", "--lengths", "integers with commas between", text, remedy) from None


@app.command()
def explain(
    context: typer.Context,
    source: Annotated[Path | None, typer.Argument(help="A model file; or give --layer.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="lstm, gru or rnn without a file; with one, this layer of it alone: its name or number."),
    ] = None,
    units: Annotated[int, typer.Option(min=1)] = 64,
    features: Annotated[int, typer.Option(min=1, help="Features per step.")] = 20,
    batch: Annotated[int | None, typer.Option(min=1, help="Print this number instead of 'batch'.")] = None,
    time: Annotated[int | None, typer.Option(min=1, help="Print this number instead of 'time'.")] = None,
    return_sequences: Annotated[bool, typer.Option("--return-sequences")] = False,
    return_state: Annotated[bool, typer.Option("--return-state")] = False,
    bidirectional: Annotated[bool, typer.Option("--bidirectional")] = False,
    merge_mode: Annotated[str, typer.Option(help="concat, sum, mul, ave or none.")] = "concat",
    go_backwards: Annotated[bool, typer.Option("--go-backwards")] = False,
    num_layers: Annotated[int, typer.Option(min=1, help="Layers of a stack; a list of cells in Keras.")] = 1,
    proj_size: Annotated[int | None, typer.Option(min=1, help="Features of torch's projected h.")] = None,
    unbatched: Annotated[
        bool, typer.Option("--unbatched", help="Call torch with one sample, (time, features).")
    ] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="Call torch with a PackedSequence, Keras with a mask.")
    ] = False,
    cell: Annotated[bool, typer.Option("--cell", help="The single-step cell, such as LSTMCell.")] = False,
) -> None:
    """Say why a layer returns three values, four or five, which is which, and where they are in torch and ONNX.

    Examples: parity explain --layer lstm --units 64 --return-sequences --return-state
    / parity explain model.keras --layer encoder
    """
    from parity import terminal
    from parity.correspondence import CALLS
    from parity.explaining import explain_layer, explain_network, merge_mode_named, specs_of

    given = [
        name for name in context.params if _given(context, name) and name not in ("source", "layer", "batch", "time")
    ]
    if source is not None and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ParityError(
            "these options are for a layer without a file; a file says them itself",
            got=options,
            remedy="leave them out",
        )
    if source is not None:
        from parity.sources import layer_named, open_source

        opened = open_source(source, partial=True)
        network = (opened if layer is None else layer_named(opened, layer)).network
        if network.graph is not None or not (network.bare or network.problems):
            from parity.graph.explaining import returns_text

            terminal.say(returns_text(replace(opened, network=network).graph_with_stubs) + "\n")
        terminal.show_explained(list(explain_network(network, batch or "batch", time or "time")))
    else:
        kind = _kind_of_layer(layer)
        asked = [name for name, on in zip(CALLS[1:], (unbatched, packed, cell), strict=True) if on]
        if len(asked) > 1:
            raise ParityError(
                "these exclude each other", "--unbatched, --packed, --cell", "one of them", ", ".join(asked)
            )
        specs = specs_of(kind, features, units, num_layers, bidirectional, go_backwards, proj_size)
        mode = merge_mode_named(merge_mode)
        if "merge_mode" in given and not bidirectional:
            remedy = "add --bidirectional, or leave --merge-mode out"
            raise ParityError(
                "one direction alone is not merged", "--merge-mode", "--bidirectional", merge_mode, remedy
            )
        state = return_state or cell
        call = asked[0] if asked else CALLS[0]
        explained = explain_layer(specs, return_sequences, state, mode, batch or "batch", time or "time", call)
        terminal.show_explained([explained])


def _kind_of_layer(layer: str | None) -> Kind:
    kinds: dict[str | None, Kind] = {"lstm": "lstm", "gru": "gru", "rnn": "rnn"}
    if layer in kinds:
        return kinds[layer]
    raise ParityError(
        "explain what?",
        "" if layer is None else f"--layer {layer}",
        "a file, or --layer lstm, gru or rnn",
        "neither" if layer is None else layer,
        "parity explain model.keras, or parity explain --layer lstm --return-state",
    )


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command()
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


@contextmanager
def _told() -> Iterator[None]:
    """Errors meant for users go to standard error, without a traceback."""
    try:
        yield
    except ParityError as error:
        sys.stderr.write(f"parity: {error}\n")
        raise SystemExit(BAD_INPUT) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with a code of `EXIT_CODES` or 2."""
    with _told():
        app(args=None if arguments is None else list(arguments), prog_name="parity")
