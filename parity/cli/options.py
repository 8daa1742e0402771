"""What the commands have in common: the app, options, and what is made of their words."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from parity.errors import ParityError

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

Custom = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE.py",
        help="A file of Python that says with parity.register what layers of your own compute. It is executed. May be repeated.",
    ),
]


class Device(str, Enum):
    """Where an engine runs."""

    cpu = "cpu"
    cuda = "cuda"


def run_custom(context: typer.Context, files: Sequence[Path] | None) -> None:
    """Run the files that register layers; what they register holds until the command ends."""
    if files:
        from parity.custom_files import registrations

        context.with_resource(registrations(files))


def given_on_the_line(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and is not at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_drawn(drawn: Sequence[str]) -> None:
    """Options of random inputs have no meaning beside given ones."""
    if drawn:
        raise ParityError(
            "these options are for random inputs",
            "--inputs",
            "--inputs without them",
            ", ".join(drawn),
            "leave them out",
        )


def chosen(sources: Sequence[Path], layers: Sequence[str], config: Path | None) -> list[Any]:
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


def integers(text: str) -> list[int]:
    """The numbers of --lengths.

    Raises:
        ParityError: no integers.
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        remedy = "a number of steps for each sample, as in --lengths 7,3,1"
        raise ParityError("these are no lengths", "--lengths", "integers with commas between", text, remedy) from None
