"""`parity inspect` and `parity convert`: what a file holds, and the same in another form."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.cli.options import EXIT_CODES, READING, SHOWING, WRITING, Config, Custom, Overwrite, flag, run_custom
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.graph.code_files import CodeTarget
    from parity.sources import Opened


class Target(str, Enum):
    """The framework of code that is written."""

    torch = "torch"
    keras = "keras"
    onnx = "onnx"


_ANY_FILE = "A model file: .keras, .h5, .pt, .safetensors, .onnx, ..."


def inspect(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=_ANY_FILE)],
    config: Config = None,
    custom: Custom = None,
    json: Annotated[bool, flag("--json", "JSON in place of tables.", SHOWING)] = False,
) -> None:
    """Show what a model file holds: layers in order, the recurrent ones in full."""
    from parity import inspection, terminal
    from parity.sources import open_source

    run_custom(context, custom)
    opened = open_source(file, partial=True, config=config)
    if json:
        terminal.show_json(inspection.description(opened))
        return
    from parity.inspection import tables

    with _as_words():
        tables.show(opened)


def _as_words() -> AbstractContextManager[None]:
    """In GitHub Actions, nothing that is shown inside is taken for a workflow command."""
    if "GITHUB_ACTIONS" not in os.environ:
        return nullcontext()
    from parity import github, terminal

    return github.commands_stopped(terminal.command)


def convert(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help=_ANY_FILE)],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="The file to write; its suffix says the format. With --to, the folder to write."
        ),
    ],
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This recurrent layer alone, by name or number.", rich_help_panel=READING),
    ] = None,
    config: Config = None,
    custom: Custom = None,
    to: Annotated[
        Target | None,
        typer.Option(
            help="Write the whole model as source code and weights, run it, and write the report beside it.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    partial: Annotated[
        bool, flag("--partial", "With --to: a layer that is not known becomes a stub to be filled in.", WRITING)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="Prove that what was written is the same.", rich_help_panel=WRITING),
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Convert a model file to another format, or to code, whole or not at all."""
    from parity import conversion, terminal
    from parity.sources import layer_named, open_source

    run_custom(context, custom)
    opened = open_source(source, partial=True, config=config)
    opened = opened if layer is None else layer_named(opened, layer)
    _check_kind_of_target(target, to is not None)
    if to is not None:
        _write_code(opened, to.value, target, partial, overwrite, verify)
        return
    if partial:
        remedy = "add --to torch, keras or onnx, or leave --partial out"
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
